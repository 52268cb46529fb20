"""Stop when asked, losing nothing: at SIGTERM, SIGUSR1, SIGUSR2 a checkpoint after the next update, then exit code 75.

What comes of it depends on who asks:

    SIGTERM   Slurm preempts the job (and requeues it by itself), or somebody cancels it (and nobody shall requeue it)
    SIGUSR1   scancel --signal=USR1, or sbatch --signal: of a job of Slurm its first rank asks for it to be requeued
    SIGUSR2   the same; submitit has Slurm send it before the time limit

All ranks stop after the same update, whichever of them was asked. The first one ends with EXIT_CODE, the others with 0:
srun would kill the first one, which still has to report, when another fails.
"""

import contextlib
import functools
import logging
import multiprocessing
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from torch.multiprocessing.spawn import ProcessExitedException

from mms_recipes.cluster import slurm

logger = logging.getLogger(__name__)

EXIT_CODE = os.EX_TEMPFAIL  # 75: not done, and nothing is wrong; for RequeueExit of slurm.conf, or a loop of one's own
REQUEUING = (signal.SIGUSR1, signal.SIGUSR2)
SIGNALS = (signal.SIGTERM, *REQUEUING)

_asked = 0  # the signal that asked this process to stop, 0 for none


class Stopped(SystemExit):
    """A run that was asked to stop has written its checkpoint. The same command goes on with it."""

    def __init__(self, message: str, signum: int, code: int = EXIT_CODE) -> None:
        super().__init__(message)
        self.code = code
        self.signum = signum


@contextlib.contextmanager
def watched(forward: bool = False) -> Iterator[None]:
    """Take note of the signals while the block runs; `forward`: pass them on to the ranks that this process starts."""
    global _asked
    if threading.current_thread() is not threading.main_thread():  # only there Python tells of signals
        yield
        return
    asked_before = _asked

    def note(signum: int, frame: FrameType | None) -> None:
        global _asked
        _asked = _asked or signum
        if forward:
            for child in multiprocessing.active_children():
                if child.pid is not None:
                    os.kill(child.pid, signum)

    before = {one: signal.signal(one, note) or signal.SIG_DFL for one in SIGNALS}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        _asked = asked_before


def asked() -> int:
    """The signal that asked this process to stop, 0 for none."""
    return _asked


def stop_when_asked() -> None:
    """Have fairseq's training loop look after every update whether any rank was asked to stop."""
    import fairseq_cli.train

    stock = fairseq_cli.train.validate_and_save
    stock = getattr(stock, "__wrapped__", stock)  # of an earlier run of this process

    @functools.wraps(stock)
    def validate_and_save(cfg: Any, trainer: Any, task: Any, epoch_itr: Any, *rest: Any) -> Any:
        losses, done = stock(cfg, trainer, task, epoch_itr, *rest)
        signum = 0 if done else _asked_on_any_rank(trainer)
        if not signum:
            return losses, done
        checkpoint_utils.save_checkpoint(cfg.checkpoint, trainer, epoch_itr, None)
        if torch.distributed.is_initialized():  # the checkpoint is whole before any rank ends
            torch.distributed.barrier()
        code = EXIT_CODE if distributed_utils.get_global_rank() == 0 else 0
        raise Stopped(told(signum, trainer.get_num_updates()), signum, code)

    fairseq_cli.train.validate_and_save = validate_and_save


def told(signum: int, num_updates: int) -> str:
    """What to say of a run that was stopped."""
    return f"{signal.Signals(signum).name} after update {num_updates:,}, with its checkpoint: the same command goes on"


def _asked_on_any_rank(trainer: Any) -> int:
    if trainer.data_parallel_world_size == 1:
        return _asked
    # where ranks were asked by different signals, one that requeues counts: these have the smaller numbers
    flag = torch.tensor([-_asked if _asked else -(2**30)], device=trainer.device)
    distributed_utils.all_reduce(flag, group=trainer.data_parallel_process_group, op="max")
    found = -int(flag)
    return 0 if found == 2**30 else found


def requeue(stopped: Stopped) -> None:
    """Ask Slurm to start this job again, if that is what the signal meant. Says so where it cannot be."""
    job = slurm.this_job()
    if not job or stopped.signum not in REQUEUING:
        return
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False, timeout=60)
        failed = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        failed = str(error)
    if failed:
        logger.error("job %s could not be requeued (%s); submit it again: it goes on", job, failed)
    else:
        logger.info("job %s is requeued", job)


def lost_rank(error: BaseException) -> str | None:
    """What to say of an error that means that another rank is gone, or None when it means something else."""
    if isinstance(error, ProcessExitedException):
        how = error.signal_name or f"exit status {error.exit_code}"
        what = f"rank {error.error_index} of this machine ended without a word ({how}; SIGKILL: often out of memory)"
    elif isinstance(error, torch.distributed.DistError) or "gloo" in str(error) or "NCCL" in str(error):
        what = (
            f"another rank is gone, or does not answer ({str(error).strip().splitlines()[0]}); see which log ends first"
        )
    else:
        return None
    return f"{what}. All ranks end; start the same command again: it goes on from the last checkpoint"
