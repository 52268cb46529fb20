"""Which language is spoken when: windows of a recording, each with what it sounds like, merged to spans.

Shapes: K classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mms_recipes import recordings
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.recordings import Samples

UNDETERMINED = "und"  # ISO 639-2's code
SILENCE_DB = -60.0  # of full scale, mean power of 25 ms: what is quieter is silence
RANGE_DB = 25.0  # and so is what is so much quieter than the loudest half second: the noise between words
LEAST_SECONDS = 0.5  # of sound; from less an answer is little better than a guess, however sure (docs/lid.md)
_FRAME = SAMPLE_RATE // 40
_LEAST = int(LEAST_SECONDS * 40)  # the numbers from here on are of frames
_PAUSE, _EDGE = 16, 4  # silence of more than 0.4 s is no pause between words; of it 0.1 s is left beside the sound


@dataclass(frozen=True)
class Window:
    """A stretch of a recording, from `begin` to `end` in samples, and its probabilities (K,), None for silence.

    `heard`: how many of its samples are sound.
    """

    begin: int
    end: int
    probabilities_K: npt.NDArray[np.float64] | None
    heard: int


@dataclass(frozen=True)
class Span:
    """A language (or `und`) from `begin` to `end` in seconds; its mean probability, None where undetermined."""

    begin: float
    end: float
    lang: str
    probability: float | None


def cut(path: Path, size: int) -> Iterator[tuple[int, Samples]]:
    """Yield begin and samples of windows of `size` samples, in memory of about one; the last two share what is left.

    None but a recording's only window is shorter than half of `size`. Raises AudioError, maybe after some windows.
    """
    held, begin = np.zeros(0, np.float32), 0
    for block in recordings.blocks(path):
        held = np.concatenate([held, block])
        while 2 * len(held) >= 3 * size:
            yield begin, held[:size]
            held, begin = held[size:], begin + size
    middle = len(held) if len(held) <= size else len(held) // 2
    yield begin, held[:middle]
    if middle < len(held):
        yield begin + middle, held[middle:]


def sound(samples: Samples) -> Samples | None:
    """Return a window without its silence, all of it where it has only pauses; None with less than LEAST_SECONDS left.

    A constant offset is no sound. The level that counts is the one that half a second reaches, so a click is not it.
    """
    frames = len(samples) // _FRAME
    if frames < _LEAST:
        return None
    centred = samples - samples.mean(dtype=np.float64)
    power = np.square(centred[: frames * _FRAME]).reshape(frames, _FRAME).mean(axis=1)
    level = float(np.partition(power, -_LEAST)[-_LEAST])
    if level < _power(SILENCE_DB):
        return None
    loud = np.flatnonzero(power >= max(_power(SILENCE_DB), level * _power(-RANGE_DB)))
    marks = np.concatenate([[-1], loud, [frames]])
    kept = np.ones(len(samples), bool)
    for place in np.flatnonzero(np.diff(marks) - 1 > _PAUSE):
        before, after = int(marks[place]), int(marks[place + 1])
        begin = 0 if before < 0 else (before + 1 + _EDGE) * _FRAME
        end = len(samples) if after == frames else (after - _EDGE) * _FRAME
        kept[begin:end] = False
    return samples[kept]


def _power(decibels: float) -> float:
    return float(10 ** (decibels / 10))


def mean(windows: Sequence[Window]) -> npt.NDArray[np.float64] | None:
    """Return the probabilities (K,) over a whole recording: the mean over its windows by how much was heard in each.

    None: nothing was.
    """
    spoken = [(window.probabilities_K, window.heard) for window in windows if window.probabilities_K is not None]
    if not spoken:
        return None
    result: npt.NDArray[np.float64] = np.average([p for p, _ in spoken], axis=0, weights=[heard for _, heard in spoken])
    return result


def merge(windows: Sequence[Window], classes: Sequence[str], threshold: float) -> list[Span]:
    """Return the spans of a recording: neighbours with one language, or that are undetermined, become one.

    A window whose language is less probable than `threshold` is undetermined, as silence is.
    """
    answers = [_answer(window, classes, threshold) for window in windows]
    spans = []
    for lang, group in groupby(zip(answers, windows, strict=True), key=lambda pair: pair[0][0]):
        alike = list(group)
        sure = [probability for (_, probability), _ in alike]
        heard = [window.heard for _, window in alike]
        probability = None if lang == UNDETERMINED else float(np.average(sure, weights=heard))
        spans.append(Span(alike[0][1].begin / SAMPLE_RATE, alike[-1][1].end / SAMPLE_RATE, lang, probability))
    return spans


def _answer(window: Window, classes: Sequence[str], threshold: float) -> tuple[str, float]:
    if window.probabilities_K is None or (highest := float(window.probabilities_K.max())) < threshold:
        return UNDETERMINED, 0.0
    return classes[int(window.probabilities_K.argmax())], highest
