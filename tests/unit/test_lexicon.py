"""Lexicons: what is read, and what each mistake in one is called."""

import re
from pathlib import Path

import pytest

from mms_recipes.decoding.lexicon import read_lexicon

SYMBOLS = ["<s>", "<pad>", "</s>", "<unk>", "|", "a", "i", "n", "v"]


def lexicon(folder: Path, text: str) -> Path:
    path = folder / "lexicon.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_words_spellings_and_their_order(tmp_path: Path) -> None:
    path = lexicon(tmp_path, "vin v i n |\n\nan\ta n |\nan  a n n |\nvin v i n |\n")
    found = read_lexicon(path, SYMBOLS)
    assert found.entries == [("vin", (8, 6, 7, 4)), ("an", (5, 7, 4)), ("an", (5, 7, 7, 4))]
    assert found.dropped == 0


def test_unit_outside_the_dictionary_is_shown_with_its_line_and_the_count(tmp_path: Path) -> None:
    path = lexicon(tmp_path, "an a n |\nnaïve n a ï v e |\nvin v i n |\nübi ü b i |\n")
    told = f"{path}:2: 'naïve n a ï v e |': 'ï' is not among the 9 units of the model; 2 of 4 lines have such."
    with pytest.raises(ValueError, match=re.escape(told) + r" decoding\.drop_oov=true leaves them out"):
        read_lexicon(path, SYMBOLS)
    found = read_lexicon(path, SYMBOLS, drop_oov=True)
    assert [word for word, _ in found.entries] == ["an", "vin"] and found.dropped == 2


@pytest.mark.parametrize("drop_oov", [False, True])
def test_lexicon_of_another_script(tmp_path: Path, drop_oov: bool) -> None:
    path = lexicon(tmp_path, "дом д о м |\nкот к о т |\n")
    with pytest.raises(ValueError, match=r":1: .*none of the 2 lines .* another language or script\? It needs д к"):
        read_lexicon(path, SYMBOLS, drop_oov)


def test_what_is_no_lexicon(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"lexicon\.txt: no such file; build the model with tools/build_lm\.py"):
        read_lexicon(tmp_path / "lexicon.txt", SYMBOLS)
    with pytest.raises(ValueError, match=r"lexicon\.txt:2: found 'vin', expected a word and its units"):
        read_lexicon(lexicon(tmp_path, "an a n |\nvin\n"), SYMBOLS)
    with pytest.raises(ValueError, match=r"lexicon\.txt: holds no words"):
        read_lexicon(lexicon(tmp_path, "\n \n"), SYMBOLS)
    (tmp_path / "latin1.txt").write_bytes("an a n |\nnaïve n a |\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin1\.txt:2: not UTF-8"):
        read_lexicon(tmp_path / "latin1.txt", SYMBOLS)
