"""What can be found out about a corpus before it is scored: hours of work do not end in a file that is broken.

All that is wrong is collected and raised at once, with the remedies of validation.
"""

import logging
import math
import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from mms_recipes.audio_files import close_shards, probe
from mms_recipes.corpora.problems import Report
from mms_recipes.evaluation.emissions import Split
from mms_recipes.manifest import Lines, Manifest

logger = logging.getLogger(__name__)

ALL_HEADERS = 20_000  # utterances; of more, the header of the first, shortest and longest of each manifest is read
_THREADS = 8


def check(splits: Mapping[str, Split]) -> None:
    """Read all labels, and the headers of the audio. Raises ManifestError, which names all that was found."""
    report = Report()
    for split in splits.values():
        for lines in (split.labels.words, split.labels.uids):
            _read_through(lines, report)
        _check_uids(split.labels.uids, report)
    _check_audio({lang: split.utterances for lang, split in splits.items()}, report)
    report.raise_if_bad()


def check_audio(manifests: Mapping[str, Manifest]) -> None:
    """Read the headers of the audio of manifests, by name. Raises ManifestError, which names all that was found."""
    report = Report()
    _check_audio(manifests, report)
    report.raise_if_bad()


def settings_of(cfg: DictConfig) -> dict[str, Any]:
    """Return a configuration as a report holds it: JSON has no infinity, so `unk_score` is a text there.

    Raises ValueError for another number that is not finite.
    """
    found: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    if "unk_score" in found["decoding"]:
        found["decoding"]["unk_score"] = str(found["decoding"]["unk_score"])
    check_settings(found)
    return found


def check_settings(settings: Any, key: str = "") -> None:
    """Raise ValueError for a number among the settings that a report cannot hold: NaN, infinity."""
    if isinstance(settings, float) and not math.isfinite(settings):
        raise ValueError(f"{key} is {settings}, expected a finite number")
    pairs = (
        settings.items() if isinstance(settings, dict) else enumerate(settings) if isinstance(settings, list) else ()
    )
    for name, value in pairs:
        check_settings(value, f"{key}.{name}".removeprefix("."))


def check_out(out: Path) -> None:
    """Write into the folder of a report, or where it will be made, and leave nothing there.

    Raises OSError where that cannot be done. The folder is not made: what still stops the work leaves none, and one
    that is made and removed could be taken from another shard.
    """
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if os.path.lexists(folder))
    with tempfile.NamedTemporaryFile(dir=there, prefix=".evaluating.", suffix=".tmp") as file:
        file.write(b"\n")


def _read_through(lines: Lines, report: Report) -> None:
    try:
        for _ in lines:
            pass
    except ValueError as error:
        report.add("labels do not match", str(error))


def _check_uids(uids: Lines, report: Report) -> None:
    """Find ids that are there twice, or that a table cannot hold."""
    first: dict[str, int] = {}
    for row in range(len(uids)):
        try:
            uid = uids[row]
        except ValueError:  # not UTF-8, which `_read_through` reports
            continue
        if not uid.strip() or "\t" in uid or "\r" in uid:
            report.add("labels do not match", f"{uids.where(row)}: found {uid!r}, expected an id without tabs")
        elif uid in first:
            report.add("duplicate", f"{uids.where(row)}: {uid!r} is also the id in {uids.where(first[uid])}")
        first.setdefault(uid, row)


def _check_audio(manifests: Mapping[str, Manifest], report: Report) -> None:
    close_shards()  # some may have been packed again since
    total = sum(map(len, manifests.values()))
    if total > ALL_HEADERS:
        logger.info("%d utterances: the headers of some of each manifest are read, not of all before the start", total)
    with ThreadPoolExecutor(_THREADS) as pool:
        for table in manifests.values():
            sizes = table.num_samples
            some = sorted({0, int(np.argmin(sizes)), int(np.argmax(sizes))})
            rows = some if total > ALL_HEADERS else range(len(table))
            try:
                paths = [table.path(row) for row in rows]
            except ValueError as error:
                report.add("malformed manifest", str(error))
                continue
            found = pool.map(probe, paths, (int(sizes[row]) for row in rows))
            for row, path, fault in zip(rows, paths, found, strict=True):
                if fault:
                    report.add(fault[0], f"{table.rows.where(row)}: {path}: {fault[1]}")
