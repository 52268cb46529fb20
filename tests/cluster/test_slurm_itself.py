"""What is asked of Slurm, on a real one."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from mms_recipes.cluster import sbatch, slurm

pytestmark = pytest.mark.slow


def submitted(*options: str) -> str:
    command = ["sbatch", "--parsable", "--output=/dev/null", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_two_nodes_meet(cluster: Path) -> None:
    """Both ranks find the same address, though the nodes' names do not resolve; another step has another port."""
    code = "import os; from mms_recipes.cluster import slurm; print(os.environ['SLURMD_NODENAME'], slurm.rendezvous())"
    command = ["srun", "--nodes=2", "--ntasks=2", sys.executable, "-c", code]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2))
    told = dict(line.split() for line in first.splitlines())
    assert sorted(told) == ["n1", "n2"] and len({*told.values()}) == 1
    assert told["n1"].startswith("tcp://127.0.0.1:") and told["n1"] not in second


def test_states_of_jobs(cluster: Path) -> None:
    running = submitted("--wrap=sleep 3600")
    held = submitted("--hold", "--array=0-1", "--wrap=true")
    failed = submitted("--wrap=exit 3")
    deadline = time.monotonic() + 60
    while slurm.ending(failed) != "FAILED" or slurm.queued([running]).get(running) != slurm.JobState("RUNNING", "None"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    states = slurm.queued([running, f"{held}_0", f"{held}_1", failed, "99999"])
    assert {job: state.state for job, state in states.items()} == {
        running: "RUNNING",
        f"{held}_0": "PENDING",
        f"{held}_1": "PENDING",
    }
    assert str(states[f"{held}_0"]) == "PENDING, JobHeldUser" and str(states[running]) == "RUNNING"
    assert slurm.queued(["99999"]) == {} and slurm.queued([]) == {} and slurm.ending("99999") == ""
    assert slurm.partitions() == ["urgent", "work"]
    subprocess.run(["scancel", running, held], check=True)


def test_node_that_slurm_hears_of(cluster: Path) -> None:
    assert slurm.answers("n1") and not slurm.answers("n9") and not slurm.answers("")


def test_killed_process_is_started_again_but_not_for_ever(cluster: Path, tmp_path: Path) -> None:
    """What the sbatch file says after srun, of a process that is always out of memory."""
    script = ["#!/bin/bash", "srun sh -c 'kill -KILL $$'", sbatch.AGAIN.format(times=1)]
    (tmp_path / "killed.sh").write_text("\n".join(script) + "\n")
    job = submitted(f"--error={tmp_path}/log", "--open-mode=append", str(tmp_path / "killed.sh"))
    deadline = time.monotonic() + 90
    while slurm.ending(job) != "FAILED":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    told = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True).stdout
    assert "Restarts=1 " in told and "ExitCode=137:0" in told
    assert f"job {job}: a process was killed, often for lack of memory" in (tmp_path / "log").read_text()


def test_without_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not slurm.answers("n1")
    with pytest.raises(OSError, match=r"squeue: not found; this machine is not of a Slurm cluster"):
        slurm.queued(["1"])
    assert slurm.ending("1") == ""


def test_controller_that_is_away(monkeypatch: pytest.MonkeyPatch, cluster: Path, tmp_path: Path) -> None:
    """Nothing is known then; that is told apart from a job that has ended."""
    conf = (cluster / "slurm.conf").read_text()
    port = next(line for line in conf.splitlines() if line.startswith("SlurmctldPort="))
    (tmp_path / "slurm.conf").write_text(conf.replace(port, "SlurmctldPort=1\nMessageTimeout=2"))
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    with pytest.raises(OSError, match=r"squeue .*(Unable to contact|timed out|Connection refused)"):
        slurm.queued(["1"])
