"""A table of start, end and text gave one utterance: the whole recording with the first row's text."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mms_recipes import manifest
from tests.known_issues.tables import RATE, prepare, recordings, tone, words

__all__ = ["recordings"]


@pytest.fixture
def long(recordings: Path) -> Path:
    """A recording of three tones, 440, 660 and 880 Hz, of 30 s, 1.5 s and 2 s; also at 44.1 kHz and as flac."""
    samples = np.concatenate([tone(30), tone(1.5, 660), tone(2, 880)])
    soundfile.write(recordings / "long.wav", samples, RATE)
    soundfile.write(recordings / "long.flac", samples, RATE)
    wide = [
        0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * 44_100)) / 44_100)
        for seconds, hertz in ((30, 440), (1.5, 660), (2, 880))
    ]
    soundfile.write(recordings / "wide.wav", np.stack(2 * [np.concatenate(wide)], axis=1), 44_100)
    return recordings


@pytest.mark.parametrize("name", ["long.wav", "long.flac", "wide.wav"])
@pytest.mark.parametrize("ends", ["end", "duration"])
def test_segments_are_cut(long: Path, name: str, ends: str) -> None:
    rows = [(30.0, 31.5, "two"), (0.25, 29.5, "one"), (31.5, 33.5, "three"), (31, 32, "between")]
    cells = [f"{name}\t{a}\t{b if ends == 'end' else b - a}\t{text}\n" for a, b, text in rows]
    ended = prepare(long, "t.tsv", f"path\tStart\t{ends}\ttext\n{''.join(cells)}")
    assert ended.code == 0, ended.output
    assert "'Start'" in ended.output and repr(ends) in ended.output and "seconds" in ended.output
    assert words(long) == ["two", "one", "three", "between"]
    rows_made = manifest.read_manifest(long / "out/eng/train.tsv")
    assert rows_made.num_samples.tolist() == [24_000, 468_000, 32_000, 16_000]
    for index, hertz in ((0, 660), (1, 440), (2, 880)):
        samples, rate = soundfile.read(rows_made.path(index))
        assert (rate, samples.ndim) == (RATE, 1)
        assert np.argmax(np.abs(np.fft.rfft(samples[:16_000]))) == hertz
        assert np.abs(samples[2000:-2000]).max() == pytest.approx(0.3, abs=0.02)
    uids = (long / "out/eng/train.uid").read_text().split()
    assert uids[0] == f"eng_train_{name.split('.')[0]}_00030000-00031500"
    assert len(set(uids)) == 4


@pytest.mark.parametrize(
    ("row", "facts"),
    [
        ("long.wav\t2\t1\tx", ["t.tsv:3", "ends at 1 s"]),
        ("long.wav\t2\t2\tx", ["t.tsv:3", "later"]),
        ("long.wav\t-1\t2\tx", ["t.tsv:3", "'-1'", "expected seconds"]),
        ("long.wav\tnan\t2\tx", ["t.tsv:3", "'nan'", "expected seconds"]),
        ("long.wav\t0:01\t2\tx", ["t.tsv:3", "'0:01'", "expected seconds"]),
        ("long.wav\t\t\tx", ["t.tsv:3", "''", "expected seconds"]),
        ("long.wav\t1,5\t2\tx", ["t.tsv:3", "'1,5'", "expected seconds"]),
        ("long.wav\t0.0\t1.00\tother", ["t.tsv:3", "t.tsv:2", "another text"]),
    ],
)
def test_times_that_cannot_be(long: Path, row: str, facts: list[str]) -> None:
    ended = prepare(long, "t.tsv", f"path\tstart\tend\ttext\nlong.wav\t0\t1\tfirst\n{row}\n")
    assert ended.is_refused(), ended.output
    for fact in facts:
        assert fact in ended.output
    assert not (long / "out").exists()


def test_a_segment_behind_the_end_is_named_and_the_others_are_cut(long: Path) -> None:
    rows = "long.wav\t0\t1\tone\nlong.wav\t32\t34.1\tlate\nlong.wav\t33\t33.55\trounded\nlong.wav\t40\t41\tbehind\n"
    ended = prepare(long, "t.tsv", f"path\tstart\tend\ttext\n{rows}")
    assert ended.is_refused()
    for fact in ("t.tsv:3", "32 to 34.1 s", "33.50 s", "t.tsv:5", "1 segments end after", "by 0.05 s"):
        assert fact in ended.output, ended.output
    assert words(long) == ["one", "rounded"]
    assert manifest.read_manifest(long / "out/eng/train.tsv").num_samples.tolist() == [16_000, 8_000]


def test_start_without_end(long: Path) -> None:
    for header in ("path\tstart\ttext", "path\tend\ttext"):
        ended = prepare(long, "t.tsv", f"{header}\nlong.wav\t0\tone\n")
        assert ended.is_refused() and "t.tsv:1" in ended.output and "segments" in ended.output


def test_a_duration_alone_is_not_a_segment(recordings: Path) -> None:
    ended = prepare(recordings, "t.tsv", "path\tduration\ttext\na.wav\t1\tone\nb.wav\t2\ttwo\n")
    assert ended.code == 0 and words(recordings) == ["one", "two"]


def test_a_recording_that_is_not_there_or_broken(long: Path) -> None:
    (long / "broken.wav").write_bytes(b"no audio")
    rows = "none.wav\t0\t1\tone\nbroken.wav\t0\t1\ttwo\nlong.wav\t0\t1\tthree\n"
    ended = prepare(long, "t.tsv", f"path\tstart\tend\ttext\n{rows}")
    assert ended.is_refused() and "t.tsv:2" in ended.output and "t.tsv:3" in ended.output
    assert words(long) == ["three"]
