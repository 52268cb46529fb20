"""Data of files that others made, checked before anything is done with it.

A type says what is expected (pydantic's strict rules: "2" is no number, true is no number); the first value that is
something else is named with its file and key. `Schema` is for what has names, any other type is for plain values.
"""

import functools
import json
from pathlib import Path
from typing import Any, TypeVar, cast

import pydantic

T = TypeVar("T")
SHOWN = 80  # characters of a value in a message


class Schema(pydantic.BaseModel):
    """Values by name. What it does not name is left alone; what it names is checked and never changes."""

    model_config = pydantic.ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


def parse(kind: type[T], value: Any, where: str | Path) -> T:
    """Return `value` as a `kind`. Raises ValueError: `where`, the key, what was found, what is expected."""
    try:
        return cast(T, _adapter(cast(Any, kind)).validate_python(value))
    except pydantic.ValidationError as error:
        first, *others = error.errors(include_url=False, include_context=False)
        key = ".".join(map(str, first["loc"])) or "all of it"
        expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        if first["type"] == "missing":
            raise ValueError(f"{where}: {key}: not there; the file is cut off, or of another kind") from None
        more = f" (and {len(others)} more like this)" if others else ""
        raise ValueError(f"{where}: {key}: found {shown(first['input'])}, expected {expected}{more}") from None


def read_json(kind: type[T], path: str | Path) -> T:
    """Read a JSON file as a `kind`. Raises FileNotFoundError, or ValueError as `parse` and for what is no JSON."""
    return parse(kind, load_json(path), path)


def load_json(path: str | Path) -> Any:
    """Read a JSON file. Raises FileNotFoundError, or ValueError: not UTF-8, no JSON (place), NaN, infinity."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        return json.loads(text, parse_constant=_refused, object_pairs_hook=_by_name)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8; expected a JSON file") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: no JSON ({error.msg}); get the file again") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON that can be used ({error}); get the file again") from None


def shown(value: Any) -> str:
    """A value of a file as a message shows it: in quotes where it is a text, without control characters, not long."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _refused(constant: str) -> Any:
    raise ValueError(f"found {constant}, expected a finite number")


def _by_name(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {shown(next(name for name in names if names.count(name) > 1))} is there twice")
    return found


@functools.lru_cache(maxsize=256)
def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind, config=None if _has_config(kind) else pydantic.ConfigDict(strict=True))


def _has_config(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)
