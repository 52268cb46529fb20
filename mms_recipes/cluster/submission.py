"""Submit training jobs to Slurm: check what can be checked here, leave out what is finished or queued, note the rest.

Below the run's folder, `submissions/<job>.json` tells of each submission: the command, the sbatch file, and which job
of Slurm trains in which folder. `slurm/` holds what submitit sends and the logs of each rank.
"""

import json
import logging
import os
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from omegaconf import DictConfig, OmegaConf

from mms_recipes import config, files, run_folder
from mms_recipes.cluster import claim, progress, run_state, sbatch, slurm
from mms_recipes.runner import MANDATORY
from mms_recipes.tasks.finetuning import job_languages

logger = logging.getLogger(__name__)

CLAIM = "submitting.json"  # in the run's folder, while jobs are submitted
WAIT_SECONDS = 60.0  # for another process that is submitting the same run


@dataclass(frozen=True)
class Job:
    """One training run of a submission."""

    overrides: tuple[str, ...]
    cfg: DictConfig
    folder: Path  # where it trains
    index: int

    @property
    def command(self) -> str:
        """What trains it without Slurm."""
        return shlex.join(["python", "-m", "mms_recipes.train", "-m", *self.overrides])


def compose(cfg: DictConfig, overrides: Sequence[Sequence[str]], loader: Any, first: int) -> list[Job]:
    """Compose the configuration of every job of a sweep. Raises ValueError when two of them have one folder."""
    jobs: dict[Path, Job] = {}
    for index, changes in enumerate(overrides, start=first):
        job_cfg = loader.load_sweep_config(cfg, list(changes))
        folder = Path(job_cfg.hydra.sweep.dir) / job_cfg.hydra.sweep.subdir
        job = Job(tuple(changes), job_cfg, folder, index)
        if folder in jobs:
            differing = sorted({*changes} ^ {*jobs[folder].overrides})
            raise ValueError(
                f"{folder}: several jobs of this command would train in it "
                f"({'they differ in ' + ', '.join(differing) if differing else 'the same settings are given twice'}); "
                "give each a name of its own, for example 'name=x_${common.seed}', or leave one out"
            )
        jobs[folder] = job
    return list(jobs.values())


def launch(launcher: Any, jobs: Sequence[Job], params: Mapping[str, Any]) -> None:
    """Submit those of `jobs` that are neither finished nor queued, as one array; with params["dry_run"] only print it.

    Raises ValueError for what the user can mend, OSError when Slurm does not answer.
    """
    folder = Path(launcher.config.hydra.sweep.dir)
    for job in jobs:
        check(job)
    settings = allocation(params, jobs[0].cfg)
    if params["dry_run"]:
        dry_run(jobs, settings, folder)
        return
    with claim.claimed(folder / CLAIM, "submitted", WAIT_SECONDS):
        todo = select(jobs, folder)
        if not todo:
            logger.info("%s: nothing to submit", folder)
            return
        submit(launcher, todo, settings, folder)
    logger.info("how it goes: python -m mms_recipes.status %s --watch", folder)


def check(job: Job) -> None:
    """Refuse what would stop the job at once. The rest is checked where it runs, which sees the data."""
    cfg = OmegaConf.masked_copy(job.cfg, [str(key) for key in job.cfg if key != "hydra"])
    if cfg.task is None:
        raise ValueError("no experiment given; add +experiment=NAME")
    config.require(cfg, MANDATORY, "train")
    if "shard" in cfg.task and (cfg.task.langs or Path(cfg.task.data).is_dir()):
        job_languages(cfg.task)  # refuses a shard that is out of range or would be empty
    run_folder.refuse_other_config(cfg, job.folder)


def allocation(params: Mapping[str, Any], cfg: DictConfig) -> dict[str, Any]:
    """The launcher's settings with nodes and processes filled in, which must be as many as the run shall have ranks."""
    settings = dict(params)
    gpus, world = params["gpus_per_node"] or 0, cfg.distributed_training.distributed_world_size
    tasks = params["tasks_per_node"] or max(1, gpus)
    ranks_per_node = max(1, gpus) if tasks == 1 else tasks  # one process on a node starts a rank for each GPU
    nodes = params["nodes"] or max(1, -(-world // ranks_per_node))
    if world not in (0, nodes * ranks_per_node):
        raise ValueError(
            f"distributed_training.distributed_world_size={world}, but {nodes} node(s) with {ranks_per_node} "
            f"rank(s) each are {nodes * ranks_per_node}: set hydra.launcher.nodes, gpus_per_node (null: no GPUs) and "
            "tasks_per_node to match, or distributed_training.distributed_world_size=0 to take what is allocated"
        )
    return settings | {"nodes": nodes, "tasks_per_node": tasks}


def select(jobs: Sequence[Job], folder: Path) -> list[Job]:
    """Those of `jobs` that are neither finished nor queued; the others are told."""
    sent = {job: where for one in run_state.submissions(folder) for job, where in one.jobs.items()}
    queued = slurm.queued(sent)
    busy = {sent[name]: f"job {name} has it ({state})" for name, state in queued.items()}
    todo = []
    for job in jobs:
        reason = busy.get(job.folder.resolve()) or finished(job)
        if reason:
            logger.info("%s: not submitted: %s", job.folder, reason)
        else:
            todo.append(job)
    return todo


def finished(job: Job) -> str:
    """Why there is nothing left to train, or ''."""
    told, asked = progress.read_or_new(job.folder), job.cfg.optimization.max_update
    if told.state != progress.DONE or told.max_update < asked or not run_folder.last(job.cfg, job.folder).exists():
        return ""
    return f"done, {told.num_updates} of {asked} updates"


def submit(function: Any, jobs: Sequence[Job], settings: Mapping[str, Any], folder: Path) -> None:
    """Hand the jobs to submitit, as calls of the launcher `function`, and note them."""
    prepared = sbatch.executor(settings)
    state = Singleton.get_state()
    calls = [(list(job.overrides), "hydra.sweep.dir", job.index, str(job.index), state) for job in jobs]
    told = [run_state.fingerprint(job.folder) for job in jobs]  # before a job begins to tell
    names = sbatch.send(prepared, function, calls, settings)
    described = {
        "time": progress.timestamp(),
        "host": socket.gethostname(),
        "command": sys.argv,
        "jobs": {name: os.path.relpath(job.folder, folder) for name, job in zip(names, jobs, strict=True)},
        "told": dict(zip(names, told, strict=True)),
        "sbatch": sbatch.file_text(prepared, len(jobs)),
    }
    number = names[0].partition("_")[0]
    (folder / run_state.SUBMISSIONS).mkdir(exist_ok=True)
    text = json.dumps(described, indent=1, ensure_ascii=False) + "\n"
    files.write_text(folder / run_state.SUBMISSIONS / f"{number}.json", text)
    logger.info("submitted job %s: %d run(s) in %s", number, len(jobs), folder)


def dry_run(jobs: Sequence[Job], settings: Mapping[str, Any], folder: Path) -> None:
    """Print the sbatch file and what each job would run; leave nothing behind."""
    todo = select(jobs, folder)
    if todo:
        print(sbatch.file_text(sbatch.executor(settings), len(todo)))
    for number, job in enumerate(todo):
        print(f"# job {number}, in {job.folder}: {job.command}")
    if [path.name for path in folder.iterdir()] == ["multirun.yaml"]:  # Hydra writes it before it asks us
        (folder / "multirun.yaml").unlink()
        folder.rmdir()
