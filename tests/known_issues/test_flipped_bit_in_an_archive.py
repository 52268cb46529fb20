"""A flipped bit in an archive of audio: the checksums that archives carry are checked, and nothing of it is used."""

import io
import random
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mms_recipes import audio_files
from mms_recipes.audio_files import AudioError
from mms_recipes.corpora import archives
from tests.known_issues import commands

RATE = 16_000


def wav(number: int, form: str = "WAV") -> bytes:
    samples = np.random.default_rng(number).standard_normal(RATE) * 0.1
    soundfile.write(file := io.BytesIO(), samples, RATE, format=form)
    return file.getvalue()


def pack(path: Path, mode: str) -> bytes:
    with tarfile.open(path, mode) as tar:
        for number in range(4):
            member = tarfile.TarInfo(f"train/x{number}.wav")
            member.size = len(wav(number))
            tar.addfile(member, io.BytesIO(wav(number)))
    return path.read_bytes()


def fleurs(folder: Path) -> Path:
    (folder / "data/en_us/audio").mkdir(parents=True)
    rows = "".join(f"{n}\tx{n}.wav\tHello\thello {chr(97 + n)}\th\t1\tF\n" for n in range(4))
    (folder / "data/en_us/train.tsv").write_text(rows)
    return folder


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_fleurs_from_a_damaged_archive(damage: str, tmp_path: Path) -> None:
    src, generator = fleurs(tmp_path / "src"), random.Random(1)
    archive = src / "data/en_us/audio/train.tar.gz"
    whole = pack(archive, "w:gz")
    arguments = (src, tmp_path / "out", "--splits", "train")
    for _ in range(6):
        data = bytearray(whole)
        if damage == "flip":
            data[generator.randrange(20, len(data))] ^= 1 << generator.randrange(8)
        else:
            del data[generator.randrange(20, len(data)) :]
        archive.write_bytes(data)
        ended = commands.run("tools/prepare_fleurs.py", *arguments)
        assert ended.is_refused() and "train.tar.gz" in ended.output and "get the file again" in ended.output
        assert not list((tmp_path / "out").rglob("*.wav"))
    archive.write_bytes(whole)
    ended = commands.run("tools/prepare_fleurs.py", *arguments)
    assert ended.code == 0 and "4 utterances" in ended.output  # what was damaged does not count as done
    assert (tmp_path / "out/eng/audio/train/x2.wav").read_bytes() == wav(2)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w"])
def test_every_kind_of_archive_is_read_and_checked(mode: str, tmp_path: Path) -> None:
    path, wanted = tmp_path / "a", frozenset({"x1.wav", "x3.wav"})
    whole = pack(path, mode)
    assert dict(archives.read(path, wanted, print)) == {"x1.wav": wav(1), "x3.wav": wav(3)}
    cut = whole[: len(whole) // 2]
    path.write_bytes(cut)
    with pytest.raises(archives.DamagedError, match=r"a: cut off or damaged .*; get the file again"):
        list(archives.read(path, wanted, print))
    if mode != "w":  # a plain tar has no checksum of what it holds
        path.write_bytes(cut[:-1] + bytes([cut[-1] ^ 4]) + whole[len(cut) :])
        with pytest.raises(archives.DamagedError):
            list(archives.read(path, wanted, print))


def test_a_zip_of_utterances(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("a.wav", wav(0))
    place = tmp_path / f"s.zip:35:{len(wav(0))}"
    assert audio_files.read_bytes(place) == wav(0)
    data = bytearray((tmp_path / "s.zip").read_bytes())
    data[9000] ^= 1
    (tmp_path / "s.zip").write_bytes(data)
    audio_files.close_shards()
    with pytest.raises(AudioError, match=r"s\.zip: bytes 35 to 32079 are damaged, their checksum is another: restore"):
        audio_files.read_bytes(place)


def test_flac_checks_its_frames(tmp_path: Path) -> None:
    data = bytearray(wav(0, "FLAC"))
    data[len(data) // 2] ^= 16
    with pytest.raises(AudioError, match="x: not readable as audio"):
        audio_files.place(bytes(data), tmp_path / "x", in_place=False)
