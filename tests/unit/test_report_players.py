"""Sound on the page: linked where there is a file, embedded where it lies in a shard, nothing where it is missing."""

import base64
import tarfile
import urllib.parse
from pathlib import Path

import pytest

from mms_recipes import manifest
from mms_recipes.manifest import Utterance
from mms_recipes.report import players

WAV, FLAC = b"RIFF....WAVEdata", b"fLaC...."


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two languages: eng with files (one missing, one with a name that a URL cannot hold as it is), fra in a shard."""
    folder = tmp_path / "data"
    (folder / "eng" / "audio").mkdir(parents=True)
    (folder / "eng" / "audio" / "e1.wav").write_bytes(WAV)
    (folder / "eng" / "audio" / "a: 50%?#é.wav").write_bytes(WAV)
    names = {"e1": "audio/e1.wav", "e2": "audio/a: 50%?#é.wav", "e3": "audio/missing.wav"}
    rows = [Utterance(name, 16_000, "a |", "a", uid) for uid, name in names.items()]
    manifest.write_split(folder / "eng", "test", folder / "eng", rows)
    (tmp_path / "f1.flac").write_bytes(FLAC)
    (folder / "fra").mkdir()
    with tarfile.open(folder / "fra" / "test.tar", "w") as shard:
        shard.add(tmp_path / "f1.flac", "f1.flac")
    with tarfile.open(folder / "fra" / "test.tar") as shard:
        offset = shard.getmembers()[0].offset_data
    rows = [
        Utterance(f"test.tar:{offset}:{len(FLAC)}", 16_000, "a |", "a", "f1"),
        Utterance(f"test.tar:{offset}:999999", 16_000, "a |", "a", "f2"),
        Utterance(f"gone.tar:512:{len(FLAC)}", 16_000, "a |", "a", "f3"),
    ]
    manifest.write_split(folder / "fra", "test", folder / "fra", rows)
    return folder


WANTED = {"eng": ["e1", "e2", "e3"], "fra": ["f1", "f2", "f3"], "xyz": ["x1"]}


def test_files_are_linked_and_shards_embedded(data: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "report.html"
    found = players.sources(players.find_audio(data, "test", WANTED), page, embed=9, embed_files=False)
    assert set(found) == {("eng", "e1"), ("eng", "e2"), ("fra", "f1")}
    assert found["eng", "e1"] == "./../data/eng/audio/e1.wav"
    page.parent.mkdir()
    for uid in ("e1", "e2"):
        assert (page.parent / urllib.parse.unquote(found["eng", uid])).read_bytes() == WAV
        assert not set(found["eng", uid]) & set(" ?#")
    assert found["fra", "f1"] == f"data:audio/flac;base64,{base64.b64encode(FLAC).decode()}"


def test_no_more_are_embedded_than_asked_for(data: Path, tmp_path: Path) -> None:
    paths = players.find_audio(data, "test", WANTED)
    found = players.sources(paths, tmp_path / "report.html", embed=1, embed_files=True)
    assert found == {
        ("eng", "e1"): f"data:audio/wav;base64,{base64.b64encode(WAV).decode()}",
        ("eng", "e2"): "./data/eng/audio/a%3A%2050%25%3F%23%C3%A9.wav",
    }


def test_only_what_is_wanted(data: Path) -> None:
    assert set(players.find_audio(data, "test", {"eng": ["e2", "e9"]})) == {("eng", "e2")}


def test_a_folder_without_these_utterances(data: Path) -> None:
    with pytest.raises(ValueError, match=r"none of the utterances is in its manifests; expected .*LANG.dev\.tsv"):
        players.find_audio(data, "dev", WANTED)
    with pytest.raises(FileNotFoundError, match="no such folder; expected that of the manifests"):
        players.find_audio(data / "nowhere", "test", WANTED)
