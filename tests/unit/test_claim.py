"""One process at a time, and a claim whose maker is gone does not stop the next."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mms_recipes.cluster import claim, signals


def write(path: Path, holder: claim.Holder) -> None:
    path.write_text(json.dumps(asdict(holder)))


def hold(path: Path, **variables: str) -> subprocess.Popen[str]:
    """A process that has the claim until its input ends."""
    code = """
import sys
from pathlib import Path
from mms_recipes.cluster import claim, signals
claim.BEAT_SECONDS = 0.1
with claim.claimed(Path(sys.argv[1]), "trained"):
    print("held", flush=True)
    input()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], env=os.environ | variables, **pipes)  # type: ignore[call-overload]
    assert process.stdout.readline() == "held\n"
    return process  # type: ignore[no-any-return]


def test_second_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    path = tmp_path / "run" / "running.json"
    holding = hold(path, SLURM_JOB_ID="12")
    told = rf"run: is being trained by process {holding.pid} on .* \(Slurm job 12\) since .* stop it \(scancel 12\)"
    with pytest.raises(ValueError, match=told), claim.claimed(path, "trained"):
        raise AssertionError
    holding.kill()
    holding.wait()
    with claim.claimed(path, "trained"):  # its maker is gone
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert not path.exists() and not list(path.parent.iterdir())


def test_a_deleted_claim_is_made_again(tmp_path: Path) -> None:
    holding = hold(tmp_path / "running.json")
    (tmp_path / "running.json").unlink()
    deadline = time.monotonic() + 30
    while not (tmp_path / "running.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    holding.communicate("\n", timeout=30)
    assert holding.returncode == 0 and not (tmp_path / "running.json").exists()


def test_one_whose_claim_was_taken_over_ends(tmp_path: Path) -> None:
    """It stood still (a suspended machine) for so long that another took it for dead."""
    holding = hold(tmp_path / "running.json")
    write(tmp_path / "running.json", claim.this_process())
    assert holding.wait(timeout=30) == 1
    assert (
        holding.stderr is not None
        and "the claim was taken over while this process stood still" in holding.stderr.read()
    )
    assert (tmp_path / "running.json").exists()


def test_waiting_until_the_other_is_done(tmp_path: Path) -> None:
    path, order = tmp_path / "submitting.json", []
    with claim.claimed(path, "submitted"):
        late = threading.Thread(target=lambda: _hold(path, order))
        late.start()
        late.join(0.5)
        order.append("first")
    late.join()
    assert order == ["first", "second"]


def _hold(path: Path, order: list[str]) -> None:
    with claim.claimed(path, "submitted", wait_seconds=30):
        order.append("second")


def test_of_many_at_once_each_holds_it_alone(tmp_path: Path) -> None:
    """Also while each finds the stale claim of a process that was killed."""
    path, inside, most = tmp_path / "running.json", [], []
    write(path, replace(claim.this_process(), pid=2**22 - 1, started="1"))

    def enter(name: int) -> None:
        with claim.claimed(path, "trained", wait_seconds=60):
            inside.append(name)
            most.append(len(inside))
            inside.remove(name)

    threads = [threading.Thread(target=enter, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({}, False),
        ({"pid": 2**22 - 1}, True),  # killed
        ({"started": "1"}, True),  # its number was given to another process
        ({"boot": "earlier"}, None),  # started again, or another machine of that name
        ({"space": "pid:[1]"}, None),  # a container of its own: its processes are not seen
        ({"host": "elsewhere"}, None),  # no Slurm: not known
        ({"host": "elsewhere", "job": "7", "restarts": 0}, None),  # this job, before: its node may only be cut off
        ({"host": "elsewhere", "job": "7", "restarts": 1}, None),  # another process of this very job
        ({"host": "elsewhere", "job": "6"}, None),  # Slurm does not answer
    ],
)
def test_who_is_gone(
    changes: dict[str, object], gone: bool | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without Slurm; tests/cluster asks a real one."""
    monkeypatch.setenv("PATH", str(tmp_path))
    me = replace(claim.this_process(), job="7", restarts=1)
    assert claim.is_gone(replace(me, **changes), me) is gone  # type: ignore[arg-type]


@pytest.mark.parametrize("lives", [True, False])
@pytest.mark.parametrize("ahead", [0, 86_400, -86_400])
def test_not_known_to_live_is_watched(
    tmp_path: Path, lives: bool, ahead: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A claim of another machine, without Slurm: what counts is whether it gives signs of life, not by which clock."""
    monkeypatch.setattr(claim, "SILENT_SECONDS", 1.5)
    path, ended = tmp_path / "running.json", threading.Event()
    write(path, replace(claim.this_process(), host="elsewhere"))
    os.utime(path, (time.time() + ahead,) * 2)
    if lives:
        threading.Thread(target=_beat_by_a_clock_that_jumps, args=(path, ahead, ended), daemon=True).start()
        with pytest.raises(ValueError, match=r"elsewhere since"), claim.claimed(path, "trained"):
            raise AssertionError
        ended.set()
    else:
        with claim.claimed(path, "trained"):
            assert json.loads(path.read_text())["host"] != "elsewhere"
    assert "looking whether it lives, for up to 1.5 s" in caplog.text


def _beat_by_a_clock_that_jumps(path: Path, ahead: int, ended: threading.Event) -> None:
    """Signs of life as claim._beat gives them, each by a clock that was put forward or back since the one before."""
    start, number = time.time(), 0
    while not ended.wait(0.2):
        number += 1
        os.utime(path, (start + ahead * number + 0.2 * number,) * 2)


def earlier_start(path: Path) -> subprocess.Popen[bytes]:
    """A claim of this very job, before Slurm started it again, whose process lives on."""
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = claim._started(living.pid)
    assert started is not None
    write(path, replace(claim.this_process(), pid=living.pid, started=started, job="7", restarts=0))
    return living


def test_a_job_started_again_waits_for_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Slurm lost its node, and the process there goes on: no two train in one folder, and none is refused."""
    path = tmp_path / "running.json"
    living = earlier_start(path)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    killer = threading.Timer(1.0, living.kill)
    killer.start()
    with claim.claimed(path, "trained"):
        assert living.poll() is not None or claim._started(living.pid) is None
        assert json.loads(path.read_text())["restarts"] == 1
    living.wait()
    told = "(Slurm job 7) since .*; looking whether it lives, until it ends: the node may be cut off"
    assert len(re.findall(told.replace("(", r"\(").replace(")", r"\)"), caplog.text)) == 1


def test_a_signal_ends_the_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "running.json"
    living = earlier_start(path)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with (
        pytest.raises(signals.Stopped, match="SIGTERM before the first update") as stopped,
        signals.watched(),
        claim.claimed(path, "trained"),
    ):
        raise AssertionError
    assert stopped.value.code == signals.EXIT_CODE and json.loads(path.read_text())["pid"] == living.pid
    living.kill()
    living.wait()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here: this test did NOT run")
def test_a_claim_for_which_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves no empty file, which would stop whoever comes next."""
    path, opened = tmp_path / "running.json", os.open

    def on_a_full_disk(name: Path, flags: int, mode: int = 0o777) -> int:
        os.close(opened(name, flags, mode))
        return opened("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(os, "open", on_a_full_disk)
    told = r"running\.json: could not be written \(.*No space left.*\); free some space and start this again"
    with pytest.raises(OSError, match=told), claim.claimed(path, "trained"):
        raise AssertionError
    assert not path.exists()


def test_a_claim_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "running.json"
    path.write_text('{"pid": 3}')
    with (
        pytest.raises(ValueError, match=r"running.json: not readable .*; if nothing trains this run, delete the file"),
        claim.claimed(path, "trained"),
    ):
        raise AssertionError
