"""Where to cut long unlabelled recordings into utterances for pretraining (MMS paper section 3.2).

A span is (start, end) in samples at 16 kHz, the end not included; spans are in order and do not overlap. Detected
spans of speech are joined over short gaps, what is joined is cut at random, and utterances are divided into splits. All
that is drawn depends on seeds and names only, never on the order in which files are found or finished.
"""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mms_recipes.manifest import SAMPLE_RATE

Span = tuple[int, int]

# From probabilities to spans, with the defaults of silero-vad's get_speech_timestamps (a test compares the two).
THRESHOLD = 0.5  # speech begins at this probability
EXIT_THRESHOLD = THRESHOLD - 0.15  # and ends below this one
MIN_SILENCE = SAMPLE_RATE // 10  # samples; a shorter pause is part of the speech
MIN_SPEECH = SAMPLE_RATE // 4  # samples; what is not longer is taken for an error of the detector
PADDING = 3 * SAMPLE_RATE // 100  # samples on each side, so that soft beginnings and ends are not lost


@dataclass(frozen=True)
class Rules:
    """How spans of speech become utterances. ``max_gap``: the share of a joined span that may be no speech."""

    min_seconds: float = 5.5
    max_seconds: float = 30.0
    max_gap: float = 0.2

    def __post_init__(self) -> None:
        if not (self.min_seconds > 0 and self.max_seconds >= 2 * self.min_seconds):
            raise ValueError(
                f"utterances of {self.min_seconds:g} to {self.max_seconds:g} s: expected a least length above 0 and a "
                "greatest of at least twice that, so that every span can be cut without a rest"
            )
        if not 0 <= self.max_gap < 1:
            raise ValueError(f"a largest gap of {self.max_gap:g}: expected a share, 0 or more and less than 1")

    @property
    def min_samples(self) -> int:
        """The least length of an utterance."""
        return round(self.min_seconds * SAMPLE_RATE)

    @property
    def max_samples(self) -> int:
        """The greatest length of an utterance."""
        return max(round(self.max_seconds * SAMPLE_RATE), 2 * self.min_samples)


def speech_spans(probabilities: NDArray[np.float32], window: int, num_samples: int) -> list[Span]:
    """Return the spans of speech in audio of ``num_samples``, from the probability of speech in each window.

    ``window``: samples that a probability stands for; the last window may reach beyond the end.
    """
    spans: list[Span] = []
    start = quiet = None  # where the speech began, and where it may have ended
    for index, probability in enumerate(map(float, probabilities)):
        here = index * window
        if probability >= THRESHOLD:
            start = here if start is None else start
            quiet = None
        elif probability < EXIT_THRESHOLD and start is not None:
            quiet = here if quiet is None else quiet
            if here - quiet >= MIN_SILENCE:
                spans.append((start, quiet))
                start = quiet = None
    if start is not None:
        spans.append((start, num_samples))
    # padded spans do not meet: there is MIN_SILENCE between any two
    return [
        (max(start - PADDING, 0), min(end + PADDING, num_samples)) for start, end in spans if end - start > MIN_SPEECH
    ]


def join(spans: Sequence[Span], max_gap: float, too_long: int) -> list[Span]:
    """Join neighbouring spans of speech until no two neighbours can be joined any more.

    Two are joined when what is no speech between the beginning of the first and the end of the second, gaps joined
    before included, is at most the share ``max_gap`` of that length, and the gap between them is shorter than
    ``too_long`` samples. The paper asks that a gap be at most 20 % of the joined length, and does not say how that goes
    on over many gaps. Two things are ours: all gaps count together, or music in which the detector finds a syllable now
    and then would be joined to the speech before it; and the bound, given as the least length of an utterance, or
    utterances could be cut from a gap that hold no speech at all.
    """
    joined: list[tuple[int, int, int]] = []  # start, end, samples of speech
    for start, end in spans:
        speech = end - start
        while joined:
            first, until, speech_before = joined[-1]
            length = end - first
            if start - until >= too_long or length - speech_before - speech > max_gap * length:
                break
            joined.pop()
            start, speech = first, speech_before + speech
        joined.append((start, end, speech))
    return [(start, end) for start, end, _ in joined]


def cut(span: Span, min_samples: int, max_samples: int, rng: random.Random) -> list[Span]:
    """Cut a span at random into utterances of ``min_samples`` to ``max_samples``, without a rest.

    Lengths are drawn evenly; where the rest would be too short for an utterance, all that is left is one, or is cut in
    two. A span shorter than ``min_samples`` gives none. ``max_samples`` is at least twice ``min_samples``.
    """
    start, end = span
    utterances: list[Span] = []
    while (rest := end - start) >= min_samples:
        size = rng.randint(min_samples, max_samples)
        if rest - size < min_samples:
            size = rest if rest <= max_samples else rng.randint(min_samples, rest - min_samples)
        utterances.append((start, start + size))
        start += size
    return utterances


def segment(speech: Sequence[Span], rules: Rules, seed: str) -> tuple[list[Span], list[Span]]:
    """Return the utterances of one recording, and the joined spans that are too short to hold one."""
    rng = random.Random(seed)
    joined = join(speech, rules.max_gap, rules.min_samples)
    utterances = [part for span in joined for part in cut(span, rules.min_samples, rules.max_samples, rng)]
    return utterances, [(start, end) for start, end in joined if end - start < rules.min_samples]


def divide(lengths: Mapping[str, int], shares: Mapping[str, float], seed: str) -> dict[str, str]:
    """Draw each name (an utterance or a recording) into a split and return the split of each.

    ``shares``: of the sum of ``lengths``, by split. The first split takes what the others leave, the longest name for
    certain; each of the others gets about its share, and at least one name where there are enough. Names are drawn in
    the order of a hash of theirs, so that more data moves few of them to another split.
    """
    first, *others = shares
    longest = max(lengths, key=lambda name: (lengths[name], name), default="")
    waiting = sorted(lengths.keys() - {longest}, key=lambda name: _hash(f"{seed} {name}"))
    drawn: dict[str, str] = {}
    others = [split for split in others if shares[split] > 0]
    for place, split in enumerate(others[: len(waiting)], start=1):
        names = waiting[: max(len(waiting) - len(others) + place, 1)]  # one is left for each split to come
        drawn |= dict.fromkeys(fill(names, lengths, shares[split] * sum(lengths.values())), split)
        waiting = [name for name in waiting if name not in drawn]
    return {name: drawn.get(name, first) for name in lengths}


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


def fill(names: Sequence[str], lengths: Mapping[str, int], goal: float) -> list[str]:
    """Return the first names that together come closest to ``goal``, or else the shortest one."""
    taken: list[str] = []
    filled = 0
    for name in names:
        if filled + lengths[name] / 2 <= goal:
            taken.append(name)
            filled += lengths[name]
        elif taken:
            break  # before the first, what is far too long is passed by: one file may be most of a language
    return taken or [min(names, key=lambda name: lengths[name])]
