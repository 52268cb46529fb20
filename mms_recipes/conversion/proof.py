"""What a model says to a test signal, computed by code that had no part in converting it.

Files of Hugging Face are run by transformers where it is installed, files of fairseq by fairseq's own classes, and the
source of a conversion by this package's encoder (of pretraining: fairseq's classes), all in float32 on the CPU.

Shapes: B batch, S samples, T frames, C channels, V letters or classes.
"""

import contextlib
import importlib
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from fairseq import tasks
from omegaconf import OmegaConf

from mms_recipes import fairseq_compat
from mms_recipes.data import audio
from mms_recipes.formats.huggingface import configs
from mms_recipes.formats.huggingface.reading import adapter_files
from mms_recipes.formats.huggingface.vocabularies import NEVER, SPECIALS, Vocabularies
from mms_recipes.formats.portable import Kind, Portable
from mms_recipes.formats.stock_checkpoints import to_checkpoint
from mms_recipes.models.adapters import CTC_HEAD, ENCODER, HEAD, of_one_language
from mms_recipes.models.encoder import FrozenEncoder
from mms_recipes.models.lid import LIDHead

SECONDS = (2.0, 1.1)
CLEAR = 1e-3  # where two codewords are nearer than this, rounding may choose the other one

Outputs = dict[str, torch.Tensor]


def signal() -> list[torch.Tensor]:
    """Two utterances of noise that swells and fades like syllables; neither of zero mean nor of unit variance.

    They are loud: what the libraries add to the variance before they divide by it (1e-5 and 1e-7) is nothing.
    """
    generator = torch.Generator().manual_seed(6)
    utterances = []
    for seconds in SECONDS:
        time = torch.arange(int(seconds * audio.SAMPLE_RATE)) / audio.SAMPLE_RATE
        noise = torch.randn(len(time), generator=generator)
        voiced = torch.sin(2 * torch.pi * 140 * time) + torch.sin(2 * torch.pi * 700 * time)
        utterances.append(50 * (noise + voiced) * (0.2 + torch.sin(2 * torch.pi * 3 * time) ** 2) + 5)
    return utterances


def batches(model: Portable) -> list[list[torch.Tensor]]:
    """The signal's utterances one by one and, unless a group norm would hear the padding, together."""
    alone = [[utterance] for utterance in signal()]
    return alone if model.cfg.extractor_mode == "default" else [*alone, signal()]


def difference(left: Sequence[Outputs], right: Sequence[Outputs]) -> float:
    """The largest difference between two accounts of the same signal; NaN counts as infinite."""
    largest = 0.0
    for ours, theirs in zip(left, right, strict=True):
        for name in ours:
            if ours[name].shape != theirs[name].shape:
                return float("inf")
            apart = float((ours[name] - theirs[name]).abs().max())
            largest = max(largest, apart if apart == apart else float("inf"))
    return largest


def _trim(values_BTX: torch.Tensor, frames: Sequence[int], name: str) -> Outputs:
    """The valid frames of each utterance."""
    return {f"{name} {row}": values_BTX[row, :count].float() for row, count in enumerate(frames)}


# ---- by this package and fairseq's classes


def _frames(model: Portable, batch: Sequence[torch.Tensor]) -> list[int]:
    counts = [len(utterance) for utterance in batch]
    for _, kernel, stride in configs.conv_layers(model.cfg.conv_feature_layers):
        counts = [(count - kernel) // stride + 1 for count in counts]
    return counts


def _padded(model: Portable, batch: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    sources = [torch.nn.functional.layer_norm(s, s.shape) if model.normalize else s for s in batch]
    return audio.pad(sources)


@torch.inference_mode()
def by_us(model: Portable, lang: str | None) -> list[Outputs]:
    """Log-probabilities by what trains and evaluates here; pretraining's projections by fairseq's classes."""
    if model.kind in (Kind.encoder, Kind.pretraining):
        return by_fairseq(to_checkpoint(model), model, lang)
    encoder = FrozenEncoder(model.cfg)
    encoder.load(model.frozen)
    inside = model.adapters[lang].tensors if lang else {ENCODER + name: t for name, t in model.encoder.items()}
    after_block = of_one_language(inside, len(encoder.layers)) if model.adapter_dim() else None
    accounts = []
    for batch in batches(model):
        padded, padding = _padded(model, batch)
        features_BTC, frames_B = encoder.features(padded, (~padding).sum(1))
        x_BTC = encoder.context(features_BTC, frames_B, after_block)
        if model.kind == Kind.lid:
            padded_BT = torch.arange(x_BTC.shape[1]) >= frames_B.unsqueeze(1)
            accounts.append({"classes": _lid_head(model)(x_BTC, padded_BT).log_softmax(-1)})
            continue
        head = inside if lang else {HEAD + name: tensor for name, tensor in model.head.items()}
        weight, bias = (head[CTC_HEAD + leaf].float() for leaf in ("weight", "bias"))
        logits_BTV = torch.nn.functional.linear(x_BTC, weight, bias)
        accounts.append(_trim(logits_BTV.log_softmax(-1), frames_B.tolist(), "emissions"))
    return accounts


def _lid_head(model: Portable) -> LIDHead:
    width, dim = model.head["pooling_layer.linear.weight"].shape
    head = LIDHead(dim, width, len(model.symbols), model.activation)
    head.load_state_dict({name.removeprefix("pooling_layer."): tensor for name, tensor in model.head.items()})
    return head


@torch.inference_mode()
def by_fairseq(checkpoint: dict[str, Any], model: Portable, lang: str | None, data: str = "") -> list[Outputs]:
    """As stock fairseq builds and runs the checkpoint; `lang` of a one-file form is put in as its infer.py does.

    `data` is the folder of LID's dict.lang.txt, without which its task does not start.
    """
    cfg = OmegaConf.create(checkpoint["cfg"], flags={"allow_objects": True})
    cfg.task.data = data
    weights = dict(checkpoint["model"])
    if lang is not None:
        weights |= checkpoint["adapter"][lang]["model"]
    with fairseq_compat.shapes_only():
        task = tasks.setup_task(cfg.task)
        task.load_state_dict(checkpoint["task_state"])
        stock = task.build_model(cfg.model, from_checkpoint=True)
        if lang is not None:
            rows, width = weights[CTC_HEAD + "weight"].shape
            stock.w2v_encoder.proj = torch.nn.Linear(width, rows)
        if model.kind == Kind.encoder:
            stock.remove_pretraining_modules()
    whole = {name: tensor.float() for name, tensor in weights.items()}
    torch.nn.Module.load_state_dict(stock, whole, strict=True, assign=True)
    stock.eval()
    accounts = []
    for batch in batches(model):
        padded, padding = _padded(model, batch)
        frames = _frames(model, batch)
        corpus = {"corpus_key": [0] * len(batch)} if model.adapter_dim() else {}
        accounts.append(_account(stock, model, {"source": padded, "padding_mask": padding} | corpus, frames))
    return accounts


def _account(stock: Any, model: Portable, given: dict[str, Any], frames: list[int]) -> Outputs:
    if model.kind in (Kind.encoder, Kind.pretraining):
        out = stock.extract_features(given["source"], given["padding_mask"])
        if model.kind == Kind.encoder:
            return _trim(out["x"], frames, "context")
        return _pretrained(stock.final_proj(out["x"]), stock.quantizer, stock.project_q, out["features"], frames)
    out = stock(**given)
    if model.kind == Kind.lid:
        return {"classes": out.float().log_softmax(-1)}
    return _trim(out["encoder_out"].transpose(0, 1).log_softmax(-1), frames, "emissions")


def _pretrained(
    projected: torch.Tensor, quantizer: Any, project_q: Any, features_BTC: torch.Tensor, frames: list[int]
) -> Outputs:
    """What pretraining compares: projections of the context, and of the codewords chosen."""
    scores = quantizer.weight_proj(features_BTC)
    quantized = quantizer(features_BTC)
    quantized = project_q(quantized["x"] if isinstance(quantized, dict) else quantized[0])
    groups = quantizer.groups if hasattr(quantizer, "groups") else quantizer.num_groups
    best = scores.unflatten(-1, (groups, -1)).topk(2).values
    clear = (best[..., 0] - best[..., 1] > CLEAR).all(-1)
    quantized[~clear] = 0
    return _trim(projected, frames, "projected") | _trim(quantized, frames, "codewords")


# ---- by transformers


def has_transformers() -> bool:
    """Whether Hugging Face's library is installed (extra [hf])."""
    return importlib.util.find_spec("transformers") is not None


class Transformers:
    """A folder as transformers loads it, with no code of this package."""

    def __init__(self, folder: Path, model: Portable) -> None:
        transformers = _library()
        self.model, self.folder = model, folder
        with _quietly():
            self.extract = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder, local_files_only=True)
        self._load()

    def _load(self) -> None:
        transformers = _library()
        classes = {
            Kind.encoder: transformers.Wav2Vec2Model,
            Kind.pretraining: transformers.Wav2Vec2ForPreTraining,
            Kind.lid: transformers.Wav2Vec2ForSequenceClassification,
        }
        with _quietly():
            self.net, loading = classes.get(self.model.kind, transformers.Wav2Vec2ForCTC).from_pretrained(
                self.folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
            )
        wrong = sorted([*loading["missing_keys"], *loading["unexpected_keys"], *map(str, loading["mismatched_keys"])])
        if wrong:
            raise ValueError(f"{self.folder}: transformers does not find its tensors in it: {', '.join(wrong[:5])}")
        self.net.eval()

    @torch.inference_mode()
    def outputs(self, lang: str | None) -> list[Outputs]:
        """The account of the signal, under a language's adapter."""
        if lang in adapter_files(self.folder):
            self.net.load_adapter(lang, local_files_only=True)
        elif lang is not None:  # it is in model.safetensors, and may have been replaced by another language's
            self._load()
        accounts = []
        for batch in batches(self.model):
            given = self.extract(
                [utterance.numpy() for utterance in batch],
                sampling_rate=audio.SAMPLE_RATE,
                padding=True,
                return_tensors="pt",
            )
            frames = _frames(self.model, batch)
            accounts.append(self._account(self.net(**given), given, frames, lang))
        return accounts

    def _account(self, out: Any, given: Any, frames: list[int], lang: str | None) -> Outputs:
        kind = self.model.kind
        if kind == Kind.encoder:
            return _trim(out.last_hidden_state, frames, "context")
        if kind == Kind.lid:
            return {"classes": out.logits.float().log_softmax(-1)}
        if kind == Kind.pretraining:
            features = self.net.wav2vec2(**given).extract_features
            return _pretrained(out.projected_states, self.net.quantizer, self.net.project_q, features, frames)
        return _trim(self._in_our_order(out.logits, lang).log_softmax(-1), frames, "emissions")

    def _in_our_order(self, logits_BTV: torch.Tensor, lang: str | None) -> torch.Tensor:
        """Columns by what its own tokenizer calls them: as our symbols go; NEVER for one that it does not have."""
        nested = lang is not None and Vocabularies(self.folder).nested
        given = {"target_lang": lang} if nested else {}
        with _quietly():
            tokenizer = _library().Wav2Vec2CTCTokenizer.from_pretrained(self.folder, local_files_only=True, **given)
        specials = (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token)
        theirs = dict(zip(SPECIALS, specials, strict=True)) | {"|": tokenizer.word_delimiter_token}
        columns = {tokenizer.convert_ids_to_tokens(number): number for number in range(logits_BTV.shape[2])}
        symbols = self.model.adapters[lang].symbols if lang else self.model.symbols
        order = torch.tensor([columns.get(theirs.get(symbol, symbol), -1) for symbol in symbols])
        return logits_BTV[..., order.clamp(min=0)].masked_fill(order < 0, NEVER)


def _library() -> Any:
    return importlib.import_module("transformers")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the library's remarks about loading to itself: what matters of them is raised above."""
    transformers = _library()
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        logging.getLogger("transformers").propagate = True
