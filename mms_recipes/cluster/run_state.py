"""What state a run and its shards are in: what they tell of themselves, and what Slurm and the machine know."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mms_recipes.cluster import claim, progress, slurm

SUBMISSIONS = "submissions"  # <job>.json below a run's folder: what was submitted
CLAIM = "running.json"  # in the folder of a run that is being trained
PENDING, RUNNING = "pending", progress.RUNNING
DONE, STOPPED, FAILED = progress.DONE, progress.STOPPED, progress.FAILED
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "SUSPENDED")  # Slurm's names


@dataclass(frozen=True)
class State:
    """One training run: a whole one, or a shard."""

    folder: Path
    state: str
    reason: str  # why it waits, stopped or failed, one line
    job: str  # of Slurm: the last that was submitted for it
    told: progress.Progress

    @property
    def macro_cer(self) -> float | None:
        """Mean over languages of the dev CER, percent."""
        rates = self.told.dev_cer.values()
        return sum(rates) / len(rates) if rates else None

    def as_json(self, run: Path) -> dict[str, Any]:
        """What `status --json` tells of it."""
        told = self.told
        langs = [{"lang": lang, "dev_cer": told.dev_cer.get(lang)} for lang in told.langs]
        return {
            "name": name(self.folder, run),
            "state": self.state,
            "reason": self.reason,
            "job": self.job,
            "host": told.host,
            "num_updates": told.num_updates,
            "max_update": told.max_update,
            "dev_cer": self.macro_cer,
            "audio_per_second": told.audio_per_second if self.state == RUNNING else None,
            "minutes_left": told.minutes_left if self.state == RUNNING else None,
            "written": told.written,
            "languages": langs,
        }


@dataclass(frozen=True)
class Submission:
    """Jobs of Slurm that were submitted together, and the folder of each."""

    path: Path
    jobs: dict[str, Path]
    told: dict[str, str]  # by job, what its run had told before (`fingerprint`)


def name(folder: Path, run: Path) -> str:
    """What to call a part of a run: its folder below the run's, or the run's own name."""
    relative = os.path.relpath(folder.resolve(), run.resolve())
    return run.resolve().name if relative == "." else relative


def submissions(run: Path) -> list[Submission]:
    """All submissions of a run, latest last: by Slurm's numbers, since machines' clocks differ and jump."""
    found = (run / SUBMISSIONS).glob("*.json")
    return [_submission(path, run) for path in sorted(found, key=lambda path: (len(path.name), path.name))]


def _submission(path: Path, run: Path) -> Submission:
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        jobs = {str(job): (run / folder).resolve() for job, folder in described["jobs"].items()}
        return Submission(path, jobs, dict(described.get("told", {})))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a submission of mms_recipes ({error!r}); delete it") from None


def fingerprint(folder: Path) -> str:
    """What tells whether the run in `folder` has told anything since; '' when it never has."""
    try:
        return hashlib.sha256((folder / progress.FILE).read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


def collect(run: Path) -> list[State]:
    """The state of every part of the run in `run`. Raises FileNotFoundError where there is no run."""
    sent = submissions(run)
    last: dict[Path, tuple[str, Submission | None]] = {
        folder: (job, one) for one in sent for job, folder in one.jobs.items()
    }
    told = (path for below in ("", "*/", "*/*/") for path in run.glob(below + progress.FILE))  # settings, and shards
    folders = {*last, *(path.parent.resolve() for path in told)}
    if not folders:
        raise FileNotFoundError(f"{run}: no run here: neither {progress.FILE} nor {SUBMISSIONS}; give outputs/<name>")
    try:
        queue: Mapping[str, slurm.JobState] | None = slurm.queued([job for job, _ in last.values()])
    except OSError:
        queue = None
    nothing: tuple[str, Submission | None] = ("", None)
    return [_state(folder, *last.get(folder, nothing), queue) for folder in sorted(folders, key=_in_order)]


def _in_order(folder: Path) -> tuple[str, int]:
    """shard_10 after shard_9."""
    word, _, number = folder.name.rpartition("_")
    return (word, int(number)) if number.isdecimal() else (folder.name, 0)


def _state(folder: Path, job: str, submission: Submission | None, queue: Mapping[str, slurm.JobState] | None) -> State:
    told = progress.read(folder)
    sent = submission.path if submission else None
    here = told or progress.Progress()
    # nothing was told since the last submission
    silent = submission is not None and fingerprint(folder) == submission.told.get(job, "")
    queued = queue.get(job) if queue else None
    if here.state == DONE and told and not silent:
        return State(folder, DONE, "", job, here)
    if queued is not None:
        if queued.state in WAITING:
            return State(folder, PENDING, queued.reason, job, here)
        return State(folder, RUNNING, "starting" if silent else "", job, here)
    if told and _is_claimed(folder):
        return State(folder, RUNNING, "", job, here)
    if silent and queue is None:
        return State(folder, PENDING, f"job {job} was submitted; Slurm does not answer here", job, here)
    if silent:
        return State(folder, FAILED, _last_words(job, sent), job, here)
    if here.state in (STOPPED, FAILED):
        return State(folder, here.state, here.reason, job, here)
    why = _error_line(job, sent) if here.job == job else ""
    ending = f"ended without a word{_ending(here.job)}: {why or 'killed, or its machine failed'}"
    return State(folder, FAILED, ending, job, here)


def _is_claimed(folder: Path) -> bool:
    """Whether a process trains in `folder`, as far as can be seen from here."""
    holder = claim.holder(folder / CLAIM)
    return holder is not None and claim.is_gone(holder, claim.this_process()) is not True


def _ending(job: str) -> str:
    """How Slurm says that a job ended, in brackets, or ''."""
    ending = slurm.ending(job) if job else ""
    return f" (Slurm: {ending})" if ending else ""


def _last_words(job: str, sent: Path | None) -> str:
    """Why a job ended before it trained."""
    if not _logs(job, sent):  # Slurm keeps nothing of an array's task that was cancelled while it waited
        return f"job {job} left the queue without having started{_ending(job)}: cancelled while it waited?"
    return f"job {job} ended before it trained{_ending(job)}: {_error_line(job, sent) or 'see its logs in slurm/'}"


def _error_line(job: str, sent: Path | None) -> str:
    """The last line of a job's logs that tells of an error, of whatever rank; '' when there is none."""
    logs = _logs(job, sent)
    lines = [line for path in logs for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    error = re.compile(r"\[ERROR\] - (.*)|^(\w[\w.]*(?:Error|Exception): .*)")
    found = [match for line in lines if (match := error.search(line))]
    return (found[-1][1] or found[-1][2]).strip() if found else ""


def _logs(job: str, sent: Path | None) -> list[Path]:
    return sorted((sent.parent.parent / "slurm").glob(f"{job}_*_log.*")) if sent else []
