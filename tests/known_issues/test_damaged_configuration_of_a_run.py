"""A run's config.yaml with a damaged line ended `train` in a traceback of the YAML reader."""

from pathlib import Path

import pytest

from mms_recipes import run_folder
from tests.known_issues import commands
from tests.known_issues.lab import Lab

DAMAGED = {
    "a line without its key": b"task:\n  data: x\n nonsense\nmodel: {}\n",
    "another beginning": b" \tcommon: {}\n",
    "bytes that are not UTF-8": b"common: {seed: \xff}\n",
    "a control character": b"common: {seed: \x07}\n",
    "a tag of Python's": b"common: !!python/object/apply:os.getcwd []\n",
    "a list": b"- 1\n- 2\n",
    "deep": b"a: " + b"[" * 10_000 + b"]" * 10_000,
    "no key that can be": b"? [1, 2]\n: 3\n",
    "half an interpolation": b"a: ${\n",
    "one letter": b"x",
    "nothing": b"",
    "cut off": b"common: {seed: 1}\ntask: {data: x}\n",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.yaml.*not the configuration of a run.*restore it"):
        run_folder.read_config(path)


def test_what_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("task: {}\nmodel: {}\noptimization: {}\ncommon: {seed: 1}\nrun: ${common.seed}\n")
    found = run_folder.read_config(path)
    assert found["common"] == {"seed": 1} and found["run"] == "${common.seed}"


def test_too_few_updates_for_phases(tiny: Lab, tmp_path: Path) -> None:
    """It ended in an AssertionError of fairseq's scheduler."""
    ended = commands.run("train", *tiny.lsah(tmp_path, 1))
    assert ended.is_refused() and "optimization.max_update=1" in ended.last_line and "phase_ratio" in ended.last_line
