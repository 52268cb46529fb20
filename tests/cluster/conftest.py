"""A real Slurm for the tests of this folder; where it cannot be started they are skipped, and say so."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Model
from omegaconf import OmegaConf

from tests.cluster import slurm
from tests.fairseq import tones
from tests.fairseq.small import small_config


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """A Slurm of two nodes, n1 and n2, of 4 CPUs each; its commands work in this process and in what it starts.

    Yields the folder of its logs, pid files and configuration (tests/cluster/slurm.py).
    """
    reason = slurm.missing()
    if reason is not None:
        pytest.skip(f"no Slurm: {reason}: this test did NOT run")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: sockets' paths may have 107 letters
    before = dict(os.environ)
    # a test that itself runs inside a job must not look like one
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))]:
        del os.environ[name]
    try:
        os.environ.update(slurm.start(folder))
        yield folder
    finally:
        slurm.stop(folder)
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of random weights, the same every time."""
    torch.manual_seed(0)
    cfg = small_config()
    model_cfg = OmegaConf.to_container(cfg, enum_to_str=True) | {"_name": "wav2vec2"}
    path = tmp_path_factory.mktemp("base") / "base.pt"
    state = {
        "cfg": {"model": model_cfg, "task": {"_name": "audio_pretraining", "data": "", "normalize": True}},
        "model": Wav2Vec2Model(cfg).state_dict(),
        "optimizer_history": [{"num_updates": 7, "lr_scheduler_state": {}}],
        "extra_state": {},
    }
    torch.save(state, path)
    return path


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus of four languages; not to be changed."""
    return tones.write_corpus(tmp_path_factory.mktemp("data"), train=9, dev=3)
