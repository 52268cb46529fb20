"""How many ranks there are: as many as torchrun or Slurm started (tests/cluster has a real one), or devices here."""

import logging
from collections.abc import Iterator

import pytest
import torch
from omegaconf import DictConfig

from mms_recipes import devices, preflight
from tests.fairseq import tones

TORCHRUN = {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "RANK": "5", "LOCAL_RANK": "1"}


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("", "fairseq.logging.progress_bar")]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def settled(*overrides: str) -> DictConfig:
    cfg = tones.composed("smoke_lsah", "task.data=data", "model.base=base.pt", *overrides)
    devices.settle_world(cfg)
    return cfg


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_all_devices_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settled().distributed_training.distributed_world_size == 1
    gpus(monkeypatch, 4)
    parallel = settled().distributed_training
    assert (parallel.distributed_world_size, parallel.distributed_num_procs, parallel.distributed_backend) == (
        4,
        4,
        "nccl",
    )
    assert parallel.distributed_init_method.startswith("tcp://localhost:") and not parallel.distributed_no_spawn
    assert settled("distributed_training.distributed_world_size=2").distributed_training.distributed_num_procs == 2
    cfg = settled("distributed_training.distributed_world_size=5")
    with pytest.raises(ValueError, match=r"world_size is 5, but this machine has 4 CUDA device\(s\).*docs/cluster.md"):
        preflight.check_device(cfg)


def test_processes_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    gpus(monkeypatch, 4)
    parallel = settled().distributed_training
    assert (parallel.distributed_world_size, parallel.distributed_rank, parallel.device_id) == (8, 5, 1)
    assert parallel.distributed_init_method == "env://" and parallel.distributed_no_spawn
    told = (
        r"distributed_world_size=32, but torchrun started 8 processes on 2 node\(s\), with 1 device\(s\) each: 8 ranks;"
    )
    with pytest.raises(
        ValueError, match=rf"{told} start them on 8 nodes, or set .*_size=8, or 0 to take what there is"
    ):
        settled("distributed_training.distributed_world_size=32")


def test_ranks_on_cpu_talk_over_gloo() -> None:
    parallel = settled("common.cpu=true", "distributed_training.distributed_world_size=3").distributed_training
    assert (parallel.distributed_backend, parallel.distributed_num_procs) == ("gloo", 3)
