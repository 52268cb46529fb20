"""From speech that was found to utterances: joined, cut and divided as the rules say, whatever the spans are."""

import random
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mms_recipes.corpora.segmentation import Rules, Span, cut, divide, fill, join, segment, speech_spans

RATE = 16_000
SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}
WINDOW = 512


@st.composite
def spans(draw: st.DrawFn, longest: int = 100 * RATE) -> list[Span]:
    """Spans in order that do not overlap, some of which touch."""
    found, place = [], 0
    for gap, length in draw(st.lists(st.tuples(st.integers(0, longest // 4), st.integers(1, longest)), max_size=30)):
        found.append((place + gap, place + gap + length))
        place += gap + length
    return found


def samples(spans: list[Span]) -> int:
    return sum(end - start for start, end in spans)


def inside(spans: list[Span], outer: Span) -> list[Span]:
    return [(start, end) for start, end in spans if outer[0] <= start and end <= outer[1]]


def probabilities(*runs: tuple[int, float]) -> np.ndarray:
    return np.concatenate([np.full(count, value, np.float32) for count, value in runs])


@pytest.mark.parametrize(
    ("runs", "num_samples", "expected"),
    [
        ([(100, 0.1)], 51_200, []),
        ([(100, 0.9)], 51_200, [(0, 51_200)]),
        ([(10, 0.1), (20, 0.9), (10, 0.1)], 20_480, [(5120 - 480, 15_360 + 480)]),
        ([(20, 0.9), (3, 0.1), (20, 0.9)], 22_016, [(0, 22_016)]),  # 96 ms
        ([(20, 0.9), (5, 0.1), (20, 0.9)], 23_040, [(0, 10_720), (12_320, 23_040)]),  # 160 ms
        ([(20, 0.5), (10, 0.34)], 15_360, [(0, 10_720)]),  # where speech begins and where it ends
        ([(20, 0.9), (2, 0.1), (10, 0.9), (2, 0.1), (20, 0.9)], 27_648, [(0, 27_648)]),  # each pause by itself
        ([(20, 0.9), (50, 0.4), (20, 0.9)], 46_080, [(0, 46_080)]),  # not quiet enough to end
        ([(20, 0.4), (20, 0.1)], 20_480, []),  # not loud enough to begin
        ([(10, 0.1), (7, 0.9), (10, 0.1)], 13_824, []),  # 224 ms
        ([(10, 0.1), (20, 0.9)], 15_000, [(4640, 15_000)]),  # the last window reaches beyond the end
        ([], 0, []),
    ],
)
def test_spans_of_speech(runs: list[tuple[int, float]], num_samples: int, expected: list[Span]) -> None:
    found = probabilities(*runs) if runs else np.zeros(0, np.float32)
    assert speech_spans(found, WINDOW, num_samples) == expected


@given(st.lists(st.sampled_from([0.0, 0.3, 0.4, 0.6]), max_size=200), st.integers(0, WINDOW - 1))
def test_spans_of_speech_are_in_order_and_inside_the_audio(values: list[float], missing: int) -> None:
    num_samples = max(len(values) * WINDOW - missing, 0)
    found = speech_spans(np.array(values, np.float32), WINDOW, num_samples)
    edges = [edge for span in found for edge in span]
    assert all(left < right for left, right in pairwise(edges))
    assert not edges or (edges[0] >= 0 and edges[-1] <= num_samples)


@pytest.mark.parametrize(
    ("speech", "expected"),
    [
        ([], []),
        ([(5, 10)], [(5, 10)]),
        ([(0, 40), (60, 100)], [(0, 100)]),  # 20 of 100
        ([(0, 40), (61, 100)], [(0, 40), (61, 100)]),  # 21 of 100
        ([(0, 40), (50, 90), (100, 110)], [(0, 110)]),  # 20 of 110, both gaps together
        ([(0, 40), (60, 100), (101, 102)], [(0, 100), (101, 102)]),  # each gap is short, together they are 21 of 102
        ([(0, 1), (2, 3), (4, 30)], [(0, 30)]),  # the first two only once the long one is there
        ([(0, 10), (10, 20)], [(0, 20)]),
        ([(0, 400), (450, 800)], [(0, 400), (450, 800)]),  # 6 %, but an utterance would fit into the gap
        ([(0, 400), (449, 800)], [(0, 800)]),
    ],
)
def test_joins(speech: list[Span], expected: list[Span]) -> None:
    assert join(speech, max_gap=0.2, too_long=50) == expected


def test_nothing_but_what_touches_is_joined_over_no_gap() -> None:
    assert join([(0, 10), (10, 20), (21, 30)], max_gap=0.0, too_long=50) == [(0, 20), (21, 30)]


@given(spans(), st.floats(0, 0.9), st.integers(1, 20 * RATE))
def test_joined_spans_hold_all_speech_and_little_else(speech: list[Span], max_gap: float, too_long: int) -> None:
    joined = join(speech, max_gap, too_long)
    assert [span for outer in joined for span in inside(speech, outer)] == speech
    assert all(left[1] <= right[0] for left, right in pairwise(joined))
    for outer in joined:
        held = inside(speech, outer)
        assert (held[0][0], held[-1][1]) == outer
        assert samples([outer]) - samples(held) <= max_gap * samples([outer])
        assert all(right[0] - left[1] < too_long for left, right in pairwise(held))


@given(spans(), st.floats(0, 0.9), st.integers(1, 20 * RATE))
def test_no_neighbours_are_left_that_could_be_joined(speech: list[Span], max_gap: float, too_long: int) -> None:
    for left, right in pairwise(join(speech, max_gap, too_long)):
        both = (left[0], right[1])
        no_speech = samples([both]) - samples(inside(speech, both))
        assert no_speech > max_gap * samples([both]) or right[0] - left[1] >= too_long


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(1, 10**5), st.integers(0, 10**5), st.integers())
def test_cuts_leave_no_rest(start: int, length: int, least: int, more: int, seed: int) -> None:
    length %= 1000 * least
    most = 2 * least + more
    parts = cut((start, start + length), least, most, random.Random(seed))
    if length < least:
        assert parts == []
        return
    assert all(least <= end - begin <= most for begin, end in parts)
    assert [parts[0][0], *(end for _, end in parts)] == [*(begin for begin, _ in parts), start + length]


@pytest.mark.parametrize(("length", "sizes"), [(9, []), (10, [10]), (19, [19])])
def test_cuts_that_leave_no_choice(length: int, sizes: list[int]) -> None:
    for seed in range(50):
        parts = cut((7, 7 + length), 10, 20, random.Random(seed))
        assert [end - start for start, end in parts] == sizes


def test_cuts_are_drawn_evenly() -> None:
    """Lengths of a long span: about as many in each sixth of 5.5 to 30 s."""
    parts = cut((0, 100_000 * RATE), round(5.5 * RATE), 30 * RATE, random.Random(1))
    counts, _ = np.histogram([end - start for start, end in parts], bins=6, range=(5.5 * RATE, 30 * RATE))
    assert counts.sum() == len(parts)
    assert counts.min() > 0.85 * counts.mean() and counts.max() < 1.15 * counts.mean()


@given(spans(), st.text(max_size=5))
def test_segments_obey_the_rules(speech: list[Span], seed: str) -> None:
    rules = Rules()
    utterances, too_short = segment(speech, rules, seed)
    joined = join(speech, rules.max_gap, rules.min_samples)
    assert all(5.5 * RATE <= end - start <= 30 * RATE for start, end in utterances)
    assert all(left[1] <= right[0] for left, right in pairwise(utterances))
    assert all(end - start < 5.5 * RATE for start, end in too_short)
    assert sorted([*too_short, *(span for span in joined if span not in too_short)]) == joined
    assert samples(utterances) + samples(too_short) == samples(joined)
    assert all(any(inside([part], outer) for outer in joined) for part in [*utterances, *too_short])
    for part in utterances:  # none lies in a gap
        assert any(start < part[1] and part[0] < end for start, end in speech)
    assert segment(speech, rules, seed) == (utterances, too_short)


def test_segments_of_one_recording_by_hand() -> None:
    speech = [(0, 8 * RATE), (9 * RATE, 10 * RATE), (20 * RATE, 22 * RATE)]
    assert segment(speech, Rules(), "any") == ([(0, 10 * RATE)], [(20 * RATE, 22 * RATE)])


def test_another_seed_cuts_elsewhere() -> None:
    speech = [(0, 600 * RATE)]
    first, second = (segment(speech, Rules(), seed)[0] for seed in ("1 zul a.wav", "2 zul a.wav"))
    assert first != second and samples(first) == samples(second)


def test_draws_are_the_same_in_another_process() -> None:
    program = (
        "from mms_recipes.corpora.segmentation import *;"
        "print(segment([(0, 9_600_000)], Rules(), '1 zul a.wav'), divide({str(n): n + 1 for n in range(50)},"
        "{'train': .8, 'dev': .1, 'test': .1}, '1 zul'))"
    )
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=__file__.partition("/tests/")[0])
    here = segment([(0, 9_600_000)], Rules(), "1 zul a.wav")
    assert printed.stdout == f"{here} {divide({str(n): n + 1 for n in range(50)}, SHARES, '1 zul')}\n"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"min_seconds": 0.0}, "utterances of 0 to 30 s: expected a least length above 0"),
        ({"max_seconds": 10.0}, "utterances of 5.5 to 10 s: .* at least twice that"),
        ({"max_gap": 1.0}, "largest gap of 1: expected a share, 0 or more and less than 1"),
        ({"max_gap": -0.1}, "largest gap of -0.1"),
        ({"max_gap": float("nan")}, "largest gap of nan"),
        ({"min_seconds": float("nan")}, "utterances of nan to 30 s"),
    ],
)
def test_rules_that_cannot_be_are_refused(rules: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rules(**rules)


def test_ten_equal_names_are_divided_exactly() -> None:
    drawn = divide({f"{n}": 100 for n in range(10)}, SHARES, "1")
    assert Counter(drawn.values()) == {"train": 8, "dev": 1, "test": 1}


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ({}, {}),
        ({"a": 5}, {"train": 1}),
        ({"a": 5, "b": 5}, {"train": 1, "dev": 1}),
        ({"a": 5, "b": 5, "c": 5}, {"train": 1, "dev": 1, "test": 1}),
    ],
)
def test_train_is_served_first_where_names_are_few(lengths: dict[str, int], expected: dict[str, int]) -> None:
    for seed in range(20):
        assert Counter(divide(lengths, SHARES, f"{seed}").values()) == expected


@pytest.mark.parametrize(
    ("lengths", "goal", "expected"),
    [
        ([4, 4, 4], 8.0, [0, 1]),
        ([4, 4, 4], 9.9, [0, 1]),
        ([4, 4, 4], 10.0, [0, 1, 2]),  # as near from above as from below
        ([4, 100, 1], 8.0, [0]),  # not on to the short ones: dev is no choice of short utterances
        ([100, 4, 4], 8.0, [1, 2]),  # but past the first
        ([30, 20, 25], 8.0, [1]),
    ],
)
def test_a_share_is_filled_in_order(lengths: list[int], goal: float, expected: list[int]) -> None:
    names = [str(place) for place in range(len(lengths))]
    assert fill(names, dict(zip(names, lengths, strict=True)), goal) == [names[place] for place in expected]


def test_dev_leaves_something_for_test() -> None:
    lengths = {"long": 1000, **{f"{n}": 1 for n in range(5)}}
    assert Counter(divide(lengths, SHARES, "1").values()) == {"train": 1, "dev": 4, "test": 1}


def test_most_of_a_language_does_not_go_to_dev() -> None:
    lengths = {"whole bible": 80_000, "a": 1, "b": 2, "c": 20_000}
    for seed in range(20):
        drawn = divide(lengths, SHARES, f"{seed}")
        assert drawn["whole bible"] == "train"
        assert drawn["c"] == "train" or {drawn["a"], drawn["b"]} != {"train"}


def test_a_split_without_a_share_gets_nothing() -> None:
    drawn = divide({f"{n}": 1 for n in range(100)}, {"train": 0.9, "dev": 0.1, "test": 0.0}, "1")
    assert Counter(drawn.values()) == {"train": 90, "dev": 10}


@given(st.dictionaries(st.text(max_size=4), st.integers(1, 1000), min_size=40, max_size=80), st.text(max_size=3))
def test_shares_are_met_whatever_the_order(lengths: dict[str, int], seed: str) -> None:
    drawn = divide(lengths, SHARES, seed)
    assert drawn == divide(dict(reversed(lengths.items())), SHARES, seed)
    total, longest = sum(lengths.values()), max(lengths.values())
    for split in ("dev", "test"):
        share = sum(lengths[name] for name in lengths if drawn[name] == split)
        assert abs(share - 0.1 * total) <= longest
        assert share > 0


def test_more_data_moves_few_names() -> None:
    before = divide({f"{n}": 1 for n in range(1000)}, SHARES, "1")
    after = divide({f"{n}": 1 for n in range(1050)}, SHARES, "1")
    assert sum(before[name] != after[name] for name in before) < 30


def test_another_seed_draws_others() -> None:
    lengths = {f"{n}": 1 for n in range(1000)}
    first, second = divide(lengths, SHARES, "1"), divide(lengths, SHARES, "2")
    assert 0.05 < np.mean([second[name] == "dev" for name in lengths if first[name] == "dev"]) < 0.2
