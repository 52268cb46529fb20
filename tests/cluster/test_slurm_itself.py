"""What is asked of Slurm, on a real one."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from mms_recipes.cluster import slurm

pytestmark = pytest.mark.slow


def sbatch(*options: str) -> str:
    command = ["sbatch", "--parsable", "--output=/dev/null", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_two_nodes_meet(cluster: Path) -> None:
    """Both ranks find the same address, though the nodes' names do not resolve; another step has another port."""
    code = "import os; from mms_recipes import slurm; print(os.environ['SLURMD_NODENAME'], slurm.rendezvous())"
    command = ["srun", "--nodes=2", "--ntasks=2", sys.executable, "-c", code]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2))
    told = dict(line.split() for line in first.splitlines())
    assert sorted(told) == ["n1", "n2"] and len({*told.values()}) == 1
    assert told["n1"].startswith("tcp://127.0.0.1:") and told["n1"] not in second


def test_states_of_jobs(cluster: Path) -> None:
    running = sbatch("--wrap=sleep 3600")
    held = sbatch("--hold", "--array=0-1", "--wrap=true")
    failed = sbatch("--wrap=exit 3")
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


def test_without_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
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
