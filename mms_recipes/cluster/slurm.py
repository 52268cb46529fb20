"""Ask Slurm: which job this process is of, what state jobs are in, why one ended, and where to meet its other ranks."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass

SECONDS = 60.0  # a controller that does not answer within these is taken for unreachable


@dataclass(frozen=True)
class JobState:
    """A job that Slurm still has: PENDING, RUNNING, COMPLETING, ...; `reason` says why it waits or is held."""

    state: str
    reason: str

    def __str__(self) -> str:
        told = self.reason if self.reason not in ("", "None", "(null)") else ""
        return f"{self.state}, {told}" if told else self.state


def this_job(env: Mapping[str, str] = os.environ) -> str:
    """The job that this process runs in, as squeue names it (`12`, `12_3` in an array), or ''."""
    if "SLURM_ARRAY_JOB_ID" in env:
        return f"{env['SLURM_ARRAY_JOB_ID']}_{env['SLURM_ARRAY_TASK_ID']}"
    return env.get("SLURM_JOB_ID", "")


def restarts(env: Mapping[str, str] = os.environ) -> int:
    """How often the job of this process was requeued."""
    return int(env.get("SLURM_RESTART_COUNT", 0))


def queued(jobs: Collection[str]) -> dict[str, JobState]:
    """Those of `jobs` that wait or run, by name (`12_3`); a requeued job waits.

    Raises OSError where there is no Slurm or its controller does not answer: then nothing is known of the jobs.
    """
    if not jobs:
        return {}
    numbers = sorted({job.partition("_")[0] for job in jobs})
    try:
        told = _ask(["squeue", "--noheader", "--array", "--format=%i|%T|%r", f"--jobs={','.join(numbers)}"])
    except OSError as error:
        if "Invalid job id" in str(error):  # one job alone, which ended so long ago that Slurm has forgotten it
            return {}
        raise
    states = {}
    for line in told.splitlines():
        job, state, reason = line.strip().split("|", 2)
        states[job] = JobState(state, reason)
    return {job: states[job] for job in jobs if job in states}


def ending(job: str) -> str:
    """How a job ended: Slurm's state (`FAILED`, `OUT_OF_MEMORY`, `NODE_FAIL`, `CANCELLED`, ...) or '' where not known.

    Slurm forgets ended jobs after MinJobAge (five minutes by default) unless there is accounting.
    """
    for command, pattern in (
        (["scontrol", "show", "job", "--oneliner", job], r"JobState=(\w+)"),
        (["sacct", "--noheader", "--allocations", "--parsable2", "--format=State", f"--jobs={job}"], r"^(\w+)"),
    ):
        try:
            found = re.search(pattern, _ask(command))
        except OSError:
            continue
        if found:
            return found[1]
    return ""


def answers(node: str) -> bool:
    """Whether Slurm hears of `node`, and so has seen the jobs end there that it says have ended. False when unknown.

    A node that is cut off may go on with a job which Slurm has started again elsewhere.
    """
    try:
        found = re.search(r"\bState=(\S+)", _ask(["scontrol", "show", "node", "--oneliner", node])) if node else None
    except OSError:
        return False
    return found is not None and "*" not in found[1]


def partitions() -> list[str]:
    """The partitions of the cluster."""
    return sorted(set(_ask(["sinfo", "--noheader", "--format=%R"]).split()))


def rendezvous(env: Mapping[str, str] = os.environ) -> str:
    """Where the ranks of this job step meet: `tcp://<node of rank 0>:<port>`; every rank computes the same.

    The port follows from the job, the step and the restarts, so jobs that share a node do not meet, nor does a requeued
    job meet what may be left of itself. Raises OSError when Slurm does not say where the node is.
    """
    nodes = _ask(["scontrol", "show", "hostnames", env["SLURM_STEP_NODELIST"]]).split()
    port = 15_000 + (int(env["SLURM_JOB_ID"]) * 7 + int(env["SLURM_STEP_ID"]) * 3 + restarts(env)) % 15_000
    return f"tcp://{address(nodes[0])}:{port}"


def address(node: str) -> str:
    """A name or address under which other nodes reach `node`: its name where that resolves, else Slurm's NodeAddr."""
    try:
        socket.getaddrinfo(node, None)
        return node
    except OSError:
        found = re.search(r"NodeAddr=(\S+)", _ask(["scontrol", "show", "node", "--oneliner", node]))
        return found[1] if found else node


def _ask(command: list[str]) -> str:
    """The output of one of Slurm's commands. Raises OSError when it is not there, fails or does not answer."""
    if shutil.which(command[0]) is None:
        raise OSError(f"{command[0]}: not found; this machine is not of a Slurm cluster")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise OSError(f"{' '.join(command)}: no answer within {SECONDS:g} s; is slurmctld up?") from None
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout
