"""Short runs that a test may go on with: each kind is begun once, and copied, data and all, for each test."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.known_issues import commands
from tests.known_issues.lab import OFTEN, Lab

ACCEPT = "accept_changes=true"
BEGUN = 4  # updates: dev has been recognised once, adapters are written


@dataclass(frozen=True)
class Run:
    """A run in a folder of its own, `data` beside it."""

    lab: Lab
    home: Path
    experiment: str
    base: Path | None

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def folder(self) -> Path:
        return self.home / "runs" / self.experiment

    @property
    def last(self) -> Path:
        return self.folder / "checkpoints/checkpoint_last.pt"

    def train(self, updates: int, *overrides: str) -> commands.Ended:
        """Give the run's command with another length: it begins, or goes on."""
        places = [f"task.data={self.data}", f"runs={self.home / 'runs'}"]
        base = [f"model.base={self.base}"] if self.base else []
        length = f"optimization.max_update={updates}"
        return commands.run("train", f"+experiment={self.experiment}", *places, *base, length, *OFTEN, *overrides)

    def copy(self, home: Path) -> "Run":
        """The same run and its data in another place."""
        shutil.copytree(self.home / "runs", home / "runs")
        return Run(self.lab, copy_corpus(self.data, home / "data").parent, self.experiment, self.base)

    def goes_on(self, *overrides: str) -> str:
        """It goes on to update 6; return what it printed."""
        ended = self.train(6, *overrides)
        assert ended.code == 0, ended.output
        return ended.output

    def is_refused(self, *told: str, overrides: Sequence[str] = ()) -> str:
        """Going on is refused with these facts in the last line, which is returned; the run stays as it was."""
        kept = (self.last, self.folder / "config.yaml", self.folder / "run.json", self.folder / "status.json")
        before = {path: path.read_bytes() for path in kept}
        ended = self.train(6, *overrides)
        assert ended.is_refused(), ended.output
        for fact in told:
            assert fact in ended.last_line, ended.last_line
        assert {path: path.read_bytes() for path in before} == before
        return ended.last_line

    def is_never_accepted(self, *told: str, overrides: Sequence[str] = ()) -> None:
        """As `is_refused`, with accept_changes=true."""
        self.is_refused(*told, "accept_changes=true does not change", overrides=[*overrides, ACCEPT])


def copy_corpus(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    for tsv in target.glob("*/*.tsv"):
        rows = tsv.read_text().splitlines()
        tsv.write_text("\n".join([str(tsv.parent / "audio"), *rows[1:]]) + "\n")
    return target


def begin(lab: Lab, home: Path, experiment: str, *langs: str) -> Run:
    """A run on a copy of the corpus, with BEGUN updates done."""
    base = {"smoke_lsah": lab.dense, "smoke_pretrain": None}.get(experiment, lab.pretrained)
    lab.copy_data(home / "data", *langs)
    run = Run(lab, home, experiment, base)
    ended = run.train(BEGUN)
    assert ended.code == 0, ended.output
    return run


def edit(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Change the lines of a text file."""
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))
