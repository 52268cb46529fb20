"""The architecture that a file names for a wav2vec 2.0 encoder, checked before anything is built from it.

fairseq evaluates `conv_feature_layers` as Python. It never gets a file's own text: here the text is read as data, and
what is handed on was written here.
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from enum import EnumMeta
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import pydantic
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config

from mms_recipes import parsing

MAX_TEXT = 10_000  # characters of conv_feature_layers
MAX_CONVS = 64
LAYER_LIMITS = {"channel number": 16_384, "kernel": 10_000, "stride": 10_000}
MAX_HOP = 1_000_000  # samples between two frames
OTHER_INTEGERS = (-1_000_000, 1_000_000)
# Smallest and largest value: far beyond any model that there is (MMS has 48 blocks of 1,280), far below what a machine
# cannot even describe.
INTEGERS = {
    "encoder_layers": (1, 1_000),
    "encoder_embed_dim": (1, 65_536),
    "encoder_ffn_embed_dim": (1, 262_144),
    "encoder_attention_heads": (1, 1_024),
    "conv_pos": (1, 10_000),
    "conv_pos_groups": (1, 4_096),
    "pos_conv_depth": (1, 64),
    "final_dim": (-1, 65_536),
    "latent_dim": (-1, 65_536),
    "latent_vars": (1, 100_000),
    "latent_groups": (1, 1_000),
    "quantizer_depth": (1, 16),
    "quantizer_factor": (1, 64),
    "required_seq_len_multiple": (1, 10_000),
    "crop_seq_to_multiple": (1, 10_000),
    "adp_dim": (1, 65_536),
}
LAYER_TYPES = Literal["transformer", "trf_adp"]  # conformers are other models
TOKEN = re.compile(r"\s*(\d+|[\[\](),+*])")
Layers = list[tuple[int, int, int]]


def conv_layers(text: str) -> Layers:
    """(channels, kernel, stride) of each convolution from fairseq's expression, "[(512, 10, 5)] + [(512, 3, 2)] * 4".

    Sums and repetitions of lists of three numbers are all that is understood, and nothing is run. Raises ValueError.
    """
    try:
        return _layers(text)
    except ValueError as error:
        raise ValueError(f"conv_feature_layers {parsing.shown(text)}: expected {error}") from None


def _layers(text: str) -> Layers:
    """As `conv_layers`; what is raised says what is expected."""
    try:
        layers = _Reader(text).layers()
    except ValueError as error:
        raise ValueError(
            f"a list of (channels, kernel, stride), as in '[(512, 10, 5)] + [(512, 3, 2)] * 4' ({error})"
        ) from None
    hop = 1
    for layer in layers:
        for (name, most), value in zip(LAYER_LIMITS.items(), layer, strict=True):
            if not 1 <= value <= most:
                raise ValueError(f"a list of (channels, kernel, stride) with a {name} from 1 to {most}, not {value}")
        hop *= layer[2]
    if hop > MAX_HOP:
        raise ValueError(f"a list of (channels, kernel, stride) whose strides multiply to {MAX_HOP} at most")
    return layers


class _Reader:
    """Reads the expression from left to right: sum = product ("+" product)*, product = list ("*" number)?."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_TEXT:
            raise ValueError(f"{len(text)} characters long")
        self.tokens, end = [], 0
        while text[end:].strip():
            found = TOKEN.match(text, end)
            if found is None:
                raise ValueError(f"{text[end:].strip()[:1]!r} is no part of it")
            self.tokens.append(found[1])
            end = found.end()
        self.tokens.append("")

    def layers(self) -> Layers:
        found = self._product()
        while self._is("+"):
            found = self._most(found + self._product())
        if self.tokens != [""]:
            raise ValueError(f"{self.tokens[0]!r} was not expected")
        return found

    def _product(self) -> Layers:
        times = 1
        if self.tokens[0].isdigit():
            times = self._number()
            self._expect("*")
        found = self._list()
        while self._is("*"):
            times = min(times * self._number(), MAX_CONVS + 1)
        return self._most(found * min(times, MAX_CONVS + 1))

    def _list(self) -> Layers:
        self._expect("[")
        found = [self._triple()]
        while self._is(",") and self.tokens[0] != "]":
            found.append(self._triple())
        self._expect("]")
        return found

    def _triple(self) -> tuple[int, int, int]:
        close = {"(": ")", "[": "]"}.get(self.tokens.pop(0) if self.tokens[0] in ("(", "[") else "")
        if close is None:
            raise ValueError(f"{self.tokens[0] or 'its end'!r} in the place of a group of three")
        channels = self._number()
        self._expect(",")
        kernel = self._number()
        self._expect(",")
        stride = self._number()
        self._is(",")
        self._expect(close)
        return channels, kernel, stride

    def _number(self) -> int:
        token = self.tokens[0]
        if not token.isdigit() or len(token) > len(str(OTHER_INTEGERS[1])):
            raise ValueError(f"{token[:20] or 'its end'!r} in the place of a number")
        return int(self.tokens.pop(0))

    def _expect(self, token: str) -> None:
        if not self._is(token):
            raise ValueError(f"{self.tokens[0] or 'its end'!r} in the place of {token!r}")

    def _is(self, token: str) -> bool:
        if self.tokens[0] != token:
            return False
        self.tokens.pop(0)
        return True

    def _most(self, layers: Layers) -> Layers:
        if len(layers) > MAX_CONVS:
            raise ValueError(f"more than {MAX_CONVS} convolutions")
        return layers


def checked(model: Mapping[str, Any], where: str | Path) -> dict[str, Any]:
    """Those of a file's values that fairseq's Wav2Vec2Config has, each of its type and within bounds.

    Raises ValueError: `where`, the key, what was found, what is expected.
    """
    found: dict[str, Any] = parsing.parse(_Encoder, dict(model), where).model_dump(exclude_unset=True)
    if "latent_temp" in found:
        found["latent_temp"] = list(found["latent_temp"])
    default = Wav2Vec2Config()
    known = {field.name: found.get(field.name, getattr(default, field.name)) for field in fields(Wav2Vec2Config)}
    dim = known["encoder_embed_dim"]
    divided = {"encoder_attention_heads": dim, "conv_pos_groups": dim}
    if known["quantize_targets"]:
        final = known["final_dim"] if known["final_dim"] > 0 else dim
        divided["latent_groups"] = known["latent_dim"] if known["latent_dim"] > 0 else final
    for name, width in divided.items():
        if width % known[name]:
            raise ValueError(f"{where}: {name}: found {known[name]}, expected a number that divides {width} evenly")
    return found


def _canonical(text: str) -> str:
    return str(_layers(text))


def _temperature(value: Any) -> Any:
    """Three numbers; files before 2021 hold them as text, which fairseq evaluates."""
    if isinstance(value, str):
        parts = value.strip().removeprefix("(").removesuffix(")").split(",")
        try:
            value = [float(part) for part in parts if part.strip()]
        except ValueError:
            return value
    return tuple(value) if isinstance(value, list) else value


def _kind(name: str, kind: Any) -> Any:
    """The type that a field of Wav2Vec2Config has in a file."""
    if name == "layer_type":
        return LAYER_TYPES
    if name == "conv_feature_layers":
        return Annotated[str, pydantic.AfterValidator(_canonical)]
    if name == "latent_temp":
        positive = Annotated[float, pydantic.Field(gt=0, le=1e6)]
        return Annotated[tuple[positive, positive, positive], pydantic.BeforeValidator(_temperature)]
    if isinstance(kind, EnumMeta):
        return Literal[tuple(str(member.value) for member in cast(Any, kind))]
    if kind is int:
        least, most = INTEGERS.get(name, OTHER_INTEGERS)
        return Annotated[int, pydantic.Field(ge=least, le=most)]
    if kind is float:
        bounds = pydantic.Field(ge=0, le=1) if "drop" in name else pydantic.Field(ge=-1e6, le=1e6)
        return Annotated[float, bounds]
    if kind is str:
        return Annotated[str, pydantic.Field(pattern=r"^[A-Za-z_]{0,20}$|^[0-9]{1,4}(:[0-9]{1,4}){0,2}$")]
    return kind


_Encoder: Any = pydantic.create_model(  # type: ignore[call-overload]
    "_Encoder",
    __base__=parsing.Schema,
    **{field.name: (_kind(field.name, field.type), None) for field in fields(Wav2Vec2Config) if field.name != "_name"},
)
