"""Adapters on disk: one small file per language, and the one-file form of the released checkpoints."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from fairseq.data import Dictionary

from mms_recipes import __version__, files, licences
from mms_recipes.checkpoints import Base, base_of, load_checkpoint
from mms_recipes.formats import stock_checkpoints
from mms_recipes.formats.checkpoint_contents import UNITS
from mms_recipes.formats.huggingface import weights
from mms_recipes.formats.huggingface.reading import is_huggingface
from mms_recipes.formats.portable import Kind, LanguagePart, OnDemand, Portable
from mms_recipes.units import LETTERS, Units

ADAPTER_FORMAT = "mms_recipes.adapter/1"


@dataclass(frozen=True)
class Adapter:
    """One language's adapter and head, and what they belong to."""

    lang: str
    base_hash: str
    letters: list[str]  # the head's rows (letters or pieces of words), the four specials first
    num_updates: int
    dev_cer: float | None
    tensors: dict[str, torch.Tensor]
    base_path: str = ""
    code_version: str = __version__
    path: str = ""
    units: Units = LETTERS  # how words are spelt with them
    licence: str = licences.UNKNOWN  # its base's, as an adapter is made of it
    provenance: list[str] = field(default_factory=list)

    def require_base(self, base_hash: str) -> None:
        """Raise ValueError unless this adapter was trained on the base with this hash."""
        if self.base_hash != base_hash:
            raise ValueError(
                f"{self.path or 'adapter'}: {self.lang!r} was trained on base {self.base_hash}, but the loaded base is "
                f"{base_hash}; load the checkpoint it was trained on ({self.base_path})"
            )

    @property
    def origin(self) -> licences.Origin:
        """Licence and provenance of the weights."""
        return licences.Origin(self.licence, tuple(self.provenance))

    def dictionary(self) -> Dictionary:
        """The head's letters as fairseq's Dictionary."""
        return stock_checkpoints.dictionary(self.letters, Kind.lsah)

    def part(self) -> LanguagePart:
        """What of it travels between layouts of files."""
        return LanguagePart(self.tensors, self.letters, self.units.to_text())


def write_adapter(folder: str | Path, adapter: Adapter) -> Path:
    """Write folder/<lang>.safetensors in one step, so that a reader sees the old file or the new one."""
    described = {name: getattr(adapter, name) for name in ("lang", "base_hash", "num_updates", "dev_cer", "base_path")}
    described |= {"licence": adapter.licence, "provenance": adapter.provenance}
    described |= {"letters": adapter.letters, "code_version": adapter.code_version, "format": ADAPTER_FORMAT}
    if adapter.units.model:
        described["units"] = adapter.units.to_text()
    metadata = {name: json.dumps(value, ensure_ascii=False) for name, value in described.items()}
    path = files.inside(Path(folder), f"{adapter.lang}.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        weights.write_tensors(path, adapter.tensors, metadata)
    except OSError as error:
        raise OSError(
            f"{path}: the adapter could not be written ({error}); the one before, if any, is untouched. "
            "Free some space and start the same command again: it resumes"
        ) from error
    return path


def read_adapter(path: str | Path) -> Adapter:
    """Read one language's file. Raises FileNotFoundError or ValueError."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such adapter; train it with experiment=lsah_* or give another folder")
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
            units = Units.from_text(metadata.pop("units", ""))  # not there for letters
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(f"{path}: not an adapter file, or cut off ({error})") from error
    if metadata.pop("format", None) != ADAPTER_FORMAT:
        raise ValueError(f"{path}: not an adapter of mms_recipes; expected format {ADAPTER_FORMAT!r} in its header")
    files.plain_name(metadata.get("lang", ""), f"{path}: lang")
    return Adapter(tensors=tensors, path=str(path), units=units, **metadata)


# ---- the one-file form of the released checkpoints


def write_one_file(path: str | Path, base: Base, adapters: Sequence[Adapter]) -> None:
    """Write base and adapters as mms1b_l1107.pt and its like are laid out: top-level adapter[lang] (facts: infer.py).

    Only names of stock fairseq are inside, so its `infer.py` reads the file without this package. Raises ValueError for
    no adapters or one of another base, OSError.
    """
    if not adapters:
        raise ValueError(f"{path}: no adapters to write")
    for adapter in adapters:
        adapter.require_base(base.hash)
    model = Portable(
        str(path),
        Kind.lsah,
        base.cfg,
        base.normalize,
        base.encoder_state,
        adapters={adapter.lang: adapter.part() for adapter in adapters},
        origin=base.origin.known_else(adapter.origin for adapter in adapters),
    )
    stock_checkpoints.write(Path(path), model)


def spelling(task_state: Mapping[str, Any], lang: str) -> Units:
    """Return how a language's words are spelt, from the task's state in a checkpoint; letters when it does not say.

    Raises ValueError when it says so of other languages alone.
    """
    models = task_state.get(UNITS)
    if models is None:
        return LETTERS
    if lang not in models:
        raise ValueError(f"no units of {lang!r}; there are those of {', '.join(sorted(models))}")
    return Units.from_text(models[lang])


def is_folder_of_adapters(path: str | Path) -> bool:
    """Whether this is a folder, and none of Hugging Face's."""
    return Path(path).is_dir() and not is_huggingface(path)


def read_adapters(path: str | Path) -> Mapping[str, Adapter]:
    """Adapters by language, each read when asked for: a folder of adapter files, a one-file checkpoint, or a folder of
    Hugging Face's.
    """
    if is_folder_of_adapters(path):
        found = {file.stem: file for file in sorted(Path(path).glob("*.safetensors"))}
        if not found:
            below = Path(path, "adapters")
            meant = f"; did you mean {below}?" if below.is_dir() else ""
            raise FileNotFoundError(f"{path}: no adapters (*.safetensors) in this folder{meant}")
        return OnDemand(list(found), lambda lang: _of_file(found[lang]))
    checkpoint = load_checkpoint(path)
    if "adapter" not in checkpoint:
        raise ValueError(f"{path}: no adapters inside; found {sorted(checkpoint)}")
    return adapters_of(checkpoint, path, base_of(checkpoint, path).hash)


def _of_file(path: Path) -> Adapter:
    adapter = read_adapter(path)
    if adapter.lang != path.stem:
        raise ValueError(f"{path}: the adapter of {adapter.lang!r} under another name; give it its own")
    return adapter


def adapters_of(checkpoint: Mapping[str, Any], path: str | Path, base_hash: str) -> Mapping[str, Adapter]:
    """Adapters by language of a one-file checkpoint that is read already. Raises ValueError for a name that is none."""
    for lang in checkpoint["adapter"]:
        files.plain_name(lang, f"{path}: adapter")
    return OnDemand(list(checkpoint["adapter"]), lambda lang: _adapter(checkpoint, lang, str(path), base_hash))


def _adapter(checkpoint: Mapping[str, Any], lang: str, path: str, base_hash: str) -> Adapter:
    part = checkpoint["adapter"][lang]
    origin = stock_checkpoints.origin_of(checkpoint, path)
    return Adapter(
        lang=lang,
        base_hash=base_hash,
        letters=list(part["task_state"]["target_dictionary"].symbols),
        num_updates=0,
        dev_cer=None,
        tensors=part["model"],
        base_path=path,
        path=path,
        units=spelling(part["task_state"], lang),
        licence=origin.licence,
        provenance=list(origin.provenance),
    )
