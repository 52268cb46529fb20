"""Start a training run: check, record what it is, hand over to fairseq's trainer."""

import contextlib
import functools
import logging
import math
import multiprocessing
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mms_recipes.plugins  # noqa: F401  (first: it silences fairseq's import; a worker must know tasks and models too)

# isort: split
import torch
from fairseq.dataclass.initialize import add_defaults
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException
from torch.multiprocessing.spawn import ProcessException

from mms_recipes import checkpoints, config, continuation, devices, files, preflight, run_record, streams
from mms_recipes import run_folder as run_folders
from mms_recipes.cluster import claim, preemption, progress, run_state, signals
from mms_recipes.data import workers

logger = logging.getLogger(__name__)

NO_EXPERIMENT = "no experiment given; add one of {}"
MANDATORY = ["name", "task.data", "model.base"]


@contextlib.contextmanager
def errors_for_users() -> Iterator[None]:
    """End with the message alone when the user can mend it; MMS_RECIPES_DEBUG=1 shows where it was raised.

    Ctrl-C ends with one line and status 130; a KeyboardInterrupt that holds a text says with it what was kept.
    Holds inside a command and around it: what Hydra finds wrong before the command starts is told here too.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra reports by itself and exits, with advice that does not help
    logging.raiseExceptions = False  # where train.log does not fit on a full disk, no traceback for every line
    signals.interruptible()
    try:
        with streams.guarded():
            yield
    except KeyboardInterrupt as interrupt:
        signum = getattr(interrupt, "signum", signal.SIGINT)
        logger.warning("%s", signals.told_interrupted(interrupt, signum))
        sys.exit(128 + signum)
    except (ValueError, OSError, HydraException, OmegaConfBaseException) as error:
        if os.environ.get("MMS_RECIPES_DEBUG"):
            raise
        logger.error("%s", streams.printable(explain(error), lines=True))
        sys.exit(getattr(error, "exit_code", 1))
    except torch.multiprocessing.ProcessRaisedException as error:  # in one of several processes of this machine
        said = re.search(r"\n(?:ValueError|\w*FileNotFoundError|OSError): (.*)$", str(error).rstrip(), re.DOTALL)
        if said is None or os.environ.get("MMS_RECIPES_DEBUG"):
            raise
        logger.error("%s", streams.printable(said[1], lines=True))
        sys.exit(1)
    finally:
        streams.drain()


def explain(error: Exception) -> str:
    """What an error means for who typed the command: for a key that does not exist, the nearest ones."""
    cause = error.__cause__ or error.__context__ or error  # Hydra wraps what OmegaConf found
    if not isinstance(cause, OmegaConfBaseException):
        # a data worker's error holds its traceback before the message
        return str(error).rstrip().rpartition(f"\n{type(error).__name__}: ")[2]
    where, said = str(error).splitlines()[0], str(cause).splitlines()[0]
    if isinstance(cause, InterpolationToMissingValueError):  # of the run's folder
        key = said.rpartition(" ")[2]
        return NO_EXPERIMENT.format(experiments()) if key == "name" else f"not given: add {key}=... to the command"
    if "is not a ListConfig" in said:
        return f"{where.rstrip('.:')}: expected a list, as in 'langs=[eng,fra]'"
    if isinstance(cause, (KeyError, AttributeError)):
        said = config.unknown_key(str(cause.full_key), cause.object_type)
    return said if cause is error else f"{where.rstrip('.:')}: {said}"


def train(cfg: DictConfig, run_folder: Path) -> None:
    """Train the experiment `cfg` in `run_folder`, or go on where its last checkpoint stands.

    Raises ValueError or FileNotFoundError when preflight finds something to mend, signals.Stopped when a signal
    asked to stop, OSError when another rank is gone.
    """
    if cfg.task is None:
        raise ValueError(NO_EXPERIMENT.format(experiments()))
    config.require(cfg, MANDATORY, "train")
    config.refuse_unknown_keys(cfg)
    add_defaults(cfg)
    plain: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    if held := config.first_reference(plain):
        raise ValueError(f"{held}: '${{' in a path cannot be used in training, in quotes either; use a link (ln -s)")
    asked, cfg = cfg, OmegaConf.create(plain)
    cfg.checkpoint.save_dir = str(run_folder / cfg.checkpoint.save_dir)
    if "adapters" in cfg.task:
        cfg.task.adapters = str(run_folder / cfg.task.adapters)
    devices.settle_world(cfg)
    devices.settle_precision(cfg)
    with signals.watched(forward=True):
        if devices.is_first(cfg):
            _train_first(asked, cfg, run_folder)
        else:
            run_folders.keep_for(run_folder, run_folders.last(asked, run_folder).parent, first=False)
            _train(asked, cfg, run_folder)


def _train_first(asked: DictConfig, cfg: DictConfig, run_folder: Path) -> None:
    """Train as the rank that has the folder and tells how it goes."""
    last = run_folders.last(asked, run_folder)
    run_folders.keep_for(run_folder, last.parent, first=True)
    resuming = last.exists()
    found = _compared(asked, cfg, run_folder)  # before anything is told of this run: it stays what it is
    told = progress.recorded(run_folder, cfg.optimization.max_update, resuming)
    try:
        with claim.claimed(run_folder / run_state.CLAIM, "trained"), told:
            files.clean_own(run_folder, last.parent, Path(cfg.task.get("adapters", run_folder)))
            checkpoints.mend(last)
            _train(asked, cfg, run_folder, found)
    except signals.Stopped as stopped:
        logger.warning("stopped: %s", stopped)
        if answer := signals.requeue(stopped.signum):
            logger.warning("%s", answer)
        raise


def _compared(asked: DictConfig, cfg: DictConfig, run_folder: Path) -> continuation.Found | None:
    """Compare a run that goes on with what it was; None where there is nothing to go on from, or it cannot be read yet.

    Raises ValueError or FileNotFoundError for what it cannot go on with.
    """
    last = run_folders.last(asked, run_folder)
    if not last.exists():
        return None
    if is_done(cfg, last):
        run_folders.refuse_other_config(asked, run_folder)
        return None
    try:
        checkpoints.load_checkpoint(last, weights=False)
    except ValueError:
        if checkpoints.damage(last) is None:
            raise
        return None  # the first rank puts a whole one in its place before the ranks meet
    return continuation.compare(asked, cfg, run_folder, last, first=devices.is_first(cfg))


def _train(asked: DictConfig, cfg: DictConfig, run_folder: Path, found: continuation.Found | None = None) -> None:
    """Train, as one of the ranks. `cfg` is what was asked for with all that this machine decides filled in."""
    last = run_folders.last(asked, run_folder)
    if is_done(cfg, last):
        logger.info("%s: all %d updates are done; nothing to do", run_folder, cfg.optimization.max_update)
        return
    logger.info("run folder: %s (%s)", run_folder, "resuming" if last.exists() else "new")
    preflight.check(cfg, run_folder)
    found = found or _compared(asked, cfg, run_folder)
    if found is None:
        continuation.check(cfg, run_folder, last)
    devices.settle_batch(cfg)
    if devices.is_first(cfg):
        if last.exists() and (
            other := run_folders.told_of_other_world(cfg, checkpoints.load_checkpoint(last, weights=False)["cfg"])
        ):
            logger.warning("%s: %s", last, other)
        found = found or continuation.Found(run_record.data_of(cfg))
        run_record.write(cfg, run_folder, found.data, found.earlier)
        progress.tell(now=True, langs=preflight.language_folders(cfg.task))
    if HydraConfig.initialized():  # fairseq sets the log up again in the processes that it starts
        cfg.job_logging_cfg = OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    signals.stop_if_asked()
    try:
        devices.start(cfg, functools.partial(work, run_folder=run_folder))
    except (RuntimeError, OSError, ProcessException) as error:
        signum, lost = signals.asked(), preemption.lost(error)
        by_code = {signals.exit_code(one): one for one in reversed(signals.SIGNALS)}
        if (code := getattr(error, "exit_code", None)) in by_code:  # the first rank's, in a process of its own
            signum = signum or by_code[code]
            raise signals.Stopped(preemption.told(signum, checkpoints.num_updates(last)), signum) from None
        if lost is None:
            raise
        if signum in (*signals.REQUEUING, *signals.BY_HAND):  # it ends a rank that does not listen yet
            raise signals.Stopped(signals.told_before(signum), signum) from error
        raise lost from error
    if cfg.optimization.stop_time_hours > 0 and not is_done(cfg, last):
        done, hours = checkpoints.num_updates(last), cfg.optimization.stop_time_hours
        told = f"optimization.stop_time_hours={hours:g} are over after update {done}; with more it goes on"
        raise signals.Stopped(told)
    if devices.is_first(cfg) and (told := ended_early(cfg, last)):
        done = checkpoints.num_updates(last) if last.exists() else 0
        progress.tell(num_updates=done)
        raise signals.Stopped(told, code=0 if done else 1)  # with a checkpoint it is what the setting asked for
    logger.info("done: %s", run_folder)


def is_done(cfg: DictConfig, last: Path) -> bool:
    """Whether the checkpoint that a run would go on from has all updates."""
    try:
        return last.exists() and checkpoints.num_updates(last) >= cfg.optimization.max_update
    except ValueError:
        if checkpoints.damage(last) is None:
            raise
        return False  # the first rank puts a whole one in its place before the ranks meet


def ended_early(cfg: DictConfig, last: Path) -> str:
    """What to say of a run that fairseq has ended before its last update; '' where all are done."""
    if is_done(cfg, last) or cfg.checkpoint.no_save or cfg.checkpoint.no_last_checkpoints:
        return ""
    done, epoch = 0, 1
    if last.exists():
        done = checkpoints.num_updates(last)
        epoch = checkpoints.load_checkpoint(last, weights=False)["extra_state"]["train_iterator"]["epoch"]
    settings = cfg.optimization
    if 0 < settings.max_epoch < epoch:
        why = f"the last epoch is over (optimization.max_epoch={settings.max_epoch})"
    elif cfg.checkpoint.patience > 0:
        why = f"dev did not get better in {cfg.checkpoint.patience} validations (checkpoint.patience)"
    else:
        why = f"the learning rate is not above optimization.stop_min_lr={settings.stop_min_lr:g}"
    return f"ended at update {done} of {settings.max_update}: {why}"


def work(cfg: DictConfig, run_folder: Path) -> None:
    """One worker: fairseq's training loop. Module level and importable, so that Slurm and spawn can start it."""
    import fairseq_cli.train
    from fairseq import checkpoint_utils

    if sys.platform == "linux":  # a rank that was started here would start its data workers anew, each for seconds
        multiprocessing.set_start_method("fork", force=True)
    devices.quiet_others(cfg)  # importing fairseq_cli in a new process has undone it
    if devices.is_first(cfg):
        progress.follow(run_folder)
    # with fully_sharded it would have fairscale wrap the model while it is built; the trainer does it (sharding.py)
    fairseq_cli.train.fsdp_enable_wrap = lambda parallel: contextlib.nullcontext()
    fairseq_cli.train.fsdp_wrap = lambda model: model
    # fairseq keeps the best score so far on the function: in a sweep the next run would be measured against it
    vars(checkpoint_utils.save_checkpoint).pop("best", None)
    fairseq_cli.train.validate = _scored(fairseq_cli.train.validate)
    preemption.stop_when_asked()
    with signals.watched(), workers.ended():
        fairseq_cli.train.main(cfg)


def _scored(validate: Callable[..., list[float | None]]) -> Callable[..., list[float | None]]:
    """fairseq's validation, without a score where it is not finite: as a number it would be, or hide, the best."""
    if hasattr(validate, "__wrapped__"):
        return validate

    @functools.wraps(validate)
    def validate_and_check(*args: Any) -> list[float | None]:
        return [score if score is not None and math.isfinite(score) else None for score in validate(*args)]

    return validate_and_check


def experiments() -> str:
    """The experiments that there are, for a message."""
    return ", ".join(f"+experiment={path.stem}" for path in sorted((config.CONFIGS / "experiment").glob("*.yaml")))
