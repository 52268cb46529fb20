"""Read a folder of Hugging Face's Wav2Vec2 models: pretraining, CTC, MMS's adapters, language identification.

Adapters are opened when they are asked for.
"""

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch

from mms_recipes import files, licences, parsing
from mms_recipes.formats import fairseq_configs
from mms_recipes.formats.huggingface import configs, names, weights
from mms_recipes.formats.huggingface.configs import Config
from mms_recipes.formats.huggingface.vocabularies import Vocabularies
from mms_recipes.formats.portable import Kind, LanguagePart, OnDemand, Portable
from mms_recipes.formats.tensors import require_shapes, require_sound
from mms_recipes.models.adapters import CTC_HEAD, ENCODER, language_shapes

PREFIX = "wav2vec2."
UNITS_FILE = "units.json"
ADAPTER_FILE = re.compile(r"adapter\.(.+)\.(safetensors|bin)")


def is_huggingface(path: str | Path) -> bool:
    """Whether this is a folder with a config.json."""
    return (Path(path) / "config.json").is_file()


def read(folder: str | Path, mapped: bool = False) -> Portable:
    """Read a model. Raises FileNotFoundError or ValueError: files that are not there, cut off, or of another model."""
    folder = Path(folder)
    config_file = folder / "config.json"
    config = configs.read(config_file)
    tensors = names.old_weight_norm(weights.read_weights(folder, mapped))
    kind = _kind(tensors, config, folder)
    model = configs.to_fairseq(config, config_file, quantizer=kind == Kind.pretraining)
    require_sound(tensors, str(folder))
    found = Portable(
        str(folder),
        kind,
        fairseq_configs.of_encoder(model, str(config_file)),
        _is_normalized(folder),
        {},
        origin=_origin(folder, config),
    )
    found.encoder, rest = _encoder(tensors, model, config, kind, str(folder))
    if kind == Kind.lid:
        found.head = names.rename(rest, _turned(names.LID_HEAD), str(folder))
        rows = len(found.head["pooling_layer.projection.weight"])
        found.symbols = _classes(config, config_file, rows)
        _require_rows(found.head, "pooling_layer.linear", config.classifier_proj_size, config.hidden_size, folder)
        _require_rows(found.head, "pooling_layer.projection", rows, config.classifier_proj_size, folder)
    elif kind == Kind.ctc:
        head = names.rename(rest, _turned(names.CTC_HEAD), str(folder))
        _require_rows(head, "proj", config.vocab_size or len(head["proj.weight"]), config.hidden_size, folder)
        found.symbols, weight, bias = Vocabularies(folder).to_fairseq(None, head["proj.weight"], head["proj.bias"])
        found.head, found.units = {"proj.weight": weight, "proj.bias": bias}, _units(folder)
    elif kind == Kind.lsah:
        _add_adapters(found, config, folder, rest, mapped)
    elif rest:
        names.rename(rest, {}, str(folder))
    return found


def _require_rows(head: Mapping[str, torch.Tensor], layer: str, rows: int, columns: int, folder: Path) -> None:
    shapes = {f"{layer}.weight": (rows, columns), f"{layer}.bias": (rows,)}
    require_shapes({name: head[name] for name in shapes}, shapes, str(folder))


def _kind(tensors: Mapping[str, torch.Tensor], config: Config, folder: Path) -> Kind:
    if "quantizer.codevectors" in tensors:
        return Kind.pretraining
    if "classifier.weight" in tensors and "projector.weight" in tensors:
        return Kind.lid
    if "lm_head.weight" in tensors:
        return Kind.lsah if config.adapter_attn_dim else Kind.ctc
    architecture = (config.architectures or ["Wav2Vec2Model"])[0]
    if architecture != "Wav2Vec2Model":
        raise ValueError(
            f"{folder}: a {architecture}; expected Wav2Vec2ForPreTraining, Wav2Vec2ForCTC, "
            "Wav2Vec2ForSequenceClassification or Wav2Vec2Model with all of its weights"
        )
    return Kind.encoder


def _turned(table: Mapping[str, str]) -> dict[str, str]:
    return {theirs: ours for ours, theirs in table.items()}


def _encoder(
    tensors: Mapping[str, torch.Tensor], model: Mapping[str, Any], config: Config, kind: Kind, where: str
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The encoder under fairseq's names, with the adapters inside it, and the other tensors as they are."""
    layers = configs.conv_layers(model["conv_feature_layers"])
    table = _turned(names.encoder(model, len(layers)))
    expected = names.shapes(model, layers)
    if config.adapter_attn_dim:
        table |= _turned(names.adapters(config.num_hidden_layers))
        inside = language_shapes(config.num_hidden_layers, config.hidden_size, config.adapter_attn_dim)
        expected |= {name.removeprefix(ENCODER): shape for name, shape in inside.items()}
    prefix = PREFIX if any(name.startswith(PREFIX) for name in tensors) else ""
    heads = tuple({name.partition(".")[0] + "." for name in (*_HEADS,)})
    own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix) and not n.startswith(heads)}
    rest = {n: t for n, t in tensors.items() if not n.startswith(prefix) or n.startswith(heads)}
    encoder = names.rename(own, table, where, optional=("masked_spec_embed",))
    if "mask_emb" not in encoder:  # not there when nothing is to be masked; fairseq always has one
        encoder["mask_emb"] = torch.zeros(model["encoder_embed_dim"])
    encoder = {name: _stacked(name, tensor) for name, tensor in encoder.items()}
    if kind == Kind.pretraining:
        encoder |= names.rename(rest, _turned(names.PRETRAINING), where)
        rest = {}
    require_shapes(encoder, expected, where)
    if layers[-1][0] == model["encoder_embed_dim"]:
        _drop_identity(encoder, where)
    return encoder, rest


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


def _add_adapters(found: Portable, config: Config, folder: Path, rest: dict[str, torch.Tensor], mapped: bool) -> None:
    head = names.rename(rest, _turned(names.CTC_HEAD), str(folder))
    _require_rows(head, "proj", config.vocab_size or len(head["proj.weight"]), config.hidden_size, folder)
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
    expected = {name: tuple(tensor.shape) for name, tensor in inside.items()}

    def part(lang: str) -> LanguagePart:
        if lang == own:
            tensors, weight, bias = inside, head["proj.weight"], head["proj.bias"]
        else:
            _require_base(there[lang], base_hash)
            tensors, weight, bias = _read_adapter(there[lang], found.cfg.encoder_layers, mapped)
            require_shapes(tensors, expected, f"{there[lang]}: of another base")
            _require_rows(
                {"proj.weight": weight, "proj.bias": bias}, "proj", len(weight), config.hidden_size, there[lang]
            )
        symbols, weight, bias = vocabularies.to_fairseq(lang if vocabularies.nested else None, weight, bias)
        whole = {ENCODER + name: tensor for name, tensor in tensors.items()}
        whole |= {CTC_HEAD + "weight": weight, CTC_HEAD + "bias": bias}
        return LanguagePart(whole, symbols, units.get(lang, ""))

    langs = sorted({*there, *([own] if own else [])})
    for lang in langs:
        files.plain_name(lang, folder)
    found.adapters = OnDemand(langs, part)
    found.default_lang = vocabularies.default_lang or ""


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


def _read_adapter(
    path: Path, num_blocks: int, mapped: bool
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in weights.read_tensors(path, mapped).items()}
    require_sound(tensors, str(path))
    table = _turned(names.adapters(num_blocks)) | _turned(names.CTC_HEAD)
    renamed = names.rename(tensors, table, str(path))
    weight, bias = renamed.pop("proj.weight"), renamed.pop("proj.bias")
    return {name: _stacked(name, tensor) for name, tensor in renamed.items()}, weight, bias


def _require_base(path: Path, base_hash: Callable[[], str]) -> None:
    """Raise ValueError for an adapter that says it is of another base; those written elsewhere do not say."""
    if path.suffix != ".safetensors":
        return
    with weights.whole(path), safetensors.safe_open(path, "pt") as file:
        stated = (file.metadata() or {}).get("base_hash", "").strip('"')
    if stated and stated != base_hash():
        raise ValueError(
            f"{path}: was trained on base {parsing.shown(stated)}, but {path.parent.name} holds base {base_hash()}; "
            "it is of another base"
        )


# ---- what else the folder says


class _Extractor(parsing.Schema):
    """What is read of preprocessor_config.json."""

    feature_extractor_type: Literal["Wav2Vec2FeatureExtractor"] = "Wav2Vec2FeatureExtractor"
    feature_size: Literal[1] = 1
    sampling_rate: Literal[16000] = 16000
    do_normalize: bool = True


class _Processor(parsing.Schema):
    """What is read of processor_config.json, the only file of a processor since transformers 5."""

    feature_extractor: _Extractor | None = None


def _is_normalized(folder: Path) -> bool:
    """Whether audio is brought to zero mean and unit variance first.

    transformers 5 writes that into processor_config.json, which then goes before preprocessor_config.json as there.
    """
    old, new = folder / "preprocessor_config.json", folder / "processor_config.json"
    alone = parsing.read_json(_Extractor, old) if old.is_file() else None
    inside = parsing.read_json(_Processor, new).feature_extractor if new.is_file() else None
    if inside and alone and inside.do_normalize != alone.do_normalize:
        raise ValueError(
            f"{new}: feature_extractor.do_normalize: found {inside.do_normalize}, but {old.name} has "
            f"{alone.do_normalize}; delete the one that does not belong to the model"
        )
    found = inside or alone
    if found is None:
        raise FileNotFoundError(f"{old}: not there, nor {new.name}; download the whole folder of the model")
    return found.do_normalize


def _units(folder: Path) -> dict[str, str]:
    """How languages spell words in pieces, which Hugging Face knows nothing of; of folders written here alone."""
    path = folder / UNITS_FILE
    return parsing.read_json(dict[str, str], path) if path.is_file() else {}


def _classes(config: Config, where: Path, rows: int) -> list[str]:
    """Class names in the order of the head's rows; MMS's LID models differ in it, so it comes from their own config."""
    table = config.id2label or {}
    if table.keys() != {str(number) for number in range(rows)}:
        raise ValueError(
            f"{where}: {len(table)} classes in id2label, but the head has {rows} rows; expected one for each, "
            f'"0" to "{rows - 1}"'
        )
    found = [table[str(number)] for number in range(rows)]
    if len(set(found)) < rows:
        doubled = next(name for name in found if found.count(name) > 1)
        raise ValueError(f"{where}: id2label: {parsing.shown(doubled)} is there twice; expected each class once")
    return found


def _origin(folder: Path, config: Config) -> licences.Origin:
    """Licence and provenance: as our own export wrote them, else the model card's licence, else by a known name."""
    licence = config.licence or licences.UNKNOWN
    card = folder / "README.md"
    if licence == licences.UNKNOWN and card.is_file():
        front = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
        stated = re.search(r"^license:\s*['\"]?([\w.+-]+)", front, re.MULTILINE) if front.startswith("---") else None
        licence = stated[1].lower() if stated and stated[1].lower() != "other" else licence
    if licence == licences.UNKNOWN:
        known = (licences.of_name(str(name)) for name in (config.name_or_path or "", folder.resolve()))
        licence = next((found for found in known if found != licences.UNKNOWN), licence)
    return licences.Origin(licence, tuple(config.provenance or ()))
