"""Arguments as people type them, made into what Hydra's grammar takes: paths with any letters, sweeps over settings."""

import functools
import hashlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf

OVERRIDE = re.compile(r"(?P<key>[+~]{0,2}[\w./@:-]+)=(?P<value>.*)", re.DOTALL)
# options of Hydra that take the next word
TAKING = {"--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"}
TAKING |= {"--info", "-i", "--experimental-rerun"}
MULTIRUN = ("-m", "--multirun", "hydra.mode=MULTIRUN")
BRACKETS = {"[": "]", "{": "}", "(": ")"}
NAME_LENGTH = 60


def typed(*more: Callable[[list[str]], list[str]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Have a Hydra command take its arguments `quoted`, and then as each of `more` makes them."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def main(*given: Any) -> Any:
            if not given:
                arguments = quoted(sys.argv[1:])
                for change in more:
                    arguments = change(arguments)
                sys.argv[1:] = arguments
            return command(*given)

        return main

    return decorate


# ---- paths


def quoted(arguments: Sequence[str]) -> list[str]:
    """Put quotes around values that Hydra's grammar refuses or changes, though they are meant as they are.

    Lists, numbers, null, references and (with -m) commas keep their meaning. Raises ValueError for what is not
    key=value.
    """
    sweeps, taken = bool({*MULTIRUN} & {*arguments}), False
    found = []
    for word in arguments:
        is_value, taken = taken, word in TAKING
        found.append(word if is_value or (word.startswith("-") and not _is_misspelt(word)) else _quoted(word, sweeps))
    return found


def _is_misspelt(word: str) -> bool:
    """Whether a word is `--key=value`, with a key of ours."""
    if found := re.match(r"--([\w.]+)=", word):
        key = found[1]
        raise ValueError(f"{word}: keys have no dashes here; write {key}=... instead of --{key}=...")
    return False


def _quoted(word: str, sweeps: bool) -> str:
    if word.startswith("~") and "=" not in word:
        return word
    found = OVERRIDE.fullmatch(word)
    if found is None:
        raise ValueError(f"{word!r}: expected key=value, without blanks around the '='")
    return f"{found['key']}={_value(found['value'], sweeps)}"


def _value(value: str, sweeps: bool) -> str:
    """A value as Hydra takes it: whole, or piece by piece where it is a list, or a sweep."""
    parsed = _parsed(value)
    if parsed is not None and not sweeps and _is_path(value) and not _stands_for(parsed, value):
        return _in_quotes(value)
    if parsed is not None or not value:
        return value
    if not sweeps and _is_path(value):
        return _in_quotes(value)
    pieces = _pieces(value)
    if sweeps and len(pieces) > 1:
        return ",".join(_value(piece, sweeps=False) for piece in pieces)
    if value.startswith("[") and value.endswith("]"):
        return f"[{','.join(_value(piece.strip(), sweeps=False) for piece in _pieces(value[1:-1]))}]"
    if value.startswith("~/"):
        value = os.path.expanduser(value)
    return _in_quotes(value)


def _parsed(value: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return None


def _stands_for(parsed: Override, value: str) -> bool:
    """Whether Hydra takes a value as the text that it is, or as a number, true or null."""
    found = parsed.value()
    if isinstance(found, str):
        return (found == value and "${" not in value) or parsed._value.__class__ is QuotedString
    return found is None or isinstance(found, (bool, int, float))


def _is_path(value: str) -> bool:
    try:
        return os.path.exists(value)
    except ValueError:
        return False


def _in_quotes(value: str) -> str:
    escaped = value.replace("${", r"\${") if _is_path(value) else value  # else it refers to a key
    return QuotedString(escaped, Quote.single).with_quotes()


def _pieces(value: str) -> list[str]:
    """What stands between the commas that are not inside of brackets or quotes."""
    pieces, open_, quote = [""], [], ""
    for letter in value:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and not pieces[-1].strip():
            quote = letter
        elif letter in BRACKETS:
            open_.append(BRACKETS[letter])
        elif open_ and letter == open_[-1]:
            open_.pop()
        elif letter == "," and not open_:
            pieces.append("")
            continue
        pieces[-1] += letter
    return pieces


# ---- sweeps over settings


def with_job_folders(arguments: list[str]) -> list[str]:
    """Where settings are swept over (-m), have each job train in a folder named by their values.

    Not by task.shard, which names its folder itself, nor by what is in the run's name already.
    """
    if not {*MULTIRUN} & {*arguments} or any(word.startswith("hydra.sweep.subdir=") for word in arguments):
        return arguments
    given = [found for word in arguments if not word.startswith("-") and (found := OVERRIDE.fullmatch(word))]
    named = [found["value"] for found in given if found["key"] in ("name", "runs", "hydra.sweep.dir")]
    keys = [found["key"].lstrip("+~") for found in given if _is_swept(found["value"])]
    left_out = {"name", "runs", "task.shard"} | (
        set() if "name" in {found["key"] for found in given} else {"experiment"}
    )
    keys = [key for key in keys if key not in left_out and not any(f"${{{key}}}" in value for value in named)]
    return [*arguments, f"hydra.sweep.subdir='${{job_folder:{','.join(sorted(keys))}}}'"] if keys else arguments


def _is_swept(value: str) -> bool:
    parsed = _parsed(value)
    return parsed is not None and parsed.is_sweep_override()


def job_folder(*keys: str, _root_: Any) -> str:
    """Where a job of a sweep trains, below the run's folder: `lr_0.001`, `lr_0.001+seed_2`, `lr_0.001/shard_3`.

    In the run's folder itself where no settings are swept over and languages are not split over jobs.
    """
    values = {}
    for word in OmegaConf.select(_root_, "hydra.overrides.task", default=[]):
        if found := OVERRIDE.fullmatch(word):
            values[found["key"].lstrip("+~")] = found["value"]
    parts = ["+".join(_name(key, values[key]) for key in keys if key in values)]
    if (OmegaConf.select(_root_, "task.num_shards", default=1) or 1) > 1:
        parts.append(f"shard_{OmegaConf.select(_root_, 'task.shard', default=0)}")
    return str(Path(*[part for part in parts if part]))


def _name(key: str, value: str) -> str:
    """A short name for a setting; what letters, digits, '.', '-' and '+' cannot say is told apart by a hash."""
    plain = re.sub(r"[\[\]'\" ]", "", value).replace(",", "+")
    name = re.sub(r"[^\w.+-]+", "-", plain, flags=re.ASCII).strip("-")[-NAME_LENGTH:]
    if name != plain or "+" in value:
        name += f"-{hashlib.sha256(value.encode('utf-8', 'surrogateescape')).hexdigest()[:6]}"
    return f"{key.rpartition('.')[2].rpartition('/')[2]}_{name}"


# here, not in a function: a job on a cluster's node imports this module, and then reads its folder's name
OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
