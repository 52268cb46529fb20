"""The paper's models have the paper's sizes, and its experiments run: at their own settings, on a tiny model."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from mms_recipes import adapter_files, checkpoints, config
from mms_recipes.models.encoder import FrozenEncoder
from mms_recipes.models.lsah import LSAHModel
from tests.fairseq import tones

LANGS, HEAD_SIZES = ["eng", "fra", "rus"], [32, 40, 36]


def group(name: str) -> DictConfig:
    """One group file by itself, for example model=wav2vec2_1b."""
    config.register()
    with initialize_config_dir(version_base="1.3", config_dir=str(config.CONFIGS)):
        return compose("train", overrides=[name])[name.partition("=")[0]]


def encoder(name: str) -> FrozenEncoder:
    """A frozen encoder of a model file's size, without weights; that file's recomputation is for training it."""
    plain = OmegaConf.to_container(group(f"model={name}"), resolve=False, enum_to_str=True)
    assert isinstance(plain, dict)
    cfg = OmegaConf.merge(OmegaConf.structured(Wav2Vec2Config), plain | {"checkpoint_activations": False})
    OmegaConf.set_struct(cfg, False)
    return FrozenEncoder(cfg)  # type: ignore[arg-type]


def size(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def lsah() -> LSAHModel:
    """LSAH of three languages on MMS 1B, shapes only."""
    base = encoder("wav2vec2_1b")
    with torch.device("meta"):
        return LSAHModel(group("model=lsah"), base, LANGS, HEAD_SIZES)  # type: ignore[arg-type]


def test_base_of_1b_has_962_million_parameters(lsah: LSAHModel) -> None:
    assert size(lsah.encoder) == pytest.approx(962.5e6, rel=1e-3)
    in_memory = [parameter for parameter in lsah.encoder.parameters() if not parameter.is_meta]
    assert sum(parameter.numel() for parameter in in_memory) <= 1280  # the mask embedding
    assert not any(parameter.requires_grad for parameter in lsah.encoder.parameters())


def test_adapters_of_a_language_have_2_151_168_parameters(lsah: LSAHModel) -> None:
    assert size(lsah.adapters.blocks) == len(LANGS) * 2_151_168
    heads = sum(letters * 1280 + letters for letters in HEAD_SIZES)
    trained = [parameter for parameter in lsah.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trained) == len(LANGS) * 2_151_168 + heads


def test_all_languages_together_have_the_papers_number_of_parameters(lsah: LSAHModel) -> None:
    """Paper Table 3: 1,096 M with 61 languages, 3,346 M with 1,107, heads left out (facts 3.1)."""
    for languages, millions in ((61, 1_096), (1_107, 3_346)):
        total = size(lsah.encoder) + languages * size(lsah.adapters.blocks) / len(LANGS)
        assert total / 1e6 == pytest.approx(millions, abs=3)


def test_300m_has_315_million_parameters() -> None:
    assert size(encoder("wav2vec2_300m")) == pytest.approx(315e6, rel=2e-3)


def test_frames_of_the_paper_are_20_ms(lsah: LSAHModel) -> None:
    layers = [module for module in lsah.encoder.w2v.feature_extractor.modules() if isinstance(module, torch.nn.Conv1d)]
    stride, window = 1, 1
    for layer in layers:
        window += (layer.kernel_size[0] - 1) * stride
        stride *= layer.stride[0]
    assert (stride, window) == (320, 400)  # samples at 16 kHz: 20 and 25 ms
    assert all(layer.bias is not None for layer in layers)


# ---- the experiments run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Run two updates of a paper experiment with a tiny base, on the tones in place of the paper's corpora."""
    folder = tmp_path_factory.mktemp("paper")
    data = tones.write_corpus(folder / "data", ["eng", "jpn"], train=3, dev=1)
    pretrained = tones.train("smoke_pretrain", data, folder / "runs", "optimization.max_update=1")
    small = ("task.langs=[]", "optimization.max_update=2", "dataset.num_workers=0", "dataset.max_tokens=40_000")
    small += ("dataset.validate_interval_updates=1", "distributed_training.distributed_world_size=1")

    def train(experiment: str, *overrides: str) -> Path:
        checkpoint = pretrained / "checkpoints" / "checkpoint_last.pt"
        return tones.train(experiment, data, folder / "runs", f"model.base={checkpoint}", *small, *overrides)

    return train


@pytest.mark.parametrize("experiment", ["ctc_fl102", "ctc_1107"])
def test_dense_experiment_runs(run: Callable[..., Path], experiment: str) -> None:
    # channel masks of 64 are for 1280 channels; the base learns from the first update
    folder = run(experiment, "model.mask_channel_length=4", "model.freeze_finetune_updates=0")
    state = checkpoints.load_checkpoint(folder / "checkpoints" / "checkpoint_last.pt")
    assert state["optimizer_history"][-1]["num_updates"] == 2
    assert all(torch.isfinite(tensor).all() for tensor in state["model"].values())
    checkpoints.read_base(folder / "checkpoints" / "checkpoint_last.pt").require_head()  # what LSAH starts from


@pytest.mark.parametrize("experiment", ["lsah_fl102", "lsah_1107"])
def test_lsah_experiment_runs(run: Callable[..., Path], experiment: str) -> None:
    adapters = adapter_files.read_adapters(run(experiment) / "adapters")
    assert sorted(adapters) == ["eng", "jpn"]
    for adapter in adapters.values():
        assert adapter.tensors["w2v_encoder.w2v_model.encoder.layers.0.adapter_layer.W_a"].shape == (1, 16, 48)
        assert all(torch.isfinite(tensor).all() for tensor in adapter.tensors.values())
