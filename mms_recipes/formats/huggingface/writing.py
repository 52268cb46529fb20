"""Write a folder that Hugging Face's Wav2Vec2ForPreTraining, ForCTC, ForSequenceClassification or Model loads."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mms_recipes import files, licences, manifest
from mms_recipes.formats.huggingface import configs, names, weights
from mms_recipes.formats.huggingface.reading import UNITS_FILE
from mms_recipes.formats.huggingface.vocabularies import TOKENIZER, to_vocabulary
from mms_recipes.formats.portable import Kind, Portable
from mms_recipes.models.adapters import ENCODER, HEAD

logger = logging.getLogger(__name__)

ARCHITECTURES = {
    Kind.encoder: "Wav2Vec2Model",
    Kind.pretraining: "Wav2Vec2ForPreTraining",
    Kind.ctc: "Wav2Vec2ForCTC",
    Kind.lsah: "Wav2Vec2ForCTC",
    Kind.lid: "Wav2Vec2ForSequenceClassification",
}
SPECIAL_NAMES = ("pad", "bos", "eos", "unk")
DEFAULT_LANG = "eng"  # what transformers takes where no language is asked for


def require_expressible(model: Portable) -> None:
    """Raise ValueError for a model that Hugging Face's classes cannot compute; nothing is written yet."""
    configs.to_huggingface(model.fields, model.where, fine_tuned=True)
    if model.adapter_dim() and not model.cfg.layer_norm_first:
        raise ValueError(
            f"{model.where}: layer_norm_first=false: Hugging Face has adapters only in models with the LayerNorm "
            "before attention (do_stable_layer_norm), as all of MMS is; keep this one in fairseq's form"
        )
    if model.kind == Kind.lid and model.activation != "linear":
        raise ValueError(
            f"{model.where}: activation_fn={model.activation} between mean and classes; Hugging Face's "
            "Wav2Vec2ForSequenceClassification has none there, so it would give other probabilities. Models trained "
            "with activation_fn=linear convert; keep this one in fairseq's form"
        )


def default_lang(model: Portable) -> str:
    """The language whose adapter and head are inside model.safetensors, which pipelines take."""
    if model.default_lang in model.adapters:
        return model.default_lang
    return DEFAULT_LANG if DEFAULT_LANG in model.adapters else next(iter(model.adapters))


def write(folder: Path, model: Portable) -> None:
    """Fill an empty folder with the files of a model that is expressible. Raises OSError."""
    config = configs.to_huggingface(model.fields, model.where, fine_tuned=model.kind in (Kind.ctc, Kind.lsah, Kind.lid))
    config |= {"architectures": [ARCHITECTURES[model.kind]]}
    config |= {"licence": model.origin.licence, "provenance": list(model.origin.provenance)}
    tensors = _encoder(model)
    if model.kind == Kind.pretraining:
        tensors |= {theirs: model.encoder[ours] for ours, theirs in names.PRETRAINING.items()}
    elif model.kind == Kind.lid:
        tensors |= names.rename(model.head, names.LID_HEAD, model.where)
        config["id2label"] = {str(number): name for number, name in enumerate(model.symbols)}
        config["label2id"] = {name: number for number, name in enumerate(model.symbols)}
        config["adapter_attn_dim"] = model.adapter_dim() or None
        config["classifier_proj_size"] = len(tensors["projector.weight"])
    elif model.kind == Kind.ctc:
        tensors |= names.rename(model.head, names.CTC_HEAD, model.where)
        _write_tokenizer(folder, to_vocabulary(model.symbols, model.where), None, model.units)
    elif model.kind == Kind.lsah:
        lang = default_lang(model)
        _write_adapters(folder, model)
        tensors |= _adapter(model, lang)
        config["adapter_attn_dim"] = model.adapter_dim()
    if model.kind in (Kind.ctc, Kind.lsah):
        config["vocab_size"] = len(tensors["lm_head.weight"])
    config["dtype"] = str(model.encoder["mask_emb"].dtype).removeprefix("torch.")
    _save(tensors, folder / "model.safetensors", {})
    _write_json(folder / "config.json", config)
    _write_json(folder / "preprocessor_config.json", _preprocessor(model))
    files.write_text(folder / "README.md", model_card(model))


def _encoder(model: Portable) -> dict[str, torch.Tensor]:
    fields = model.fields
    layers = configs.conv_layers(fields["conv_feature_layers"])
    table = names.encoder(fields, len(layers))
    prefix = "" if model.kind == Kind.encoder else "wav2vec2."
    tensors = dict(model.frozen)
    if model.kind == Kind.lid and model.adapter_dim():
        table |= names.adapters(model.cfg.encoder_layers)
        tensors = {n: t[0] if ".adapter_layer." in n else t for n, t in model.encoder.items()}
    if "post_extract_proj.weight" not in tensors:
        width = layers[-1][0]
        like = tensors["layer_norm.weight"]
        tensors["post_extract_proj.weight"] = torch.eye(width, dtype=like.dtype)
        tensors["post_extract_proj.bias"] = torch.zeros(width, dtype=like.dtype)
    return {prefix + name: tensor for name, tensor in names.rename(tensors, table, model.where).items()}


# ---- languages


def _write_adapters(folder: Path, model: Portable) -> None:
    vocabularies: dict[str, dict[str, int]] = {}
    units: dict[str, str] = {}
    base_hash = model.hash
    for lang, part in model.adapters.items():
        vocabularies[lang] = to_vocabulary(part.symbols, f"{model.where} ({lang})")
        units |= {lang: part.units} if part.units else {}
        described = {
            "lang": lang,
            "base_hash": base_hash,
            "licence": model.origin.licence,
            "provenance": list(model.origin.provenance),
        }
        metadata = {name: json.dumps(value, ensure_ascii=False) for name, value in described.items()}
        _save(_adapter(model, lang), files.inside(folder, f"adapter.{lang}.safetensors"), metadata)
    _write_tokenizer(folder, vocabularies, default_lang(model), units)


def _adapter(model: Portable, lang: str) -> dict[str, torch.Tensor]:
    """One language's tensors, as load_adapter wants them."""
    where = f"{model.where} ({lang})"
    table = {ENCODER + ours: f"wav2vec2.{theirs}" for ours, theirs in names.adapters(model.cfg.encoder_layers).items()}
    table |= {HEAD + ours: theirs for ours, theirs in names.CTC_HEAD.items()}
    renamed = names.rename(model.adapters[lang].tensors, table, where)
    return {name: tensor[0] if ".adapter_layer." in name else tensor for name, tensor in renamed.items()}


def _write_tokenizer(folder: Path, vocabulary: Mapping[str, Any], lang: str | None, units: Mapping[str, str]) -> None:
    if units:  # its tokenizer joins pieces as they are, so that words end in "|" instead of a space
        logger.warning("words are spelt in pieces here: in Hugging Face's text, replace '|' by a space")
        _write_json(folder / UNITS_FILE, units)
    _write_json(folder / "vocab.json", vocabulary)
    config = TOKENIZER | {"processor_class": "Wav2Vec2Processor"} | ({"target_lang": lang} if lang else {})
    _write_json(folder / "tokenizer_config.json", config)
    _write_json(folder / "special_tokens_map.json", {k: v for k, v in TOKENIZER.items() if k[:3] in SPECIAL_NAMES})


# ---- files


def _preprocessor(model: Portable) -> dict[str, Any]:
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": manifest.SAMPLE_RATE,
        "padding_value": 0.0,
        "padding_side": "right",
        "do_normalize": model.normalize,
        # a group norm sees the padding whatever the mask says; Hugging Face's own models of that kind go without one
        "return_attention_mask": model.cfg.extractor_mode == "layer_norm",
    }


def model_card(model: Portable) -> str:
    """README.md: the licence where the Hub looks for it, where the weights come from, how to load them."""
    licence = model.origin.licence
    # the Hub knows "other", not "unknown"
    front = "license: other\nlicense_name: unknown" if licence == licences.UNKNOWN else f"license: {licence}"
    lines = ["---", front, "library_name: transformers", "---", "", "# wav2vec 2.0", "", model.origin.describe(), ""]
    lines += [f"- {step}" for step in model.origin.provenance]
    if model.adapters:
        langs, default = ", ".join(model.adapters), default_lang(model)
        other = next((lang for lang in model.adapters if lang != default), default)
        lines += ["", f"An adapter and a head for each of {len(model.adapters)} languages: {langs}."]
        lines += ["", f"**The default language is {default}**: transformers takes it where no other is chosen:", ""]
        lines += ['    pipe = pipeline("automatic-speech-recognition", model=FOLDER)  # ' + default]
        lines += [f'    pipe.model.load_adapter("{other}"); pipe.tokenizer.set_target_lang("{other}")  # another: both']
        lines += ["", "Without a pipeline:", ""]
        lines += [f'    model = Wav2Vec2ForCTC.from_pretrained(FOLDER, target_lang="{other}")']
        lines += [f'    processor = AutoProcessor.from_pretrained(FOLDER, target_lang="{other}")']
    return "\n".join(lines) + "\n"


def _save(tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    try:
        weights.write_tensors(path, whole, {"format": "pt"} | dict(metadata))
    except OSError as error:
        raise OSError(
            f"{path.name}: could not be written ({error}); nothing is left. Free some space, or give another place"
        ) from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    files.write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
