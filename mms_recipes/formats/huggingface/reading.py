"""Read a folder of Hugging Face's Wav2Vec2 models: pretraining, CTC, MMS's adapters, language identification.

Weights are memory-mapped, and adapters are opened when they are asked for.
"""

import functools
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch

from mms_recipes import files, licences
from mms_recipes.formats import fairseq_configs
from mms_recipes.formats.huggingface import configs, names, weights
from mms_recipes.formats.huggingface.vocabularies import Vocabularies, read_json
from mms_recipes.formats.portable import Kind, LanguagePart, OnDemand, Portable
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.models.adapters import CTC_HEAD, ENCODER

PREFIX = "wav2vec2."
UNITS_FILE = "units.json"
ADAPTER_FILE = re.compile(r"adapter\.(.+)\.(safetensors|bin)")


def is_huggingface(path: str | Path) -> bool:
    """Whether this is a folder with a config.json."""
    return (Path(path) / "config.json").is_file()


def read(folder: str | Path) -> Portable:
    """Read a model. Raises FileNotFoundError or ValueError: files that are not there, cut off, or of another model."""
    folder = Path(folder)
    config = read_json(folder / "config.json")
    tensors = names.old_weight_norm(weights.read_weights(folder))
    kind = _kind(tensors, config, folder)
    where = str(folder / "config.json")
    model = configs.to_fairseq(config, where, quantizer=kind == Kind.pretraining)
    found = Portable(
        str(folder),
        kind,
        fairseq_configs.of_encoder(fairseq_configs.as_config(model)),
        _is_normalized(folder),
        {},
        origin=_origin(folder, config),
    )
    found.encoder, rest = _encoder(tensors, model, config, str(folder))
    if kind == Kind.pretraining:
        found.encoder |= names.rename(rest, _turned(names.PRETRAINING), str(folder))
    elif kind == Kind.lid:
        found.head = names.rename(rest, _turned(names.LID_HEAD), str(folder))
        found.symbols = _classes(config, where, len(found.head["pooling_layer.projection.weight"]))
    elif kind == Kind.ctc:
        head = names.rename(rest, _turned(names.CTC_HEAD), str(folder))
        found.symbols, weight, bias = Vocabularies(folder).to_fairseq(None, head["proj.weight"], head["proj.bias"])
        found.head, found.units = {"proj.weight": weight, "proj.bias": bias}, _units(folder)
    elif kind == Kind.lsah:
        _add_adapters(found, folder, rest)
    elif rest:
        names.rename(rest, {}, str(folder))
    return found


def _kind(tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any], folder: Path) -> Kind:
    if "quantizer.codevectors" in tensors:
        return Kind.pretraining
    if "classifier.weight" in tensors and "projector.weight" in tensors:
        return Kind.lid
    if "lm_head.weight" in tensors:
        return Kind.lsah if config.get("adapter_attn_dim") else Kind.ctc
    architecture = (config.get("architectures") or ["Wav2Vec2Model"])[0]
    if architecture != "Wav2Vec2Model":
        raise ValueError(
            f"{folder}: a {architecture}; expected Wav2Vec2ForPreTraining, Wav2Vec2ForCTC, "
            "Wav2Vec2ForSequenceClassification or Wav2Vec2Model with all of its weights"
        )
    return Kind.encoder


def _turned(table: Mapping[str, str]) -> dict[str, str]:
    return {theirs: ours for ours, theirs in table.items()}


def _encoder(
    tensors: Mapping[str, torch.Tensor], model: Mapping[str, Any], config: Mapping[str, Any], where: str
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The encoder under fairseq's names, with the adapters inside it, and the other tensors as they are."""
    layers = configs.conv_layers(model["conv_feature_layers"])
    table = _turned(names.encoder(model, len(layers)))
    if config.get("adapter_attn_dim"):
        table |= _turned(names.adapters(model["encoder_layers"]))
    prefix = PREFIX if any(name.startswith(PREFIX) for name in tensors) else ""
    heads = tuple({name.partition(".")[0] + "." for name in (*_HEADS,)})
    own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix) and not n.startswith(heads)}
    rest = {n: t for n, t in tensors.items() if not n.startswith(prefix) or n.startswith(heads)}
    encoder = names.rename(own, table, where, optional=("masked_spec_embed",))
    if "mask_emb" not in encoder:  # not there when nothing is to be masked; fairseq always has one
        encoder["mask_emb"] = torch.zeros(model["encoder_embed_dim"])
    if layers[-1][0] == model["encoder_embed_dim"]:
        _drop_identity(encoder, where)
    return {name: _stacked(name, tensor) for name, tensor in encoder.items()}, rest


_HEADS = (*names.CTC_HEAD.values(), *names.LID_HEAD.values(), *names.PRETRAINING.values())


def _drop_identity(encoder: dict[str, torch.Tensor], where: str) -> None:
    """fairseq has no projection between equal widths; Hugging Face always has one, which must do nothing."""
    weight, bias = encoder.pop("post_extract_proj.weight"), encoder.pop("post_extract_proj.bias")
    if not torch.equal(weight, torch.eye(len(weight), dtype=weight.dtype)) or bool(bias.any()):
        raise ValueError(
            f"{where}: feature_projection.projection joins equal widths ({len(weight)}) and is not the identity; "
            "fairseq's wav2vec 2.0 has no such layer"
        )


def _stacked(name: str, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.unsqueeze(0) if ".adapter_layer." in name else tensor


# ---- adapters


def _add_adapters(found: Portable, folder: Path, rest: dict[str, torch.Tensor]) -> None:
    head = names.rename(rest, _turned(names.CTC_HEAD), str(folder))
    inside = {name: tensor for name, tensor in found.encoder.items() if ".adapter_layer." in name}
    found.encoder = found.frozen
    vocabularies = Vocabularies(folder)
    there = adapter_files(folder)
    strange = sorted(set(there) - set(vocabularies.langs))
    if vocabularies.nested and strange:
        raise ValueError(
            f"{there[strange[0]]}: no vocabulary for {strange[0]!r} in {vocabularies.file}; they are not of one model"
        )
    own = _language_inside(vocabularies, folder) if not there else vocabularies.default_lang
    if own in there or (there and not vocabularies.nested):
        own = None  # the adapter inside the model is one of those that have files of their own
    units = _units(folder)
    base_hash = functools.cache(lambda: found.hash)
    expected = {ENCODER + name: tensor.shape for name, tensor in inside.items()}

    def part(lang: str) -> LanguagePart:
        if lang == own:
            tensors, weight, bias = inside, head["proj.weight"], head["proj.bias"]
        else:
            _require_base(there[lang], base_hash)
            tensors, weight, bias = _read_adapter(there[lang], found.cfg.encoder_layers)
        symbols, weight, bias = vocabularies.to_fairseq(lang if vocabularies.nested else None, weight, bias)
        whole = {ENCODER + name: tensor for name, tensor in tensors.items()}
        _require_shapes(whole, expected, there.get(lang, folder))
        whole |= {CTC_HEAD + "weight": weight, CTC_HEAD + "bias": bias}
        return LanguagePart(whole, symbols, units.get(lang, ""))

    langs = sorted({*there, *([own] if own else [])})
    for lang in langs:
        files.plain_name(lang, folder)
    found.adapters = OnDemand(langs, part)


def _language_inside(vocabularies: Vocabularies, folder: Path) -> str:
    """Whose adapter is inside model.safetensors, where there are no files of adapters beside it."""
    named = vocabularies.default_lang or (vocabularies.langs[0] if len(vocabularies.langs) == 1 else None)
    if named is None:
        raise ValueError(
            f"{folder}: one adapter, inside the model, and nothing says of which language; set target_lang in "
            "tokenizer_config.json, or download adapter.<lang>.safetensors too"
        )
    return str(named)


def adapter_files(folder: Path) -> dict[str, Path]:
    """Adapter files by language; safetensors go before .bin."""
    found = {}
    for path in sorted(folder.glob("adapter.*.*")):
        match = ADAPTER_FILE.fullmatch(path.name)
        if match and (match[2] == "safetensors" or match[1] not in found):
            found[match[1]] = path
    return found


def _read_adapter(path: Path, num_blocks: int) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in weights.read_tensors(path).items()}
    table = _turned(names.adapters(num_blocks)) | _turned(names.CTC_HEAD)
    renamed = names.rename(tensors, table, str(path))
    weight, bias = renamed.pop("proj.weight"), renamed.pop("proj.bias")
    return {name: _stacked(name, tensor) for name, tensor in renamed.items()}, weight, bias


def _require_base(path: Path, base_hash: Callable[[], str]) -> None:
    """Raise ValueError for an adapter that says it is of another base; those written elsewhere do not say."""
    if path.suffix != ".safetensors":
        return
    with weights.whole(path), safetensors.safe_open(path, "pt") as file:
        stated = (file.metadata() or {}).get("base_hash")
    if stated and json.loads(stated) != base_hash():
        raise ValueError(
            f"{path}: was trained on base {json.loads(stated)}, but {path.parent.name} holds base {base_hash()}; "
            "it is of another base"
        )


def _require_shapes(tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Size], path: Path) -> None:
    wrong = next((name for name, shape in expected.items() if tensors[name].shape != shape), None)
    if wrong:
        raise ValueError(
            f"{path}: {wrong}: found {tuple(tensors[wrong].shape)}, expected {tuple(expected[wrong])}; it is of "
            "another base"
        )


# ---- what else the folder says


def _is_normalized(folder: Path) -> bool:
    """Whether audio is brought to zero mean and unit variance first (preprocessor_config.json)."""
    config = read_json(folder / "preprocessor_config.json")
    if (rate := config.get("sampling_rate", SAMPLE_RATE)) != SAMPLE_RATE:
        raise ValueError(f"{folder / 'preprocessor_config.json'}: {rate} Hz; expected {SAMPLE_RATE}")
    return bool(config.get("do_normalize", True))


def _units(folder: Path) -> dict[str, str]:
    """How languages spell words in pieces, which Hugging Face knows nothing of; of folders written here alone."""
    return read_json(folder / UNITS_FILE) if (folder / UNITS_FILE).is_file() else {}


def _classes(config: Mapping[str, Any], where: str, rows: int) -> list[str]:
    """Class names in the order of the head's rows; MMS's LID models differ in it, so it comes from their own config."""
    table = {int(number): str(name) for number, name in (config.get("id2label") or {}).items()}
    if sorted(table) != list(range(rows)):
        raise ValueError(f"{where}: {len(table)} classes in id2label, but the head has {rows} rows")
    return [table[number] for number in range(rows)]


def _origin(folder: Path, config: Mapping[str, Any]) -> licences.Origin:
    """Licence and provenance: as our own export wrote them, else the model card's licence, else by a known name."""
    licence = str(config.get("licence") or licences.UNKNOWN)
    card = folder / "README.md"
    if licence == licences.UNKNOWN and card.is_file():
        front = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
        stated = re.search(r"^license:\s*['\"]?([\w.+-]+)", front, re.MULTILINE) if front.startswith("---") else None
        licence = stated[1].lower() if stated and stated[1].lower() != "other" else licence
    if licence == licences.UNKNOWN:
        known = (licences.of_name(str(name)) for name in (config.get("_name_or_path", ""), folder.resolve()))
        licence = next((found for found in known if found != licences.UNKNOWN), licence)
    return licences.Origin(licence, tuple(config.get("provenance") or ()))
