"""Long recordings in the range of integers, very quiet, or of opposite phase: cut at a level that 16 bits hold."""

from pathlib import Path

import numpy as np
import pytest
import segment_recording
import soundfile

from mms_recipes.audio_files import AudioError

RATE = 16_000


def speech(seconds: float = 25.0) -> np.ndarray:
    samples = np.random.default_rng(0).standard_normal(int(seconds * RATE))
    return (0.1 * samples * (1 + np.sin(np.arange(len(samples)) / 3000)) / 2).astype(np.float32)


def listened(path: Path) -> tuple[np.ndarray, str]:
    """What is cut from, and what is said."""
    sound = segment_recording.Sound(path)
    for _ in sound.measured():
        pass
    return np.concatenate(list(sound.blocks())), "; ".join(sound.remarks())


@pytest.mark.parametrize(("level", "told"), [(1, ""), (30_000, "scaled down"), (1e-4, "scaled up")])
def test_levels(level: float, told: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", speech() * np.float32(level), RATE, subtype="FLOAT")
    found, said = listened(tmp_path / "x.wav")
    assert 0.01 <= np.abs(found).max() <= 1 and told in said and bool(told) == bool(said)
    np.testing.assert_allclose(found / found.std(), speech() / speech().std(), atol=1e-3)


def test_opposite_phase_and_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "phase.wav", np.stack([speech(), -speech()], 1), RATE, subtype="FLOAT")
    found, said = listened(tmp_path / "phase.wav")
    np.testing.assert_allclose(found, speech(), atol=1e-6)
    assert "channel 1 taken" in said
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE * 20), RATE)
    found, said = listened(tmp_path / "silent.wav")
    assert not found.any() and said.startswith("silence")


def test_a_recording_that_was_cut_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", speech(), RATE)
    data = (tmp_path / "x.wav").read_bytes()
    (tmp_path / "x.wav").write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioError, match=r"x\.wav: cut off or damaged"):
        listened(tmp_path / "x.wav")
