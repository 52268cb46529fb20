"""Files of every format, changed at random: each command ends in the right result or in a message.

A few tries of each format; `python tools/bench/fuzz.py` makes as many as you like.
"""

from pathlib import Path

import fuzz
import fuzz_formats
import pytest

from tests.known_issues.lab import Lab

SEED, TRIES = 13, 20
SLOW = ("pretrained_pt", "resumed_pt")  # read by training alone, which takes seconds


@pytest.mark.slow
def test_changed_files_of_each_format(tiny: Lab, tmp_path: Path) -> None:
    tries = [(name, number) for number in range(1, TRIES + 1) for name in fuzz_formats.FORMATS if name not in SLOW]
    all_found = fuzz.fuzz(tries, SEED, tiny, tmp_path, jobs=1, told=lambda _, found: None)
    assert {found.format for found in all_found} | {"lm_binary"} == {*fuzz_formats.FORMATS} - {*SLOW} | {"lm_binary"}
    wrong = [f"--seed {SEED} --formats {found.format} --number {found.number}" for found in all_found if found.is_wrong]
    assert not wrong, "repeat with tools/bench/fuzz.py " + ", ".join(wrong)
    print(fuzz.table(all_found))
