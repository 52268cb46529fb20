"""Change files of every format at random and run the commands that read them: python tools/bench/fuzz.py --seed 1

Each try must end in the right result or in a message: exit code 0 or 1, no traceback, no signal, within limits of time
and memory, no number that is none, nothing in a report or on the terminal that a file has smuggled in. Where a format
holds checksums, changed bytes must be refused or change nothing. Prints what did not, with what repeats it, and a table
of outcomes. Exit code 1 when there was any.
"""

import argparse
import itertools
import json
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import forked
import mutations
from fuzz_formats import FORMATS, Command, Format, write_examples
from tiny_lab import Lab, build

SECONDS = 90  # of one command, which takes less than 5 where nothing is wrong
MEMORY = 4 << 30
LOST = 255  # multiprocessing's fork server did not say how the process ended; no command ends so
RARE = 10  # one of so many tries runs a format's slow commands as well
SMUGGLED = re.compile(r"[\x00\x07\x1b]")
NO_NUMBER = re.compile(r"[:\[,]\s*-?(NaN|Infinity)\b")
OUTPUTS = ("out/scores.json", "out/hypotheses.tsv", "out.jsonl", "out/eng/*", "made/*.json")


@dataclass(frozen=True)
class Found:
    """How a try ended: `outcome` is same, other or refused, or what is wrong."""

    format: str
    number: int
    outcome: str
    change: str
    command: str = ""
    output: str = ""

    @property
    def is_wrong(self) -> bool:
        return self.outcome not in ("same", "other", "refused")


class Fuzz:
    """Tries with one seed. `results` are those of the unchanged examples, by command."""

    def __init__(self, seed: int, examples: Path, work: Path) -> None:
        self.seed, self.examples, self.work = seed, examples, work
        self.results: dict[tuple[str, Command], str] = {}
        self.lock = threading.Lock()

    def expected(self, form: Format, command: Command) -> str:
        """What a command makes of the unchanged example. Raises ValueError when it fails."""
        with self.lock:
            if (form.name, command) not in self.results:
                folder = self._copied(form, "unchanged")
                ended = self._run(command, folder)
                if ended.code:
                    raise ValueError(f"fails on unchanged files: {' '.join(command)}\n{ended.output[-2000:]}")
                self.results[form.name, command] = result(folder, ended.output)
                _remove(folder)
            return self.results[form.name, command]

    def attempt(self, form: Format, number: int) -> Found:
        """Change a file of a format and run what reads it."""
        draw = random.Random(f"{self.seed} {form.name} {number}")
        folder = self._copied(form, f"{form.name}_{number}")
        try:
            kinds = [sorted(folder.glob(pattern)) for pattern in form.files]
            path = draw.choice(draw.choice([paths for paths in kinds if paths]))
            change = f"{path.relative_to(folder)}: {mutations.change_file(path, draw)}"
            commands = [*form.commands]
            if form.rare and (number % RARE == RARE - 1 or not commands):
                commands.append(draw.choice(form.rare))
            outcomes = set()
            for command in commands:
                ended = self._run(command, folder)
                outcome = self._judge(form, command, change, ended, folder)
                found = Found(form.name, number, outcome, change, " ".join(command), ended.output)
                if found.is_wrong:
                    return found
                outcomes.add(outcome)
                for made in ("out", "out.jsonl"):
                    _remove(folder / made)
            outcome = next(outcome for outcome in ("refused", "other", "same") if outcome in outcomes)
            return Found(form.name, number, outcome, change)
        finally:
            _remove(folder)

    def _copied(self, form: Format, name: str) -> Path:
        folder = self.work / name
        _remove(folder)
        folder.mkdir()
        for entry in sorted(self.examples.iterdir()):
            if any(Path(entry.name).match(pattern) for pattern in form.folders):
                (shutil.copytree if entry.is_dir() else shutil.copy)(entry, folder / entry.name)
        if (folder / "lid.temperature.json").exists():
            shutil.copy(self.examples / "lid.pt", folder)
        return folder

    def _run(self, command: Command, folder: Path) -> forked.Ended:
        words = [word.replace("{w}", str(folder)).replace("{t}", str(self.examples)) for word in command]
        ended = forked.run(words[0], *words[1:], timeout=SECONDS, memory=MEMORY)
        if ended.code == LOST:
            ended = forked.run(words[0], *words[1:], timeout=SECONDS, memory=MEMORY)
        return ended

    def _judge(self, form: Format, command: Command, change: str, ended: forked.Ended, folder: Path) -> str:
        if "Traceback (most recent call last)" in ended.output:
            return "traceback"
        if ended.code == forked.HANGS:
            return "hangs"
        if ended.code < 0:
            return f"signal {-ended.code}"
        if ended.code not in (0, 1):
            return f"exit code {ended.code}"
        if SMUGGLED.search(ended.output):
            return "control characters"
        if ended.code == 1:
            return "refused" if ended.last_line.strip() else "no message"
        for page in folder.rglob("report.html"):
            if mutations.MARKUP in page.read_text(errors="replace"):
                return "markup"
        now = result(folder, ended.output)
        if NO_NUMBER.search(now):
            return "no number"
        if now == self.expected(form, command):
            return "same"
        by_bytes = "bit " in change or "bytes: " in change
        return "in silence" if form.sealed and by_bytes else "other"


def result(folder: Path, output: str) -> str:
    """What a command has made of its input, without what differs between runs and places."""
    paths = [path for pattern in OUTPUTS for path in sorted(folder.glob(pattern)) if path.suffix != ".wav"]
    texts = [path.read_text(errors="replace") for path in paths if path.is_file()]
    texts += [line for line in output.splitlines() if line.startswith("{")]
    text = "\n".join(texts).replace(str(folder), "W")
    return re.sub(r'"(\w*seconds|updated|audio_per_second|minutes_left|at|started|ended|time)": [^,}]+', "", text)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def fuzz(
    tries: Sequence[tuple[str, int]], seed: int, lab: Lab, folder: Path, jobs: int, told: Callable[[int, Found], None]
) -> list[Found]:
    """Make tries (format, number) in a new folder; `told` is called after each."""
    examples, work = folder / "examples", folder / "work"
    if not examples.is_dir():
        write_examples(lab, examples)
    work.mkdir(exist_ok=True)
    made = Fuzz(seed, examples, work)
    tried = [(name, number) for name, number in tries if (examples / FORMATS[name].files[0].split("/")[0]).exists()
             or "*" in FORMATS[name].files[0].split("/")[0]]  # fmt: skip
    with ThreadPoolExecutor(jobs) as pool:
        all_found = []
        for trying in as_completed([pool.submit(made.attempt, FORMATS[name], number) for name, number in tried]):
            try:
                all_found.append(trying.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            told(len(tried), all_found[-1])
        return all_found


def in_turn(names: Sequence[str], num_tries: int, first: int = 0) -> Iterator[tuple[str, int]]:
    """Yield formats with the numbers of their tries; those that only slow commands read have a turn in ten."""
    numbers = itertools.count(first)
    turns = ((name, number) for number in numbers for name in names if FORMATS[name].commands or number % RARE == 0)
    return itertools.islice(turns, num_tries)


def table(all_found: Sequence[Found]) -> str:
    """Outcomes by format."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for found in all_found:
        counts[found.format][found.outcome if not found.is_wrong else "wrong"] += 1
    counts["all"] = sum(counts.values(), Counter())
    rows = [f"{'format':16}{'tries':>7}{'refused':>9}{'same':>7}{'other':>7}{'wrong':>7}"]
    for name, count in counts.items():
        numbers = (count.total(), count["refused"], count["same"], count["other"], count["wrong"])
        rows.append(f"{name:16}" + "".join(f"{n:>{w}}" for n, w in zip(numbers, (7, 9, 7, 7, 7), strict=True)))
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=500, help="tries, of all formats in turn (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--formats", default=",".join(FORMATS), help="separated by commas (%(default)s)")
    parser.add_argument("--number", type=int, help="repeat this try of one format alone, and show all that it printed")
    parser.add_argument("--first", type=int, default=0, help="number of each format's first try (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="tries at once (%(default)s)")
    parser.add_argument("--folder", type=Path, help="keep models and examples here and use those that are there")
    parser.add_argument("--json", type=Path, help="write each try here, a line of JSON each")
    args = parser.parse_args()
    names = args.formats.split(",")
    if unknown := [name for name in names if name not in FORMATS]:
        parser.error(f"no such formats: {', '.join(unknown)}")
    tries = [*in_turn(names, args.mutations, args.first)] if args.number is None else [(names[0], args.number)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        if not (folder / "lab/lid.pt").exists():
            print("models of tones are trained (some 30 s)", flush=True)
            ended = forked.call(build, folder / "lab", timeout=600)
            if ended.code:
                raise ValueError(ended.output)
        lines = args.json.open("a") if args.json else None
        begin, num_done = time.monotonic(), 0

        def told(of: int, found: Found) -> None:
            nonlocal num_done
            num_done += 1
            if found.is_wrong or args.number is not None:
                print(f"{found.outcome}: --seed {args.seed} --formats {found.format} --number {found.number}")
                print(f"    {found.change}\n    {found.command}")
                print("    " + (found.output if args.number is not None else _last_lines(found.output)), flush=True)
            if num_done % 50 == 0:
                left = (time.monotonic() - begin) / num_done * (of - num_done)
                print(f"{num_done}/{of} tries, {left / 60:.0f} min left", file=sys.stderr, flush=True)
            if lines:
                lines.write(json.dumps({**vars(found), "output": found.output[-1500:]}) + "\n")
                lines.flush()

        all_found = fuzz(tries, args.seed, Lab(folder / "lab"), folder, args.jobs, told)
    print(table(all_found))
    return int(any(found.is_wrong for found in all_found))


def _last_lines(output: str) -> str:
    return "\n    ".join(line[:300] for line in output.strip().splitlines()[-4:])


if __name__ == "__main__":
    sys.exit(main())
