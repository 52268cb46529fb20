"""Another save_dir made status lie and another run "done"; kills left half-written files for ever."""

import json
import os
import signal
from pathlib import Path

from mms_recipes import files
from tests.known_issues import commands
from tests.known_issues.lab import Lab


def test_status_is_in_the_runs_folder_and_another_run_is_refused(tiny: Lab, tmp_path: Path) -> None:
    elsewhere = tmp_path / "scratch/checkpoints"
    common = (f"checkpoint.save_dir={elsewhere}", "name=a")
    ended = commands.run("train", *tiny.lsah(tmp_path, 4, *common))
    assert ended.code == 0, ended.output[-2000:]
    told = json.loads((tmp_path / "a/status.json").read_text())
    assert told["state"] == "done" and told["num_updates"] == 4
    assert not (elsewhere.parent / "status.json").exists() and (elsewhere / "checkpoint_last.pt").exists()
    other = commands.run("train", *tiny.lsah(tmp_path, 4, common[0], "name=b", "optimization.lr=[0.001]"))
    assert other.is_refused() and "another run" in other.output and str(tmp_path / "a") in other.output
    assert not (tmp_path / "b/status.json").exists()
    again = commands.run("train", *tiny.lsah(tmp_path, 6, *common))
    assert again.code == 0 and "resuming" in again.output, again.output[-2000:]
    (tmp_path / "a").rename(tmp_path / "moved")  # as a whole, with the record of where its checkpoints are
    moved = commands.run("train", *tiny.lsah(tmp_path, 8, common[0], "name=moved"))
    assert moved.code == 0 and "resuming" in moved.output, moved.output[-2000:]


def test_checkpoints_of_before_runs_noted_themselves_are_refused(tiny: Lab, tmp_path: Path) -> None:
    (tmp_path / "a/checkpoints").mkdir(parents=True)
    os.link(tiny.dense, tmp_path / "a/checkpoints/checkpoint_last.pt")
    given = (f"checkpoint.save_dir={tmp_path / 'a/checkpoints'}", "name=b")
    ended = commands.run("train", *tiny.lsah(tmp_path, 4, *given))
    assert ended.is_refused() and "another run" in ended.output


def test_what_kills_left_half_written_is_removed(tiny: Lab, tmp_path: Path) -> None:
    for _ in range(2):
        killed = commands.call(_killed_while_it_writes, tiny.lsah(tmp_path, 4))
        assert killed.code == -signal.SIGKILL, killed.output[-2000:]
    run = tmp_path / "smoke_lsah"
    assert _left(run)
    (run / "checkpoints/.link.abcd_123").mkdir()  # as earlier versions left them
    (run / "checkpoints/.link.abcd_123/checkpoint").touch()
    (run / "checkpoints/.checkpoint_last.pt.0123abcd.tmp").touch()
    (run / "checkpoints/.mine").touch()
    ended = commands.run("train", *tiny.lsah(tmp_path, 4))
    assert ended.code == 0 and not _left(run), ended.output[-2000:]
    assert (run / "checkpoints/.mine").exists()


def _left(run: Path) -> list[str]:
    return [path.name for path in run.rglob("*") if path.name.endswith(".tmp") or path.name.startswith(".link")]


def _killed_while_it_writes(arguments: list[str]) -> None:
    sync = os.fsync

    def killed(descriptor: int) -> None:
        sync(descriptor)
        if ".pt" in os.readlink(f"/proc/self/fd/{descriptor}"):
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = killed
    commands.as_typed("train", tuple(arguments))


def test_only_what_dead_processes_left_is_removed_by_others(tmp_path: Path) -> None:
    with files.replaced(tmp_path / "scores.json") as alive:
        alive.touch()
        dead = alive.with_name(alive.name.replace(f"-{os.getpid()}-", f"-{2**22 + 1}-"))
        elsewhere = alive.with_name(f".scores.json.01234567-{os.getpid()}-0123abcd.tmp")
        for path in (dead, elsewhere):
            path.touch()
        files.clean.cache_clear()
        files.clean(tmp_path)
        assert alive.exists() and elsewhere.exists() and not dead.exists()
