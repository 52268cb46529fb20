"""A run that does not reach its last update says so, in words and in its status; one without an update fails."""

import json
from pathlib import Path

import pytest

from tests.known_issues import commands
from tests.known_issues.lab import OFTEN, Lab


def status(folder: Path) -> tuple[str, int]:
    told = json.loads((folder / "status.json").read_text())
    return told["state"], told["num_updates"]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("optimization.lr=[-1]", "optimization.lr=[-1.0]: expected numbers above 0"),
        ("optimization.lr=[0.0]", "optimization.lr=[0.0]: expected numbers above 0"),
        ("optimization.stop_min_lr=1", "is not above optimization.stop_min_lr=1"),
        ("optimization.max_update=0", "optimization.max_update=0: expected 1 or more"),
    ],
)
def test_settings_without_an_update(tiny: Lab, tmp_path: Path, setting: str, told: str) -> None:
    ended = commands.run("train", *tiny.lsah(tmp_path, 8, setting))
    assert ended.is_refused() and told in ended.last_line, ended.output
    assert status(tmp_path / "smoke_lsah") == ("failed", 0)


@pytest.mark.parametrize(
    ("experiment", "settings", "told"),
    [
        (
            "smoke_lsah",
            ("optimization.stop_min_lr=0.004",),
            "stop_min_lr=0.004",
        ),
        ("smoke_ctc", ("optimization.max_epoch=2",), "the last epoch is over (optimization.max_epoch=2)"),
        ("smoke_ctc", ("checkpoint.patience=1", "optimization.lr=[1e-9]"), "in 1 validations (checkpoint.patience)"),
    ],
)
def test_ended_by_a_setting(tiny: Lab, tmp_path: Path, experiment: str, settings: tuple[str, ...], told: str) -> None:
    base = tiny.dense if experiment == "smoke_lsah" else tiny.pretrained
    places = (f"task.data={tiny.data}", f"model.base={base}", f"runs={tmp_path}")
    ended = commands.run(
        "train",
        f"+experiment={experiment}",
        *places,
        "optimization.max_update=40",
        *OFTEN,
        *settings,
        "task.langs=[eng]",
    )
    folder = tmp_path / experiment
    state, done = status(folder)
    assert state == "stopped" and ended.code == (0 if done else 1), ended.output  # with 0, train && evaluate goes on
    assert f"ended at update {done} of 40: " in ended.output and told in ended.output
    assert "Traceback" not in ended.output and "done: " not in ended.output
