"""How many devices a run has, what they compute in, and how much audio an update takes: settled before it starts."""

import ctypes
import logging
import os
import platform

import torch
from fairseq.distributed import utils as distributed_utils
from omegaconf import DictConfig

from mms_recipes import manifest

logger = logging.getLogger(__name__)


def settle_world(cfg: DictConfig) -> None:
    """Take number of processes and rank from torchrun or Slurm, where one of them started this process.

    fairseq does so only when it sees several devices: with one per process, N processes would train N models into one
    folder. On other ranks than the first only warnings are shown.
    """
    parallel, env = cfg.distributed_training, os.environ
    if parallel.distributed_init_method is None and int(env.get("WORLD_SIZE", 1)) > 1 and "RANK" in env:
        parallel.distributed_world_size, parallel.distributed_rank = int(env["WORLD_SIZE"]), int(env["RANK"])
        parallel.distributed_init_method, parallel.distributed_no_spawn = "env://", True
        parallel.device_id = int(env.get("LOCAL_RANK", 0)) % max(1, torch.cuda.device_count())
        if not torch.cuda.is_available():
            parallel.distributed_backend = "gloo"
    elif parallel.distributed_init_method is None and "SLURM_PROCID" in env and int(env.get("SLURM_NTASKS", 1)) > 1:
        parallel.distributed_world_size = int(env["SLURM_NTASKS"])  # fairseq finds out the rest
        parallel.distributed_rank = int(env["SLURM_PROCID"])
    if not is_first(cfg):
        logging.getLogger().setLevel(logging.WARNING)
        logging.getLogger("fairseq.logging.progress_bar").setLevel(logging.WARNING)


def is_first(cfg: DictConfig) -> bool:
    """Whether this process is the one that logs and writes."""
    return (cfg.distributed_training.distributed_rank or 0) == 0


def settle_precision(cfg: DictConfig) -> None:
    """Compute in what the device has: float32 on CPU, fp16 on GPUs without bfloat16."""
    sharded = cfg.distributed_training.ddp_backend == "fully_sharded"
    if torch.cuda.is_available() and not cfg.common.cpu:
        if cfg.common.bf16 and not torch.cuda.is_bf16_supported(including_emulation=False):
            logger.warning("%s has no bfloat16: training in fp16 instead", torch.cuda.get_device_name())
            cfg.common.bf16, cfg.common.fp16 = False, True
        return
    cfg.common.cpu = True
    if cfg.common.fp16 or (cfg.common.bf16 and not sharded):  # torch's FSDP computes in bfloat16 here too
        logger.warning("no CUDA device: training in float32 instead of %s", "fp16" if cfg.common.fp16 else "bf16")
        cfg.common.fp16 = cfg.common.bf16 = False
    keep_freed_memory()


def choose(name: str) -> torch.device:
    """The device to run a trained model on: `auto` is CUDA where it is there."""
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    if device.type == "cpu":
        keep_freed_memory()
    return device


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory: on small virtual machines page faults otherwise cost most of the time."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4  # malloc.h
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_top_pad, 2**28)


def settle_batch(cfg: DictConfig) -> None:
    """Derive update_freq from the number of devices, so that an update has the hours that the recipe asks for.

    Raises ValueError where both are given, or for LSAH, whose languages have batches of their own.
    """
    parallel, asked = cfg.distributed_training, cfg.task.get("hours_per_update")
    if parallel.distributed_init_method is None:
        distributed_utils.infer_init_method(parallel)
    if cfg.task._name == "mms_lsah":
        if asked is not None:
            raise ValueError(
                "task.hours_per_update is for the tasks whose languages share a batch; LSAH has task.update_seconds "
                "for each language"
            )
        return
    devices, seconds = parallel.distributed_world_size, cfg.dataset.max_tokens / manifest.SAMPLE_RATE
    hours = devices * seconds / 3600
    if asked is not None:
        if list(cfg.optimization.update_freq) != [1]:
            raise ValueError(
                f"optimization.update_freq={list(cfg.optimization.update_freq)} and task.hours_per_update={asked:g} "
                "are both given; the latter sets the former: take one, or task.hours_per_update=null"
            )
        cfg.optimization.update_freq = [max(1, round(asked / hours))]
    update_freq = cfg.optimization.update_freq[0]
    told = f"batch of one update: {hours * update_freq:.3g} h ({devices} device(s) x {seconds:g} s x {update_freq})"
    if asked is None:
        logger.info("%s", told)
    elif abs(hours * update_freq / asked - 1) <= 0.1:
        logger.info("%s; the recipe's: %.3g h", told, asked)
    else:
        logger.warning(
            "%s; the recipe's is %.3g h, which dataset.max_tokens=%d would give; the learning rate is for that",
            told,
            asked,
            round(asked * 3600 * manifest.SAMPLE_RATE / devices / update_freq),
        )
