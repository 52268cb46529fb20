"""Stop training when asked, losing nothing: a checkpoint after the next update, then exit code 75, or 130 (signals.py).

All ranks stop after the same update, whichever of them was asked. The first one ends with that code, the others with 0:
srun would kill the first one, which still has to report, when another fails.
"""

import functools
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from torch.multiprocessing.spawn import ProcessExitedException

from mms_recipes.cluster import signals


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
