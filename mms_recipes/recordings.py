"""Recordings of any kind, rate and length, as 16 kHz mono: whole, or piece by piece in memory that does not grow.

What libsndfile reads is read. Several channels become their mean, or where they cancel each other out, the loudest.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.sound import levels, reader
from mms_recipes.sound.reader import Stream
from mms_recipes.sound.stores import AudioError, UnreadableError

TYPICAL_RATE = 16_000  # bytes of a second, where the length is to be guessed

Samples = npt.NDArray[np.float32]


class Summary(NamedTuple):
    """What one pass over a recording tells: its samples at 16 kHz, their mean and variance; what to say of it."""

    num_samples: int
    mean: float
    variance: float
    cut_off: bool  # its header promises more than there is
    channel: int | None = None  # taken alone, because the channels cancel each other out

    @property
    def seconds(self) -> float:
        return self.num_samples / SAMPLE_RATE

    @property
    def remarks(self) -> tuple[str, ...]:
        """What whoever uses the recording should know."""
        cut_off = f"cut off: its header promises more than {self.seconds:.1f} s" if self.cut_off else None
        return tuple(filter(None, (cut_off, levels.told(self.channel), levels.remark(self.variance))))


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


MEAN_OR_LOUDEST = -1


def blocks(path: Path, whole: bool = False, channel: int | None = MEAN_OR_LOUDEST) -> Iterator[Samples]:
    """Yield the 16 kHz samples of a recording in order, some seconds at a time.

    `channel`: what `choose_channel` returned, where that is known already.

    Raises AudioError: not there, not audio, no samples, samples that are not finite, and with ``whole`` in the end also
    when it is cut off.
    """
    for block, is_cut in _blocks(path, levels.Mixer(choose_channel(path) if channel == MEAN_OR_LOUDEST else channel)):
        yield block
        if is_cut and whole:
            raise AudioError(f"{path}: cut off or damaged, its header promises more than there is; get the file again")


def choose_channel(path: Path) -> int | None:
    """Return the channel (from 0) to take alone where the channels cancel each other out; None: the mean of all.

    Reads the recording unless it has one channel. Raises AudioError.
    """
    mixer = levels.Mixer()
    with _opened(path) as stream:
        if stream.channels > 1:
            for block in stream.blocks():
                mixer.mono(block)
    return mixer.choice()


def summarize(path: Path) -> Summary:
    """Read a recording once, a block at a time; again where its channels cancel. Raises what `blocks` raises."""
    mixer = levels.Mixer()
    found = _summarize(path, mixer)
    channel = mixer.choice()
    return found if channel is None else _summarize(path, levels.Mixer(channel))


def _summarize(path: Path, mixer: levels.Mixer) -> Summary:
    count, total, squares, cut_off = 0, 0.0, 0.0, False
    for block, cut_off in _blocks(path, mixer):  # noqa: B007 (the last one's is kept)
        exact = block.astype(np.float64)
        count += len(block)
        total += float(exact.sum())
        squares += float(np.dot(exact, exact))
    mean = total / max(count, 1)
    return Summary(count, mean, max(squares / max(count, 1) - mean * mean, 0.0), cut_off, mixer.channel)


def read(path: Path, seconds: float = math.inf) -> tuple[Samples, tuple[str, ...]]:
    """Return a recording's first seconds (all by default), and what whoever uses it should know.

    Raises what `blocks` raises.
    """
    mixer = levels.Mixer()
    samples, cut_off = _read(path, mixer, seconds)
    if (channel := mixer.choice()) is not None:
        samples, cut_off = _read(path, levels.Mixer(channel), seconds)
    variance = float(samples.var(dtype=np.float64)) if len(samples) else 0.0
    return samples, Summary(len(samples), 0.0, variance, cut_off, channel).remarks


def _read(path: Path, mixer: levels.Mixer, seconds: float) -> tuple[Samples, bool]:
    parts, count, cut_off = [], 0, False
    for block, cut_off in _blocks(path, mixer):  # noqa: B007 (the last one's is kept)
        parts.append(block)
        count += len(block)
        if count >= seconds * SAMPLE_RATE:
            parts[-1] = block[: len(block) - (count - int(seconds * SAMPLE_RATE))]
            break
    return np.concatenate(parts), cut_off


def stretches(path: Path, spans: Sequence[tuple[int, int]], channel: int | None = None) -> Iterator[Samples]:
    """Yield the samples from begin to end (16 kHz, end not included) of spans in order, which overlap or touch.

    Only what the present span needs is in memory. `channel`: to be taken alone (`Summary.channel`). Raises AudioError
    also when the recording became shorter than its spans since these were planned.
    """
    held, origin = np.zeros(0, np.float32), 0
    following = _blocks(path, levels.Mixer(channel))
    for begin, end in spans:
        assert origin <= begin <= origin + len(held)
        held, origin = held[begin - origin :], begin
        parts, count = [held], len(held)
        while count < end - begin and (block := next(following, None)) is not None:
            parts.append(block[0])
            count += len(block[0])
        if count < end - begin:
            raise AudioError(f"{path}: changed while it was read, it is shorter than before; give the command again")
        held = np.concatenate(parts)
        yield held[: end - begin].copy()


@contextmanager
def _opened(path: Path) -> Iterator[Stream]:
    """Open a recording; where it is not readable, say what can be done."""
    try:
        with reader.opened(path) as stream:
            yield stream
    except UnreadableError as error:
        raise AudioError(
            f"{error}; libsndfile reads wav, flac, mp3, ogg, opus, aiff, au and more. The sound of a video: "
            f"ffmpeg -i {path.name!r} -vn sound.flac"
        ) from None


def _blocks(path: Path, mixer: levels.Mixer) -> Iterator[tuple[Samples, bool]]:
    """Yield blocks at 16 kHz, and with the last one whether the recording is cut off."""
    with _opened(path) as stream:
        resampler = _resampler(stream.rate)
        for samples in stream.blocks():
            mono = mixer.mono(samples)
            block = mono if resampler is None else resampler.resample_chunk(mono)
            if not np.isfinite(mono).all() or not np.isfinite(block).all():
                raise AudioError(f"{path}: samples that are not finite numbers; write the file anew")
            yield block, False
        if stream.num_read == 0:
            raise AudioError(f"{path}: holds no samples")
        rest = np.zeros(0, np.float32)
        yield rest if resampler is None else resampler.resample_chunk(rest, last=True), stream.is_cut


def _resampler(rate: int) -> Any:
    import soxr

    return None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
