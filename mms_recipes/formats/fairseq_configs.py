"""The configs inside fairseq checkpoints: today's, and the flat Namespace of files before 2021.

They are data: of what a file says nothing is evaluated, and nothing is looked up outside the file. `plain` is the one
place that takes them from a file; what it returns holds no interpolation, so OmegaConf has none to resolve.
"""

import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pydantic
from fairseq.dataclass.utils import merge_with_parent
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mms_recipes import parsing
from mms_recipes.formats import encoder_fields

LAST = "checkpoint_last.pt"  # fairseq's name for a run's own checkpoint
ON_AN_ENCODER = ("wav2vec_ctc", "wav2vec_classification", "mms_lid")  # models whose `w2v_args` are their encoder's
REFERENCE = re.compile(r"\$\{([\w.]+)\}")
MAX_DEPTH = 20
Activation = Annotated[str, pydantic.Field(pattern=r"^(linear|relu|gelu|gelu_fast|gelu_accurate|tanh)$")]
Name = Annotated[str, pydantic.Field(max_length=10_000)]


class _Model(parsing.Schema):
    """What is read of `model` besides the encoder's fields."""

    w2v_path: Name | None = None
    base: Name | None = None
    normalize: bool | None = None
    blank_weight: float | None = None
    pooling: str = "mean"
    activation: Activation | None = None
    activation_fn: Activation | None = None


class _Task(parsing.Schema):
    normalize: bool | None = None


class _Checkpoint(parsing.Schema):
    finetune_from_model: Name | None = None
    restore_file: Name | None = None


class _World(parsing.Schema):
    distributed_world_size: int = 1


class _Optimization(parsing.Schema):
    update_freq: Annotated[list[int], pydantic.Field(min_length=1)] | None = None


class _Config(parsing.Schema):
    """What is read of a config."""

    model: _Model
    task: _Task | None = None
    checkpoint: _Checkpoint | None = None
    distributed_training: _World | None = None
    optimization: _Optimization | None = None


def plain(section: Any, where: str) -> dict[str, Any]:
    """A config of a file as dicts, lists and values, references to other keys of it replaced by what stands there.

    Raises ValueError for all that would be looked up elsewhere (`${oc.env:HOME}`), and for what is no config.
    """
    found = _unfolded(section, where, 0)
    if not isinstance(found, dict):
        raise ValueError(f"{where}: found {parsing.shown(found)}, expected settings by name")
    return {key: _referred(value, found, f"{where}.{key}") for key, value in found.items()}


def _unfolded(value: Any, where: str, depth: int) -> Any:
    """The same without Namespaces and classes of OmegaConf."""
    if depth > MAX_DEPTH:
        raise ValueError(f"{where}: more than {MAX_DEPTH} levels; expected the settings of a run")
    if isinstance(value, Namespace):
        flat = vars(value)
        value = {"model": flat | {"_name": flat.get("arch")}, "task": flat}
    elif isinstance(value, DictConfig | ListConfig):
        try:
            value = OmegaConf.to_container(value, resolve=False, enum_to_str=True)
        except (OmegaConfBaseException, AttributeError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"{where}: not settings that can be read ({type(error).__name__}: {error})") from None
    if isinstance(value, Mapping):
        strange = next((key for key in value if not isinstance(key, str | int)), None)
        if strange is not None:
            raise ValueError(f"{where}: found the key {parsing.shown(strange)}, expected a text")
        return {str(key): _unfolded(inner, f"{where}.{key}", depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_unfolded(inner, f"{where}.{index}", depth + 1) for index, inner in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{where}: found {parsing.shown(value)}, expected a number, a text, or a list or dict of them")


def _referred(value: Any, root: dict[str, Any], where: str) -> Any:
    if isinstance(value, dict):
        return {key: _referred(inner, root, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, list):
        return [_referred(inner, root, f"{where}.{index}") for index, inner in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    reference = REFERENCE.fullmatch(value)
    target: Any = root if reference else None
    for key in reference[1].split(".") if reference else ():
        target = target.get(key) if isinstance(target, dict) else None
    if isinstance(target, dict | list) or (isinstance(target, str) and "${" in target):
        target = None
    if reference is None or target is None:
        raise ValueError(
            f"{where}: found {parsing.shown(value)}, which asks for a value from outside the file; expected the value "
            "itself: what a file asks for is never looked up"
        )
    return target


def as_config(section: Any, where: str = "cfg") -> DictConfig:
    """A config from a dict, or from the flat Namespace that files before 2021 hold (XLSR-53)."""
    return OmegaConf.create(plain(section, where))


def checked(checkpoint: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """The config inside a checkpoint as plain data, what is used of it checked and written anew.

    Raises ValueError when there is none, or with the first key whose value cannot be used.
    """
    key = "cfg" if checkpoint.get("cfg") is not None else "args"
    if checkpoint.get(key) is None:
        raise ValueError(f"{path}: no 'cfg' or 'args' inside: what architecture it has is not known")
    where = f"{path}: {key}"
    cfg = plain(checkpoint[key], where)
    name = _require(cfg, where)
    if name == "wav2vec2":
        cfg["model"] |= encoder_fields.checked(cfg["model"], f"{where}.model")
    elif name in ON_AN_ENCODER and cfg["model"].get("w2v_args") is not None:
        cfg["model"]["w2v_args"] = pretraining(cfg["model"].get("w2v_args"), f"{where}.model.w2v_args")
    return cfg


def pretraining(cfg: Any, where: str) -> dict[str, Any]:
    """What is needed to build an encoder, from the config of its pretraining: all that a fine-tuned file keeps of it.

    It names stock fairseq's task, so no other class of fairseq is chosen by a file.
    """
    if not isinstance(cfg, dict):
        raise ValueError(f"{where}: found {parsing.shown(cfg)}, expected the config of the encoder's pretraining")
    name = _require(cfg, where)
    if name != "wav2vec2":
        raise ValueError(f"{where}.model: found a {parsing.shown(name)} model, expected wav2vec2")
    return {
        "model": encoder_fields.checked(cfg["model"], f"{where}.model") | {"_name": "wav2vec2"},
        "task": {"_name": "audio_pretraining", "data": "", "normalize": is_normalized(cfg)},
        "criterion": None,
        "lr_scheduler": None,
        "common": {},
    }


def _require(cfg: dict[str, Any], where: str) -> str:
    """Return the model's name. Raises ValueError when what is used besides the encoder's fields is of another type."""
    for section in ("model", "task"):
        if not isinstance(cfg.get(section) or {}, dict) or (section == "model" and not cfg.get(section)):
            raise ValueError(f"{where}.{section}: found {parsing.shown(cfg.get(section))}, expected settings by name")
    cfg["task"] = cfg.get("task") or {}
    parsing.parse(_Config, cfg, where)
    name = cfg["model"].get("_name") or cfg["model"].get("arch")
    if not isinstance(name, str):
        raise ValueError(f"{where}.model._name: found {parsing.shown(name)}, expected the name of a model")
    cfg["model"]["_name"] = name
    return name


def of_checkpoint(checkpoint: Mapping[str, Any], path: str | Path) -> DictConfig:
    """The config inside a checkpoint. Raises ValueError as `checked`."""
    return OmegaConf.create(checked(checkpoint, path))


def inside(cfg: DictConfig, path: str | Path) -> DictConfig:
    """The config of the pretraining of a model's encoder. Raises ValueError when there is none."""
    if model_name(cfg) == "wav2vec2":
        return cfg
    found: DictConfig | None = cfg.model.get("w2v_args")
    if found is None:
        raise ValueError(f"{path}: cfg.model.w2v_args: not there; expected the config of the encoder's pretraining")
    return found


def model_name(cfg: DictConfig) -> str:
    """The name that fairseq's registry has the model under."""
    return str(cfg.model.get("_name") or cfg.model.get("arch"))


def started_from(cfg: DictConfig) -> str | None:
    """The file or folder whose weights a run started from; None when from random ones."""
    checkpoint = cfg.get("checkpoint") or {}
    restored = checkpoint.get("restore_file")
    given = (
        checkpoint.get("finetune_from_model"),  # goes before what the model was built from
        None if restored == LAST else restored,
        cfg.model.get("w2v_path"),
        cfg.model.get("base"),
    )
    return next((str(path) for path in given if path), None)


def of_encoder(model: Mapping[str, Any] | DictConfig, where: str = "model") -> Wav2Vec2Config:
    """The encoder's config without what training it needs (wrapped blocks, adapters of one language)."""
    fields = encoder_fields.checked(plain(model, where), where)
    cfg = merge_with_parent(Wav2Vec2Config(), OmegaConf.create(fields))
    OmegaConf.set_struct(cfg, False)
    cfg.checkpoint_activations, cfg.layer_type = False, "transformer"
    return cfg


def is_normalized(cfg: Mapping[str, Any] | DictConfig) -> bool:
    """Whether the model wants audio of zero mean and unit variance; `cfg` is the pretraining's."""
    found = cfg["task"].get("normalize")
    return bool(cfg["model"].get("normalize", False) if found is None else found)
