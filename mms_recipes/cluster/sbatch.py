"""The sbatch file of a job or job array, written by submitit, and its submission."""

import contextlib
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from mms_recipes.cluster import slurm

# settings of the launcher that are not for sbatch
NOT_SBATCH = ("submitit_folder", "max_num_timeout", "requeue", "dry_run")
# sbatch lets these win over the file that it is given; what the launcher's settings say shall win over them
VARIABLES = {
    "partition": "SBATCH_PARTITION",
    "account": "SBATCH_ACCOUNT",
    "qos": "SBATCH_QOS",
    "constraint": "SBATCH_CONSTRAINT",
    "timeout_min": "SBATCH_TIMELIMIT",
    "gpus_per_node": "SBATCH_GPUS_PER_NODE",
    "mem_gb": "SBATCH_MEM_PER_NODE",
}


# After srun: a process that was killed (SIGKILL: 137) ran out of memory, or its node is not well. Not where Slurm has
# already started the job again, having lost this node.
AGAIN = """\
status=$?
job=${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}
restarts=${{SLURM_RESTART_COUNT:-0}}
if [ $status -eq 137 ] && [ $restarts -lt {times} ] && scontrol show job $job | grep -q "Restarts=$restarts "; then
    echo "job $job: a process was killed, often for lack of memory; the job is requeued and goes on" >&2
    scontrol requeue $job
fi
exit $status"""
TIMES = 3  # that a job may have been started again before, for whatever reason


class Executor(submitit.SlurmExecutor):
    """submitit's, which also writes its file where there is no Slurm, for a dry run, and listens to signals at once."""

    @property
    def _submitit_command_str(self) -> str:
        return shlex.join([self.python, "-u", "-m", "mms_recipes.cluster.job", str(self.folder)])

    @classmethod
    def affinity(cls) -> int:
        return 2


def executor(settings: Mapping[str, Any]) -> Executor:
    """Prepare a submission; `settings` are those of configs/hydra/launcher/slurm.yaml."""
    found = Executor(settings["submitit_folder"], max_num_timeout=settings["max_num_timeout"])
    given = {key: value for key, value in settings.items() if key not in NOT_SBATCH}
    given["setup"] = ["export SLURM_KILL_BAD_EXIT=1", *(given["setup"] or [])]  # a rank that fails ends the others
    if given["cpus_per_task"]:  # since Slurm 22.05 srun does not take it from sbatch
        given["setup"].insert(0, f"export SRUN_CPUS_PER_TASK={given['cpus_per_task']}")
    if settings["requeue"]:
        given["teardown"] = AGAIN.format(times=TIMES).splitlines()
    extra = {"requeue" if settings["requeue"] else "no-requeue": True}
    given["additional_parameters"] = extra | dict(given["additional_parameters"] or {})
    given = {key: value for key, value in given.items() if value is not None}
    found.update_parameters(**found._convert_parameters(given))
    return found


def file_text(prepared: Executor, num_jobs: int) -> str:
    """The sbatch file that a submission of `num_jobs` would send."""
    parameters = prepared.parameters
    prepared.parameters = parameters | ({"map_count": num_jobs} if num_jobs > 1 else {})
    try:
        return prepared._make_submission_file_text(prepared._submitit_command_str, uid="")
    finally:
        prepared.parameters = parameters


def send(
    prepared: Executor, function: Callable[..., Any], calls: Sequence[Sequence[Any]], settings: Mapping[str, Any]
) -> list[str]:
    """Submit one job per call of `function`, as an array where there are several; return their names in squeue.

    Raises ValueError with what sbatch said when it refuses, for example because there is no such partition.
    """
    try:
        with _without_variables(settings):
            jobs = prepared.map_array(function, *zip(*calls, strict=True))
    except (FailedJobError, FailedSubmissionError) as error:
        raise ValueError(_refused(str(error), settings)) from None
    except FileNotFoundError as error:
        if error.filename != "sbatch":
            raise
        raise ValueError(
            "sbatch: not found; submit on a machine of the cluster, or leave hydra/launcher=slurm out"
        ) from None
    return [job.job_id for job in jobs]


def _refused(said: str, settings: Mapping[str, Any]) -> str:
    reasons = re.findall(r"sbatch: error: (.*)", said) or [said.strip().splitlines()[-1]]
    message = f"sbatch refused the job: {'; '.join(reasons)}"
    if "partition" in message:
        with contextlib.suppress(OSError):
            message += f"; hydra.launcher.partition={settings['partition']}, there are: {', '.join(slurm.partitions())}"
    return f"{message}. What is asked for: add --dry-run; settings: configs/hydra/launcher/slurm.yaml"


@contextlib.contextmanager
def _without_variables(settings: Mapping[str, Any]) -> Iterator[None]:
    """Hide the variables of sbatch that the settings decide."""
    hidden = {VARIABLES[key] for key, value in settings.items() if key in VARIABLES and value is not None}
    kept = {name: os.environ.pop(name) for name in hidden if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
