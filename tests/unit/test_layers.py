"""Imports point downward: every module has a layer, and uses only its own and lower ones (CONTRIBUTING.md)."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "mms_recipes"
MAX_LINES = 400

# From the bottom up. A package stands for all its modules; a module that is named itself goes before its package.
LAYERS = {
    "domain": "alignment audio_files corpora curves files language_codes languages letters licences manifest metrics "
    "parsing recordings report sampling shard_files sound sources streams text text_rules unicode_forms unit_kinds "
    "units watchdog cluster.claim cluster.progress cluster.run_state cluster.signals cluster.slurm decoding.lm_text "
    "decoding.ngrams evaluation.benchmarks lid.calibration lid.classes lid.protocol lid.scores lid.spans "
    "transcription.routing transcription.subtitles",
    "decoding": "decoding memory models.adapters transcription.outputs transcription.transcripts transcription.windows",
    "plug-ins": "adapter_files calibrated checkpoint_files checkpoints criterions data fairseq_compat fairseq_import "
    "models optimizers origins plugins recognizer sharding tasks conversion.proof formats "
    "evaluation.emission_files evaluation.emissions lid.answers lid.checkpoints lid.identifier",
    "engine": "cluster command_line config continuation conversion devices evaluation lid model_shapes preflight "
    "run_folder run_record runner transcriber transcription",
    "commands": "convert evaluate identify report.__main__ status train transcribe tune",
}
# What each layer may use beyond the standard library and what the layers below it may use.
PACKAGES = {
    "domain": "matplotlib numpy pydantic rapidfuzz sentencepiece soundfile soxr tqdm whisper_normalizer",
    "decoding": "flashlight kenlm torch",
    "plug-ins": "fairseq omegaconf safetensors transformers yaml",
    "engine": "fairseq_cli hydra submitit",
    "commands": "hydra_plugins",
}
RANKS = {name: rank for rank, layer in enumerate(LAYERS) for name in LAYERS[layer].split()}
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix("."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def rank(module: str) -> int | None:
    """Return the layer of a module, counted from the bottom; the bare package is below all."""
    if not module:
        return 0
    return RANKS.get(module, RANKS.get(module.partition(".")[0]))


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and full name of all that is imported, inside functions too; a star import ends in `.*`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: import by full name, not relative to the module"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def own_module(name: str) -> str:
    """Return the module behind an imported name: `mms_recipes.text.VERSION` is in `text`."""
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in MODULES:
        parts.pop()
    return ".".join(parts)


def faults(module: str, source: str) -> list[str]:
    """Say for each import of a module that its layer does not allow what it is and where."""
    own = rank(module)
    assert own is not None
    layer = list(LAYERS)[own]
    allowed = {name for below in list(LAYERS)[: own + 1] for name in PACKAGES[below].split()}
    found = []
    for line, name in imports(source):
        where = f"{module}:{line} ({layer}) imports {name}"
        package = name.partition(".")[0]
        if name.endswith(".*"):
            found.append(f"{where}: name what is needed")
        if package == "mms_recipes":
            target = own_module(name)
            other = rank(target)
            if other is not None and other > own:
                found.append(f"{where}, which is above it ({list(LAYERS)[other]})")
        elif package not in allowed | sys.stdlib_module_names:
            found.append(f"{where}; this layer may use {', '.join(sorted(allowed))}")
    return found


def test_every_module_has_a_layer() -> None:
    missing = [name for name in MODULES if rank(name) is None]
    assert not missing, f"without a layer: {missing}; place each in LAYERS of {Path(__file__).name}"
    assert len(MODULES) > 1, f"no modules found in {PACKAGE}"


@pytest.mark.parametrize("module", [name for name in MODULES if rank(name) is not None])
def test_imports_point_downward(module: str) -> None:
    assert not faults(module, MODULES[module].read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", MODULES)
def test_module_is_short(module: str) -> None:
    lines = MODULES[module].read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_LINES, f"{module} has {lines} lines, at most {MAX_LINES}; split it by noun"


@pytest.mark.parametrize("module", [name for name in MODULES if rank(name) != RANKS["train"]])
def test_only_commands_parse_arguments(module: str) -> None:
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in ("argparse.ArgumentParser", "hydra.main"), f"{module}:{node.lineno}"


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("text", "import torch", "may use"),
        ("text", "def f():\n    import fairseq.data", "may use"),
        ("text", "from mms_recipes import checkpoints", "above"),
        ("decoding.greedy", "from mms_recipes.models.lsah import Lsah", "above"),
        ("tasks.lsah", "import mms_recipes.runner", "above"),
        ("runner", "from mms_recipes.train import main", "above"),
        ("runner", "from tools import demo", "may use"),
        ("train", "from mms_recipes.runner import *", "name what is needed"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str, fault: str) -> None:
    (found,) = faults(module, source)
    assert fault in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("text", "import unicodedata\nfrom mms_recipes import __version__, languages"),
        ("decoding.greedy", "import torch\nfrom mms_recipes.models.adapters import AdapterStack"),
        ("tasks.lsah", "import fairseq\nfrom mms_recipes import checkpoints"),
        ("train", "import hydra\nfrom mms_recipes import runner"),
    ],
)
def test_a_right_import_is_not(module: str, source: str) -> None:
    assert not faults(module, source)
