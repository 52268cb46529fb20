"""What the jobs of one piece of work leave behind, each in OUT/shards/<shard>.json; read when all are there and agree.

A document has `settings`, with num_shards and shard, and what the job found. Where it has `expected`, that is what all
shards together must have, the same in each.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pydantic

from mms_recipes import files, parsing

FOLDER = "shards"
OWN = ("shard", "device")  # settings in which shards may differ


def remove(out: Path, shard: int) -> None:
    """Forget what an earlier run of this shard found: until it is done again, it is missing."""
    _path(out, shard).unlink(missing_ok=True)


def write(out: Path, document: Mapping[str, Any]) -> Path:
    """Write what a job found below the folder of the whole; return the file."""
    path = _path(out, document["settings"]["shard"])
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, json.dumps(document, ensure_ascii=False) + "\n")
    return path


def read(out: Path, own: Collection[str] = OWN) -> list[dict[str, Any]]:
    """Return the documents of all shards, in their order.

    Raises FileNotFoundError naming the shards that are missing, ValueError when they are not of one piece of work.
    """
    paths = sorted((out / FOLDER).glob("*.json"), key=lambda path: (len(path.name), path.name))
    if not paths:
        raise FileNotFoundError(f"{out / FOLDER}: nothing there; run every shard with num_shards=... shard=... first")
    documents = [_parse(path) for path in paths]
    first = documents[0]
    for path, other in zip(paths[1:], documents[1:], strict=True):
        for key in sorted((first["settings"].keys() | other["settings"].keys()) - {*own}):
            values = [one["settings"].get(key) for one in (first, other)]
            if values[0] != values[1]:
                raise ValueError(
                    f"{path}: {key} is {values[1]}, but {values[0]} in {paths[0]}: run that shard again, "
                    "or delete the file if it is of an earlier run"
                )
        if other.get("expected") != first.get("expected"):
            raise ValueError(f"{path}: made of other data than {paths[0]}; run both shards again")
    num_shards = int(first["settings"]["num_shards"])
    if missing := sorted({*range(num_shards)} - {int(one["settings"]["shard"]) for one in documents}):
        raise FileNotFoundError(
            f"{out / FOLDER}: {len(missing)} of {num_shards} shards missing: {', '.join(map(str, missing[:20]))}"
            f"{', ...' if missing[20:] else ''}; run the same command with shard=... of each first"
        )
    return documents


def _path(out: Path, shard: int) -> Path:
    return out / FOLDER / f"{shard}.json"


class _Settings(parsing.Schema):
    shard: int = pydantic.Field(ge=0)
    num_shards: int = pydantic.Field(gt=0)


class _Document(parsing.Schema):
    settings: _Settings
    expected: dict[str, Any] | None = None


def _parse(path: Path) -> dict[str, Any]:
    """Return a document. Raises ValueError when the file is not what the shard of its name wrote."""
    try:
        document: dict[str, Any] = parsing.read_json(dict[str, Any], path)
        settings = parsing.parse(_Document, document, path).settings
        if path.stem != str(settings.shard) or settings.shard >= settings.num_shards:
            raise ValueError(f"shard {settings.shard} of {settings.num_shards}")
    except ValueError as error:
        said = str(error).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: not what a shard wrote ({said}); delete it and run that shard again") from None
    return document
