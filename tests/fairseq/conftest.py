"""Fixtures of the tests that run fairseq."""

from pathlib import Path

import pytest
import torch
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Model
from omegaconf import OmegaConf

from tests.fairseq.small import Pretrained, small_config


@pytest.fixture
def pretrained(tmp_path: Path) -> Pretrained:
    """A pretraining checkpoint with random weights, as fairseq writes it."""
    torch.manual_seed(0)
    cfg = small_config()
    model = Wav2Vec2Model(cfg)
    for parameter in model.parameters():  # biases and norms too, so that a mistake in any of them shows
        parameter.data += 0.02 * torch.randn_like(parameter)
    path = tmp_path / "pretrained.pt"
    model_cfg = OmegaConf.to_container(cfg, enum_to_str=True) | {"_name": "wav2vec2"}
    task_cfg = {"_name": "audio_pretraining", "data": "", "normalize": True}
    state = {
        "cfg": {"model": model_cfg, "task": task_cfg},
        "model": model.state_dict(),
        "optimizer_history": [{"num_updates": 7, "lr_scheduler_state": {}}],
        "extra_state": {},
    }
    torch.save(state, path)
    return Pretrained(path, model.eval())
