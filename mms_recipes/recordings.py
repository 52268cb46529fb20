"""Recordings of any kind, rate and length, as 16 kHz mono: whole, or piece by piece in memory that does not grow.

What libsndfile reads is read. Several channels become their mean.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.sound import reader
from mms_recipes.sound.stores import AudioError, UnreadableError

EPSILON = 1e-5  # torch.nn.functional.layer_norm's, which fairseq normalises audio with

TYPICAL_RATE = 16_000  # bytes of a second, where the length is to be guessed

Samples = npt.NDArray[np.float32]


class Summary(NamedTuple):
    """What one pass over a recording tells: its samples at 16 kHz, their mean and variance."""

    num_samples: int
    mean: float
    variance: float
    cut_off: bool  # its header promises more than there is

    @property
    def seconds(self) -> float:
        return self.num_samples / SAMPLE_RATE


def expected_seconds(path: Path) -> float:
    """Return how long a recording is by its header alone, in seconds; reading it may show less.

    0 for what is no audio, of which reading it will tell.
    """
    try:
        with reader.opened(path) as stream:
            if stream.length is None:
                return path.stat().st_size / TYPICAL_RATE
            return stream.length / stream.rate
    except (AudioError, OSError):
        return 0.0


def blocks(path: Path, whole: bool = False) -> Iterator[Samples]:
    """Yield the 16 kHz samples of a recording in order, some seconds at a time.

    Raises AudioError: not there, not audio, no samples, samples that are not finite, and with ``whole`` in the end also
    when it is cut off.
    """
    for block, is_cut in _blocks(path):
        yield block
        if is_cut and whole:
            raise AudioError(f"{path}: cut off or damaged, its header promises more than there is; get the file again")


def summarize(path: Path) -> Summary:
    """Read a recording once, a block at a time. Raises what `blocks` raises."""
    count, total, squares, cut_off = 0, 0.0, 0.0, False
    for block, cut_off in _blocks(path):  # noqa: B007 (the last one's is kept)
        exact = block.astype(np.float64)
        count += len(block)
        total += float(exact.sum())
        squares += float(np.square(exact).sum())
    mean = total / max(count, 1)
    return Summary(count, mean, max(squares / max(count, 1) - mean * mean, 0.0), cut_off)


def read(path: Path, seconds: float = math.inf) -> tuple[Samples, bool]:
    """Return a recording's first seconds (all by default), and whether it was cut off. Raises what `blocks` raises."""
    parts, count, cut_off = [], 0, False
    for block, cut_off in _blocks(path):  # noqa: B007 (the last one's is kept)
        parts.append(block)
        count += len(block)
        if count >= seconds * SAMPLE_RATE:
            parts[-1] = block[: len(block) - (count - int(seconds * SAMPLE_RATE))]
            break
    return np.concatenate(parts), cut_off


def normalized(samples: Samples, mean: float | None = None, variance: float | None = None) -> Samples:
    """Return samples with zero mean and unit variance; by those of a whole recording where they are given."""
    if mean is None or variance is None:
        mean, variance = float(samples.mean(dtype=np.float64)), float(samples.var(dtype=np.float64))
    result: Samples = ((samples - np.float32(mean)) / np.float32(math.sqrt(variance + EPSILON))).astype(np.float32)
    return result


def stretches(path: Path, spans: Sequence[tuple[int, int]]) -> Iterator[Samples]:
    """Yield the samples from begin to end (16 kHz, end not included) of spans in order, which overlap or touch.

    Only what the present span needs is in memory.
    """
    held, origin, following = np.zeros(0, np.float32), 0, blocks(path)
    for begin, end in spans:
        assert origin <= begin <= origin + len(held)
        held, origin = held[begin - origin :], begin
        parts, count = [held], len(held)
        while count < end - begin and (block := next(following, None)) is not None:
            parts.append(block)
            count += len(block)
        held = np.concatenate(parts)
        yield held[: end - begin].copy()


def _blocks(path: Path) -> Iterator[tuple[Samples, bool]]:
    """Yield blocks at 16 kHz, and with the last one whether the recording is cut off."""
    try:
        with reader.opened(path) as stream:
            resampler = _resampler(stream.rate)
            for samples in stream.blocks():
                mono = samples.mean(axis=1, dtype=np.float32)
                if not np.isfinite(mono).all():
                    raise AudioError(f"{path}: samples that are not finite numbers; write the file anew")
                yield mono if resampler is None else resampler.resample_chunk(mono), False
            if stream.num_read == 0:
                raise AudioError(f"{path}: holds no samples")
            rest = np.zeros(0, np.float32)
            yield rest if resampler is None else resampler.resample_chunk(rest, last=True), stream.is_cut
    except UnreadableError as error:
        raise AudioError(
            f"{error}; libsndfile reads wav, flac, mp3, ogg, opus, aiff, au and more. The sound of a video: "
            f"ffmpeg -i {path.name!r} -vn sound.flac"
        ) from None


def _resampler(rate: int) -> Any:
    import soxr

    return None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
