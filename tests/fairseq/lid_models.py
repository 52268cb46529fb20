"""Small LID models in the classes of stock fairseq and Hugging Face, with random weights, as files."""

from pathlib import Path
from typing import Any

import torch
from fairseq.data import Dictionary
from fairseq.models.wav2vec.wav2vec2_classification import Wav2Vec2ClassificationConfig, Wav2VecClassification
from omegaconf import OmegaConf

from tests.fairseq.small import small_config

CLASSES = ["eng", "fra", "rus", "jpn", "swh"]


def class_dictionary(classes: list[str]) -> Dictionary:
    """The class list as `audio_classification` keeps it: without special symbols."""
    result = Dictionary(add_special_symbols=False)
    for name in classes:
        result.add_symbol(name)
    return result


def shaken(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Move every parameter, biases and norms too, so that a mistake in any of them shows."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def stock(classes: list[str] = CLASSES, activation: str = "linear", latent_dim: int | None = 12) -> Any:
    """fairseq's own wav2vec_classification model."""
    encoder = OmegaConf.to_container(small_config(), enum_to_str=True) | {"_name": "wav2vec2"}  # type: ignore[operator]
    w2v_args = {"model": encoder, "task": {"_name": "audio_pretraining", "data": "", "normalize": True, "tpu": False}}
    cfg = OmegaConf.structured(
        Wav2Vec2ClassificationConfig(
            w2v_path="", normalize=True, data="", pooling="mean", latent_embed_dim=latent_dim, ddp_backend="legacy_ddp"
        )
    )
    OmegaConf.set_struct(cfg, False)
    cfg.activation_fn, cfg.w2v_args = activation, w2v_args

    class Task:
        target_dictionary = class_dictionary(classes)

    torch.manual_seed(7)  # one whose answers differ from sound to sound
    return shaken(Wav2VecClassification.build_model(cfg, Task()), 1)


def write_stock(path: Path, model: Any, classes: list[str] | None = CLASSES) -> Path:
    """Write a model of `stock` as fairseq's trainer does; without classes, as a file whose list went missing."""
    cfg = OmegaConf.to_container(model.cfg, resolve=False, enum_to_str=True)
    state = {
        "cfg": {
            "model": cfg | {"_name": "wav2vec_classification"},  # type: ignore[operator]
            "task": {"_name": "audio_classification", "data": "", "normalize": True, "labels": "lang"},
        },
        "model": model.state_dict(),
        "task_state": {} if classes is None else {"target_dictionary": class_dictionary(classes)},
        "optimizer_history": [{"num_updates": 3, "lr_scheduler_state": {}}],
        "extra_state": {},
    }
    torch.save(state, path)
    return path


def huggingface(classes: list[str] = CLASSES, **changes: Any) -> Any:
    """Hugging Face's own Wav2Vec2ForSequenceClassification, of small_config's size."""
    import transformers

    config = transformers.Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(16, 16, 24, 24),
        conv_kernel=(20, 4, 4, 2),
        conv_stride=(10, 4, 4, 2),
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        classifier_proj_size=12,
        id2label=dict(enumerate(classes)),
        label2id={name: number for number, name in enumerate(classes)},
        **changes,
    )
    return shaken(transformers.Wav2Vec2ForSequenceClassification(config), 2)


def write_huggingface(folder: Path, model: Any) -> Path:
    """Write a model of `huggingface` as the Hub has it."""
    import transformers

    model.save_pretrained(folder)
    extractor: Any = transformers.Wav2Vec2FeatureExtractor
    extractor(return_attention_mask=True).save_pretrained(folder)
    return folder
