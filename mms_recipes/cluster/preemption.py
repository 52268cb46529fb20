"""Stop training when asked, losing nothing: a checkpoint after the next update, then exit code 75, or 130 (signals.py).

All ranks stop after the same update, whichever of them was asked. The first one ends with that code, the others with 0:
srun would kill the first one, which still has to report, when another fails.
"""

import functools
import re
import signal
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from mms_recipes.cluster import signals, slurm


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
        code = signals.exit_code(signum) if distributed_utils.get_global_rank() == 0 else 0
        raise signals.Stopped(told(signum, trainer.get_num_updates()), signum, code)

    fairseq_cli.train.validate_and_save = validate_and_save


def told(signum: int, num_updates: int) -> str:
    """What to say of a run that was stopped."""
    return f"{signals.named(signum)} after update {num_updates:,}, with its checkpoint: the same command goes on"


def _asked_on_any_rank(trainer: Any) -> int:
    asked = signals.asked()
    if trainer.data_parallel_world_size == 1:
        return asked
    # where ranks were asked by different signals, a person's counts, else one that requeues: by their numbers
    flag = torch.tensor([-asked if asked else -(2**30)], device=trainer.device)
    distributed_utils.all_reduce(flag, group=trainer.data_parallel_process_group, op="max")
    found = -int(flag)
    return 0 if found == 2**30 else found


class Lost(OSError):
    """Another process of the run, a rank or a data worker, is gone or stands still. The same command goes on.

    `exit_code`: in a job of Slurm that of a process that was killed, which has the job requeued (sbatch.py).
    """

    def __init__(self, what: str, killed: bool = False) -> None:
        super().__init__(f"{what}; start the same command again: it goes on from the last checkpoint")
        self.exit_code = 128 + signal.SIGKILL if killed and slurm.this_job() else 1


def lost(error: BaseException) -> Lost | None:
    """What an error means that another process has caused by its end or silence, or None when it means something else.

    The error may have come up in any other, or in a rank of this machine, and then holds that one's traceback.
    """
    if isinstance(error, ProcessExitedException):
        how = error.signal_name or f"exit status {error.exit_code}"
        what = f"rank {error.error_index} of this machine ended without a word ({how}{_often(how)}). All ranks end"
        return Lost(what, killed=how == "SIGKILL")
    first: BaseException | None = error
    while first is not None:
        if found := _lost_worker(str(first)):
            return found
        first = first.__cause__ or first.__context__
    said = str(error).strip().splitlines() or [""]
    line = said[-1] if isinstance(error, ProcessRaisedException) else said[0]
    if isinstance(error, torch.distributed.DistError) or re.search(r"\bgloo\b|NCCL|Dist\w*Error", line):
        return Lost(f"another rank is gone, or does not answer ({line}); see which log ends first. All ranks end")
    return None


def _lost_worker(said: str) -> Lost | None:
    """What to say where torch's DataLoader says that a worker has ended, or gives no batch."""
    if found := re.search(r"DataLoader timed out after ([\d.]+)", said):
        return Lost(
            f"no batch came from the data workers for {float(found[1]):g} s: one stands still, or the disk that it "
            "reads from does (MMS_RECIPES_RANK_TIMEOUT sets the seconds, dataset.num_workers=0 does without workers)"
        )
    found = re.search(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\) (?:exited|is killed by signal: ([\w ]+))", said)
    if found is None:
        return None
    names = {"": "most likely SIGKILL", "Killed": "SIGKILL", "Terminated": "SIGTERM", "Bus error": "SIGBUS"}
    how = names.get((found[2] or "").strip(), found[2])
    what = f"data worker (process {found[1]}) ended without a word ({how}{_often(how)})"
    return Lost(f"{what}; with fewer of them (dataset.num_workers) less memory is needed", killed=True)


def _often(how: str) -> str:
    return ": the kernel does it when memory runs out" if how.endswith("SIGKILL") else ""
