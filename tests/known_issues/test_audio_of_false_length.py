"""Audio whose header has no length, or a false one: all of it is used, or it is refused by name, never a part of it."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mms_recipes import audio_files, recordings
from mms_recipes.audio_files import AudioError
from mms_recipes.data.audio import read_utterance
from mms_recipes.sound import mpeg
from mms_recipes.sound.stores import Memory
from tests.known_issues import commands
from tests.known_issues.lab import Lab

RATE, SECONDS = 16_000, 6.0


def speech(rate: int = RATE, seconds: float = SECONDS) -> np.ndarray:
    """A tone that rises, now louder, now quieter, as what is said: an encoder of variable bitrate varies."""
    time = np.arange(int(seconds * rate)) / rate
    loud = 0.5 + 0.5 * np.sin(2 * np.pi * 0.4 * time)
    noise = np.random.default_rng(0).standard_normal(len(time)) * 0.2
    return (0.5 * loud * (np.sin(2 * np.pi * (200 + 100 * time) * time) + noise * loud)).astype(np.float32)


def written(form: str, rate: int = RATE, seconds: float = SECONDS, **settings: Any) -> bytes:
    soundfile.write(file := io.BytesIO(), speech(rate, seconds), rate, format=form, **settings)
    return file.getvalue()


def mp3(rate: int = RATE, seconds: float = SECONDS, mode: str = "CONSTANT", level: float = 0.5) -> bytes:
    settings = {"subtype": "MPEG_LAYER_III", "bitrate_mode": mode, "compression_level": level}
    return written("MP3", rate, seconds, **settings)


def without_table(data: bytes) -> bytes:
    """The frames of sound alone, as recorders that cannot go back to the begin write them."""
    found = mpeg.walk(Memory(data), "")
    assert found and len(found.promised) == 1
    return b"".join(data[begin:end] for begin, end in found.runs)


def placed(data: bytes, tmp_path: Path) -> np.ndarray:
    """What preparation makes of it."""
    path, num_samples = audio_files.place(data, tmp_path / "made" / "x", in_place=False)[:2]
    samples = soundfile.read(path)[0]
    assert len(samples) == num_samples
    return samples


ID3 = b"ID3\4\0\0" + bytes([0, 0, 8, 0]) + b"\xff\xfb\x90\x64" * 256
ID3_BEHIND = b"TAG" + b"x" * 125
APE = b"APETAGEX" + struct.pack("<IIII8x", 2000, 32 + 9, 1, 0) + b"y" * 9


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("tags", [(b"", b""), (ID3, ID3_BEHIND), (ID3 + ID3, APE + ID3_BEHIND), (APE, b"")])
def test_mp3_without_a_table_of_its_length(rate: int, mode: str, tags: tuple[bytes, bytes], tmp_path: Path) -> None:
    data = tags[0] + without_table(mp3(rate, mode=mode)) + tags[1]
    made = placed(data, tmp_path)
    assert abs(len(made) / RATE - SECONDS) < 0.2
    (tmp_path / "x.mp3").write_bytes(data)
    samples, is_cut = recordings.read(tmp_path / "x.mp3")
    assert not is_cut and len(samples) == len(made)
    assert np.abs(samples[-int(0.6 * RATE) : -int(0.4 * RATE)]).max() > 0.02  # sound, up to the end
    assert recordings.expected_seconds(tmp_path / "x.mp3") == pytest.approx(len(samples) / RATE, abs=0.2)


def test_mp3_with_a_table_is_as_long_as_it_was(tmp_path: Path) -> None:
    assert len(placed(mp3(), tmp_path)) == SECONDS * RATE
    tags = ID3 + mp3() + ID3_BEHIND
    assert len(placed(tags, tmp_path)) == SECONDS * RATE


def test_mp3_files_that_were_joined(tmp_path: Path) -> None:
    one, two = mp3(mode="VARIABLE"), mp3(seconds=30.0)
    for data in (one + two, ID3 + one + ID3_BEHIND + ID3 + two, without_table(one) + two, one + without_table(two)):
        assert abs(len(placed(data, tmp_path)) / RATE - 36.0) < 0.3


def test_mp3_of_two_kinds_joined_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"x: from 6\.\d s on it is 44100 Hz with one channel, before 16000 Hz"):
        placed(mp3() + mp3(44100), tmp_path)
    soundfile.write(stereo := io.BytesIO(), np.stack([speech()] * 2, 1), RATE, format="MP3")
    with pytest.raises(AudioError, match=r"on it is 16000 Hz with two channels, before 16000 Hz with one"):
        placed(mp3() + stereo.getvalue(), tmp_path)


@pytest.mark.parametrize("make", [mp3, lambda: without_table(mp3())], ids=["table", "no table"])
def test_mp3_that_was_cut_is_refused_or_said(make: Callable[[], bytes], tmp_path: Path) -> None:
    data = make()
    cut = data[: len(data) * 2 // 3 + 7]
    with pytest.raises(AudioError, match="cut off"):
        placed(cut, tmp_path)
    (tmp_path / "x.mp3").write_bytes(cut)
    samples, is_cut = recordings.read(tmp_path / "x.mp3")
    assert is_cut and 0.6 * SECONDS < len(samples) / RATE < 0.75 * SECONDS


def riff(tag: int, data: bytes) -> bytes:
    fmt = struct.pack("<HHIIHHHHIHHH", tag, 1, RATE, 8000, 1, 0, 12, 1, 2, 576, 1, 0)
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_mp3_inside_of_wav(tmp_path: Path) -> None:
    assert abs(len(placed(riff(0x55, without_table(mp3())), tmp_path)) / RATE - SECONDS) < 0.2
    assert abs(len(placed(riff(0x55, mp3(mode="VARIABLE")), tmp_path)) / RATE - SECONDS) < 0.2
    with pytest.raises(AudioError, match="cut off"):
        placed(riff(0x55, without_table(mp3()))[:-9000], tmp_path)


def test_a_row_of_bytes_that_is_no_mp3_is_refused(tmp_path: Path) -> None:
    for data in (b"\xff\xfb\x90\x64" * 5000, b"\xff" * 5000, ID3 + bytes(9000), b"\xff\xe0" + bytes(range(256)) * 50):
        with pytest.raises(AudioError, match="x: "):
            placed(data, tmp_path)


# ---- FLAC, Ogg


def flac(length: int) -> bytes:
    """A FLAC whose header promises so many samples; 0: it does not tell."""
    data = written("FLAC")
    return data[:18] + ((int.from_bytes(data[18:26], "big") >> 36 << 36) | length).to_bytes(8, "big") + data[26:]


@pytest.mark.parametrize("length", [0, 1, 40_000, int(SECONDS * RATE)])
def test_flac_that_promises_too_little_or_nothing_is_whole(length: int, tmp_path: Path) -> None:
    assert len(placed(flac(length), tmp_path)) == SECONDS * RATE
    (tmp_path / "x.flac").write_bytes(flac(length))
    source = read_utterance(tmp_path / "x.flac", int(SECONDS * RATE), normalize=False)
    np.testing.assert_array_equal(source.numpy(), soundfile.read(io.BytesIO(written("FLAC")), dtype="float32")[0])
    assert recordings.expected_seconds(tmp_path / "x.flac") > 0


@pytest.mark.parametrize("size", [0, 30_000, -1])
def test_what_preparation_leaves_is_read_alike_by_others(size: int, tmp_path: Path) -> None:
    """Stock fairseq and soundfile go by the header, so a file with a false one is not taken over as it is."""
    datas = [flac(max(size, 0))] + ([with_size("WAV", size)] if size != 30_000 else [])
    for data in datas:
        path, num_samples = audio_files.place(data, tmp_path / "made", in_place=False)[:2]
        np.testing.assert_allclose(soundfile.read(path)[0], speech(), atol=1e-4)
        assert audio_files.probe(path, num_samples) is None


@pytest.mark.parametrize("length", [200_000, (1 << 36) - 1])
def test_flac_that_promises_too_much_is_refused(length: int, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="cut off or damaged, 96000 samples are left"):
        placed(flac(length), tmp_path)
    (tmp_path / "x.flac").write_bytes(flac(length))
    assert recordings.read(tmp_path / "x.flac")[1] and recordings.summarize(tmp_path / "x.flac").cut_off
    assert audio_files.probe(tmp_path / "x.flac", int(SECONDS * RATE)) is not None


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_streams_that_follow_on_each_other(subtype: str, tmp_path: Path) -> None:
    one, two = (written("OGG", seconds=seconds, subtype=subtype) for seconds in (6.0, 9.0))
    assert abs(len(placed(one + two + one, tmp_path)) / RATE - 21.0) < 0.1
    (tmp_path / "x.ogg").write_bytes(one + two)
    assert abs(recordings.summarize(tmp_path / "x.ogg").seconds - 15.0) < 0.1
    with pytest.raises(AudioError, match=r"on it has 8000 Hz and 1 channel\(s\), before 16000 Hz"):
        placed(written("OGG", subtype="VORBIS") + written("OGG", 8000, subtype="VORBIS"), tmp_path)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_that_was_cut_or_damaged_is_refused(subtype: str, tmp_path: Path) -> None:
    data = bytearray(written("OGG", seconds=30.0, subtype=subtype))
    with pytest.raises(AudioError, match="cut off"):
        placed(bytes(data[: len(data) // 2]), tmp_path)
    with pytest.raises(AudioError, match="cut off"):
        placed(bytes(data[: data.rfind(b"OggS")]), tmp_path)  # between two pages
    data[len(data) // 2] ^= 8
    with pytest.raises(AudioError, match="cut off or damaged"):
        placed(bytes(data), tmp_path)


# ---- wav and its like: where the size of the samples stands, and how it is written


def of_wav(data: bytes) -> tuple[int, str]:
    return data.find(b"data") + 4, "<I"


SIZES: dict[str, Callable[[bytes], tuple[int, str]]] = {
    "WAV": of_wav,
    "WAVEX": of_wav,
    "AIFF": lambda data: (data.find(b"SSND") + 4, ">I"),
    "AU": lambda data: (8, ">I"),
    "CAF": lambda data: (data.find(b"data") + 4, ">q"),
    "RF64": lambda data: (data.find(b"ds64") + 16, "<q"),
}


def with_size(form: str, size: int) -> bytes:
    data = written(form, subtype="PCM_16")
    place, how = SIZES[form](data)
    size = size & 0xFFFF_FFFF if how[1] == "I" else size
    return data[:place] + struct.pack(how, size) + data[place + struct.calcsize(how) :]


@pytest.mark.parametrize("form", SIZES)
@pytest.mark.parametrize("size", [0, -1])
def test_samples_of_unknown_size_are_read_to_the_end(form: str, size: int, tmp_path: Path) -> None:
    if (form, size) == ("RF64", -1):
        pytest.skip("nobody writes that")
    found = recordings.Samples
    (tmp_path / "x").write_bytes(with_size(form, size))
    found, is_cut = recordings.read(tmp_path / "x")
    assert not is_cut and len(found) == SECONDS * RATE
    np.testing.assert_allclose(found, speech(), atol=1e-4)


@pytest.mark.parametrize("form", SIZES)
def test_samples_behind_their_promised_end_are_not_lost_in_silence(form: str, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"x: its header promises 30000 bytes of samples, and .* more follow.*ffmpeg"):
        placed(with_size(form, 30_000), tmp_path)


@pytest.mark.parametrize("form", SIZES)
def test_samples_that_are_promised_and_not_there(form: str, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"x: (cut off|not readable as audio)"):
        placed(with_size(form, 500_000), tmp_path)
    with pytest.raises(AudioError, match=r"x: (cut off|not readable as audio)"):
        placed(written(form, subtype="PCM_16")[:90_000], tmp_path)


def test_chunks_and_zeros_behind_the_samples_are_no_fault(tmp_path: Path) -> None:
    data = written("WAV", subtype="PCM_16")
    for behind in (
        b"LIST" + struct.pack("<I", 9000) + b"x" * 9000,
        b"id3 " + struct.pack("<I", 7) + b"x" * 8,
        bytes(9999),
    ):
        assert len(placed(data + behind, tmp_path)) == SECONDS * RATE


# ---- whole commands


def test_one_file_of_unknown_length_stops_nothing(tiny: Lab, tmp_path: Path) -> None:
    """Preparation, validation, evaluation and transcription: all used, and what cannot be is named, the others done."""
    (tmp_path / "piped.flac").write_bytes(flac(0))
    (tmp_path / "good.wav").write_bytes(written("WAV"))
    (tmp_path / "false.wav").write_bytes(with_size("WAV", 30_000))
    (tmp_path / "free.mp3").write_bytes(without_table(mp3(mode="VARIABLE")))
    rows = "".join(f"{name}\tabc\n" for name in ("good.wav", "piped.flac", "false.wav", "free.mp3"))
    (tmp_path / "t.tsv").write_text("path\ttext\n" + rows)
    ended = commands.run("tools/prepare_folder.py", tmp_path / "t.tsv", tmp_path / "out", "--lang", "eng")
    assert ended.is_refused() and "eng_train_false" in ended.output and "30000 bytes" in ended.output
    lengths = [int(line.split("\t")[1]) for line in (tmp_path / "out/eng/train.tsv").read_text().splitlines()[1:]]
    assert len(lengths) == 3 and all(abs(length / RATE - SECONDS) < 0.2 for length in lengths)
    checked = commands.run("tools/validate_manifests.py", tmp_path / "out", "--splits", "train")
    assert checked.code == 0, checked.output
    data = tiny.copy_data(tmp_path / "data", "eng")
    rows_of_test = (data / "eng/test.tsv").read_text().splitlines()
    rows_of_test[1] = f"{tmp_path / 'piped.flac'}\t{int(SECONDS * RATE)}"
    (data / "eng/test.tsv").write_text("\n".join(rows_of_test) + "\n")
    scored = commands.run("evaluate", f"checkpoint={tiny.dense}", f"data={data}", f"out={tmp_path / 'scores'}")
    assert scored.code == 0, scored.output
    names = [tmp_path / name for name in ("piped.flac", "false.wav", "good.wav", "free.mp3")]
    heard = commands.run("transcribe", *names, "--checkpoint", tiny.dense, "--lang", "eng")
    assert heard.is_refused() and "false.wav: its header promises" in heard.output
    assert all(f"{name}\t" in heard.output for name in names if name.name != "false.wav")
