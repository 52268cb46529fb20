"""Lexicons: what is read, and what each mistake in one is called."""

import re
from pathlib import Path

import numpy as np
import pytest

from mms_recipes.decoding import word_times
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


PIECES = [*SYMBOLS, "in", "in|", "an|"]


def test_a_piece_may_end_a_word_in_several_frames(tmp_path: Path) -> None:
    """flashlight goes on behind a word's end with blank and the mark alone: a second spelling ends in blank (0)."""
    found = read_lexicon(lexicon(tmp_path, "vin v in|\nan an|\nav a v |\n"), PIECES)
    spellings = [(word, [PIECES[unit] for unit in units]) for word, units in found.entries]
    assert spellings == [
        ("vin", ["v", "in|"]),
        ("vin", ["v", "in|", "<s>"]),
        ("an", ["an|"]),
        ("an", ["an|", "<s>"]),
        ("av", ["a", "v", "|"]),
    ]


def test_words_that_end_in_a_piece_are_found_in_however_many_frames(tmp_path: Path) -> None:
    pytest.importorskip("flashlight", reason="flashlight-text (extra [decoding]) is missing: this test did NOT run")
    from mms_recipes.decoding import beam

    arpa = ["\\data\\", "ngram 1=5", "ngram 2=1", "", "\\1-grams:", "-2\t<unk>\t0", "-99\t<s>\t0", "-1\t</s>\t0"]
    arpa += ["-0.5\tvin\t0", "-0.5\tan\t0", "", "\\2-grams:", "-0.5\tan an", "", "\\end\\", ""]
    (tmp_path / "lm.bin").write_text("\n".join(arpa))
    lexicon(tmp_path, "vin v in|\nan an|\n")
    decoder = beam.load_space(tmp_path, PIECES, words=True).decoder(beam.BeamOptions(lm_weight=0, word_score=0))
    v, in_, an = (PIECES.index(unit) for unit in ("v", "in|", "an|"))
    for path, words in (
        ([v, in_, 0, an], ["vin", "an"]),
        ([v, in_, in_, in_, 0, an, an, 0], ["vin", "an"]),
        ([v, v, 0, in_, in_, 0, v, in_], ["vin", "vin"]),
        ([an, an, 0, an, 0], ["an", "an"]),  # a blank between, so there are two
        ([an, an, an, 0], ["an"]),
    ):
        emissions_TV = np.full((len(path), len(PIECES)), np.log(0.05 / (len(PIECES) - 1)), np.float32)
        emissions_TV[range(len(path)), path] = np.log(0.95)
        best = decoder.decode(emissions_TV)[0]
        assert best.words == words
        assert best.emission_score == pytest.approx(len(path) * np.log(0.95), abs=1e-3)  # all frames as they are
        timing = word_times.time_hypothesis(emissions_TV, best.units, PIECES, 0.02, words=best.words)
        assert timing and [word.text for word in timing.words] == words
        assert [word.score for word in timing.words] == pytest.approx([0.95] * len(words))
        ends = [n for n, unit in enumerate(path) if unit in (in_, an) and path[n + 1 : n + 2] != [unit]]
        assert [round(word.end / 0.02) - 1 for word in timing.words] == ends


@pytest.mark.parametrize("drop_oov", [False, True])
def test_a_lexicon_of_letters_is_not_for_a_model_of_pieces(tmp_path: Path, drop_oov: bool) -> None:
    path = lexicon(tmp_path, "va v a |\nvin v i n |\nan a n |\n")
    assert read_lexicon(path, SYMBOLS).entries
    told = re.escape("spells 'vin' 'v i n |', but the model writes pieces of words (in| an|), not letters; build")
    with pytest.raises(ValueError, match=told):
        read_lexicon(path, PIECES, drop_oov)
    few = lexicon(tmp_path, "va v a |\nvi v i |\n")  # words that have no pieces are spelt with letters in both
    assert read_lexicon(few, PIECES, drop_oov).entries


def test_a_lexicon_of_pieces_is_not_for_a_model_of_letters(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r":1: 'an an\|': 'an\|' is not among the 9 units of the model; none of the 1"):
        read_lexicon(lexicon(tmp_path, "an an|\n"), SYMBOLS)
