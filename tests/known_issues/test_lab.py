"""The ways in which a command can end are told apart, and every model of the lab is usable."""

import time
from pathlib import Path

from tests.known_issues import commands
from tests.known_issues.lab import Lab


def test_ends_are_told_apart() -> None:
    assert commands.call(int, "3").code == 3
    assert commands.call(int, "x").code == 99
    assert commands.call(time.sleep, 60, timeout=0.1).code == commands.HANGS
    refused = commands.run("transcribe", "nowhere.wav", "--checkpoint", "nowhere.pt", "--lang", "eng")
    assert refused.is_refused()
    assert "nowhere" in refused.last_line


def test_the_labs_models_work(tiny: Lab, tmp_path: Path) -> None:
    for model in (tiny.dense, tiny.adapters):
        scored = commands.run("evaluate", f"checkpoint={model}", f"data={tiny.data}", f"out={tmp_path / model.name}")
        assert scored.code == 0, scored.output
    said = commands.run("identify", tiny.wav, "--checkpoint", tiny.lid)
    assert said.code == 0, said.output
    assert str(tiny.wav) in said.output
