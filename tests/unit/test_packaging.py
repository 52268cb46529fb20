"""What `pip install .` puts in place: modules, configs and the table of languages, and nothing that was generated."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

LISTS = ("manifests/languages.tsv", "manifests/lid126.txt", "manifests/lid256.txt")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the sources; building in the checkout would leave a folder that later wheels pick up."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "LICENSE", "NOTICE"):
        shutil.copy(REPOSITORY / name, source)
    for name in ("mms_recipes", "configs", "hydra_plugins"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "manifests" / "corpus" / "eng").mkdir(parents=True)
    (source / "manifests" / "corpus" / "eng" / "train.tsv").write_text("generated\n")
    for name in LISTS:
        shutil.copy(REPOSITORY / name, source / "manifests")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    result = subprocess.run(
        [*command, "--wheel-dir", str(out), str(source)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    (path,) = out.glob("mms_recipes-*.whl")
    return path


def test_wheel_holds_modules_configs_and_languages(wheel: Path) -> None:
    modules = [path for name in ("mms_recipes", "hydra_plugins") for path in (REPOSITORY / name).rglob("*.py")]
    expected = {path.relative_to(REPOSITORY).as_posix() for path in modules}
    configs = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "configs").rglob("*.yaml")}
    assert "configs/train.yaml" in configs
    expected |= {
        f"mms_recipes/{name}"
        for name in (*configs, *LISTS, "evaluation/paper_scores.tsv", "report/page.css", "report/page.js")
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == expected


def test_wheel_carries_the_licences_and_no_fairseq_requirement(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        texts = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    assert "MIT License" in texts["LICENSE"]
    assert "CC-BY-NC" in texts["NOTICE"]
    assert "Requires-Python: >=3.11,<3.13" in texts["METADATA"]
    requirements = [line for line in texts["METADATA"].splitlines() if line.startswith("Requires-Dist: ")]
    assert not [line for line in requirements if "fairseq" in line or "torchaudio" in line]


def test_installed_package_works_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    zipfile.ZipFile(wheel).extractall(site)
    program = (
        "import mms_recipes.config, mms_recipes.languages as languages;"
        "print(mms_recipes.__file__, mms_recipes.config.CONFIGS, len(languages.resolve('asr_l1107')))"
    )
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    package = site / "mms_recipes"
    assert result.stdout.split() == [str(package / "__init__.py"), str(package / "configs"), "1143"]
