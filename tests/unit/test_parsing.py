"""What a file holds is checked by type; messages name file, key, what was found and what was expected."""

from pathlib import Path
from typing import Annotated

import pydantic
import pytest

from mms_recipes import parsing


class Block(parsing.Schema):
    size: Annotated[int, pydantic.Field(gt=0, le=100)]
    name: str = "block"
    rates: tuple[float, ...] = ()


def test_what_is_right_comes_back_typed() -> None:
    assert parsing.parse(Block, {"size": 3, "rates": (1, 0.5), "other": None}, "x") == Block(size=3, rates=(1.0, 0.5))
    assert parsing.parse(dict[str, int], {"a": 1}, "x") == {"a": 1}


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ({"size": "2"}, ("x.json: size: found '2'", "integer")),
        ({"size": True}, ("x.json: size: found True", "integer")),
        ({"size": 0}, ("x.json: size: found 0", "greater than 0")),
        ({"size": 10**9}, ("size: found 1000000000", "less than or equal to 100")),
        ({"size": 1, "rates": (1.0, float("nan"))}, ("x.json: rates.1: found nan", "finite")),
        ({"size": 1, "name": None}, ("x.json: name: found None", "string")),
        ({}, ("x.json: size: not there",)),
        ([], ("x.json: all of it: found []",)),
        (None, ("x.json: all of it: found None",)),
        ({"size": "x" * 500}, ("xxx...",)),
        ({"size": "\x1b[31m"}, (r"'\x1b[31m'",)),
    ],
)
def test_what_is_wrong_is_named(value: object, parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        parsing.parse(Block, value, "x.json")
    assert all(part in str(caught.value) for part in parts), caught.value
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"{", "x.json:1: no JSON"),
        (b"", "x.json:1: no JSON"),
        (b"\xff\xfe", "x.json: byte 0 is not UTF-8"),
        (b'{"size": NaN}', "x.json: no JSON that can be used (found NaN"),
        (b"[" * 100_000, "x.json: no JSON that can be used"),
        (b'{"size": 1.5}', "x.json: size: found 1.5"),
    ],
)
def test_files(tmp_path: Path, content: bytes, part: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        parsing.read_json(Block, path)
    assert part in str(caught.value)
