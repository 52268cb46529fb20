"""Each change does to a signal what its name says, and the same generator gives the same signal."""

from typing import Any

import numpy as np
import pytest

from mms_recipes.data import augmentation
from mms_recipes.data.augmentation import Augmentation, Samples

RATE = 16_000


def tone(*frequencies: float, seconds: float = 1.0) -> Samples:
    time = np.arange(int(RATE * seconds)) / RATE
    return np.asarray(sum(0.2 * np.sin(2 * np.pi * f * time) for f in frequencies), dtype=np.float32)


def level(samples: Samples, frequency: float) -> float:
    """Amplitude at one frequency."""
    time = np.arange(len(samples)) / RATE
    return float(2 * abs(np.mean(samples * np.exp(-2j * np.pi * frequency * time))))


def test_speed_changes_length_and_pitch() -> None:
    faster = augmentation.change_speed(tone(1000), 1.25)
    assert abs(len(faster) - RATE / 1.25) <= 2
    assert level(faster, 1250) == pytest.approx(0.2, rel=0.05) and level(faster, 1000) < 0.01


@pytest.mark.parametrize("snr", [0.0, 10.0, 30.0])
@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_noise_has_the_power_asked_for(snr: float, slope: float) -> None:
    clean = tone(440)
    noise = augmentation.add_noise(clean, snr, slope, np.random.default_rng(1)) - clean
    assert 10 * np.log10(np.mean(clean**2) / np.mean(noise**2)) == pytest.approx(snr, abs=0.05)


def test_slope_moves_noise_downwards() -> None:
    def high_share(slope: float) -> float:
        noise = augmentation.add_noise(tone(440), -20, slope, np.random.default_rng(1)) - tone(440)
        power = np.abs(np.fft.rfft(noise)) ** 2
        return float(power[RATE // 4 :].sum() / power.sum())  # above 4 kHz, a second's bins are Hz

    assert high_share(0) == pytest.approx(0.5, abs=0.03)
    assert high_share(2) < high_share(1) < 0.15


def test_silence_stays_silent_under_noise() -> None:
    silence = np.zeros(1000, dtype=np.float32)
    assert not augmentation.add_noise(silence, 10, 1, np.random.default_rng(1)).any()


def test_gain_clips_what_is_too_loud() -> None:
    assert augmentation.change_gain(tone(440), -20) == pytest.approx(tone(440) / 10)
    loud = augmentation.change_gain(tone(440), 20)
    assert loud.max() == 1 and loud.min() == -1 and np.mean(np.abs(loud) == 1) > 0.5


def test_band_keeps_what_a_telephone_lets_through() -> None:
    narrow = augmentation.limit_band(tone(100, 1000, 5000), 300, 3400)
    assert level(narrow, 1000) == pytest.approx(0.2, rel=0.01)
    assert level(narrow, 100) < 1e-4 and level(narrow, 5000) < 1e-4


ALWAYS: dict[str, Any] = {"speed_prob": 1.0, "noise_prob": 1.0, "gain_prob": 1.0, "band_prob": 1.0}


@pytest.mark.parametrize("name", ALWAYS)
def test_probability_decides(name: str) -> None:
    """1: always changed, 0: never; and in between as often as asked for."""

    def changed(probability: float) -> float:
        settings: dict[str, Any] = {name: probability}
        augment = Augmentation(**settings)
        results = [augment.apply(tone(200, 1000), np.random.default_rng(seed)) for seed in range(100)]
        return float(np.mean([len(r) != RATE or not np.array_equal(r, tone(200, 1000)) for r in results]))

    assert changed(0.0) == 0 and changed(1.0) == 1
    assert changed(0.5) == pytest.approx(0.5, abs=0.15)


def test_generator_decides_alone() -> None:
    augment = Augmentation(**ALWAYS)
    first, again, other = (augment.apply(tone(440), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first[:1000], other[:1000])
    assert first.dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"speed_prob": 1.5}, r"task.speed_prob=1.5: expected a probability, 0 to 1"),
        ({"noise_snr": [30.0, 5.0]}, r"task.noise_snr=\[30.0, 5.0\]: expected \[lowest, highest\] between -20 and 100"),
        ({"speed_range": [0.0, 1.0]}, r"task.speed_range=\[0.0, 1.0\]: expected .* between 0.5 and 2"),
        ({"band_hz": [300.0, 9000.0]}, r"task.band_hz=\[300.0, 9000.0\]: expected .* between 0 and 8000"),
        ({"band_hz": [300.0]}, r"task.band_hz=\[300.0\]: expected \[lowest, highest\]"),
        ({"band_hz": [300.0, 300.0]}, r"task.band_hz=\[300.0, 300.0\]: nothing lies between these"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Augmentation(**changes)
