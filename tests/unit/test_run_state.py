"""What is told of a run without Slurm: from its own status, and from whether its process lives."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mms_recipes import status
from mms_recipes.cluster import claim, progress, run_state


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever this machine has."""
    monkeypatch.setenv("PATH", str(tmp_path))


def tell(folder: Path, **changes: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    told = replace(progress.Progress(max_update=10, langs=("eng", "fra")), **changes)  # type: ignore[arg-type]
    (folder / progress.FILE).write_text(json.dumps(asdict(told)))


def test_a_run_that_is_done(tmp_path: Path) -> None:
    with progress.recorded(tmp_path, max_update=10, resuming=False):
        progress.tell(langs=("eng", "fra"), num_updates=10, dev_cer={"eng": 10.0, "fra": 20.0})
    (state,) = run_state.collect(tmp_path)
    assert (state.state, state.reason, state.told.num_updates, state.macro_cer) == ("done", "", 10, 15.0)


def test_a_run_that_failed_says_why_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError), progress.recorded(tmp_path, max_update=10, resuming=False):
        raise ValueError("2 to mend in the manifests:\n  eng/dev.ltr:7: no such letter\n  fra/dev.ltr: missing")
    (state,) = run_state.collect(tmp_path)
    assert (state.state, state.reason) == ("failed", "2 to mend in the manifests: eng/dev.ltr:7: no such letter")


def test_errors_in_one_line() -> None:
    worker = "Caught ValueError in DataLoader worker.\nOriginal Traceback (most recent call last):\n  x\nValueError: y"
    assert progress.one_line(ValueError(worker)) == "ValueError: y"
    assert progress.one_line(RuntimeError("CUDA out of memory\nmore")) == "RuntimeError: CUDA out of memory"
    assert progress.one_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_going_on_keeps_what_was_reached(tmp_path: Path) -> None:
    tell(tmp_path, num_updates=6, dev_cer={"eng": 9.0}, state="failed", reason="killed")
    with progress.recorded(tmp_path, max_update=10, resuming=True):
        told = progress.read(tmp_path)
    assert told is not None and (told.state, told.reason, told.num_updates) == ("running", "", 6)
    with progress.recorded(tmp_path, max_update=10, resuming=False):
        told = progress.read(tmp_path)
    assert told is not None and (told.num_updates, told.dev_cer) == (0, {})


def test_running_and_killed(tmp_path: Path) -> None:
    tell(tmp_path, num_updates=5)
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = claim._started(living.pid)
    assert started is not None
    holder = replace(claim.this_process(), pid=living.pid, started=started)
    (tmp_path / run_state.CLAIM).write_text(json.dumps(asdict(holder)))
    assert run_state.collect(tmp_path)[0].state == "running"
    living.kill()
    living.wait()
    (state,) = run_state.collect(tmp_path)
    assert state.state == "failed" and state.reason == "ended without a word: killed, or its machine failed"


def test_submitted_where_slurm_does_not_answer(tmp_path: Path) -> None:
    submit(tmp_path, {"12_0": "shard_0"})
    (state,) = run_state.collect(tmp_path)
    assert (state.state, state.reason) == ("pending", "job 12_0 was submitted; Slurm does not answer here")


def submit(run: Path, jobs: dict[str, str], number: int = 12, told: dict[str, str] | None = None) -> None:
    (run / run_state.SUBMISSIONS).mkdir(parents=True, exist_ok=True)
    text = json.dumps({"jobs": jobs, "told": told or dict.fromkeys(jobs, "")})
    (run / run_state.SUBMISSIONS / f"{number}.json").write_text(text)


@pytest.mark.parametrize("ahead", [0, 86_400, -86_400])
def test_what_was_told_before_the_last_submission(tmp_path: Path, ahead: int) -> None:
    """A finished run is submitted again for more updates, by a machine whose clock is behind or ahead."""
    tell(tmp_path / "shard_0", state="done", num_updates=10, job="9_0")
    submit(tmp_path, {"9_0": "shard_0"}, number=9)
    submit(tmp_path, {"12_0": "shard_0"}, number=12, told={"12_0": run_state.fingerprint(tmp_path / "shard_0")})
    for name, seconds in (("shard_0/status.json", ahead), ("submissions/12.json", 0), ("submissions/9.json", ahead)):
        os.utime(tmp_path / name, (1e9 + seconds, 1e9 + seconds))
    assert [one.path.name for one in run_state.submissions(tmp_path)] == ["9.json", "12.json"]
    (state,) = run_state.collect(tmp_path)
    assert (state.state, state.job) == ("pending", "12_0")
    tell(tmp_path / "shard_0", state="done", num_updates=20, max_update=20, job="12_0")
    os.utime(tmp_path / "shard_0/status.json", (1e9 + ahead, 1e9 + ahead))
    assert run_state.collect(tmp_path)[0].state == "done"


def test_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no run here: neither status\.json nor submissions; give outputs/<name>"
    ):
        run_state.collect(tmp_path)
    (tmp_path / run_state.SUBMISSIONS).mkdir()
    (tmp_path / run_state.SUBMISSIONS / "12.json").write_text("[]")
    with pytest.raises(ValueError, match=r"12\.json: not a submission of mms_recipes .*; delete it"):
        run_state.collect(tmp_path)
    (tmp_path / run_state.SUBMISSIONS / "12.json").unlink()
    (tmp_path / progress.FILE).write_text("{")
    with pytest.raises(ValueError, match=r"status\.json: not readable .*; delete it: the run writes it again"):
        run_state.collect(tmp_path)


def test_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell(tmp_path / "shard_0", state="done", num_updates=10, dev_cer={"eng": 10.0, "fra": 20.0})
    tell(tmp_path / "shard_10", state="failed", reason="no space left", num_updates=2)
    tell(tmp_path / "shard_2", state="done", num_updates=10, langs=("ita",), dev_cer={"ita": 1.5})
    assert status.main([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == ["shard_0", "eng", "fra", "shard_2", "shard_10", "eng", "fra"]
    assert lines[1].split() == ["shard_0", "done", "10/10", "15.00", "2", "languages"]
    assert lines[5].endswith("no space left")
    assert lines[-1] == "3 run(s): 2 done, 1 failed; 22 of 30 updates"
    assert status.main([str(tmp_path), "--json", "--watch"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["states"] == {"done": 2, "failed": 1}
    assert told["parts"][0]["languages"] == [{"lang": "eng", "dev_cer": 10.0}, {"lang": "fra", "dev_cer": 20.0}]
    assert status.main([str(tmp_path / "nothing")]) == 1
    assert "no run here" in capsys.readouterr().err


def test_a_full_disk_does_not_stop_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    progress.ProgressFile(tmp_path / "gone").tell(now=True, num_updates=3)
    assert "the status could not be written" in caplog.text and "that alone stops nothing" in caplog.text
