"""A run's folder and the configuration that it was made with: going on with another one is refused."""

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

# What may change from start to start: where and how fast it trains, what is logged and kept, and how long.
FREE_SECTIONS = ("common", "distributed_training", "checkpoint", "hydra", "runs", "name", "accept_changes")
FREE = {
    "task.adapters",  # recorded as the path that it becomes
    "dataset.num_workers",
    "dataset.data_buffer_size",
    "dataset.max_tokens_valid",
    "dataset.batch_size_valid",
    "dataset.validate_interval",
    "dataset.validate_interval_updates",
    "dataset.validate_after_updates",
    "dataset.fixed_validation_seed",
    "optimization.max_update",
    "optimization.max_epoch",
    "optimization.stop_time_hours",
    "optimization.update_freq",  # derived from task.hours_per_update
    "model.cache_gb",
    "model.checkpoint_activations",
}
HELD = ("common.seed",)  # of the free sections
PLACES = ("task.data", "task.langs", "task.corpora")  # say which data there is
RECORD = "run.json"
SHOWN = 6
MARK = "of_run.txt"  # in a folder of checkpoints outside of the run's: the folder of that


def refuse_other_config(cfg: DictConfig, folder: Path) -> None:
    """Raise ValueError naming the keys in which `cfg` differs from what the run in `folder` was made with.

    A folder without a checkpoint is free to be used again. `accept_changes=true` lets everything pass. Which data the
    run has is compared by its contents, where they are recorded (run_record.py).
    """
    if last(cfg, folder).exists():
        found = differences(folder / "config.yaml", cfg)
        by_contents = (folder / RECORD).exists()
        refuse(cfg, folder, {key: pair for key, pair in found.items() if not by_contents or key not in PLACES})


def refuse(cfg: DictConfig, folder: Path, config: Mapping[str, tuple[Any, Any]], data: Sequence[str] = ()) -> None:
    """Raise ValueError where `config` or `data` says what a run would go on with that it did not begin with."""
    keys = [f"{key}: {before} there, {now} here" for key, (before, now) in config.items()]
    if cfg.accept_changes or not (keys or data):
        return
    told = [f"was made with {what} ({_shown(found)})" for what, found in (("another configuration", keys),) if found]
    told += [f"has other data than it began with ({_shown(data)})"] if data else []
    raise ValueError(
        f"{folder} {' and '.join(told)}. Give another name=..., or accept_changes=true to go on in it with the new "
        f"{' and '.join(['values'] * bool(keys) + ['data'] * bool(data))}"
    )


def _shown(changes: Sequence[str]) -> str:
    more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
    return "; ".join(changes[:SHOWN]) + more


def keep_for(folder: Path, save_dir: Path, first: bool) -> None:
    """Note in a folder of checkpoints that lies outside of the run's `folder` that they are of this run.

    Raises ValueError where they are of another run. `first`: this process is the rank that writes.
    """
    folder, save_dir = folder.resolve(), save_dir.resolve()
    mark, outside = save_dir / MARK, not save_dir.is_relative_to(folder)
    owner = ""
    if outside and first and not (save_dir / "checkpoint_last.pt").exists():
        save_dir.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), mark.open("x", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{folder}\n")
    if mark.exists():
        owner = mark.read_text(encoding="utf-8", errors="surrogateescape").strip()
    elif outside and (save_dir / "checkpoint_last.pt").exists():
        owner = "one that did not note its folder"
    if owner in ("", str(folder)) or _was_kept_in(folder, save_dir):  # the folder may have been moved
        return
    raise ValueError(
        f"checkpoint.save_dir={save_dir}: has the checkpoints of another run ({owner}); give each run one of its own, "
        f"for example checkpoint.save_dir={save_dir}/{folder.name}"
    )


def _was_kept_in(folder: Path, save_dir: Path) -> bool:
    """Whether the run in `folder` has had its checkpoints in `save_dir` before."""
    recorded = folder / "config.yaml"
    if not recorded.exists():
        return False
    before = _flat(read_config(recorded)).get("checkpoint.save_dir")
    return isinstance(before, str) and Path(before).resolve() == save_dir


def last(cfg: DictConfig, folder: Path) -> Path:
    """The checkpoint that a run in `folder` goes on from."""
    path: Path = folder / cfg.checkpoint.save_dir / "checkpoint_last.pt"
    return path


def told_of_other_world(cfg: DictConfig, written: Any) -> str:
    """What to say where a checkpoint, whose configuration is `written`, is of another number of ranks; else ''.

    LSAH's languages have the same batches on any number.
    """
    before, now = (
        (c["distributed_training"]["distributed_world_size"], c["optimization"]["update_freq"][0])
        for c in (written, cfg)
    )
    if before[0] == now[0] or cfg.task._name == "mms_lsah":
        return ""
    told = f"was written by {before[0]} rank(s) with update_freq {before[1]}, this is {now[0]} with {now[1]}"
    if before[0] * before[1] == now[0] * now[1]:
        return f"{told}: the run goes on at the same place of the epoch, with the same batches in each update"
    return (
        f"{told}: the run goes on at the same place of the epoch, but the order of the data differs from here on: an "
        f"update has {now[0] * now[1]} batches, not {before[0] * before[1]}. To keep it, set task.hours_per_update or "
        "optimization.update_freq so that ranks times update_freq stay the same"
    )


def differences(recorded: Path, cfg: DictConfig) -> dict[str, tuple[Any, Any]]:
    """What was recorded in a run's config.yaml and what `cfg` says, by dotted key, where the two differ.

    Keys that only one of them has are those of another version of this package. What follows from other keys by
    interpolation is left out: these are compared themselves.
    """
    if not recorded.exists():
        return {}
    before = _flat(read_config(recorded))
    written = _flat(OmegaConf.to_container(cfg, resolve=False, enum_to_str=True))
    now = _flat(OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))
    return {
        key: (before[key], value)
        for key, value in now.items()
        if key in before and not _is_free(key) and not _is_reference(written[key]) and not _equal(before[key], value)
    }


def read_config(path: Path) -> dict[Any, Any]:
    """Read a run's config.yaml, references as they are written. Raises ValueError when it is damaged, or OSError."""
    try:
        found = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        if not isinstance(found, dict):
            raise ValueError(f"found {type(found).__name__}, expected keys and values")
        if lacking := [section for section in ("task", "model", "optimization") if section not in found]:
            raise ValueError(f"no {', '.join(lacking)} in it: cut off")
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, AttributeError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        said = getattr(error, "problem", None) or str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"{path}{line}: not the configuration of a run ({said}); restore it, or begin anew with another name=..."
        ) from None
    return found


def _is_reference(written: Any) -> bool:
    return isinstance(written, str) and re.fullmatch(r"\$\{[\w.]+\}", written) is not None


def _equal(before: Any, now: Any) -> bool:
    if isinstance(before, str) and isinstance(now, str):  # a path may be written in two ways
        return before == now or os.path.abspath(before) == os.path.abspath(now)
    return bool(before == now)


def _is_free(key: str) -> bool:
    return key in FREE or (key.partition(".")[0] in FREE_SECTIONS and key not in HELD)


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted key; a list is a leaf."""
    if not isinstance(node, dict):
        return {prefix[:-1]: node}
    return {key: value for name, part in node.items() for key, value in _flat(part, f"{prefix}{name}.").items()}
