"""How many devices a run has, what they compute in, and how much audio an update takes: settled before it starts."""

import ctypes
import logging
import os
import platform
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from fairseq.distributed import utils as distributed_utils
from omegaconf import DictConfig
from torch.multiprocessing.spawn import spawn

from mms_recipes import manifest
from mms_recipes.cluster import signals, slurm

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Launched:
    """Processes that torchrun or Slurm started together, and which of them this one is."""

    by: str  # for messages
    processes: int
    nodes: int
    rank: int
    local_rank: int
    init_method: str


def launched(env: Mapping[str, str] = os.environ) -> Launched | None:
    """What torchrun or `srun` started this process as one of several of, or None.

    An sbatch file that starts Python without srun starts one process, whatever it asked for.
    """
    if int(env.get("WORLD_SIZE", 1)) > 1 and "RANK" in env:
        processes, local = int(env["WORLD_SIZE"]), int(env.get("LOCAL_WORLD_SIZE", 1))
        rank, local_rank = int(env["RANK"]), int(env.get("LOCAL_RANK", 0))
        return Launched("torchrun", processes, -(-processes // local), rank, local_rank, "env://")
    if int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        processes, nodes = int(env["SLURM_STEP_NUM_TASKS"]), int(env["SLURM_STEP_NUM_NODES"])
        rank, local_rank = int(env["SLURM_PROCID"]), int(env["SLURM_LOCALID"])
        return Launched("Slurm", processes, nodes, rank, local_rank, slurm.rendezvous(env))
    return None


def settle_world(cfg: DictConfig) -> None:
    """Fill in how many ranks there are, which this process is and where they meet: NCCL on CUDA, gloo on CPU.

    One rank per device. What launched several processes decides; of Slurm, one process per node starts a rank per GPU
    itself, as does a process that nothing launched. fairseq's own way knows no CPU ranks and trusts node names.
    Raises ValueError when distributed_world_size asks for another number of ranks.
    """
    parallel, cuda = cfg.distributed_training, torch.cuda.is_available() and not cfg.common.cpu
    devices, asked = torch.cuda.device_count() if cuda else 1, parallel.distributed_world_size
    found = launched() if parallel.distributed_init_method is None else None
    if found is None:
        world = parallel.distributed_world_size = asked or devices
        here = world <= devices if cuda else cfg.common.cpu  # else preflight refuses it
        if parallel.distributed_init_method is None and world > 1 and here:
            parallel.distributed_init_method, parallel.distributed_num_procs = f"tcp://localhost:{_free_port()}", world
    else:
        each = devices if found.by == "Slurm" and found.processes == found.nodes else 1
        world = found.processes * each
        if asked not in (0, world):
            raise ValueError(_mismatch(asked, found, each))
        parallel.distributed_world_size, parallel.distributed_rank = world, found.rank * each
        parallel.distributed_init_method, parallel.distributed_no_spawn = found.init_method, each == 1
        parallel.device_id = found.local_rank % devices
    if not cuda:
        parallel.distributed_backend = "gloo"
    quiet_others(cfg)


def quiet_others(cfg: DictConfig) -> None:
    """Show only warnings of other ranks than the first."""
    if not is_first(cfg):
        logging.getLogger().setLevel(logging.WARNING)
        logging.getLogger("fairseq.logging.progress_bar").setLevel(logging.WARNING)


def _mismatch(asked: int, found: Launched, each: int) -> str:
    world = found.processes * each
    started = f"{found.by} started {found.processes} processes on {found.nodes} node(s), with {each} device(s) each"
    nodes = asked * found.nodes / world
    more = f"start them on {nodes:g} nodes, or " if nodes.is_integer() else ""
    return (
        f"distributed_training.distributed_world_size={asked}, but {started}: {world} ranks; {more}set "
        f"distributed_training.distributed_world_size={world}, or 0 to take what there is"
    )


def start(cfg: DictConfig, work: Callable[[DictConfig], None]) -> None:
    """Run `work` on each rank of this machine: here, or in a process per GPU or, as common.cpu asks, per CPU rank.

    fairseq starts a process per GPU: on CPU it would start none, and end as if it had trained. A signal would kill
    one that still imports.
    """
    parallel = cfg.distributed_training
    if parallel.distributed_init_method is None or parallel.distributed_no_spawn:
        distributed_utils.call_main(cfg, work)
        return
    first, parallel.distributed_rank = parallel.distributed_rank, None
    arguments = (work, cfg, {"start_rank": first})
    count = parallel.distributed_num_procs
    if not cfg.common.cpu:
        count = min(torch.cuda.device_count(), parallel.distributed_world_size)
    with signals.held():
        ranks = spawn(distributed_utils.distributed_main, arguments, count, join=False)  # type: ignore[no-untyped-call]
    while not ranks.join():
        pass


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


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
    """The device to run a trained model on: `auto` is CUDA where it is there. Raises ValueError for one that is not."""
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    except RuntimeError:
        raise ValueError(f"device {name!r}: expected auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not (device.index or 0) < torch.cuda.device_count():
        raise ValueError(f"device {name!r}: torch sees {torch.cuda.device_count()} CUDA devices here; give cpu or auto")
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
