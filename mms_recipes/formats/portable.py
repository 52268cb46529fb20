"""A model on its way from one layout of files to another. All names in it are fairseq's."""

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

import torch
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
from omegaconf import OmegaConf

from mms_recipes import licences

# Parts of a wav2vec 2.0 checkpoint that a frozen encoder does not run: what pretraining needs of it, and what variants
# of fairseq's have that MMS has not.
PRETRAINING_PARTS = ("quantizer.", "project_q.", "final_proj.")
OF_VARIANTS = ("input_quantizer.", "project_inp.", "target_glu.", "_ema")
# Fields that fit the same weights with other values; what the shapes of weights decide is left out
OF_OUTPUT = (
    *("activation_fn", "conv_feature_layers", "conv_pos_groups", "encoder_attention_heads"),
    *("extractor_mode", "layer_norm_first", "pos_conv_depth"),
)
Setting = bool | str
T = TypeVar("T")


class Kind(StrEnum):
    encoder = "encoder"  # without the parts that pretraining needs
    pretraining = "pretraining"  # with quantizer and projections
    ctc = "ctc"  # one head for all languages
    lsah = "lsah"  # an adapter and a head for each language
    lid = "lid"


class OnDemand(Mapping[str, T]):
    """Values by name that are read when they are asked for, and not kept."""

    def __init__(self, keys: list[str], read: Callable[[str], T]) -> None:
        self.names, self.read = dict.fromkeys(keys), read

    def __getitem__(self, key: str) -> T:
        if key not in self.names:
            raise KeyError(key)
        return self.read(key)

    def __contains__(self, key: object) -> bool:
        return key in self.names  # not by reading it, as Mapping would

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class LanguagePart(NamedTuple):
    """One language's adapter and head, under the names of the released checkpoints, and its symbols.

    `units` is the model of its pieces of words as text (units.Units), "" where symbols are letters.
    """

    tensors: dict[str, torch.Tensor]
    symbols: list[str]
    units: str = ""


@dataclass
class Portable:
    """An encoder (names of Wav2Vec2Model), what sits on it, and what its files say about it.

    `symbols` are the rows of a CTC head, the four specials first, or the classes of LID, which has no specials.
    """

    where: str
    kind: Kind
    cfg: Wav2Vec2Config
    normalize: bool
    encoder: dict[str, torch.Tensor]
    head: dict[str, torch.Tensor] = field(default_factory=dict)
    symbols: list[str] = field(default_factory=list)
    units: dict[str, str] = field(default_factory=dict)  # of a dense model's languages, as in LanguagePart
    adapters: Mapping[str, LanguagePart] = field(default_factory=dict)
    default_lang: str = ""  # whose adapter pipelines of Hugging Face take; "": English, else the first
    activation: str = "linear"  # of LID, between mean and classes
    origin: licences.Origin = field(default_factory=licences.Origin)

    @property
    def frozen(self) -> dict[str, torch.Tensor]:
        """The encoder's tensors alone: what checkpoints.Base holds and hashes."""
        return frozen_part(self.encoder)

    @property
    def fields(self) -> dict[str, Any]:
        """The encoder's config as a plain dict."""
        plain = OmegaConf.to_container(OmegaConf.create(self.cfg), resolve=False, enum_to_str=True)
        assert isinstance(plain, dict)
        return {str(name): value for name, value in plain.items()}

    @functools.cached_property
    def hash(self) -> str:
        """Which base this is, as checkpoints.Base has it."""
        return state_hash(self.frozen)

    @property
    def settings(self) -> dict[str, Setting]:
        """What else belongs to which base this is."""
        return settings(self.cfg, self.normalize)

    def adapter_dim(self) -> int:
        """Width of the adapters; 0 without any."""
        tensors = next(iter(self.adapters.values())).tensors if self.adapters else self.encoder
        return next((tensor.shape[1] for name, tensor in tensors.items() if name.endswith("adapter_layer.b_a")), 0)


def settings(cfg: Wav2Vec2Config, normalize: bool) -> dict[str, Setting]:
    """What changes an encoder's output while its weights stay what they are: it belongs to which base this is."""
    return {"normalize": normalize} | {name: str(cfg[name]) for name in OF_OUTPUT}


def frozen_part(encoder: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a Wav2Vec2Model that a frozen encoder runs: none of pretraining and none of adapters."""
    dropped = PRETRAINING_PARTS + OF_VARIANTS
    return {k: v for k, v in encoder.items() if not k.startswith(dropped) and ".adapter_layer." not in k}


def fitting(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], where: str) -> dict[str, torch.Tensor]:
    """Those of `state` that a model with the tensors `own` takes. Raises ValueError when they do not fit."""
    wrong = next((name for name in own if name not in state or state[name].shape != own[name].shape), None)
    if wrong is not None:
        found = tuple(state[wrong].shape) if wrong in state else "nothing"
        raise ValueError(f"{where}: {wrong}: found {found}, expected {tuple(own[wrong].shape)}; another architecture")
    return {name: state[name] for name in own}


def state_hash(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names and float32 values, first 16 hex digits."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().to("cpu", torch.float32).contiguous().numpy().data)
    return digest.hexdigest()[:16]
