"""Recordings of any kind, rate and length."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from mms_recipes import recordings
from mms_recipes.audio_files import AudioError
from mms_recipes.sound import levels
from tests.unit import memory


def noise(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).standard_normal((int(seconds * rate), channels)).astype(np.float32)
    return 0.1 * samples + 0.02


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype"),
    [
        ("a.wav", 16000, 1, "FLOAT"),
        ("a.wav", 44100, 2, "FLOAT"),
        ("a.wav", 8000, 1, "DOUBLE"),
        ("a.w64", 48000, 3, "FLOAT"),
        ("a.aiff", 22050, 1, "FLOAT"),
    ],
)
def test_pieces_are_what_resampling_the_whole_gives(
    tmp_path: Path, name: str, rate: int, channels: int, subtype: str
) -> None:
    path, samples = tmp_path / name, noise(23.7, rate, channels)
    soundfile.write(path, samples, rate, subtype=subtype)
    expected = soxr.resample(samples.mean(axis=1), rate, 16000)
    read, cut_off = recordings.read(path)
    assert not cut_off and read.dtype == np.float32
    np.testing.assert_allclose(read, expected, atol=1e-6)
    summary = recordings.summarize(path)
    assert summary.num_samples == len(expected) and not summary.cut_off
    assert summary.mean == pytest.approx(expected.mean(dtype=np.float64), abs=1e-9)
    assert summary.variance == pytest.approx(expected.var(dtype=np.float64), rel=1e-6)
    spans = [(0, 90_000), (80_000, 90_000), (90_000, 280_000), (270_000, len(expected))]
    for (begin, end), stretch in zip(spans, recordings.stretches(path, spans), strict=True):
        np.testing.assert_array_equal(stretch, read[begin:end])
    assert len(recordings.read(path, 1.5)[0]) == 24_000 and recordings.expected_seconds(path) == pytest.approx(23.7)
    assert recordings.expected_seconds(tmp_path / "nowhere.wav") == 0.0


@pytest.mark.parametrize("name", ["a.flac", "a.mp3", "a.ogg", "a.opus", "a.au", "a.caf"])
def test_every_kind_is_read(tmp_path: Path, name: str) -> None:
    form = {"opus": {"format": "OGG", "subtype": "OPUS"}}.get(name.partition(".")[2], {})
    soundfile.write(tmp_path / name, noise(2, 48000), 48000, **form)
    assert abs(len(recordings.read(tmp_path / name)[0]) - 32_000) < 2500  # lossy kinds add some silence


def test_normalizing_is_fairseqs_also_by_the_numbers_of_the_whole(tmp_path: Path) -> None:
    samples = noise(3, 16000)[:, 0]
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    source = torch.from_numpy(samples)
    expected = torch.nn.functional.layer_norm(source, source.shape).numpy()
    summary = recordings.summarize(tmp_path / "a.wav")
    np.testing.assert_allclose(levels.standardized(samples), expected, atol=1e-5)
    part = levels.standardized(samples[500:900], summary.mean, summary.variance)
    np.testing.assert_allclose(part, expected[500:900], atol=1e-5)


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 16000, 1, "PCM_16") as file:
        for _ in range(30):
            file.write(noise(60, 16000))  # half an hour: 115 MB in float32
    spans = [(begin, begin + 640_000) for begin in range(0, 28_000_000, 512_000)]
    with memory.traced() as peak:
        assert recordings.summarize(path).seconds == 1800
        assert sum(len(stretch) for stretch in recordings.stretches(path, spans)) == 640_000 * len(spans)
        assert peak() < 20e6


def test_bad_audio_is_told(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 1)), 16000)
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan, 0.1]), 16000, subtype="FLOAT")
    (tmp_path / "text.txt").write_text("no audio")
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + b"\0" * 1000)
    (tmp_path / "a.raw").write_bytes(b"\0" * 1000)
    for name, said in {
        "missing.wav": "no such file",
        "empty.wav": "holds no samples",
        "nan.wav": "samples that are not finite numbers",
        "text.txt": r"not readable as audio \(.*\); libsndfile reads wav, flac, mp3",
        "text.wav": "not readable as audio",
        "film.mp4": "The sound of a video: ffmpeg -i 'film.mp4' -vn sound.flac",
        "a.raw": "raw samples do not say their rate",
    }.items():
        with pytest.raises(AudioError, match=rf"{name}: .*{said}"):
            recordings.read(tmp_path / name)
        with pytest.raises(AudioError, match=said):
            recordings.summarize(tmp_path / name)


def test_a_cut_off_recording_is_read_and_told(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(2, 16000), 16000)
    data = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(data[: len(data) // 2])
    samples, cut_off = recordings.read(tmp_path / "a.wav")
    assert cut_off and 15_900 < len(samples) < 16_000 and recordings.summarize(tmp_path / "a.wav").cut_off
