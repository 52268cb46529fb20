"""LID models of ours, stock fairseq and Hugging Face give the logits that their own code gives, padding included."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch.nn import functional as F

from mms_recipes.lid.identifier import load_identifier
from mms_recipes.models.lid import LIDConfig, LIDModel
from tests.fairseq import lid_models
from tests.fairseq.lid_models import CLASSES
from tests.fairseq.small import Pretrained

CPU = torch.device("cpu")
LENGTHS = (16_000, 5_003, 9_000)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Three utterances of noise, normalised, and their padding mask."""
    generator = torch.Generator().manual_seed(5)
    source = torch.zeros(len(LENGTHS), max(LENGTHS))
    for row, length in enumerate(LENGTHS):
        source[row, :length] = F.layer_norm(torch.randn(length, generator=generator), (length,))
    return source, torch.arange(max(LENGTHS)) >= torch.tensor(LENGTHS)[:, None]


class Task:
    """What a LID model asks of its task."""

    def __init__(self, classes: list[str]) -> None:
        self.classes = classes


def our_model(base: Path, classes: list[str] = CLASSES, **changes: Any) -> LIDModel:
    """Our training model, started from a file."""
    cfg = OmegaConf.structured(LIDConfig(base=str(base), **changes))
    OmegaConf.set_struct(cfg, False)
    model: LIDModel = LIDModel.build_model(cfg, Task(classes)).eval()
    return model


@pytest.mark.parametrize("activation", ["linear", "gelu", "tanh"])
@pytest.mark.parametrize("latent_dim", [None, 12])
def test_logits_are_stock_fairseqs(
    tmp_path: Path, batch: tuple[torch.Tensor, torch.Tensor], activation: str, latent_dim: int | None
) -> None:
    source, padded = batch
    stock = lid_models.stock(activation=activation, latent_dim=latent_dim)
    path = lid_models.write_stock(tmp_path / "stock.pt", stock)
    with torch.no_grad():
        expected = stock(source=source, padding_mask=padded)
        trained = our_model(path)(source, padded)
    identifier = load_identifier(path, CPU)
    assert identifier.classes == CLASSES and identifier.normalize
    assert expected.std() > 0.05  # the classes differ at all
    torch.testing.assert_close(trained, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(identifier.logits(source, (~padded).sum(1)), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("changes", [{}, {"adapter_attn_dim": 4}], ids=["plain", "with adapters"])
def test_logits_are_hugging_faces(
    tmp_path: Path, batch: tuple[torch.Tensor, torch.Tensor], changes: dict[str, Any]
) -> None:
    source, padded = batch
    model = lid_models.huggingface(**changes)
    lid_models.write_huggingface(tmp_path, model)
    with torch.no_grad():
        expected = model(source, attention_mask=(~padded).long()).logits
    identifier = load_identifier(tmp_path, CPU)
    assert identifier.classes == CLASSES and identifier.normalize
    torch.testing.assert_close(identifier.logits(source, (~padded).sum(1)), expected, atol=1e-5, rtol=1e-4)
    if not changes:
        with torch.no_grad():
            torch.testing.assert_close(our_model(tmp_path)(source, padded), expected, atol=1e-5, rtol=1e-4)


def test_without_padding(tmp_path: Path, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    source = batch[0][:1]
    stock = lid_models.stock()
    path = lid_models.write_stock(tmp_path / "stock.pt", stock)
    none = torch.zeros(source.shape, dtype=torch.bool)
    with torch.no_grad():
        expected = stock(source=source, padding_mask=none)
        torch.testing.assert_close(our_model(path)(source, none), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(load_identifier(path, CPU).logits(source, torch.tensor([16_000])), expected)


def test_audio_shorter_than_a_frame(tmp_path: Path) -> None:
    identifier = load_identifier(lid_models.write_stock(tmp_path / "stock.pt", lid_models.stock()), CPU)
    shortest = identifier.min_samples
    assert identifier.logits(torch.randn(1, shortest), torch.tensor([shortest])).isfinite().all()
    told = rf"{shortest - 1} samples, shorter than what the model looks at at a time \({shortest} samples"
    with pytest.raises(ValueError, match=told):
        identifier.logits(torch.randn(1, shortest), torch.tensor([shortest - 1]))


# ---- class lists


def test_class_list_is_missing(tmp_path: Path, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    path = lid_models.write_stock(tmp_path / "stock.pt", lid_models.stock(), classes=None)
    with pytest.raises(ValueError, match=r"stock.pt: no dictionary inside .* give the dict.lang.txt .*--classes"):
        load_identifier(path, CPU)
    given = tmp_path / "dict.lang.txt"
    given.write_text("".join(f"{name} 7\n" for name in reversed(CLASSES)))
    assert load_identifier(path, CPU, given).classes == CLASSES[::-1]


def test_class_list_of_another_length(tmp_path: Path) -> None:
    path = lid_models.write_stock(tmp_path / "stock.pt", lid_models.stock(), classes=CLASSES[:4])
    with pytest.raises(ValueError, match=r"stock.pt: 4 classes, but the head has 5 rows; .* give the dict.lang"):
        load_identifier(path, CPU)
    with pytest.raises(ValueError, match="4 classes, but the head has 5 rows"):
        our_model(path)
    folder = tmp_path / "hf"
    lid_models.write_huggingface(folder, lid_models.huggingface())
    config = json.loads((folder / "config.json").read_text())
    config["id2label"].pop("4")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config.json: 4 classes in id2label, but the head has 5 rows"):
        load_identifier(folder, CPU)


# ---- growing


def test_growing_keeps_the_rows_of_known_classes(
    tmp_path: Path, batch: tuple[torch.Tensor, torch.Tensor], caplog: Any
) -> None:
    """From 5 classes to 4 of them in another order and 2 new ones: the logits of the 4 are as before."""
    source, padded = batch
    path = lid_models.write_stock(tmp_path / "stock.pt", lid_models.stock(activation="gelu"))
    classes = ["jpn", "new", "swh", "eng", "other", "fra"]
    with caplog.at_level("INFO"):
        grown = our_model(path, classes)
    assert "head of 6 classes" in caplog.text and "4 kept, 2 new, 1 dropped" in caplog.text
    with torch.no_grad():
        before, after = our_model(path)(source, padded), grown(source, padded)
    for name in ("jpn", "swh", "eng", "fra"):
        torch.testing.assert_close(after[:, classes.index(name)], before[:, CLASSES.index(name)])
    new = grown.pooling_layer.projection
    assert new.bias[1] == 0 and 0 < new.weight[1].abs().max() < 1


@pytest.mark.parametrize("changes", [{"latent_dim": 16}, {"activation": "gelu"}])
def test_growing_with_another_head_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = lid_models.write_stock(tmp_path / "stock.pt", lid_models.stock())
    with pytest.raises(
        ValueError, match=r"trained with model.latent_dim=12 model.activation=linear, .* leave both null"
    ):
        our_model(path, **changes)


# ---- what a run starts from


def test_start_from_pretraining(pretrained: Pretrained, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = our_model(pretrained.path, freeze_encoder=True)
    for name, tensor in model.w2v_encoder["w2v_model"].state_dict().items():
        torch.testing.assert_close(tensor, pretrained.model.state_dict()[name])
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [
        f"pooling_layer.{layer}.{leaf}" for layer in ("linear", "projection") for leaf in ("weight", "bias")
    ]
    assert model.train().pooling_layer.training and not model.w2v_encoder["w2v_model"].training


def test_another_kind_of_model(tmp_path: Path, pretrained: Pretrained) -> None:
    with pytest.raises(ValueError, match=r"holds a model for \w+, expected one for language identification; train one"):
        load_identifier(pretrained.path, CPU)
    with pytest.raises(FileNotFoundError, match=r"a folder; expected a .pt file or a Hugging Face"):
        load_identifier(tmp_path, CPU)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "w2v_encoder.w2v_model.encoder.layers.0.fc1.weight",
            r"stock.pt: .*fc1.weight: found \(1,\), expected \(64, 32\)",
        ),
        (
            "pooling_layer.linear.bias",
            r"stock.pt: no pooling_layer.linear.bias inside; expected the head of a LID model",
        ),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, name: str, told: str) -> None:
    path = lid_models.write_stock(tmp_path / "stock.pt", lid_models.stock())
    state = torch.load(path, weights_only=False)
    tensor = state["model"].pop(name)
    if tensor.dim() > 1:
        state["model"][name] = torch.zeros(1)
    torch.save(state, path)
    with pytest.raises(ValueError, match=told):
        our_model(path)


def test_hugging_face_folder_without_or_with_a_cut_file(tmp_path: Path) -> None:
    lid_models.write_huggingface(tmp_path, lid_models.huggingface())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model.safetensors: cut off"):
        load_identifier(tmp_path, CPU)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"no weights; expected one of model.safetensors"):
        load_identifier(tmp_path, CPU)
