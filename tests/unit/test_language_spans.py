"""Windows cover a recording once, in bounded memory; silence and doubt are undetermined; neighbours become one span."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from mms_recipes.lid import spans
from mms_recipes.lid.spans import Span, Window
from tests.unit import memory

SECOND = 16_000
CLASSES = ["eng", "fra", "ita"]


@pytest.mark.parametrize("num_samples", [1, 399, 20_000, 20_001, 29_999, 30_000, 30_001, 50_000, 1_000_003])
def test_windows_cover_a_recording_once(tmp_path: Path, num_samples: int) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, num_samples).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, SECOND, subtype="FLOAT")
    found = list(spans.cut(tmp_path / "a.wav", 20_000))
    np.testing.assert_array_equal(np.concatenate([part for _, part in found]), samples)
    assert [begin for begin, _ in found] == np.cumsum([0, *(len(part) for _, part in found[:-1])]).tolist()
    assert all(len(part) <= 20_000 for _, part in found)
    assert len(found) == 1 or all(len(part) >= 10_000 for _, part in found)
    assert (len(found) == 1) == (num_samples <= 20_000)


def test_three_hours_are_not_held(tmp_path: Path) -> None:
    """Peak memory is that of some windows, not the 690 MB of the whole."""
    path, hours = tmp_path / "long.flac", 3
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 60 * 2_000)
    with soundfile.SoundFile(path, "w", 2_000, 1) as file:
        for _ in range(hours * 60):
            file.write(noise)
    with memory.traced() as peak:
        assert sum(len(part) for _, part in spans.cut(path, 20 * SECOND)) == hours * 3600 * SECOND
        assert peak() < 30e6


def buzz(seconds: float, peak: float = 0.1) -> npt.NDArray[np.float32]:
    return (peak * np.sin(np.arange(round(seconds * SECOND)) / 5)).astype(np.float32)


def within(sound: npt.NDArray[np.float32], seconds: float, begin: float) -> npt.NDArray[np.float32]:
    """Put sound into silence of some seconds."""
    whole = np.zeros(int(seconds * SECOND), np.float32)
    whole[int(begin * SECOND) :][: len(sound)] = sound
    return whole


def seconds_heard(samples: npt.NDArray[np.float32]) -> float:
    found = spans.sound(samples)
    return 0.0 if found is None else len(found) / SECOND


def test_silence_is_not_heard() -> None:
    """What is left of silence is 0.1 s on either side of the sound; a constant offset is none."""
    for begin, left in ((0.0, 2.1), (9.0, 2.2), (18.0, 2.1), (0.3, 2.4)):
        for offset in (0.0, 0.3):
            assert seconds_heard(within(buzz(2), 20, begin) + np.float32(offset)) == pytest.approx(left, abs=0.051)
    whole = within(buzz(2), 20, 9)
    found = spans.sound(whole)
    assert found is not None
    np.testing.assert_array_equal(found, whole[int(8.9 * SECOND) : int(11.1 * SECOND)])


def test_pauses_between_words_stay() -> None:
    """Up to 0.4 s; of a longer one 0.1 s is left on either side, at the end of a file with an odd length too."""
    words = [buzz(0.6), np.zeros(int(0.4 * SECOND), np.float32)] * 3
    spoken = np.concatenate([*words, buzz(0.61)])[:-7]
    found = spans.sound(spoken)
    assert found is not None
    np.testing.assert_array_equal(found, spoken)
    longer = np.concatenate([buzz(0.6), np.zeros(SECOND, np.float32), buzz(0.61)])[:-7]
    assert seconds_heard(longer) == pytest.approx(1.41, abs=0.01)


def test_noise_between_words_is_silence_and_alone_it_is_not() -> None:
    noise = (1e-3 * np.random.default_rng(0).standard_normal(20 * SECOND)).astype(np.float32)  # -60 dB
    for louder in (2, 3):  # -54 and -50 dB, speech at -23 dB
        assert seconds_heard(louder * noise + within(buzz(2), 20, 9)) == pytest.approx(2.2, abs=0.051)
    assert seconds_heard(3 * noise) == 20
    clicked = 3 * noise + within(buzz(0.2, 1.0), 20, 9)  # no measure of how loud speech is
    assert seconds_heard(clicked) == 20


def test_less_than_half_a_second_of_sound_is_undetermined() -> None:
    assert spans.sound(within(buzz(0.45), 20, 9)) is None and spans.sound(within(buzz(0.55), 20, 9)) is not None
    clicks = sum(within(buzz(0.02, 1.0), 20, second) for second in range(2, 18, 2))
    assert isinstance(clicks, np.ndarray) and spans.sound(clicks) is None
    assert spans.sound(buzz(0.49)) is None and spans.sound(buzz(0.5)) is not None
    assert spans.sound(buzz(1, 1e-4)) is None and spans.sound(buzz(1, 2e-3)) is not None
    assert spans.sound(np.zeros(0, np.float32)) is None and spans.sound(np.zeros(SECOND, np.float32)) is None


def window(begin: int, end: int, *probabilities: float, heard: int | None = None) -> Window:
    """A window in seconds, of which `heard` are sound."""
    sure = np.array(probabilities) if probabilities else None
    return Window(begin * SECOND, end * SECOND, sure, (end - begin if heard is None else heard) * SECOND)


def test_merge() -> None:
    windows = [
        window(0, 10, 0.9, 0.1, 0.0),
        window(10, 30, 0.6, 0.4, 0.0),
        window(30, 40, 0.2, 0.8, 0.0),
        window(40, 50, 0.4, 0.3, 0.3),
        window(50, 60),
        window(60, 70, 0.0, 0.0, 1.0),
    ]
    assert spans.merge(windows, CLASSES, 0.5) == [
        Span(0, 30, "eng", pytest.approx(0.7)),
        Span(30, 40, "fra", 0.8),
        Span(40, 60, "und", None),
        Span(60, 70, "ita", 1.0),
    ]
    half = [window(0, 10, 0.9, 0.1, 0.0), window(10, 30, 0.6, 0.4, 0.0, heard=5)]
    assert spans.merge(half, CLASSES, 0.5) == [Span(0, 30, "eng", pytest.approx(0.8))]
    assert [span.lang for span in spans.merge(windows, CLASSES, 0.0)] == ["eng", "fra", "eng", "und", "ita"]


def test_mean_is_by_what_was_heard() -> None:
    windows = [window(0, 10, 1.0, 0.0, 0.0), window(10, 80, 0.0, 1.0, 0.0, heard=30), window(80, 400)]
    found = spans.mean(windows)
    assert found is not None and found.tolist() == [0.25, 0.75, 0.0]
    assert spans.mean([window(0, 10)]) is None
