"""docs/cluster.md: each command of the page is one that the programs of today take."""

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import segment_audio
from hydra import compose, initialize_config_dir
from hydra._internal import utils as parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from hydra_plugins import mms_recipes_slurm
from mms_recipes import config, status, train
from mms_recipes.cluster import submission
from mms_recipes.tasks.finetuning import job_languages

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "cluster.md"
ENVIRONMENT = {"SLURM_NTASKS": "8", "SLURM_PROCID": "7", "WORLD_SIZE": "8", "RANK": "7", "LOCAL_RANK": "7"}


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of ours: from `python`, or what sbatch, srun and torchrun start."""
    (settings,) = re.findall(r"^`M` below stands for `(.*)`", text, re.MULTILINE)
    text = text.replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    lines += [
        line.replace(" ...`", "`") for line in re.findall(r"^\|.*`((?:python|torchrun) .*)` \|$", text, re.MULTILINE)
    ]
    for line in lines:
        words = shlex.split(line.partition("&&")[0], comments=True)
        words = [part for word in words for part in (settings.split() if word == "M" else [word]) if part != "..."]
        if words[:1] == ["sbatch"] and words[-1].startswith("--wrap="):
            array = re.search(r"--array=0-(\d+)", line)
            words = shlex.split(
                words[-1].removeprefix("--wrap=").replace("$SLURM_ARRAY_TASK_ID", array[1] if array else "")
            )
        started = [n for n, word in enumerate(words) if word.startswith(("mms_recipes.", "tools/"))]
        if started:
            yield words[started[0] :]


COMMANDS = list(commands(PAGE.read_text(encoding="utf-8")))


@pytest.fixture(autouse=True)
def ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    config.register()
    mms_recipes_slurm.register()
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def composed(root: str, overrides: list[str], launcher: bool = False) -> DictConfig:
    """Compose a command as its last job has it, of a sweep."""
    last = []
    for override in OverridesParser.create().parse_overrides(overrides):
        swept = override.is_sweep_override() and override.key_or_group
        last.append(f"{swept}={list(override.sweep_string_iterator())[-1]}" if swept else override.input_line)
    with initialize_config_dir(version_base="1.3", config_dir=str(config.CONFIGS)):
        return compose(root, overrides=last, return_hydra_config=launcher)


def test_the_page_is_read() -> None:
    """So that a page of another form does not pass unread."""
    programs = [words[0] for words in COMMANDS]
    assert {name: programs.count(name) for name in sorted(set(programs))} == {
        "mms_recipes.evaluate": 3,
        "mms_recipes.status": 2,
        "mms_recipes.train": 11,
        "mms_recipes.tune": 1,
        "tools/merge_adapters.py": 1,
        "tools/merge_scores.py": 2,
        "tools/merge_tuning.py": 1,
        "tools/segment_audio.py": 2,
    }


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "mms_recipes.train"], ids=" ".join)
def test_training(words: list[str]) -> None:
    parser.get_args_parser().parse_args(words[1:])  # an option between two overrides is an error
    arguments = train.prepared([word for word in words[1:] if word not in ("--config-dir", "~/mms")])
    overrides = [word.replace("hydra/launcher=ours", "hydra/launcher=slurm") for word in arguments if word != "-m"]
    if not [word for word in overrides if word.startswith("+experiment=")]:
        assert not [word for word in overrides if not word.startswith("hydra/launcher=")]  # shortened: "..."
        return
    launched = any(word.startswith("hydra/launcher=slurm") for word in overrides)
    if launched:
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="no extra [cluster]: NOT tested")
    cfg = composed("train", [word for word in overrides if launched or not word.startswith("hydra")], launched)
    if launched:
        params = OmegaConf.to_container(cfg.hydra.launcher, resolve=False)
        assert isinstance(params, dict)
        submission.allocation({str(key): value for key, value in params.items()}, cfg)
    if "shard" in cfg.task and cfg.task.langs:
        assert job_languages(cfg.task)


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if words[0] in ("mms_recipes.evaluate", "mms_recipes.tune")], ids=" ".join
)
def test_shards(words: list[str]) -> None:
    cfg = composed(words[0].partition(".")[2], words[1:])
    config.require(cfg, ["checkpoint", "data", "out"], words[0])
    assert cfg.shard == cfg.num_shards - 1 > 0


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0].startswith("tools/")], ids=" ".join)
def test_tools(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take the arguments, and find nothing: argparse would exit with 2."""
    monkeypatch.chdir(tmp_path)
    assert (REPOSITORY / words[0]).is_file()
    assert importlib.import_module(Path(words[0]).stem).main(words[1:]) == 1
    if words[0] == "tools/segment_audio.py" and "--shard" in words:
        args = segment_audio.parse(words[1:])
        assert args.shard == args.num_shards - 1 > 0


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "mms_recipes.status"], ids=" ".join)
def test_status(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert status.main(words[1:]) == 1
