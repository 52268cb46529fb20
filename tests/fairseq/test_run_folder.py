"""A run's folder goes with one configuration; what may change from start to start may."""

from pathlib import Path

import pytest
from fairseq.dataclass.initialize import add_defaults
from omegaconf import DictConfig, OmegaConf

from mms_recipes import run_folder
from tests.fairseq import tones

BASE = "model.base=base.pt"


def asked(*overrides: str) -> DictConfig:
    cfg = tones.composed("smoke_lsah", "task.data=data", BASE, *overrides)
    add_defaults(cfg)
    return cfg


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The folder of a run with a checkpoint, as runner.record leaves it."""
    cfg = OmegaConf.create(OmegaConf.to_container(asked(), resolve=True, enum_to_str=True))
    cfg.task.adapters = str(tmp_path / "adapters")
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/checkpoint_last.pt").touch()
    return tmp_path


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("optimization.max_update=99", "dataset.num_workers=3", "common.log_interval=7", "checkpoint.save_interval=3"),
        ("distributed_training.distributed_world_size=4", "common.cpu=true", "runs=elsewhere", "name=other"),
        (f"task.data={Path('data').resolve()}",),
        ("model.mask_prob=0.4", "accept_changes=true"),
    ],
)
def test_what_may_change(made: Path, overrides: tuple[str, ...]) -> None:
    run_folder.refuse_other_config(asked(*overrides), made)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model.mask_prob=0.4", r"model\.mask_prob: 0\.0 there, 0\.4 here"),
        ("optimization.lr=[0.1]", r"optimization\.lr: \[0\.005\] there, \[0\.1\] here"),
        ("common.seed=7", r"common\.seed: 1 there, 7 here"),
        ("task.langs=[eng,fra]", r"task\.langs: \[\] there, \['eng', 'fra'\] here"),
        ("task.num_shards=4", r"task\.num_shards: 1 there, 4 here"),
        ("model.base=other.pt", r"model\.base: base\.pt there, other\.pt here"),
    ],
)
def test_what_makes_another_run(made: Path, override: str, told: str) -> None:
    named = rf"made with another configuration \({told}\)\. Give another name=\.\.\., or accept_changes=true"
    with pytest.raises(ValueError, match=named):
        run_folder.refuse_other_config(asked(override), made)


def test_many_keys_are_counted(made: Path) -> None:
    many = ("model.mask_prob=0.4", "model.mask_length=3", "model.adapter_dim=3", "model.final_dropout=0.2")
    more = ("task.beta=0.5", "task.normalize=false", "optimization.clip_norm=1", "common.seed=7")
    with pytest.raises(ValueError, match=r"common\.seed: 1 there.* and 2 more\)"):
        run_folder.refuse_other_config(asked(*many, *more), made)


def test_a_folder_without_a_checkpoint_is_free(made: Path) -> None:
    (made / "checkpoints/checkpoint_last.pt").unlink()
    run_folder.refuse_other_config(asked("common.seed=7"), made)


def with_world(ranks: int, update_freq: int, experiment: str = "smoke_ctc") -> DictConfig:
    cfg = tones.composed(experiment, "task.data=data")
    cfg.distributed_training.distributed_world_size, cfg.optimization.update_freq = ranks, [update_freq]
    return cfg


def test_a_checkpoint_of_another_world_size() -> None:
    """It goes on, and whether the order of the data stays is said."""
    one = with_world(1, 2)
    assert run_folder.told_of_other_world(one, one) == ""
    told = run_folder.told_of_other_world(with_world(2, 1), one)
    assert told.startswith("was written by 1 rank(s) with update_freq 2, this is 2 with 1: the run goes on")
    assert told.endswith("with the same batches in each update")
    told = run_folder.told_of_other_world(with_world(2, 2), one)
    assert "the order of the data differs from here on: an update has 4 batches, not 2" in told
    lsah = with_world(1, 1, "smoke_lsah")
    assert run_folder.told_of_other_world(with_world(2, 1, "smoke_lsah"), lsah) == ""
