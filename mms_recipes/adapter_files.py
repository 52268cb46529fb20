"""Adapters on disk: one small file per language, and the one-file form of the released checkpoints."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from fairseq.data import Dictionary
from omegaconf import OmegaConf

from mms_recipes import __version__
from mms_recipes.checkpoints import CTC_ENCODER, Base, load_checkpoint, read_base, write_atomically
from mms_recipes.units import LETTERS, Units

ADAPTER_FORMAT = "mms_recipes.adapter/1"
UNITS = "units"  # in a checkpoint's task_state: by language, the model of its pieces as text


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

    def require_base(self, base_hash: str) -> None:
        """Raise ValueError unless this adapter was trained on the base with this hash."""
        if self.base_hash != base_hash:
            raise ValueError(
                f"{self.path or 'adapter'}: {self.lang!r} was trained on base {self.base_hash}, but the loaded base is "
                f"{base_hash}; load the checkpoint it was trained on ({self.base_path})"
            )

    def dictionary(self) -> Dictionary:
        """The head's letters as fairseq's Dictionary."""
        dictionary = Dictionary()
        for letter in self.letters[dictionary.nspecial :]:
            dictionary.add_symbol(letter)
        return dictionary


def write_adapter(folder: str | Path, adapter: Adapter) -> Path:
    """Write folder/<lang>.safetensors in one step, so that a reader sees the old file or the new one."""
    described = {name: getattr(adapter, name) for name in ("lang", "base_hash", "num_updates", "dev_cer", "base_path")}
    described |= {"letters": adapter.letters, "code_version": adapter.code_version, "format": ADAPTER_FORMAT}
    if adapter.units.model:
        described["units"] = adapter.units.to_text()
    metadata = {name: json.dumps(value, ensure_ascii=False) for name, value in described.items()}
    path = Path(folder) / f"{adapter.lang}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_atomically(path, lambda temporary: safetensors.torch.save_file(adapter.tensors, temporary, metadata))
    except safetensors.SafetensorError as error:  # a full disk comes as one of these, not as OSError
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
    return Adapter(tensors=tensors, path=str(path), units=units, **metadata)


# ---- the one-file form of the released checkpoints


def write_one_file(path: str | Path, base: Base, adapters: Sequence[Adapter]) -> None:
    """Write base and adapters as mms1b_l1107.pt and its like are laid out: top-level adapter[lang] (facts: infer.py).

    Only names of stock fairseq are inside, so its `infer.py` reads the file without this package.
    """
    if not adapters:
        raise ValueError(f"{path}: no adapters to write")
    for adapter in adapters:
        adapter.require_base(base.hash)
    first = adapters[0]
    model = {CTC_ENCODER + name: tensor for name, tensor in base.encoder_state.items()} | first.tensors
    state = {
        "args": None,
        "cfg": _one_file_config(
            base,
            adapter_dim=first.tensors[f"{CTC_ENCODER}encoder.layers.0.adapter_layer.b_a"].shape[1],
            labels=first.units.kind.suffix,
        ),
        "model": model,
        # fairseq upgrades files that lack these
        "optimizer_history": [
            {
                "criterion_name": "CtcCriterion",
                "optimizer_name": "Adam",
                "num_updates": 0,
                "lr_scheduler_state": {},
            }
        ],
        "task_state": {"target_dictionary": first.dictionary()},
        "extra_state": {},
        "adapter": {a.lang: _one_file_part(a) for a in adapters},
    }
    write_atomically(Path(path), lambda temporary: torch.save(state, temporary))


def _one_file_part(adapter: Adapter) -> dict[str, Any]:
    """One language in a one-file checkpoint; of what is in `task_state`, stock fairseq reads the dictionary alone."""
    state: dict[str, Any] = {"target_dictionary": adapter.dictionary()}
    if adapter.units.model:
        state[UNITS] = {adapter.lang: adapter.units.to_text()}
    return {"model": adapter.tensors, "task_state": state}


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


def _one_file_config(base: Base, adapter_dim: int, labels: str) -> dict[str, Any]:
    adapter = {
        "layer_type": "trf_adp",
        "adp_num": 1,
        "adp_dim": adapter_dim,
        "adp_act_fn": "relu",
        "adp_trf_idx": "all",
    }
    encoder = OmegaConf.to_container(base.cfg, resolve=False, enum_to_str=True)
    assert isinstance(encoder, dict)
    common = {"data": "", "normalize": base.normalize}
    w2v_args = {
        "model": encoder | adapter | {"_name": "wav2vec2"},
        "task": common | {"_name": "audio_pretraining"},
        "criterion": None,
        "lr_scheduler": None,
        "common": {},
    }
    model = {"_name": "wav2vec_ctc", "w2v_path": "", "w2v_args": w2v_args, "apply_mask": False, **common, **adapter}
    task = common | {"_name": "audio_finetuning", "labels": labels, "multi_corpus_keys": "mms"}
    return {"model": model, "task": task | {"multi_corpus_sampling_weights": "1"}, "common": {}, "criterion": None}


def read_adapters(path: str | Path) -> dict[str, Adapter]:
    """Adapters by language from a folder of adapter files or from a one-file checkpoint."""
    if Path(path).is_dir():
        found = [read_adapter(file) for file in sorted(Path(path).glob("*.safetensors"))]
        if not found:
            raise FileNotFoundError(f"{path}: no adapters (*.safetensors) in this folder")
        return {adapter.lang: adapter for adapter in found}
    checkpoint = load_checkpoint(path)
    if "adapter" not in checkpoint:
        raise ValueError(f"{path}: no adapters inside; found {sorted(checkpoint)}")
    base_hash = read_base(path).hash
    return {
        lang: Adapter(
            lang=lang,
            base_hash=base_hash,
            letters=list(part["task_state"]["target_dictionary"].symbols),
            num_updates=0,
            dev_cer=None,
            tensors=part["model"],
            base_path=str(path),
            path=str(path),
            units=spelling(part["task_state"], lang),
        )
        for lang, part in checkpoint["adapter"].items()
    }
