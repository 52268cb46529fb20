"""What a fairseq checkpoint may hold, checked once when it is read: all that is used of it is of the type it should be.

Classes of fairseq that a file brings along are replaced by ones that were made here from plain values.
"""

from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import torch
from fairseq.data import Dictionary

from mms_recipes import parsing
from mms_recipes.formats import fairseq_configs
from mms_recipes.formats.portable import OnDemand

UNITS = "units"  # in a task_state, beside the dictionary: language -> LanguagePart.units
OPTIMIZER = "last_optimizer_state"
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
Count = Annotated[int, pydantic.Field(ge=0)]
Line = Annotated[str, pydantic.Field(max_length=1_000, pattern=r"^[^\r\n]*$")]  # goes into cards and logs
Meter = Literal["AverageMeter", "SumMeter", "TimeMeter", "StopwatchMeter"]  # fairseq calls them by name
METERS = {  # what fairseq reads of each
    "AverageMeter": ("val", "sum", "count"),
    "SumMeter": ("sum",),
    "TimeMeter": ("init", "n"),
    "StopwatchMeter": ("sum", "n"),
}


class _Iterator(parsing.Schema):
    version: int = 2
    epoch: Count
    iterations_in_epoch: Count = 0
    shuffle: bool = True
    num_shards: Annotated[int, pydantic.Field(ge=1)] = 1


class _Extra(parsing.Schema):
    """What a run goes on with."""

    train_iterator: _Iterator | None = None
    metrics: dict[str, list[tuple[int, str, Meter, dict[str, Any]]]] | None = None
    previous_training_time: float | None = None

    @pydantic.field_validator("metrics")
    @classmethod
    def _meters(cls, found: Any) -> Any:
        for name, meters in (found or {}).items():
            for _, key, kind, state in meters:
                for value in METERS[kind]:
                    if not (isinstance(state.get(value), Real | torch.Tensor) or (value == "val" and value in state)):
                        raise ValueError(f"a number as {value!r} of the meter {parsing.shown(f'{name}.{key}')}")
                if not isinstance(state.get("round"), int | None):
                    raise ValueError(f"whole digits as 'round' of the meter {parsing.shown(f'{name}.{key}')}")
        return found


class _Updates(parsing.Schema):
    criterion_name: str = ""
    optimizer_name: str = ""
    lr_scheduler_state: dict[str, Any] | None = None
    num_updates: Count = 0


class _Group(parsing.Schema):
    params: list[int]


class _Optimizer(parsing.Schema):
    param_groups: list[_Group] | None = None
    state: dict[Any, Any] | None = None


class _Checkpoint(parsing.Schema):
    """Everything but weights, config and dictionaries."""

    last_optimizer_state: _Optimizer | None = None
    optimizer_history: Annotated[list[_Updates], pydantic.Field(min_length=1)] | None = None
    extra_state: _Extra | None = None
    licence: Line | None = None
    provenance: tuple[Line, ...] | None = None


def checked(state: dict[str, Any], path: str | Path, values: Callable[[Any], Any]) -> dict[str, Any]:
    """A checkpoint with everything in it checked but the values of its tensors, and its `cfg` as plain data.

    Adapters are read by `values` and checked when they are asked for.
    Raises ValueError: the file, the key, what was found, what is expected.
    """
    state = dict(state)
    require_tensors(state["model"], f"{path}: model")
    if state.get("cfg") is not None or state.get("args") is not None:
        state["cfg"] = fairseq_configs.checked(state, path)
        state.pop("args", None)
    for key in ("extra_state", "task_state", "adapter"):
        if key in state and state[key] is None:
            del state[key]
    provenance = state.get("provenance")
    given = state | {"provenance": tuple(provenance) if isinstance(provenance, list) else provenance}
    parsing.parse(_Checkpoint, {key: _plain(given[key]) for key in _Checkpoint.model_fields if key in given}, path)
    best = (state.get("extra_state") or {}).get("best")
    if best is not None and not isinstance(best, Real):
        raise ValueError(f"{path}: extra_state.best: found {parsing.shown(best)}, expected a number")
    if "task_state" in state:
        state["task_state"] = task_state(state["task_state"], f"{path}: task_state")
    if "adapter" in state:
        state["adapter"] = _languages(state["adapter"], f"{path}: adapter", values)
    return state


def _plain(value: Any) -> Any:
    """The same with plain dicts and tuples, as the types of `_Checkpoint` are strict."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _languages(table: Any, where: str, values: Callable[[Any], Any]) -> Mapping[str, Any]:
    """The table of languages of a one-file checkpoint."""
    if not isinstance(table, Mapping) or not table or not all(isinstance(lang, str) for lang in table):
        raise ValueError(f"{where}: found {parsing.shown(table)}, expected adapters by language")
    return OnDemand(list(table), lambda lang: _language(values(table[lang]), f"{where}.{lang}"))


def _language(entry: Any, where: str) -> dict[str, Any]:
    """One language's part of a one-file checkpoint."""
    if not isinstance(entry, Mapping) or not entry.get("model") or not entry.get("task_state"):
        raise ValueError(f"{where}: found {parsing.shown(entry)}, expected its 'model' and 'task_state'")
    require_tensors(entry["model"], f"{where}.model")
    state = task_state(entry["task_state"], f"{where}.task_state")
    if "target_dictionary" not in state:
        raise ValueError(f"{where}.task_state: no dictionary inside (target_dictionary): its rows have no meaning")
    return {"model": dict(entry["model"]), "task_state": state}


def require_tensors(tensors: Any, where: str) -> None:
    """Raise ValueError unless these are tensors by name."""
    if not isinstance(tensors, Mapping):
        raise ValueError(f"{where}: found {parsing.shown(tensors)}, expected tensors by name")
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{where}.{name}: found {parsing.shown(tensor)}, expected a tensor")


def task_state(state: Any, where: str) -> dict[str, Any]:
    """What a task keeps beside a model: the dictionary made anew, and the models of its pieces of words as text."""
    if not isinstance(state, Mapping):
        raise ValueError(f"{where}: found {parsing.shown(state)}, expected values by name")
    kept = dict(state)
    if kept.get("target_dictionary") is not None:
        kept["target_dictionary"] = _dictionary(kept["target_dictionary"], f"{where}.target_dictionary")
    if kept.get(UNITS) is not None:
        kept[UNITS] = parsing.parse(dict[str, str], kept[UNITS], f"{where}.{UNITS}")
    return kept


def _dictionary(found: Any, where: str) -> Dictionary:
    if not isinstance(found, Dictionary):
        raise ValueError(f"{where}: found {parsing.shown(found)}, expected a dictionary of fairseq")
    symbols = parsing.parse(list[str], vars(found).get("symbols"), f"{where}.symbols")
    if not symbols:
        raise ValueError(f"{where}: no symbols inside")
    made = Dictionary(add_special_symbols=False)
    made.symbols, made.count = symbols, [1] * len(symbols)
    made.indices = {symbol: index for index, symbol in enumerate(symbols)}
    if tuple(symbols[: len(SPECIALS)]) == SPECIALS:
        made.bos_index, made.pad_index, made.eos_index, made.unk_index = range(len(SPECIALS))
        made.nspecial = len(SPECIALS)
    return made
