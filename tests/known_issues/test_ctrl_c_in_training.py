"""Ctrl-C or a closed terminal in training lost what was done since the last checkpoint, in 110 lines."""

import json
import math
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mms_recipes import checkpoints
from mms_recipes.tasks.lsah import LSAHTask
from mms_recipes.tasks.speech import SpeechTask
from tests.known_issues import commands
from tests.known_issues.lab import Lab

# no checkpoint before the end but those that the signals make
NEVER = ("checkpoint.save_interval_updates=100000", "dataset.validate_interval_updates=100000")
ENDLESS = ("optimization.max_update=100000", *NEVER, "common.log_interval=1")
TWO_RANKS = ("common.cpu=true", "distributed_training.distributed_world_size=2", "task.hours_per_update=null")


def press(signum: int, sign: str = "minutes_left", times: int = 1, wait: float = 0) -> commands.Meanwhile:
    """Signal the whole group, as a terminal does, `wait` seconds after `sign` stands in the output."""

    def meanwhile(pid: int, output: Callable[[], str]) -> None:
        wait_for(lambda: sign in output())
        time.sleep(wait)
        for _ in range(times):
            os.killpg(pid, signum)
            time.sleep(0.3)

    return meanwhile


def wait_for(what: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_stopped(ended: commands.Ended, run: Path, signum: int) -> None:
    """One line, a checkpoint, and a state that is no failure."""
    assert ended.code == 128 + signum and "Traceback" not in ended.output, ended.output[-3000:]
    name = signal.Signals(signum).name
    assert f"stopped: {name}" in ended.last_line and "the same command goes on" in ended.last_line
    done = checkpoints.num_updates(run / "checkpoints/checkpoint_last.pt")
    told = json.loads((run / "status.json").read_text())
    assert done > 0 and told["state"] == "stopped" and f"after update {done:,}" in told["reason"]
    assert not (run / "running.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_a_checkpoint_is_written(tiny: Lab, tmp_path: Path, signum: int) -> None:
    arguments = tiny.lsah(tmp_path, 100000, *ENDLESS, "dataset.num_workers=2")
    run = tmp_path / "smoke_lsah"
    assert_stopped(commands.run("train", *arguments, meanwhile=press(signum)), run, signum)
    shown = commands.run("status", run)
    assert shown.code == 1 and "stopped" in shown.output and "failed" not in shown.output
    done = checkpoints.num_updates(run / "checkpoints/checkpoint_last.pt")
    again = tiny.lsah(tmp_path, done + 1, *NEVER)
    assert commands.run("train", *again).code == 0
    assert checkpoints.num_updates(run / "checkpoints/checkpoint_last.pt") == done + 1
    assert json.loads((run / "status.json").read_text())["state"] == "done"


@pytest.mark.slow
def test_every_rank_of_the_terminal_gets_it(tiny: Lab, tmp_path: Path) -> None:
    """Each rank gets it twice, from the terminal and from the first process, and here while it still imports."""
    base = (f"task.data={tiny.data}", f"model.base={tiny.pretrained}", f"runs={tmp_path}")
    arguments = ("+experiment=smoke_ctc", *base, *ENDLESS, *TWO_RANKS, "dataset.num_workers=1")
    ended = commands.run("train", *arguments, meanwhile=press(signal.SIGINT, "run folder:", wait=1.0))
    assert_stopped(ended, tmp_path / "smoke_ctc", signal.SIGINT)


def test_before_there_is_anything_to_keep(tiny: Lab, tmp_path: Path) -> None:
    """While another process holds the folder, that is before the first update."""
    run = tmp_path / "smoke_lsah"
    run.mkdir()
    holder = '{"host": "elsewhere", "boot": "", "space": "", "pid": 1, "started": "", "job": "", "restarts": 0, '
    (run / "running.json").write_text(holder + '"since": "today"}')
    ended = commands.run("train", *tiny.lsah(tmp_path, 2), meanwhile=press(signal.SIGINT, "held by"))
    assert ended.code == 130 and "Traceback" not in ended.output
    assert "SIGINT (Ctrl-C) before the first update" in ended.last_line


def test_a_second_one_ends_at_once(tiny: Lab, tmp_path: Path) -> None:
    """In the middle of an update that never ends."""
    ended = commands.call(_stuck, tiny.lsah(tmp_path, 100000), meanwhile=press(signal.SIGINT, "stuck", times=2))
    assert ended.code == 130 and "Traceback" not in ended.output, ended.output[-2000:]
    assert "goes on from its last checkpoint" in ended.last_line


def test_a_run_behind_nohup_goes_on(tiny: Lab, tmp_path: Path) -> None:
    ended = commands.call(_ignoring_hangups, tiny.lsah(tmp_path, 8), meanwhile=press(signal.SIGHUP, "run folder:"))
    assert ended.code == 0, ended.output[-2000:]


def _stuck(arguments: list[str]) -> None:
    def train_step(self: SpeechTask, *args: Any, **kwargs: Any) -> Any:
        print("stuck", flush=True)
        time.sleep(1000)

    SpeechTask.train_step = LSAHTask.train_step = train_step  # type: ignore[method-assign]
    commands.as_typed("train", tuple(arguments))


def _ignoring_hangups(arguments: list[str]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    commands.as_typed("train", tuple(arguments))


def test_a_command_that_only_reads(tiny: Lab, tmp_path: Path) -> None:
    """One line and 130 for every command, whatever it was doing."""

    def once_it_listens(pid: int, output: Callable[[], str]) -> None:
        path = Path(f"/proc/{pid}/task")
        wait_for(lambda: (tmp_path / "out").exists() or not path.exists())
        os.killpg(pid, signal.SIGINT)

    given = (f"checkpoint={tiny.adapters}", f"data={tiny.data}", f"out={tmp_path / 'out'}", "batch_seconds=1")
    ended = commands.run("evaluate", *given, meanwhile=once_it_listens)
    assert ended.code == 130 and "Traceback" not in ended.output, ended.output[-2000:]
    assert "stopped: SIGINT (Ctrl-C)" in ended.last_line


def test_tuning_keeps_the_languages_that_are_done(tiny: Lab, tmp_path: Path) -> None:
    for lang in ("eng", "fra", "jpn"):
        (tmp_path / "lms" / lang).mkdir(parents=True)
        words = (tiny.data / lang / "train.wrd").read_text().split()
        lexicon = "".join(f"{word}\t{' '.join(word)} |\n" for word in sorted(set(words)))
        (tmp_path / "lms" / lang / "lexicon.txt").write_text(lexicon)
        (tmp_path / "lms" / lang / "lm.bin").write_text(arpa(words))
    given = (
        f"checkpoint={tiny.adapters}",
        f"data={tiny.data}",
        f"decoding.lm={tmp_path / 'lms'}",
        "langs=[eng,fra,jpn]",
    )
    given += (f"out={tmp_path / 'out'}", "decoding.beam_size=20", "decoding.beam_size_token=10", "finest=1")

    def at_the_second(pid: int, output: Callable[[], str]) -> None:
        wait_for(lambda: "[2/3]" in output())
        os.killpg(pid, signal.SIGINT)

    ended = commands.run("tune", *given, meanwhile=at_the_second)
    assert ended.code == 130 and "Traceback" not in ended.output, ended.output[-3000:]
    assert re.search(r"[12] of 3 languages are tuned and kept", ended.last_line)
    assert (tmp_path / "lms/eng/decoding.json").is_file() and not (tmp_path / "lms/jpn/decoding.json").exists()
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]


def arpa(words: Sequence[str]) -> str:
    """A bigram model of words with one bigram, in the form that KenLM reads."""
    counts = Counter(words)
    total = len(words) + 2
    lines = [f"{math.log10(count / total):.4f}\t{word}\t0" for word, count in sorted(counts.items())]
    unigrams = "\n".join(["-2\t<unk>\t0", "-99\t<s>\t0", f"{-math.log10(total):.4f}\t</s>", *lines])
    head = f"\\data\\\nngram 1={len(counts) + 3}\nngram 2=1\n"
    return f"{head}\n\\1-grams:\n{unigrams}\n\n\\2-grams:\n-0.5\t<s> {min(counts)}\n\n\\end\\\n"
