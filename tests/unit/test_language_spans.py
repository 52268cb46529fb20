"""Windows cover a recording once, in bounded memory; silence and doubt are undetermined; neighbours become one span."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mms_recipes.lid import spans
from mms_recipes.lid.spans import Span, Window

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
    tracemalloc.start()
    count = sum(len(part) for _, part in spans.cut(path, 20 * SECOND))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == hours * 3600 * SECOND
    assert peak < 30e6


def test_silence() -> None:
    sound = 0.1 * np.sin(np.arange(SECOND) / 5).astype(np.float32)
    assert not spans.is_silent(sound)
    short = np.zeros(60 * SECOND, np.float32)
    assert spans.is_silent(short) and spans.is_silent(short + np.float32(0.3))
    short[700_000:701_600] = sound[:1600]  # a tenth of a second in a minute
    assert not spans.is_silent(short)
    assert spans.is_silent(sound / 1000) and not spans.is_silent(sound / 50)
    assert spans.is_silent(short[:100])


def window(begin: int, end: int, *probabilities: float) -> Window:
    return Window(begin * SECOND, end * SECOND, np.array(probabilities) if probabilities else None)


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
    assert [span.lang for span in spans.merge(windows, CLASSES, 0.0)] == ["eng", "fra", "eng", "und", "ita"]


def test_mean_is_by_length_and_of_what_was_heard() -> None:
    windows = [window(0, 10, 1.0, 0.0, 0.0), window(10, 40, 0.0, 1.0, 0.0), window(40, 400)]
    found = spans.mean(windows)
    assert found is not None and found.tolist() == [0.25, 0.75, 0.0]
    assert spans.mean([window(0, 10)]) is None
