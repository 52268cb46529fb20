"""Which language is spoken when: windows of a recording, each with what it sounds like, merged to spans.

Shapes: K classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mms_recipes import recordings
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.recordings import Samples

UNDETERMINED = "und"  # ISO 639-2's code
SILENCE_DB = -60.0  # of full scale: below, the loudest 25 ms of a window hold no speech
_FRAME = SAMPLE_RATE // 40


@dataclass(frozen=True)
class Window:
    """A stretch of a recording, from `begin` to `end` in samples, and its probabilities (K,), None for silence."""

    begin: int
    end: int
    probabilities_K: npt.NDArray[np.float64] | None


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


def is_silent(samples: Samples) -> bool:
    """Return whether no 25 ms of a window are louder than SILENCE_DB; a constant offset is no sound."""
    frames = len(samples) // _FRAME
    centred = samples - samples.mean(dtype=np.float64)
    power = np.square(centred[: frames * _FRAME]).reshape(frames, _FRAME).mean(axis=1) if frames else centred**2
    return bool(10 * np.log10(max(float(power.max(initial=0.0)), 1e-20)) < SILENCE_DB)


def mean(windows: Sequence[Window]) -> npt.NDArray[np.float64] | None:
    """Return the probabilities (K,) over a whole recording: the mean over its windows by length; None: all silence."""
    heard = [(window.probabilities_K, window.end - window.begin) for window in windows]
    spoken = [(probabilities_K, size) for probabilities_K, size in heard if probabilities_K is not None]
    if not spoken:
        return None
    result: npt.NDArray[np.float64] = np.average([p for p, _ in spoken], axis=0, weights=[size for _, size in spoken])
    return result


def merge(windows: Sequence[Window], classes: Sequence[str], threshold: float) -> list[Span]:
    """Return the spans of a recording: neighbours with one language, or that are undetermined, become one.

    A window whose language is less probable than `threshold` is undetermined, as silence is.
    """
    spans: list[Span] = []
    for window in windows:
        lang, probability = UNDETERMINED, None
        if window.probabilities_K is not None and (highest := float(window.probabilities_K.max())) >= threshold:
            lang, probability = classes[int(window.probabilities_K.argmax())], highest
        span = Span(window.begin / SAMPLE_RATE, window.end / SAMPLE_RATE, lang, probability)
        if spans and spans[-1].lang == lang:
            span = _joined(spans.pop(), span)
        spans.append(span)
    return spans


def _joined(one: Span, other: Span) -> Span:
    if one.probability is None or other.probability is None:
        return Span(one.begin, other.end, one.lang, None)
    seconds, more = one.end - one.begin, other.end - other.begin
    probability = (one.probability * seconds + other.probability * more) / (seconds + more)
    return Span(one.begin, other.end, one.lang, probability)
