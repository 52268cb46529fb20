"""Make training audio sound as if recorded otherwise: speed, noise, overdriven gain, telephone band.

What an utterance goes through depends on the generator that is given and on nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from mms_recipes.manifest import SAMPLE_RATE

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """How often each change is made (probability), and how far it goes (lowest, highest; drawn uniformly).

    Raises ValueError for a probability outside 0 to 1, or a range that cannot be.
    """

    speed_prob: float = 0.0
    speed_range: Sequence[float] = (0.9, 1.1)  # times as fast, and as high
    noise_prob: float = 0.0
    noise_snr: Sequence[float] = (5.0, 30.0)  # dB of speech above noise
    gain_prob: float = 0.0
    gain_db: Sequence[float] = (-20.0, 20.0)  # above 0 what is too loud is clipped
    band_prob: float = 0.0
    band_hz: Sequence[float] = (300.0, 3400.0)  # what a telephone lets through

    def __post_init__(self) -> None:
        for name in ("speed_prob", "noise_prob", "gain_prob", "band_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"task.{name}={getattr(self, name):g}: expected a probability, 0 to 1")
        bounds = {"speed_range": (0.5, 2.0), "noise_snr": (-20.0, 100.0), "gain_db": (-60.0, 60.0)}
        for name, (lowest, highest) in (bounds | {"band_hz": (0.0, SAMPLE_RATE / 2)}).items():
            value = list(getattr(self, name))
            if len(value) != 2 or not lowest <= value[0] <= value[1] <= highest:
                raise ValueError(f"task.{name}={value}: expected [lowest, highest] between {lowest:g} and {highest:g}")
        if self.band_hz[0] == self.band_hz[1]:
            raise ValueError(
                f"task.band_hz={list(self.band_hz)}: nothing lies between these; expected [300, 3400] or so"
            )

    @property
    def fastest(self) -> float:
        """By what factor audio can become shorter."""
        return max(1.0, self.speed_range[1]) if self.speed_prob else 1.0

    @property
    def slowest(self) -> float:
        """By what factor audio can become longer, as a speed: 0.8 makes 10 s 12.5 s."""
        return min(1.0, self.speed_range[0]) if self.speed_prob else 1.0

    def apply(self, samples: Samples, generator: np.random.Generator) -> Samples:
        """Change an utterance; the result may be longer or shorter. Each call draws the same count of numbers."""
        chances, places = generator.random(4), generator.random(4)

        def drawn(number: int, bounds: Sequence[float]) -> float:
            return float(bounds[0] + places[number] * (bounds[1] - bounds[0]))

        if chances[0] < self.speed_prob:
            samples = change_speed(samples, drawn(0, self.speed_range))
        if chances[1] < self.noise_prob:
            samples = add_noise(samples, drawn(1, self.noise_snr), 2 * places[3], generator)
        if chances[2] < self.gain_prob:
            samples = change_gain(samples, drawn(2, self.gain_db))
        if chances[3] < self.band_prob:
            samples = limit_band(samples, self.band_hz[0], self.band_hz[1])
        return samples


def change_speed(samples: Samples, factor: float) -> Samples:
    """Play `factor` times as fast: tempo and pitch both change."""
    return _float32(soxr.resample(samples, SAMPLE_RATE * factor, SAMPLE_RATE))


def add_noise(samples: Samples, snr_db: float, slope: float, generator: np.random.Generator) -> Samples:
    """Add noise snr_db below the speech; its power falls as 1 / f ** slope (0 white, 1 pink, 2 brown)."""
    spectrum = np.fft.rfft(generator.standard_normal(len(samples)))
    noise = np.fft.irfft(spectrum / np.maximum(1, np.arange(len(spectrum))) ** (slope / 2), len(samples))
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    scale = np.sqrt(power / 10 ** (snr_db / 10) / max(float(np.mean(noise**2)), 1e-20))
    return _float32(samples + scale * noise)


def change_gain(samples: Samples, gain_db: float) -> Samples:
    """Make louder or softer; what leaves -1 to 1 is clipped, as by a recorder set too high."""
    return _float32(np.clip(samples * 10 ** (gain_db / 20), -1, 1))


def limit_band(samples: Samples, low_hz: float, high_hz: float) -> Samples:
    """Keep the frequencies between low_hz and high_hz."""
    spectrum = np.fft.rfft(samples)
    frequencies = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    spectrum[(frequencies < low_hz) | (frequencies > high_hz)] = 0
    return _float32(np.fft.irfft(spectrum, len(samples)))


def _float32(samples: Any) -> Samples:
    return np.asarray(samples, dtype=np.float32)
