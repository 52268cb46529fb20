"""Levels of audio: what models get (zero mean, unit variance), what 16-bit files hold, and channels that cancel out.

Training and use standardise by the same function. It is fairseq's layer_norm down to -40 dBFS; quieter audio is taken
as if its volume had been turned up to that level: with fairseq's epsilon it would come ever quieter to the model.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mms_recipes.sound.stores import AudioError

Samples = npt.NDArray[np.float32]
EPSILON = 1e-5  # torch.nn.functional.layer_norm's, which fairseq standardises with
QUIET_VARIANCE = 1e-4  # -40 dBFS
SILENT_VARIANCE = 2.0**-30  # one step of 16 bits, -90 dBFS: what is below is silence with dither, no speech
TOLD_DB = -60.0  # below it, whoever uses the audio is told
CANCELLED = 0.1  # share of the loudest channel's energy below which the channels' sum is what cancelling leaves
FULL_SCALE, QUIET_PEAK, SPREAD_PEAK, TOLD_PEAK = 1.0, 0.01, 0.9, 2.0
_LOUD = 0.99  # share of the samples of a block that are quieter than its level without single spikes


def standardized(samples: Samples, mean: float | None = None, variance: float | None = None) -> Samples:
    """Return samples (n,) with zero mean and unit variance; by those of a whole recording where they are given.

    Silence becomes zeros.
    """
    exact = samples.astype(np.float64)
    if mean is None or variance is None:
        mean = float(exact.mean()) if len(exact) else 0.0
        exact -= mean
        variance = float(np.dot(exact, exact)) / max(len(exact), 1)
    else:
        exact -= mean
    exact *= _factor(variance)
    return exact.astype(np.float32)


def _factor(variance: float) -> float:
    if variance < SILENT_VARIANCE:
        return 0.0
    return 1 / math.sqrt(variance + EPSILON * min(1.0, variance / QUIET_VARIANCE))


def decibels(variance: float) -> float:
    """Return a level in dBFS."""
    return 10 * math.log10(variance) if variance > 0 else -math.inf


def remark(variance: float) -> str | None:
    """Say that audio is silent or very quiet, where it is."""
    if variance < SILENT_VARIANCE:
        return f"silence: no sound above {decibels(SILENT_VARIANCE):.0f} dBFS"
    if decibels(variance) < TOLD_DB:
        return f"very quiet: {decibels(variance):.0f} dBFS; look whether it was recorded well"
    return None


class Gain(NamedTuple):
    """What samples are to be multiplied by, and what to say of it."""

    factor: float = 1.0
    remark: str | None = None


class Meter:
    """How loud audio is, block by block; `is_fine`: its samples have more than 16 bits, so that quiet ones say much."""

    def __init__(self, is_fine: bool) -> None:
        self.is_fine = is_fine
        self._peak = self._loud = self._sum = self._squares = 0.0
        self._count = 0

    def add(self, block: Samples) -> None:
        """Take account of some samples (n,)."""
        if len(block):
            sizes = np.abs(block)
            self._peak = max(self._peak, float(sizes.max()))
            place = int(_LOUD * (len(sizes) - 1))
            self._loud = max(self._loud, float(np.partition(sizes, place)[place]))
            exact = block.astype(np.float64)
            self._count += len(block)
            self._sum += float(exact.sum())
            self._squares += float(np.dot(exact, exact))

    @property
    def variance(self) -> float:
        count = max(self._count, 1)
        return max(self._squares / count - (self._sum / count) ** 2, 0.0)

    def is_silent(self) -> bool:
        """Say whether there is nothing but what 16 bits leave of silence."""
        return self.variance < SILENT_VARIANCE and not (self.is_fine and self.variance > 0)

    def gain(self, where: str) -> Gain:
        """Return what brings the samples into 16 bits: neither clipped nor lost in rounding.

        Raises AudioError where nothing does: a few samples are so loud that all others vanish.
        """
        if QUIET_PEAK <= self._peak <= FULL_SCALE or self.is_silent():
            return Gain()
        is_far = self._peak < QUIET_PEAK or self._peak > TOLD_PEAK
        factor = (SPREAD_PEAK if is_far else FULL_SCALE) / self._peak
        if self._peak > FULL_SCALE and self._loud * factor < math.sqrt(SILENT_VARIANCE):
            raise AudioError(
                f"{where}: single samples of {self._peak:.3g}, where full scale is 1, and nearly nothing beside them; "
                "look at the file, and write it anew"
            )
        if self._peak > TOLD_PEAK:
            return Gain(factor, f"samples up to {self._peak:.4g}, where full scale is 1: scaled down")
        return Gain(factor, f"very quiet, samples up to {self._peak:.2g}: scaled up" if is_far else None)

    def remark(self) -> str | None:
        """Say that the audio is silent or very quiet, where it is."""
        return remark(self.variance)


def to_16_bits(samples: Samples, where: str, is_fine: bool = True) -> tuple[Samples, str | None]:
    """Return samples (n,) at the level that a 16-bit file is to have, and what to say of it. Raises AudioError."""
    meter = Meter(is_fine)
    meter.add(samples)
    factor, told = meter.gain(where)
    scaled = samples if factor == 1.0 else (samples * np.float64(factor)).astype(np.float32)
    return scaled, told or meter.remark()


class Mixer:
    """Several channels become one: their mean, or the given channel. It keeps account of what cancels out.

    Offsets of a channel do not count: they are no sound.
    """

    def __init__(self, channel: int | None = None) -> None:
        self.channel = channel
        self._count, self._sums, self._squares = 0, np.zeros(1), np.zeros(1)  # of each channel, then of the mean

    def mono(self, block: Samples) -> Samples:
        """Return one channel (n,) of a block (n, channels)."""
        if block.shape[1] == 1:
            return block[:, 0]
        if self.channel is not None:
            return np.ascontiguousarray(block[:, self.channel])
        mean: Samples = block.mean(axis=1, dtype=np.float32)
        with_mean = np.column_stack([block, mean]).astype(np.float64)
        self._count += len(block)
        self._sums = self._sums + with_mean.sum(axis=0)
        self._squares = self._squares + np.einsum("nc,nc->c", with_mean, with_mean)
        return mean

    def choice(self) -> int | None:
        """Return the loudest channel (from 0) where the channels cancel each other out, else None: their mean."""
        if not self._count:
            return None
        energies = self._squares / self._count - np.square(self._sums / self._count)
        *channels, mean = energies.tolist()
        loudest = max(range(len(channels)), key=lambda number: channels[number])
        heard = mean * len(channels) ** 2
        if channels[loudest] < SILENT_VARIANCE or not heard < CANCELLED * channels[loudest]:
            return None
        return loudest


def told(channel: int | None) -> str | None:
    """Say which channel was taken alone, where one was."""
    return None if channel is None else f"channels that cancel each other out: channel {channel + 1} taken"
