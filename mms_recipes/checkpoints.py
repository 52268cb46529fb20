"""Checkpoints: safe reading, the base inside them. Adapters are in adapter_files.py.

A file is read by torch's restricted loader only (fairseq_compat lists what may be inside), and into memory of our own.
"""

import contextlib
import functools
import logging
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.data import Dictionary
from fairseq.dataclass.utils import overwrite_args_by_name
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
from omegaconf import OmegaConf

from mms_recipes import checkpoint_files, fairseq_compat, licences
from mms_recipes.formats import checkpoint_contents, fairseq_configs, stock_checkpoints
from mms_recipes.formats.architecture import require_encoder
from mms_recipes.formats.huggingface import names, reading
from mms_recipes.formats.portable import Setting, frozen_part, settings, state_hash
from mms_recipes.formats.tensors import require_sound
from mms_recipes.formats.torch_files import TorchFile
from mms_recipes.models.adapters import CTC_HEAD, ENCODER

logger = logging.getLogger(__name__)


def load_checkpoint(
    path: str | Path, weights: bool = True, optimizer: bool = False, mapped: bool = False
) -> dict[str, Any]:
    """Read a fairseq checkpoint without running anything that is inside it.

    Adapters are read on demand. Without `weights` its tensors have shapes only; what the optimizer keeps is left out
    unless asked for. `mapped`: as in `TorchFile`. A folder of Hugging Face's is given as the fairseq checkpoint that it
    stands for. Raises FileNotFoundError, or ValueError when it is no checkpoint, holds classes off the safe list
    (named), or is damaged.
    """
    fairseq_compat.apply()
    path = Path(path)
    if reading.is_huggingface(path):
        return stock_checkpoints.to_checkpoint(reading.read(path))
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {_instead_of_file(path)}; expected a .pt file or a Hugging Face folder")
    file = TorchFile(path, mapped)
    if not isinstance(file.contents, dict):
        return checked(file.contents, path)
    heavy = {"model": weights, checkpoint_contents.OPTIMIZER: optimizer, "adapter": False}
    state = {key: value for key, value in file.contents.items() if key != checkpoint_contents.OPTIMIZER or optimizer}
    light = file.values({key: value for key, value in state.items() if heavy.get(key, True)})
    return checked(state | light, path, file.values)


def checked(state: Any, path: str | Path, values: Callable[[Any], Any] = lambda part: part) -> dict[str, Any]:
    """What was read of a file, if it is a fairseq checkpoint; `values` reads what is to be read on demand.

    Raises ValueError as `checkpoint_contents.checked`.
    """
    if not isinstance(state, dict) or "model" not in state:
        raise ValueError(f"{path}: not a fairseq checkpoint: no 'model' inside; found {_describe(state)}")
    return checkpoint_contents.checked(state, path, values)


def serve_fairseq() -> None:
    """Let fairseq read its files here: a run that goes on, `finetune_from_model`, the base of a dense model.

    It loads them by itself otherwise, and evaluates and interpolates what their configs say.
    """
    checkpoint_utils.load_checkpoint_to_cpu = _for_fairseq


def _for_fairseq(
    path: str, arg_overrides: dict[str, Any] | None = None, load_on_all_ranks: bool = False
) -> dict[str, Any]:
    """As checkpoint_utils.load_checkpoint_to_cpu; of pretraining's config only what an encoder is built from."""
    state = load_checkpoint(path, optimizer=True)
    require_sound({name: value for name, value in state["model"].items() if value.is_floating_point()}, str(path))
    cfg = fairseq_configs.checked(state, path)
    is_encoder = cfg["model"]["_name"] == "wav2vec2"
    state["cfg"] = OmegaConf.create(fairseq_configs.pretraining(cfg, f"{path}: cfg") if is_encoder else cfg)
    if arg_overrides:
        overwrite_args_by_name(state["cfg"], arg_overrides)
    none = {"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}
    state["optimizer_history"] = [none | dict(entry) for entry in state.get("optimizer_history") or [{}]]
    state["extra_state"] = {"train_iterator": {"epoch": 1}} | dict(state.get("extra_state") or {})
    return state


def _instead_of_file(path: Path) -> str:
    if not path.is_dir():
        return "no such checkpoint"
    return "a folder of adapters, which recognise speech" if any(path.glob("*.safetensors")) else "a folder"


def _describe(state: Any) -> str:
    return f"keys {sorted(map(str, state))[:8]}" if isinstance(state, dict) else f"a {type(state).__name__}"


def num_updates(path: str | Path) -> int:
    """Updates done by the run that wrote this checkpoint."""
    history = load_checkpoint(path, weights=False).get("optimizer_history") or [{}]
    return int(history[-1].get("num_updates", 0))


# ---- going on from the last whole one


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint file, None when it is whole: torch's format holds a CRC-32 of every part."""
    try:
        with zipfile.ZipFile(path) as file:
            broken = file.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        return str(error)
    return broken and f"{broken} does not match its checksum"


def mend(last: Path) -> None:
    """Put the newest whole checkpoint beside `last` in its place if `last` is damaged, with a warning.

    Raises ValueError when there is none.
    """
    if not last.exists() or (found := damage(last)) is None:
        return
    others = [path for path in last.parent.glob("*.pt") if path != last and damage(path) is None]
    if not others:
        raise ValueError(
            f"{last}: damaged ({found}), and {last.parent} holds no other that is whole. Restore one from a backup, or "
            "delete the folder to start anew"
        )
    before = max(others, key=num_updates)
    checkpoint_files.link(last, last.with_suffix(".damaged"))
    checkpoint_files.link(before, last)
    logger.warning(
        "%s: damaged (%s), kept as %s; going on from %s, update %d",
        last,
        found,
        last.with_suffix(".damaged").name,
        before.name,
        num_updates(before),
    )


# ---- the base


@dataclass
class Base:
    """The encoder inside a checkpoint (pretraining or CTC), and the CTC head if it has one."""

    path: Path
    cfg: Wav2Vec2Config
    normalize: bool
    encoder_state: dict[str, torch.Tensor]
    head: tuple[torch.Tensor, torch.Tensor] | None = None
    dictionary: Dictionary | None = None
    languages: list[str] = field(default_factory=list)  # that have adapters and heads of their own in the file
    checkpoint: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def origin(self) -> licences.Origin:
        """Licence and provenance of the weights."""
        return stock_checkpoints.origin_of(self.checkpoint, self.path)

    @functools.cached_property
    def hash(self) -> str:
        """Which base this is: hash of its encoder's weights, whatever file they are in."""
        return state_hash(self.encoder_state)

    @property
    def settings(self) -> dict[str, Setting]:
        """What else belongs to which base this is: what changes its output with the same weights."""
        return settings(self.cfg, self.normalize)

    def require_head(self) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        """Weight (V, C), bias (V,) and letters of the dense CTC head. Raises ValueError where there is none."""
        if self.languages:
            raise ValueError(
                f"{self.path}: has adapters and no dense head: each of its {len(self.languages)} languages "
                f"({', '.join(self.languages[:3])}{', ...' * (len(self.languages) > 3)}) has a head of its own; set "
                "model.head_init=random model.adapter_init=kaiming, or give the dense model (experiment=ctc_*)"
            )
        if self.head is None or self.dictionary is None:
            raise ValueError(
                f"{self.path}: has no CTC head with a dictionary; give a dense CTC checkpoint (experiment=ctc_*)"
            )
        return self.head[0], self.head[1], list(self.dictionary.symbols)


def read_base(path: str | Path) -> Base:
    """Find the wav2vec 2.0 encoder in a pretraining or CTC checkpoint, ours or released.

    Raises ValueError when the file is of another architecture.
    """
    return base_of(load_checkpoint(path), path)


def base_of(checkpoint: dict[str, Any], path: str | Path) -> Base:
    """The base in a checkpoint that is read already."""
    cfg = fairseq_configs.of_checkpoint(checkpoint, path)
    name = fairseq_configs.model_name(cfg)
    weights = names.old_weight_norm(checkpoint["model"])
    if name == "wav2vec_ctc":
        weights = {key.removeprefix(ENCODER): v for key, v in weights.items() if key.startswith(ENCODER)}
    elif name != "wav2vec2":
        what = "model that identifies languages" if name in stock_checkpoints.LID_MODELS else f"{name!r} model"
        raise ValueError(f"{path}: a {what}, expected wav2vec2 (pretraining) or wav2vec_ctc (recognises speech)")
    cfg_encoder = fairseq_configs.inside(cfg, path)
    architecture, frozen = fairseq_configs.of_encoder(cfg_encoder.model, f"{path}: cfg"), frozen_part(weights)
    require_encoder(frozen, architecture, str(path))
    base = Base(
        path=Path(path),
        cfg=architecture,
        normalize=fairseq_configs.is_normalized(cfg_encoder),
        encoder_state=frozen,
        checkpoint=checkpoint,
    )
    base.languages = list(checkpoint.get("adapter") or ())
    if CTC_HEAD + "weight" in checkpoint["model"] and not base.languages:
        base.head = stock_checkpoints.ctc_head(checkpoint["model"], architecture.encoder_embed_dim, str(path))
        base.dictionary = (checkpoint.get("task_state") or {}).get("target_dictionary")
        if base.dictionary is not None:
            stock_checkpoints.require_size(str(path), "letters", list(base.dictionary.symbols), base.head[0])
    return base


@contextlib.contextmanager
def as_pretrained(path: str | None) -> Iterator[str | None]:
    """Give a path that fairseq's wav2vec_ctc can start from: of a CTC checkpoint or a folder, a copy of the encoder."""
    if path is None or not Path(path).exists():
        yield path
        return
    cfg = fairseq_configs.of_checkpoint(load_checkpoint(path, weights=False), path)
    if fairseq_configs.model_name(cfg) == "wav2vec2" and Path(path).is_file():
        yield path
        return
    base = read_base(path)
    inside = fairseq_configs.inside(cfg, path)
    with tempfile.TemporaryDirectory() as folder:
        kept = ("optimizer_history", "extra_state")
        state: dict[str, Any] = {key: base.checkpoint[key] for key in kept if key in base.checkpoint}
        state |= {"cfg": OmegaConf.to_container(inside, enum_to_str=True), "model": base.encoder_state}
        torch.save(state, Path(folder) / "encoder.pt")
        yield str(Path(folder) / "encoder.pt")
