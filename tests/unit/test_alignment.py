"""Alignments keep their columns in every script, wrap at the terminal's width and lose nothing."""

import pytest

from mms_recipes import alignment, metrics


@pytest.mark.parametrize(
    ("text", "width"),
    [("abc", 3), ("日本", 4), ("한국", 4), ("e\u0301", 1), ("กิ่", 1), ("ｱ", 1), ("Ａ", 2), ("", 0)],
)
def test_display_width(text: str, width: int) -> None:
    assert alignment.display_width(text) == width


def test_long_alignments_wrap_into_blocks_of_a_terminals_width() -> None:
    words = ["日本語"] * 40
    lines = alignment.aligned_lines(metrics.align(words, [*words[:20], "x", *words[21:]]))
    assert len(lines) == 9
    assert all(alignment.display_width(line) <= alignment.LINE_WIDTH for line in lines)
    assert "".join(lines[0::3]).replace("REF:", "").split() == words
    assert [line.split()[1:] for line in lines[2::3]] == [[], ["S"], []]


def test_a_word_wider_than_a_line_is_not_lost() -> None:
    lines = alignment.aligned_lines(metrics.align(["a" * 200], ["b"]))
    assert lines == ["REF: " + "a" * 200, "HYP: b", "ERR: S"]


def test_a_mark_alone_is_seated_on_a_circle() -> None:
    assert alignment.aligned_lines(metrics.align("ก่", "ก"))[0] == "REF: ก \u25cc่"


def test_columns_of_a_table_hold_in_every_script() -> None:
    rows = [["run", "CER", "of"], ["日本", "4.00", "x"], ["a", "12.50", ""], ["all", "8.25", "yz"]]
    assert alignment.text_table(rows, left=(0, 2), feet=1).splitlines() == [
        "run     CER  of",
        "----  -----  --",
        "日本   4.00  x",
        "a     12.50",
        "----  -----  --",
        "all    8.25  yz",
    ]
    assert alignment.text_table(rows[:2]).splitlines()[1:] == ["----  ----  --", "日本  4.00   x"]
