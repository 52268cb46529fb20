"""Forced alignment equals brute force; words lie where their letters do; confidence is the mean of their frames."""

import itertools
import math

import numpy as np
import pytest

from mms_recipes.decoding import word_times
from mms_recipes.decoding.confidence import Evidence
from mms_recipes.decoding.word_times import Timing

SYMBOLS = ["<s>", "<pad>", "</s>", "<unk>", "|", "a", "b", "c", "lo|"]
WORD_END, A, B, C, LO = range(4, 9)
FRAME = 0.02


def random_emissions(generator: np.random.Generator, frames: int, units: int) -> np.ndarray:
    scores = generator.normal(0, 2, (frames, units))
    return (scores - np.log(np.exp(scores).sum(1, keepdims=True))).astype(np.float32)


def reads_as(path: tuple[int, ...]) -> list[int]:
    return [unit for unit, _ in itertools.groupby(path) if unit]


def emissions_of(path: list[int], confidence: float = 0.9) -> np.ndarray:
    """Emissions that give each frame's unit this probability and share the rest among the others."""
    probabilities = np.full((len(path), len(SYMBOLS)), (1 - confidence) / (len(SYMBOLS) - 1))
    probabilities[np.arange(len(path)), path] = confidence
    return np.log(probabilities)


def timed(
    path: list[int],
    probabilities: list[float] | None = None,
    by_unit: bool = False,
    words: list[str] | None = None,
) -> Timing:
    scores = np.log(probabilities or [0.5] * len(path))
    return word_times.time_path(np.array(path, np.int64), scores, SYMBOLS, FRAME, by_unit, words)


@pytest.mark.parametrize("seed", range(6))
def test_alignment_is_the_best_of_all_paths(seed: int) -> None:
    generator = np.random.default_rng(seed)
    frames, units = int(generator.integers(1, 7)), 3
    emissions_TV = random_emissions(generator, frames, units)
    paths = list(itertools.product(range(units), repeat=frames))
    totals = {path: float(sum(emissions_TV[t, unit] for t, unit in enumerate(path))) for path in paths}
    compared = 0
    for length in range(frames + 2):
        for wanted in itertools.product(range(1, units), repeat=length):
            possible = [path for path in paths if reads_as(path) == list(wanted)]
            found = word_times.align(emissions_TV, wanted)
            if not possible:
                assert found is None, wanted
                continue
            assert found is not None and reads_as(tuple(found.tolist())) == list(wanted)
            assert totals[tuple(found.tolist())] == pytest.approx(max(totals[path] for path in possible), abs=1e-5)
            compared += 1
    assert compared >= 3


def test_what_greedy_search_finds_is_aligned_as_it_was_found() -> None:
    """The short way (the most likely units already read so) and the search take the same path."""
    emissions_TV = random_emissions(np.random.default_rng(0), 80, 6)
    best_T = emissions_TV.argmax(1)
    units = reads_as(tuple(best_T.tolist()))
    assert len(units) > 20
    assert (word_times.align(emissions_TV, units) == best_T).all()
    assert (word_times._viterbi(emissions_TV, units) == best_T).all()


def test_a_letter_that_was_not_heard_goes_where_it_costs_least() -> None:
    emissions_TV = emissions_of([0, A, A, 0, 0, C, 0])
    emissions_TV[3, B] = np.log(0.08)  # less than blank's, but more than elsewhere
    found = word_times.align(emissions_TV, [A, B, C])
    assert found is not None and found.tolist() == [0, A, A, B, 0, C, 0]


def test_repeated_letters_need_a_blank_between() -> None:
    emissions_TV = emissions_of([A, A, A])
    assert word_times.align(emissions_TV, [A, A]).tolist() == [A, 0, A]  # type: ignore[union-attr]
    assert word_times.align(emissions_TV[:2], [A, A]) is None
    assert word_times.align(emissions_TV[:2], [A, B]).tolist() == [A, B]  # type: ignore[union-attr]


@pytest.mark.parametrize(("frames", "units"), [(0, [A]), (2, [A, B, C]), (3, [A, A, B]), (4, [A, A, A])])
def test_more_letters_than_frames(frames: int, units: list[int]) -> None:
    emissions_TV = emissions_of([A] * frames)
    assert word_times.align(emissions_TV, units) is None
    assert word_times.time_hypothesis(emissions_TV, units, SYMBOLS, FRAME) == Timing([], None)


def test_impossible_letters() -> None:
    emissions_TV = emissions_of([A, B, A])
    emissions_TV[:, C] = -np.inf
    assert word_times.align(emissions_TV, [C]) is None


def test_words_lie_where_their_letters_do() -> None:
    path = [0, 0, A, A, 0, B, WORD_END, 0, C, 0, C, 0, 0, WORD_END, WORD_END, 0]
    found = timed(path)
    assert [(word.text, round(word.start, 3), round(word.end, 3)) for word in found.words] == [
        ("ab", 0.04, 0.12),
        ("cc", 0.16, 0.22),
    ]
    aligned = word_times.time_hypothesis(emissions_of(path), reads_as(tuple(path)), SYMBOLS, FRAME)
    assert aligned is not None and [word[:3] for word in aligned.words] == [word[:3] for word in found.words]


def test_confidence_is_that_of_the_letters_frames() -> None:
    #            blank  a    a    blank  b    |    blank
    found = timed([0, A, A, 0, B, WORD_END, 0], [0.99, 0.9, 0.5, 0.01, 0.2, 0.4, 0.99])
    assert found.words[0].score == pytest.approx((0.9 * 0.5 * 0.2) ** (1 / 3))
    assert found.score == pytest.approx((0.99 * 0.9 * 0.5 * 0.01 * 0.2 * 0.4 * 0.99) ** (1 / 7))


def test_an_utterance_without_words() -> None:
    for path, blanks in (([0, 0], 0.4), ([WORD_END, 0], 0.8)):
        without = Evidence(
            pytest.approx(0.04), 2, pytest.approx(math.log(0.4)), pytest.approx(math.log(blanks)), 0, 0, 0, 0
        )
        assert timed(path, [0.5, 0.8]) == Timing([], pytest.approx(math.sqrt(0.4)), without, confidence=None)
        assert without.features() is None
    assert timed([]) == Timing([], None)
    assert word_times.time_hypothesis(emissions_of([]), [], SYMBOLS, FRAME) == Timing([], None)


def test_word_marks_that_end_no_word_and_a_word_without_its_mark() -> None:
    assert [word.text for word in timed([WORD_END, A, WORD_END, 0, WORD_END, B, B]).words] == ["a", "b"]


def test_pieces_of_words() -> None:
    found = timed([A, LO, 0, LO, B, LO], [0.5, 0.5, 0.5, 0.5, 0.5, 0.125])
    assert [word.text for word in found.words] == ["alo", "lo", "blo"]
    assert [word.score for word in found.words] == pytest.approx([0.5, 0.5, 0.25])


def test_scripts_without_spaces_have_times_of_letters() -> None:
    found = timed([A, A, 0, B, WORD_END, 0, C], by_unit=True)
    assert [(word.text, round(word.start, 3), round(word.end, 3)) for word in found.words] == [
        ("a", 0, 0.04),
        ("b", 0.06, 0.08),
        ("c", 0.12, 0.14),
    ]


@pytest.mark.parametrize("by_unit", [False, True])
def test_a_word_that_the_audios_end_cut_off_is_none_of_the_lexicons(by_unit: bool) -> None:
    path = [A, WORD_END, B, 0]
    assert [word.text for word in timed(path, by_unit=by_unit, words=["a"]).words] == ["a"]
    assert timed(path, by_unit=by_unit, words=[]).words == []


def test_words_are_named_as_the_lexicon_does() -> None:
    found = timed([A, WORD_END, B, WORD_END], words=["A", "two"])
    assert [(word.text, round(word.start, 3)) for word in found.words] == [("A", 0.0), ("two", 0.04)]
