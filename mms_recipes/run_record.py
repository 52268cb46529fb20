"""What a run is made of, in its folder: config.yaml and run.json; and what of it changed since it began.

run.json has the SHA-256 of every manifest, label and dictionary file, and of each split the number of utterances and
two digests that do not depend on where the folder lies: of names and lengths, and of some of the audio.
"""

import hashlib
import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from pydantic import Field

from mms_recipes import __version__, audio_files, files, manifest, parsing, preflight
from mms_recipes.run_folder import RECORD

AUDIO_FILES = 20_000  # looked into, of all splits together
AUDIO_BYTES = 1 << 14  # from the middle of each: half a second


class Split(parsing.Schema):
    """One split of a language: `rows` is of file names and lengths, `audio` of what some of the files hold."""

    utterances: int
    rows: str
    audio: str | None = None  # not looked into


class Data(parsing.Schema):
    """What a run learns from: SHA-256 by file, relative to task.data, and splits by `<lang>/<split>`."""

    manifests: dict[str, str] = Field(default_factory=dict)
    splits: dict[str, Split] = Field(default_factory=dict)

    @property
    def langs(self) -> set[str]:
        """The folders of languages."""
        return {name.rpartition("/")[0] for name in self.manifests if name.endswith(".tsv")}


class Record(Data):
    """What run.json says of a run's data; `earlier` is what it was before a change that was accepted."""

    earlier: list[dict[str, Any]] = Field(default_factory=list)


def recorded(folder: Path) -> Record:
    """What run.json in a run's folder says; nothing where there is none. Raises ValueError."""
    path = folder / RECORD
    return parsing.read_json(Record, path) if path.exists() else Record()


def data_of(cfg: DictConfig, audio: bool = True) -> Data:
    """The data of a run as it is now; without `audio` no audio is opened."""
    found = checksums(cfg)
    folder = Path(cfg.task.data)
    names = [name.removesuffix(".tsv") for name in found if name.endswith(".tsv")]
    each = max(1, AUDIO_FILES // max(1, len(names)))
    with ThreadPoolExecutor(8) as pool:
        splits = {name: _split(folder / f"{name}.tsv", each if audio else 0, pool) for name in names}
    return Data(manifests=found, splits=splits)


def checksums(cfg: DictConfig) -> dict[str, str]:
    """SHA-256 of every manifest, label and dictionary file of the job, relative to task.data."""
    folder, langs = Path(cfg.task.data), preflight.language_folders(cfg.task)
    splits = (cfg.dataset.train_subset, cfg.dataset.valid_subset)
    kind = preflight.unit_kind(cfg.task)
    names = [f"{lang}/{split}.{suffix}" for lang in langs for split in splits for suffix in ("tsv", kind.suffix)]
    names += [kind.dictionary, *(f"{lang}/{name}" for lang in langs for name in kind.files)]
    return {name: files.sha256(folder / name) for name in names if (folder / name).is_file()}


def _split(tsv: Path, files_to_open: int, pool: ThreadPoolExecutor) -> Split:
    rows = tsv.read_bytes().partition(b"\n")[2]
    names = hashlib.sha256(re.sub(rb"(?m)^[^\t\n]*/", b"", rows)).hexdigest()  # wherever the files lie
    utterances = manifest.read_manifest(tsv)
    if not files_to_open:
        return Split(utterances=len(utterances), rows=names)
    step = -(-len(utterances) // files_to_open)
    paths = [utterances.path(row) for row in range(0, len(utterances), max(1, step))]
    digest = hashlib.sha256()
    for size, block in pool.map(_middle, paths):
        digest.update(f"{size}:".encode() + block)
    return Split(utterances=len(utterances), rows=names, audio=digest.hexdigest())


def _middle(path: Path) -> tuple[int, bytes]:
    """Size of an utterance's file and what is in its middle; nothing where it cannot be read, as preflight says."""
    try:
        return audio_files.middle(path, AUDIO_BYTES)
    except (OSError, ValueError):
        return 0, b""


def changes(before: Data, now: Data) -> list[str]:
    """What of a run's data is not what it was: which file of which split, and how.

    Dictionaries are left out: what they make of a model's rows is compared in continuation.py.
    """
    names = dict.fromkeys([*before.manifests, *now.manifests])
    splits = [name.removesuffix(".tsv") for name in names if name.endswith(".tsv")]
    found = [_change(split, before, now) for split in splits] if before.manifests else []
    return [change for change in found if change]


def _change(split: str, before: Data, now: Data) -> str:
    tsv = f"{split}.tsv"
    if tsv not in before.manifests or tsv not in now.manifests:
        return f"{tsv} {'was not' if tsv in now.manifests else 'is no longer'} there"
    old, new = before.splits.get(split), now.splits[split]
    if before.manifests[tsv] != now.manifests[tsv] and (old is None or old.rows != new.rows):
        if old is not None and old.utterances != new.utterances:
            return f"{tsv}: {old.utterances} utterances before, {new.utterances} now"
        return f"{tsv}: other utterances, or the same in another order"
    labels = [name for name in now.manifests if name.startswith(f"{split}.") and name != tsv]
    for name in labels:
        if before.manifests.get(name) != now.manifests[name]:
            return f"{name}: other labels of the same utterances"
    if old is not None and None not in (old.audio, new.audio) and old.audio != new.audio:
        return f"{tsv}: other audio in files of the same names"
    return ""


# ---- the record


def write(cfg: DictConfig, folder: Path, data: Data, earlier: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write config.yaml (resolved) and run.json (versions, git state, data) into a run's folder.

    `earlier`: what the run had before the changes that it goes on with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    described = {
        "command": sys.argv,
        "mms_recipes": __version__,
        "git": git_state(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("torch", "fairseq-fixed", "hydra-core", "omegaconf", "numpy")},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
        "manifests": data.manifests,
        "splits": {name: split.model_dump() for name, split in data.splits.items()},
        **({"earlier": list(earlier)} if earlier else {}),
    }
    files.write_text(folder / "config.yaml", OmegaConf.to_yaml(cfg))
    files.write_text(folder / RECORD, json.dumps(described, indent=1, ensure_ascii=False) + "\n")


def git_state() -> dict[str, Any] | None:
    """Commit of the checkout this package runs from and whether it was changed; None when it is installed."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    call = ["git", "-C", str(folder)]
    try:
        commit = subprocess.run([*call, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*call, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "changed": bool(changes.strip())}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
