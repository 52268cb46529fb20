"""Quiet audio, float audio beyond full scale, channels of opposite phase: used as it sounds, and said if it is odd."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from mms_recipes import audio_files, recordings
from mms_recipes.audio_files import AudioError
from mms_recipes.data.audio import read_utterance
from mms_recipes.sound import levels
from tests.known_issues import commands
from tests.known_issues.lab import Lab

RATE = 16_000


def speech(seconds: float = 3.0, rate: int = RATE) -> np.ndarray:
    """Noise that swells, of peak 0.5, without an offset."""
    generator = np.random.default_rng(0)
    samples = generator.standard_normal(int(seconds * 8000)) * (1 + np.sin(np.arange(int(seconds * 8000)) / 700))
    samples = soxr.resample(samples, 8000, rate)
    return (0.5 * (samples - samples.mean()) / np.abs(samples).max()).astype(np.float32)


def noise_ratio(found: np.ndarray, wanted: np.ndarray) -> float:
    """How far two recordings are apart after standardising, in dB: large is alike."""
    a, b = ((x - x.mean(dtype=np.float64)) / x.std(dtype=np.float64) for x in (found, wanted))
    return float(-10 * np.log10(np.mean((a - b) ** 2)))


def placed(samples: np.ndarray, rate: int, subtype: str, tmp_path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    soundfile.write(file := io.BytesIO(), samples, rate, format="WAV", subtype=subtype)
    made = audio_files.place(file.getvalue(), tmp_path / "made", in_place=False)
    return soundfile.read(made.path, dtype="float32")[0], made.remarks


# ---- preparation


@pytest.mark.parametrize(
    ("level", "told"),
    [(1, None), (2, None), (3, None), (6, "samples up to 2.9"), (40_000, "samples up to 1.9"), (1e-3, "very quiet"),
     (1e30, "samples up to 4.8"), (2e-4, "very quiet")],
)  # fmt: skip
def test_float_audio_of_any_level_keeps_its_form(level: float, told: str | None, tmp_path: Path) -> None:
    samples = speech(rate=48_000)
    made, remarks = placed(samples * np.float32(level), 48_000, "FLOAT", tmp_path)
    assert np.mean(np.abs(made) > 0.999) < 0.001
    assert noise_ratio(made, soxr.resample(samples, 48_000, RATE)) > 55
    assert (told is None) == (not remarks) and (told or "") in "".join(remarks)


def test_quiet_24_bit_audio_keeps_its_bits(tmp_path: Path) -> None:
    made, _ = placed(speech(rate=44_100) * np.float32(2e-4), 44_100, "PCM_24", tmp_path)
    assert noise_ratio(made, soxr.resample(speech(rate=44_100), 44_100, RATE)) > 40


def test_one_spike_does_not_make_silence_of_the_rest(tmp_path: Path) -> None:
    samples = speech(rate=48_000)
    samples[1000] = 1e12
    with pytest.raises(AudioError, match=r"made: single samples of .*, where full scale is 1"):
        placed(samples, 48_000, "FLOAT", tmp_path)


@pytest.mark.parametrize("subtype", ["PCM_U8", "ALAW", "ULAW", "PCM_32", "DOUBLE"])
def test_other_kinds_of_samples_are_read(subtype: str, tmp_path: Path) -> None:
    made, remarks = placed(speech(rate=8000), 8000, subtype, tmp_path)
    assert noise_ratio(made, soxr.resample(speech(rate=8000), 8000, RATE)) > 20 and not remarks


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_named(value: float, tmp_path: Path) -> None:
    for rate in (16_000, 44_100):
        samples = speech(rate=rate)
        samples[7] = value
        with pytest.raises(AudioError, match="made: samples that are not finite numbers"):
            placed(samples, rate, "FLOAT", tmp_path)


def test_many_channels_and_strange_rates(tmp_path: Path) -> None:
    made, _ = placed(np.tile(speech(0.5)[:, None], 1000), RATE, "PCM_16", tmp_path)
    assert noise_ratio(made, speech(0.5)) > 50
    for rate in (1, 50, 100_000_000):
        with pytest.raises(AudioError, match=f"made: a sample rate of {rate} Hz, expected 100 to"):
            placed(speech(0.1), rate, "PCM_16", tmp_path)
    soundfile.write(file := io.BytesIO(), speech(0.1), RATE, format="WAV")
    data = file.getvalue()
    for rate in (0, 2**31, 2**32 - 1):
        with pytest.raises(AudioError, match=r"made: (a sample rate of|not readable as audio)"):
            audio_files.place(data[:24] + rate.to_bytes(4, "little") + data[28:], tmp_path / "made", in_place=False)
    for samples in (np.zeros((0, 1)), np.zeros((0, 2))):
        with pytest.raises(AudioError, match="made: no samples"):
            placed(samples, RATE, "PCM_16", tmp_path)


# ---- channels


def stereo(kind: str) -> np.ndarray:
    one, other = speech(), np.roll(speech(), 20_000)
    left, right = {
        "same": (one, one),
        "opposite": (one, -one),
        "nearly opposite": (one, np.float32(-0.9) * one),
        "opposite, with an offset": (one + np.float32(0.3), -one),
        "one is dead": (np.zeros_like(one), one),
        "one speaker each": (one, other),
    }[kind]
    return np.stack([left, right], axis=1) * np.float32(0.9)


@pytest.mark.parametrize("kind", ["same", "opposite", "nearly opposite", "opposite, with an offset", "one is dead"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_channels_that_cancel_are_not_silence(kind: str, rate: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", stereo(kind), rate, subtype="FLOAT")
    wanted = speech() if rate == RATE else soxr.resample(speech(), rate, RATE)
    made = audio_files.place(tmp_path / "x.wav", tmp_path / "made", in_place=True)
    samples, remarks = recordings.read(tmp_path / "x.wav")
    blocks = np.concatenate(list(recordings.blocks(tmp_path / "x.wav")))
    summary = recordings.summarize(tmp_path / "x.wav")
    stretch = next(recordings.stretches(tmp_path / "x.wav", [(0, summary.num_samples)], summary.channel))
    for found in (soundfile.read(made.path)[0], samples, blocks, stretch):
        assert noise_ratio(found, wanted) > 30
    told = "channels that cancel each other out: channel 1 taken"
    cancels = "opposite" in kind
    assert (told in made.remarks) == (told in remarks) == (told in summary.remarks) == cancels


def test_channels_are_judged_over_the_whole_recording(tmp_path: Path) -> None:
    """Ten seconds of opposite phase in a minute of two speakers are no reason to drop one of them."""
    both = np.concatenate([stereo("opposite"), *[stereo("one speaker each")] * 9])
    soundfile.write(tmp_path / "x.wav", both, RATE, subtype="FLOAT")
    samples, remarks = recordings.read(tmp_path / "x.wav")
    np.testing.assert_allclose(samples, both.mean(axis=1), atol=1e-6)
    assert not remarks


# ---- standardising


@pytest.mark.parametrize("decibels", [0, 20, 30, 40, 50])
def test_quiet_audio_reaches_the_model_as_loud_as_any(decibels: float, tmp_path: Path) -> None:
    samples = speech() * np.float32(10 ** (-decibels / 20))
    made = levels.standardized(samples)
    assert abs(made.mean()) < 1e-6 and 0.95 < made.std() <= 1
    soundfile.write(tmp_path / "x.wav", samples, RATE, subtype="FLOAT")
    in_training = read_utterance(tmp_path / "x.wav", len(samples), normalize=True).numpy()
    np.testing.assert_array_equal(in_training, made)  # as it is used
    np.testing.assert_allclose(levels.standardized(samples + np.float32(0.4)), made, atol=2e-3 * 10 ** (decibels / 20))


@pytest.mark.parametrize("level", [1.0, 0.5, 0.2])
def test_audio_of_normal_level_is_standardised_as_fairseq_does(level: float) -> None:
    source = torch.from_numpy(speech() * np.float32(level))
    expected = torch.nn.functional.layer_norm(source, source.shape).numpy()
    np.testing.assert_allclose(levels.standardized(source.numpy()), expected, atol=1e-5)


def test_silence_is_not_made_to_noise() -> None:
    dither = np.random.default_rng(0).integers(-1, 2, RATE).astype(np.float32) / 32768 * 0.9
    for silent in (np.zeros(RATE, np.float32), np.full(RATE, 0.4, np.float32), dither):
        assert not levels.standardized(silent).any()
    assert levels.standardized(np.zeros(0, np.float32)).shape == (0,)


# ---- whole commands


def test_what_is_odd_is_said(tiny: Lab, tmp_path: Path) -> None:
    samples = soundfile.read(tiny.wav, dtype="float32")[0]
    files = {
        "plain": samples,
        "quiet": samples * np.float32(1e-3),
        "silent": samples * 0,
        "phase": np.stack([samples, -samples], axis=1),
    }
    for name, sound in files.items():
        soundfile.write(tmp_path / f"{name}.wav", sound, RATE, subtype="FLOAT")
    (tmp_path / "t.tsv").write_text("path\ttext\n" + "".join(f"{name}.wav\tabc\n" for name in files))
    made = commands.run("tools/prepare_folder.py", tmp_path / "t.tsv", tmp_path / "out", "--lang", "eng")
    assert made.code == 0, made.output
    assert "look at their audio, 3: eng_train_quiet (t.tsv:3: " in made.output
    assert "eng_train_silent (t.tsv:4: silence" in made.output and "eng_train_phase (t.tsv:5: channels" in made.output
    names = [tmp_path / f"{name}.wav" for name in files]
    heard = commands.run("transcribe", *names, "--checkpoint", tiny.dense, "--lang", "eng")
    assert heard.code == 0, heard.output
    lines = dict(line.split("\t") for line in heard.output.splitlines() if "wav\t" in line)
    assert lines[str(names[3])] == lines[str(names[0])]
    for told in ("quiet.wav: very quiet", "silent.wav: silence", "phase.wav: channels that cancel"):
        assert told in heard.output, heard.output
