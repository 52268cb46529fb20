"""Files of every format, changed at random: each command ends in the right result or in a message.

A few tries of each format; `python tools/bench/fuzz.py` makes as many as you like.
"""

from pathlib import Path

import fuzz
import fuzz_formats
import pytest

from tests.known_issues import commands
from tests.known_issues.lab import Lab

SEED, TRIES = 13, 3
SLOW = ("pretrained_pt", "resumed_pt")  # read by training alone, which takes seconds


@pytest.mark.slow
def test_changed_files_of_each_format(tiny: Lab, tmp_path: Path) -> None:
    tries = [(name, number) for number in range(1, TRIES + 1) for name in fuzz_formats.FORMATS if name not in SLOW]
    all_found = fuzz.fuzz(tries, SEED, tiny, tmp_path, jobs=1, told=lambda _, found: None)
    assert {found.format for found in all_found} | {"lm_binary"} == {*fuzz_formats.FORMATS} - {*SLOW} | {"lm_binary"}
    wrong = [f"--seed {SEED} --formats {found.format} --number {found.number}" for found in all_found if found.is_wrong]
    assert not wrong, "repeat with tools/bench/fuzz.py " + ", ".join(wrong)
    print(fuzz.table(all_found))


def test_control_characters_in_a_manifest(tiny: Lab, tmp_path: Path) -> None:
    """They reached the terminal."""
    data = tiny.copy_data(tmp_path / "data", "eng")
    tsv = data / "eng/test.tsv"
    tsv.write_text(tsv.read_text().replace("test_1.wav", "te\x1b[31mst\x00_1.wav"))
    ended = commands.run("tools/validate_manifests.py", data)
    assert ended.is_refused() and "test.tsv:3" in ended.output and "\\u001b[31m" in ended.output
    assert "\x1b" not in ended.output and "\0" not in ended.output
