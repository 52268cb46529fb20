"""A Slurm of two nodes on this host, in one folder: for tests, and by hand to try things.

    python tests/cluster/slurm.py start /tmp/slurm      # then: export SLURM_CONF=/tmp/slurm/slurm.conf; sinfo
    python tests/cluster/slurm.py stop /tmp/slurm

Needs root and the programs of Debian's slurm-wlm and munge. Partitions: `work` (the default) and `urgent`, whose jobs
preempt those of `work`, which are requeued. There is no accounting database, as on many small clusters.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
NODES = ("n1", "n2")
START_SECONDS = 40.0

# cred_expire: a requeued job waits that long, two minutes if it is not said. The processors are made up: what counts is
# that two jobs of a test run side by side.
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,sched_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
KillWait=10
MinJobAge=3600
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port={node_ports} CPUs=4 RealMemory=4000
PartitionName=work Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str | None:
    """Why no Slurm can be started here, or None."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"{', '.join(absent)} not found; Debian: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "starting slurmctld and slurmd needs root"


def start(folder: Path) -> dict[str, str]:
    """Start munged, slurmctld and a slurmd per node in `folder`; return the environment to add for its commands.

    Raises RuntimeError with the logs when the nodes do not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o755)
    for name in ("state", *(f"spool.{node}" for node in NODES)):
        (folder / name).mkdir(exist_ok=True)
    ports = free_ports(1 + len(NODES))
    node_ports = ",".join(map(str, ports[1:]))
    names = {"host": socket.gethostname(), "nodes": ",".join(NODES)}
    conf = CONF.format(folder=folder, ports=ports, node_ports=node_ports, **names)
    (folder / "slurm.conf").write_text(conf)
    env = {"SLURM_CONF": str(folder / "slurm.conf")}
    start_munge(folder)
    run(["slurmctld", "-c", "-f", env["SLURM_CONF"]], env)
    for node in NODES:
        start_node(folder, node)
    deadline = time.monotonic() + START_SECONDS
    while node_states(env) != dict.fromkeys(NODES, "idle"):
        if time.monotonic() > deadline:
            logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.log")))
            stop(folder)
            raise RuntimeError(f"{folder}: the nodes are not idle after {START_SECONDS:g} s: {logs}")
        time.sleep(0.2)
    return env


def start_munge(folder: Path) -> None:
    """Start the daemon that signs Slurm's messages, with a key of its own."""
    key = folder / "munge.key"
    if not key.exists():
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
    files = {"key-file": key.name, "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log"}
    options = [f"--{option}={folder / name}" for option, name in files.items()]
    # --force: a folder below /tmp is fine here
    run(["munged", "--force", *options, f"--seed-file={folder}/munged.seed"], {})


def start_node(folder: Path, node: str) -> None:
    """Start the slurmd of a node."""
    run(["slurmd", "-N", node, "-f", str(folder / "slurm.conf")], {})


def node_states(env: dict[str, str]) -> dict[str, str]:
    """State of each node as sinfo tells it: idle, mixed, down*, ..."""
    command = ["sinfo", "--noheader", "--Node", "--partition=work", "--format=%N %t"]
    told = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=False)
    return dict(line.split() for line in told.stdout.splitlines())


def stop(folder: Path) -> None:
    """Cancel all jobs and end the daemons that were started in `folder`."""
    env = {"SLURM_CONF": str(folder / "slurm.conf")}
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        cancel = ["scancel", "--user=root", "--full", "--signal=KILL"]
        subprocess.run(cancel, env=os.environ | env, capture_output=True, check=False, timeout=20)
        time.sleep(1)
    for name in (*(f"slurmd.{node}" for node in NODES), "slurmctld", "munged"):
        kill(folder / f"{name}.pid", signal.SIGKILL)  # asked kindly they take ten seconds
    (folder / "munge.socket").unlink(missing_ok=True)


def kill(pid_file: Path, signum: int = signal.SIGTERM, seconds: float = 10.0) -> None:
    """Signal the daemon of a pid file and wait until it is gone."""
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, signum)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return
    deadline = time.monotonic() + seconds
    while lives(pid):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.05)


def lives(pid: int) -> bool:
    """Whether a process runs; one that only waits to be noticed by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def run(command: list[str], env: dict[str, str]) -> None:
    done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr or done.stdout}")


if __name__ == "__main__":
    {"start": start, "stop": stop}[sys.argv[1]](Path(sys.argv[2]).resolve())
