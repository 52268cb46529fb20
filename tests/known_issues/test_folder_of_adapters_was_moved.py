"""Adapters and their base were copied to another place: the copy pointed into the old folder."""

import json
import shutil
from pathlib import Path

import pytest
import safetensors
import safetensors.torch

from mms_recipes import adapter_files, checkpoints
from tests.known_issues import commands
from tests.known_issues.lab import Lab


@pytest.fixture
def published(tiny: Lab, tmp_path: Path) -> Path:
    """A folder with a base below it and adapters that were written beside it."""
    folder = tmp_path / "old" / "model"
    (folder / "base").mkdir(parents=True)
    shutil.copy(tiny.dense, folder / "base" / "dense.pt")
    converted = commands.run(
        "convert", tiny.adapters, folder / "all.pt", "--to", "fairseq", "--base", folder / "base" / "dense.pt"
    )
    assert converted.code == 0, converted.output
    done = commands.run("convert", folder / "all.pt", folder / "adapters", "--to", "adapters")
    assert done.code == 0, done.output
    return folder


def transcribe(lab: Lab, adapters: Path) -> commands.Ended:
    return commands.run("transcribe", lab.wav, "--checkpoint", adapters, "--lang", "eng", "--quiet")


def test_the_base_beside_a_moved_folder(tiny: Lab, published: Path, tmp_path: Path) -> None:
    before = transcribe(tiny, published / "adapters")
    shutil.move(published, tmp_path / "new")
    after = transcribe(tiny, tmp_path / "new" / "adapters")
    assert after.code == 0 and after.output == before.output


def test_a_copy_uses_its_own_base_not_the_old_one(tiny: Lab, published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "new")
    (published / "all.pt").write_bytes(b"broken since")
    assert transcribe(tiny, tmp_path / "new" / "adapters").code == 0


def test_the_hash_decides(tiny: Lab, published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "new")
    shutil.copy(tiny.pretrained, tmp_path / "new" / "all.pt")  # another base in the place beside it
    assert transcribe(tiny, tmp_path / "new" / "adapters").code == 0
    (published / "all.pt").unlink()
    refused = transcribe(tiny, tmp_path / "new" / "adapters")
    assert refused.is_refused(), refused.output
    found = adapter_files.read_adapter(tmp_path / "new" / "adapters" / "eng.safetensors")
    for fact in (str(tmp_path / "new" / "all.pt"), str(published / "all.pt"), found.base_hash, "--base"):
        assert fact in refused.last_line


def test_headers_from_before_still_find_their_base(tiny: Lab, published: Path, tmp_path: Path) -> None:
    path = published / "adapters" / "eng.safetensors"
    with safetensors.safe_open(path, "pt") as file:
        header = file.metadata()
    header.pop("base_beside")
    header["base_path"] = json.dumps(str(published / "all.pt"))
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, header)
    assert transcribe(tiny, published / "adapters").code == 0
    shutil.move(published, tmp_path / "new")
    assert transcribe(tiny, tmp_path / "new" / "adapters").code == 0  # a file of that name beside the folder


def test_a_header_does_not_name_the_home_folder(tiny: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home" / "jane"
    home.mkdir(parents=True)
    shutil.copy(tiny.dense, home / "dense.pt")
    monkeypatch.setenv("HOME", str(home))
    adapters = adapter_files.read_adapters(tiny.adapters)
    base = adapter_files.find_base(adapters, checkpoints.read_base, home / "dense.pt", "")
    adapter_files.write_one_file(home / "one.pt", base, list(adapters.values()))
    for folder in (home / "adapters", tmp_path / "published"):
        done = commands.run(
            "convert", home / "one.pt", folder, "--to", "adapters", "--langs", "eng", environment={"HOME": str(home)}
        )
        assert done.code == 0, done.output
        assert b"jane" not in (folder / "eng.safetensors").read_bytes()
        assert transcribe_at(tiny, folder, home).code == 0


def transcribe_at(lab: Lab, adapters: Path, home: Path) -> commands.Ended:
    asked = ("--checkpoint", adapters, "--lang", "eng", "--quiet")
    return commands.run("transcribe", lab.wav, *asked, environment={"HOME": str(home)})
