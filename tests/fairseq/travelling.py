"""Small models in the files that users arrive with, made by stock fairseq's and Hugging Face's own classes."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
import transformers
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Model
from fairseq.models.wav2vec.wav2vec2_asr import Wav2Vec2CtcConfig, Wav2VecCtc
from omegaconf import OmegaConf
from torch import nn

from mms_recipes import adapter_files, checkpoints
from mms_recipes.models.adapters import AdapterStack
from tests.fairseq.small import dictionary, small_config

LETTERS = {"eng": "|abcde", "fra": "|abcçé", "jpn": "|あいうえおかきく"}
BASE_STYLE = {"extractor_mode": "default", "conv_bias": False, "layer_norm_first": False}  # wav2vec 2.0 base


def shake(model: nn.Module, seed: int = 3) -> Any:
    """Move every parameter, biases and norms too, so that a mistake in any of them shows."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def signal() -> tuple[torch.Tensor, torch.Tensor]:
    """Two normalised utterances (B, S), the second padded, and the padding mask (B, S)."""
    generator = torch.Generator().manual_seed(9)
    lengths = (16_000, 9_500)
    source = torch.zeros(2, max(lengths))
    for row, length in enumerate(lengths):
        noise = torch.randn(length, generator=generator)
        source[row, :length] = nn.functional.layer_norm(noise, noise.shape)
    return source, torch.arange(max(lengths))[None] >= torch.tensor(lengths)[:, None]


def write_pretrained(path: Path, **changes: object) -> Wav2Vec2Model:
    """A pretraining checkpoint as fairseq writes it."""
    cfg = small_config(**changes)
    model = shake(Wav2Vec2Model(cfg))
    state = {
        "cfg": {
            "model": OmegaConf.to_container(cfg, enum_to_str=True) | {"_name": "wav2vec2"},  # type: ignore[operator]
            "task": {"_name": "audio_pretraining", "data": "", "normalize": True},
        },
        "model": model.state_dict(),
        "optimizer_history": [{"num_updates": 7, "lr_scheduler_state": {}}],
        "extra_state": {},
    }
    torch.save(state, path)
    return model


def write_old(path: Path) -> Wav2Vec2Model:
    """A pretraining checkpoint as of 2020 (XLSR-53): a flat Namespace, and no fields that came later."""
    cfg = small_config()
    model = shake(Wav2Vec2Model(cfg))
    later = (
        "layer_type",
        "adp_num",
        "adp_dim",
        "adp_act_fn",
        "adp_trf_idx",
        "pos_conv_depth",
        "quantizer_depth",
        "fp16",
    )
    flat: dict[str, Any] = OmegaConf.to_container(cfg, enum_to_str=True)  # type: ignore[assignment]
    flat = {name: value for name, value in flat.items() if name not in later}
    args = Namespace(**flat, arch="wav2vec2", task="audio_pretraining", normalize=True, data="/gone")
    history = [{"num_updates": 7, "lr_scheduler_state": {}}]
    torch.save({"args": args, "model": model.state_dict(), "optimizer_history": history, "extra_state": {}}, path)
    return model


def write_dense(path: Path, letters: str = LETTERS["eng"], **changes: object) -> Wav2VecCtc:
    """A dense CTC checkpoint as fairseq writes it."""
    encoder = OmegaConf.to_container(small_config(**changes), enum_to_str=True) | {"_name": "wav2vec2"}  # type: ignore[operator]
    task = {"_name": "audio_pretraining", "data": "", "normalize": True}
    cfg = OmegaConf.structured(Wav2Vec2CtcConfig(w2v_path="", normalize=True, data="", ddp_backend="legacy_ddp"))
    OmegaConf.set_struct(cfg, False)
    cfg.w2v_args = {"model": encoder, "task": task}

    class Task:
        target_dictionary = dictionary(letters)

    model = shake(Wav2VecCtc.build_model(cfg, Task()))  # type: ignore[arg-type]
    plain = OmegaConf.to_container(model.cfg, resolve=False, enum_to_str=True)
    state = {
        "cfg": {
            "model": plain | {"_name": "wav2vec_ctc"},  # type: ignore[operator]
            "task": {"_name": "audio_finetuning", "data": "", "normalize": True, "labels": "ltr"},
        },
        "model": model.state_dict(),
        "task_state": {"target_dictionary": dictionary(letters)},
        "optimizer_history": [{"num_updates": 7, "lr_scheduler_state": {}}],
        "extra_state": {},
    }
    torch.save(state, path)
    return model


def write_adapters(
    folder: Path, base_path: Path, letters: dict[str, str] = LETTERS
) -> dict[str, adapter_files.Adapter]:
    """A folder of adapters on a dense checkpoint, with heads of different sizes."""
    base = checkpoints.read_base(base_path)
    dictionaries = {lang: dictionary(text) for lang, text in letters.items()}
    sizes = [len(d) for d in dictionaries.values()]
    stack = AdapterStack(list(letters), sizes, base.cfg.encoder_layers, base.cfg.encoder_embed_dim, 4)
    stack.reset(seed=1, init="kaiming")
    shake(stack)
    adapters = {
        lang: adapter_files.Adapter(
            lang=lang,
            base_hash=base.hash,
            letters=list(symbols.symbols),
            num_updates=5,
            dev_cer=12.5,
            tensors=stack.language_state(lang),
            base_path=str(base_path),
        )
        for lang, symbols in dictionaries.items()
    }
    for adapter in adapters.values():
        adapter_files.write_adapter(folder, adapter)
    return adapters


# ---- Hugging Face's own


def huggingface_config(**changes: Any) -> transformers.Wav2Vec2Config:
    """MMS's kind at small size."""
    fields = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "conv_dim": (16, 16, 24, 24),
        "conv_kernel": (20, 4, 4, 2),
        "conv_stride": (10, 4, 4, 2),
        "conv_bias": True,
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
        "num_codevectors_per_group": 8,
        "codevector_dim": 16,
        "proj_codevector_dim": 12,
        "num_negatives": 10,
    }
    return transformers.Wav2Vec2Config(**(fields | changes))


def write_tokenizer(folder: Path, vocabulary: dict[str, Any], **tokens: str) -> None:
    """Tokenizer files as save_pretrained writes them."""
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lang = next(iter(vocabulary)) if isinstance(next(iter(vocabulary.values())), dict) else None
    tokenizer = transformers.Wav2Vec2CTCTokenizer(folder / "vocab.json", target_lang=lang, **tokens)
    tokenizer.save_pretrained(folder)


def write_huggingface(folder: Path, model: Any, do_normalize: bool = True, **how: Any) -> Any:
    """A folder as transformers saves it, feature extractor included."""
    model.save_pretrained(folder, **how)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=do_normalize, return_attention_mask=True).save_pretrained(folder)
    return model
