"""Models in the checkpoints of fairseq: what is read, ours or released, and what is written for stock fairseq.

What is written loads there without this package: tasks and models are named as there, and the keys that it does not
know (`licence`, `provenance`) stand where it does not look.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from fairseq.data import Dictionary
from omegaconf import DictConfig

from mms_recipes import files, licences, parsing
from mms_recipes.formats import fairseq_configs
from mms_recipes.formats.architecture import require_encoder
from mms_recipes.formats.checkpoint_contents import UNITS
from mms_recipes.formats.huggingface import names
from mms_recipes.formats.huggingface.vocabularies import SPECIALS
from mms_recipes.formats.portable import OF_VARIANTS, PRETRAINING_PARTS, Kind, LanguagePart, OnDemand, Portable
from mms_recipes.formats.tensors import require_sound
from mms_recipes.models.adapters import CTC_HEAD, ENCODER, HEAD

LID_MODELS = ("wav2vec_classification", "mms_lid")
OF_CLASSES = "give the dict.lang.txt or config.json that came with it (--classes)"


# ---- from fairseq's form


def of_checkpoint(checkpoint: Mapping[str, Any], path: str | Path, classes: Sequence[str] | None = None) -> Portable:
    """What a fairseq checkpoint holds, ours or released; `classes` are for an LID model that does not name its own.

    Raises ValueError for another architecture or a faulty file.
    """
    cfg = fairseq_configs.of_checkpoint(checkpoint, path)
    name = fairseq_configs.model_name(cfg)
    kind = {"wav2vec2": Kind.pretraining, "wav2vec_ctc": Kind.ctc}.get(name, Kind.lid)
    if kind == Kind.lid and name not in LID_MODELS:
        advice = "; of an LSAH run, give the folder of its adapters" if name == "mms_lsah" else ""
        raise ValueError(f"{path}: a {name!r} model, expected wav2vec2, wav2vec_ctc or wav2vec_classification{advice}")
    weights = names.old_weight_norm(checkpoint["model"])
    prefix = "" if kind == Kind.pretraining else ENCODER
    if kind == Kind.pretraining and "quantizer.vars" not in weights:
        kind = Kind.encoder
    skipped = OF_VARIANTS if kind == Kind.pretraining else OF_VARIANTS + PRETRAINING_PARTS
    encoder = {key.removeprefix(prefix): tensor for key, tensor in weights.items() if key.startswith(prefix)}
    inside = fairseq_configs.inside(cfg, path)
    found = Portable(
        str(path),
        kind,
        fairseq_configs.of_encoder(inside.model, f"{path}: cfg"),
        fairseq_configs.is_normalized(inside),
        {key: tensor for key, tensor in encoder.items() if not key.startswith(skipped)},
        origin=origin_of(checkpoint, path),
    )
    require_encoder(found.frozen, found.cfg, found.where)
    require_sound(found.encoder, found.where)
    state = checkpoint.get("task_state") or {}
    if kind == Kind.lid:
        _add_classes(found, cfg, weights, list(classes or _symbols(state, found.where, OF_CLASSES)))
    elif "adapter" in checkpoint:
        _add_adapters(found, checkpoint["adapter"])
    elif kind == Kind.ctc:
        _add_head(found, cfg, weights, state)
    return found


def origin_of(checkpoint: Mapping[str, Any], path: str | Path) -> licences.Origin:
    """Licence and provenance that a checkpoint states, else those that its name and its base's stand for."""
    if checkpoint.get("licence"):
        return licences.Origin(checkpoint["licence"], tuple(checkpoint.get("provenance") or ()))
    base = fairseq_configs.started_from(fairseq_configs.of_checkpoint(checkpoint, path))
    known = (licences.of_name(name) for name in (Path(path).name, base) if name)
    licence = next((licence for licence in known if licence != licences.UNKNOWN), licences.UNKNOWN)
    return licences.Origin(licence, (f"trained from {Path(base).name}",) if base else ())


def _add_classes(found: Portable, cfg: DictConfig, weights: dict[str, torch.Tensor], classes: list[str]) -> None:
    pooling = str(cfg.model.get("pooling", "mean"))
    if pooling != "mean":
        raise ValueError(f"{found.where}: pooling={pooling!r}, expected 'mean', the only one that fairseq builds")
    found.head = {key: tensor for key, tensor in weights.items() if key.startswith("pooling_layer.")}
    require_sound(found.head, found.where)
    if missing := [key for key in names.LID_HEAD if key not in found.head]:
        raise ValueError(f"{found.where}: no {missing[0]} inside; expected the head of a LID model with pooling 'mean'")
    found.symbols = classes
    found.activation = str(cfg.model.get("activation") or cfg.model.get("activation_fn") or "gelu")  # fairseq's default
    require_size(found.where, "classes", classes, found.head["pooling_layer.projection.weight"], f"; {OF_CLASSES}")


def _add_adapters(found: Portable, table: Mapping[str, Any]) -> None:
    if not table:
        raise ValueError(f"{found.where}: no languages in its table ('adapter')")
    for lang in table:
        files.plain_name(lang, f"{found.where}: adapter")
    found.kind = Kind.lsah
    found.encoder = found.frozen
    found.adapters = OnDemand(list(table), lambda lang: _language_part(table[lang], lang, found.where))


def _add_head(found: Portable, cfg: DictConfig, weights: dict[str, torch.Tensor], state: Mapping[str, Any]) -> None:
    if any(".adapter_layer." in key for key in found.encoder):
        raise ValueError(
            f"{found.where}: adapters inside the model, but no table of languages ('adapter'); expected the form "
            "of mms1b_all.pt"
        )
    if float(cfg.model.get("blank_weight") or 0):
        raise ValueError(f"{found.where}: blank_weight={cfg.model.blank_weight} is added to its blank; expected 0")
    if CTC_HEAD + "weight" not in weights:
        raise ValueError(f"{found.where}: no CTC head inside ({CTC_HEAD.rstrip('.')})")
    head = ctc_head(weights, found.cfg.encoder_embed_dim, found.where)
    found.head = dict(zip(names.CTC_HEAD, head, strict=True))
    found.symbols, found.units = _symbols(state, found.where), dict(state.get(UNITS) or {})
    require_size(found.where, "letters", found.symbols, found.head["proj.weight"])


def ctc_head(weights: Mapping[str, torch.Tensor], dim: int, where: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (V, C) and bias (V,) of a CTC head. Raises ValueError when they are not those of one, or no numbers."""
    head = {name: weights[name] for name in (CTC_HEAD + "weight", CTC_HEAD + "bias") if name in weights}
    weight, bias = head.get(CTC_HEAD + "weight"), head.get(CTC_HEAD + "bias")
    if weight is None or bias is None or weight.ndim != 2 or weight.shape[1] != dim or bias.shape != weight.shape[:1]:
        found = [tuple(tensor.shape) for tensor in head.values()]
        raise ValueError(f"{where}: {CTC_HEAD}weight and bias: found {found}, expected (rows, {dim}) and (rows,)")
    require_sound(head, where)
    return weight, bias


def _language_part(entry: Mapping[str, Any], lang: str, where: str) -> LanguagePart:
    state = entry.get("task_state") or {}
    symbols = _symbols(state, f"{where} ({lang})")
    part = LanguagePart(dict(entry["model"]), symbols, (state.get(UNITS) or {}).get(lang, ""))
    require_size(f"{where} ({lang})", "letters", part.symbols, part.tensors[CTC_HEAD + "weight"])
    return part


def _symbols(task_state: Mapping[str, Any], where: str, advice: str = "take a file that has it") -> list[str]:
    found = task_state.get("target_dictionary")
    if not isinstance(found, Dictionary):
        raise ValueError(
            f"{where}: no dictionary inside (task_state.target_dictionary): what its rows mean is not known; {advice}"
        )
    return list(found.symbols)


def require_letters(symbols: Sequence[str], where: str) -> None:
    """Raise ValueError unless these can be a CTC head's rows: fairseq's four specials, then each letter once."""
    if tuple(symbols[: len(SPECIALS)]) != SPECIALS:
        raise ValueError(f"{where}: found {parsing.shown(list(symbols[:4]))} first, expected {list(SPECIALS)}")
    if len(set(symbols)) < len(symbols):
        doubled = next(symbol for symbol in symbols if list(symbols).count(symbol) > 1)
        raise ValueError(f"{where}: {parsing.shown(doubled)} is there twice; expected each letter once")


def require_size(where: str, what: str, symbols: list[str], weight: torch.Tensor, advice: str = "") -> None:
    """Raise ValueError unless a head has a row for every symbol."""
    if len(symbols) != len(weight):
        raise ValueError(
            f"{where}: {len(symbols)} {what}, but the head has {len(weight)} rows; dictionary and weights are not of "
            f"one model{advice}"
        )


# ---- to fairseq's form


def write(path: Path, model: Portable) -> None:
    """Write what stock fairseq reads, in one step. Raises OSError when it cannot be, on a full disk above all."""
    state = to_checkpoint(model)
    if "adapter" in state:
        state["adapter"] = dict(state["adapter"])
    try:
        with files.replaced(path) as temporary:
            torch.save(state, temporary)
    except (OSError, RuntimeError) as error:  # torch tells a full disk as a RuntimeError
        raise OSError(
            f"{path.name}: could not be written ({error}); nothing is left. Free some space, or give another place"
        ) from error


def to_checkpoint(model: Portable) -> dict[str, Any]:
    """The checkpoint that stock fairseq reads, as its trainer or Meta lays it out; LSAH as mms1b_all.pt."""
    adapter_dim = model.adapter_dim()
    first = next(iter(model.adapters.values()), LanguagePart({}, model.symbols))
    if model.kind in (Kind.encoder, Kind.pretraining):
        weights = dict(model.encoder)
    else:
        prefix = HEAD if model.kind == Kind.ctc else ""
        weights = {ENCODER + name: tensor for name, tensor in model.encoder.items()}
        weights |= {prefix + name: tensor for name, tensor in model.head.items()} | first.tensors
    # fairseq upgrades files that lack these
    history = {"criterion_name": "CtcCriterion", "optimizer_name": "Adam", "num_updates": 0, "lr_scheduler_state": {}}
    state: dict[str, Any] = {
        "args": None,
        "cfg": _config(model, adapter_dim, pieces=bool(first.units or model.units)),
        "model": weights,
        "optimizer_history": [history],
        "task_state": _task_state(first.symbols, model.kind, model.units),
        "extra_state": {},
        "licence": model.origin.licence,
        "provenance": list(model.origin.provenance),
    }
    if model.kind == Kind.lsah:
        state["adapter"] = OnDemand(list(model.adapters), lambda lang: _entry(model.adapters[lang], lang))
    return state


def _entry(part: LanguagePart, lang: str) -> dict[str, Any]:
    units = {lang: part.units} if part.units else {}
    return {"model": part.tensors, "task_state": _task_state(part.symbols, Kind.lsah, units)}


def _task_state(symbols: list[str], kind: Kind, units: dict[str, str]) -> dict[str, Any]:
    if not symbols:
        return {}
    return {"target_dictionary": dictionary(symbols, kind)} | ({UNITS: units} if units else {})


def dictionary(symbols: list[str], kind: Kind) -> Dictionary:
    """Symbols as fairseq's Dictionary; LID's has no specials."""
    specials = kind != Kind.lid
    result = Dictionary(add_special_symbols=specials)
    for symbol in symbols[result.nspecial if specials else 0 :]:
        result.add_symbol(symbol)
    return result


def _config(model: Portable, adapter_dim: int, pieces: bool) -> dict[str, Any]:
    common = {"data": "", "normalize": model.normalize}
    adapter: dict[str, Any] = {"layer_type": "transformer"}
    if adapter_dim:
        adapter = {"layer_type": "trf_adp", "adp_num": 1, "adp_dim": adapter_dim}
        adapter |= {"adp_act_fn": "relu", "adp_trf_idx": "all"}
    encoder = {
        "model": model.fields | adapter | {"_name": "wav2vec2"},
        "task": common | {"_name": "audio_pretraining"},
        "criterion": None,
        "lr_scheduler": None,
        "common": {},
    }
    if model.kind in (Kind.encoder, Kind.pretraining):
        return encoder
    top = {"w2v_path": "", "w2v_args": encoder, "apply_mask": False} | common | adapter
    if model.kind == Kind.lid:
        latent = model.head["pooling_layer.linear.weight"].shape[0]
        top |= {"_name": "wav2vec_classification", "pooling": "mean", "activation_fn": model.activation}
        top |= {"latent_embed_dim": latent}
        task = common | {"_name": "audio_classification", "labels": "lang"}
    else:
        top |= {"_name": "wav2vec_ctc"}
        task = common | {"_name": "audio_finetuning", "labels": "units" if pieces else "ltr"}
    if adapter_dim:  # fairseq gives utterances a number for their corpus only where there are several
        task |= {"multi_corpus_keys": "mms", "multi_corpus_sampling_weights": "1"}
    return {"model": top, "task": task, "common": {}, "criterion": None}
