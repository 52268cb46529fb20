"""What shards leave behind is read whole, or it is told which of them is missing or of something else."""

import json
from pathlib import Path
from typing import Any

import pytest

from mms_recipes import shard_files


def write(out: Path, shard: int, num_shards: int = 12, **others: Any) -> Path:
    settings = {"num_shards": num_shards, "shard": shard, "seed": 1, **others}
    return shard_files.write(out, {"settings": settings, "expected": {"eng": 5}, "found": [shard]})


def test_all_shards_come_in_their_order(tmp_path: Path) -> None:
    for shard in reversed(range(12)):
        write(tmp_path, shard, device=f"cuda:{shard}")
    assert [document["found"] for document in shard_files.read(tmp_path)] == [[shard] for shard in range(12)]


def test_missing_shards_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"shards: nothing there; run every shard with num_shards=... shard="):
        shard_files.read(tmp_path)
    for shard in (0, 2, 3, 5):
        write(tmp_path, shard, num_shards=6)
    with pytest.raises(FileNotFoundError, match=r"2 of 6 shards missing: 1, 4; run the same command with shard=..."):
        shard_files.read(tmp_path)


def test_a_shard_that_is_run_again_is_missing(tmp_path: Path) -> None:
    for shard in range(3):
        write(tmp_path, shard, num_shards=3)
    for _ in range(2):
        shard_files.remove(tmp_path, 1)
    with pytest.raises(FileNotFoundError, match="1 of 3 shards missing: 1;"):
        shard_files.read(tmp_path)


def test_shards_of_different_work_are_told(tmp_path: Path) -> None:
    write(tmp_path, 0, num_shards=2)
    other = write(tmp_path, 1, num_shards=2, seed=2)
    told = f"{other}: seed is 2, but 1 in {tmp_path / 'shards/0.json'}: run that shard again, or delete the file if"
    with pytest.raises(ValueError) as raised:
        shard_files.read(tmp_path)
    assert str(raised.value).startswith(told)
    other.write_text(other.read_text().replace('"seed": 2', '"seed": 1').replace('"eng": 5', '"eng": 6'))
    with pytest.raises(ValueError, match=r"made of other data than .*0.json; run both shards again"):
        shard_files.read(tmp_path)


@pytest.mark.parametrize("text", ["{}", "{", "[]", '{"settings": {"shard": 0, "num_shards": 1}}'])
def test_a_file_that_no_shard_wrote_is_told(tmp_path: Path, text: str) -> None:
    write(tmp_path, 0, num_shards=2)
    (tmp_path / "shards/1.json").write_text(text)  # the last one: a copy of another shard's
    with pytest.raises(ValueError, match=r"1\.json: not what a shard wrote .*; delete it and run that shard again"):
        shard_files.read(tmp_path)


def test_a_file_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path, 0, num_shards=1)
    assert json.loads(path.read_text())["found"] == [0]
    assert [found.name for found in path.parent.iterdir()] == ["0.json"]
