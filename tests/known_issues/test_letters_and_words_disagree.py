"""Training learns .ltr, evaluation scores .wrd: that they were of two texts was found by nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.known_issues import commands
from tests.known_issues.lab import Lab

Edit = Callable[[list[str]], list[str]]


@pytest.mark.parametrize(
    ("file", "edit", "line"),
    [
        ("test.wrd", lambda lines: lines[::-1], 1),
        ("train.wrd", lambda lines: [*lines[:3], f"{lines[3]} more", *lines[4:]], 4),
        ("train.ltr", lambda lines: [*lines[:5], f"x | {lines[5]}", *lines[6:]], 6),
        ("dev.wrd", lambda lines: [lines[0].upper(), *lines[1:]], 1),
        ("dev.ltr", lambda lines: [lines[0].replace("|", "", 1), *lines[1:]], 1),
    ],
)
def test_the_line_is_named(tiny: Lab, tmp_path: Path, file: str, edit: Edit, line: int) -> None:
    data = tiny.copy_data(tmp_path / "data", "eng")
    path = data / "eng" / file
    path.write_text("\n".join(edit(path.read_text().splitlines())) + "\n")
    ended = commands.run("tools/validate_manifests.py", data)
    assert ended.code == 1
    assert f"{path}:{line}" in ended.output and "the letters spell" in ended.output, ended.output


def test_training_does_not_start(tiny: Lab, tmp_path: Path) -> None:
    data = tiny.copy_data(tmp_path / "data", "eng")
    path = data / "eng/train.wrd"
    path.write_text("\n".join(path.read_text().splitlines()[::-1]) + "\n")
    ended = commands.run("train", *tiny.lsah(tmp_path / "runs", 2, f"task.data={data}"))
    assert ended.is_refused() and f"{path}:1" in ended.output, ended.output


def test_what_is_right_has_nothing_to_mend(tiny: Lab) -> None:
    ended = commands.run("tools/validate_manifests.py", tiny.data)
    assert ended.code == 0 and "nothing to mend" in ended.output, ended.output


def test_no_dev_split_is_said(tiny: Lab, tmp_path: Path) -> None:
    data = tiny.copy_data(tmp_path / "data", "eng")
    for path in (data / "eng").glob("dev.*"):
        path.unlink()
    ended = commands.run("tools/validate_manifests.py", data)
    assert ended.code == 0
    assert "no dev.tsv" in ended.output and "--dev-fraction" in ended.output, ended.output
