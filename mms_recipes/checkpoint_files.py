"""Checkpoint files that a kill or a full disk leaves whole: written aside, synced, put in place in one step.

fairseq calls `save` and `copy` in the place of its own (fairseq_compat.save_atomically).
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from mms_recipes import files

BEFORE = "checkpoint_before.pt"  # what checkpoint_last.pt was before


def save(state: Any, filename: str, async_write: bool = False) -> None:
    """Replace `filename` by `state` in one step; on a full disk say so and keep the old file."""
    target = Path(filename)
    try:
        with files.replaced(target, sync=False) as temporary:
            with temporary.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())  # whole before anything is said of those before it
            _keep_one_before(target)
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"{target}: the checkpoint could not be written ({_first(error)}); "
            f"{'those before are untouched' if any(target.parent.glob('*.pt')) else 'there was none before'}. "
            "Free some space and start the same command again: it resumes"
        ) from error


def _first(error: BaseException) -> BaseException:
    """What went wrong first: torch's writer fails again while it closes, and hides that the disk is full."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def copy(source: str, target: str, overwrite: bool = False) -> bool:
    """Give a checkpoint a second name: a hard link put in place in one step (fairseq: PathManager.copy)."""
    if os.path.exists(target) and not overwrite:
        return False
    _keep_one_before(Path(target))
    link(Path(source), Path(target))
    return True


def _keep_one_before(target: Path) -> None:
    """Keep the last checkpoint under a second name when a new one takes its place: disks and networks do fail.

    The other names in the folder may all be of the new file (keep_interval_updates=1).
    """
    if target.name == "checkpoint_last.pt" and target.exists():
        link(target, target.with_name(BEFORE))


def link(source: Path, target: Path) -> None:
    """Put a hard link to `source` (a copy where there are none) in the place of `target`, in one step."""
    with files.replaced(target, sync=False) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:  # some network and FAT file systems have no hard links
            shutil.copyfile(source, temporary)
