"""Recordings to frames: whole where that is affordable, else in windows, many at a time, in memory that is bounded.

Batches hold audio of like length, whatever its language. When memory runs out they are halved, and go on being half.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from mms_recipes import memory, recordings
from mms_recipes.audio_files import AudioError
from mms_recipes.data import audio
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.recognizer import Recognizer
from mms_recipes.recordings import Samples
from mms_recipes.sound import levels
from mms_recipes.transcription import windows
from mms_recipes.transcription.windows import Frames

logger = logging.getLogger(__name__)

T = TypeVar("T")
BATCH_SECONDS, CPU_BATCH_SECONDS = 160.0, 40.0


@dataclass
class Limits:
    """How much audio is taken at once, in seconds.

    `batch`: of all utterances, padded; None for 160, on a CPU 40, where larger ones only cost memory. A recording of up
    to `whole` is heard as a whole; a longer one in windows of `window`, of which neighbours share `overlap`.
    """

    batch: float | None = None
    whole: float = 300.0
    window: float = 40.0
    overlap: float = 8.0

    def __post_init__(self) -> None:
        for name, value, least in (("batch", self.batch or 1, 1), ("whole", self.whole, 0)):
            if not least <= value < math.inf:
                raise ValueError(f"--{name}-seconds is {value:g}, expected {least} or more")
        if not 2 * self.overlap <= self.window < math.inf:
            raise ValueError(f"--window-seconds is {self.window:g}, expected at least {2 * self.overlap:g}")


class Job(NamedTuple):
    """A recording to listen to: its number, where it is, the language of its adapter, seconds by its header."""

    number: int
    path: Path
    lang: str
    seconds: float


class Heard(NamedTuple):
    """All frames of a recording."""

    frames: Frames
    seconds: float
    remark: str | None


@dataclass
class Piece:
    """Audio that goes through the model as one utterance, or what is wrong with it.

    `first` is the number of its first frame in the recording, `last` whether it ends the recording.
    """

    job: Job
    samples: Samples = field(default_factory=lambda: np.zeros(0, np.float32))
    first: int = 0
    last: bool = True
    remark: str | None = None
    error: AudioError | None = None


class Listener:
    """Listens to recordings of many languages with one model; `keep_emissions` is for searches."""

    def __init__(self, recognizer: Recognizer, limits: Limits, keep_emissions: bool = False) -> None:
        self.recognizer, self.keep_emissions = recognizer, keep_emissions
        self.on_cpu = next(recognizer.encoder.parameters()).device.type == "cpu"
        self.limits = replace(limits)
        self.batch_seconds = limits.batch or (CPU_BATCH_SECONDS if self.on_cpu else BATCH_SECONDS)
        self.field, self.stride = recognizer.encoder.receptive_field

    def hear(self, jobs: Iterable[Job], advance: Callable[[float], object]) -> Iterator[tuple[int, Heard | AudioError]]:
        """Yield each job's number with its frames, or with what is wrong with its audio, as they come.

        `advance` is told the seconds of audio that were heard.
        """
        parts: dict[int, list[tuple[int, Frames]]] = {}
        reached: dict[int, float] = {}
        failed: set[int] = set()
        batches = self._batches(jobs)
        for batch in batches if self.on_cpu else ahead(batches):  # a CPU has its hands full
            for piece, found in self._results(batch):
                number = piece.job.number
                if number in failed:
                    continue
                if isinstance(found, AudioError):
                    failed.add(number)
                    parts.pop(number, None)
                    yield number, found
                    continue
                seconds = (piece.first * self.stride + len(piece.samples)) / SAMPLE_RATE
                advance(seconds - reached.get(number, 0.0))
                reached[number] = seconds
                parts.setdefault(number, []).append((piece.first, found))
                if piece.last:
                    yield number, Heard(windows.stitch(parts.pop(number)), seconds, self._remark(piece))

    def _remark(self, piece: Piece) -> str | None:
        if piece.first and self.recognizer.encoder.cfg.extractor_mode != "layer_norm":
            return "; ".join(filter(None, [piece.remark, "this model normalises over time: windows are not the whole"]))
        return piece.remark

    # ---- audio

    def _batches(self, jobs: Iterable[Job]) -> Iterator[list[Piece]]:
        """Yield pieces that go through the model together, the longest first."""
        batch: list[Piece] = []
        longest = 0
        for piece in self._all_pieces(jobs):
            longest = max(longest, len(piece.samples))
            if batch and longest * (len(batch) + 1) > self.batch_seconds * SAMPLE_RATE:
                yield batch
                batch, longest = [], len(piece.samples)
            batch.append(piece)
        if batch:
            yield batch

    def _all_pieces(self, jobs: Iterable[Job]) -> Iterator[Piece]:
        whole, window = self.limits.whole, self.limits.window
        for job in sorted(jobs, key=lambda job: -(job.seconds if job.seconds <= whole else window)):
            try:
                yield from self._pieces(job)
            except AudioError as error:
                yield Piece(job, error=error)

    def _pieces(self, job: Job) -> Iterator[Piece]:
        if job.seconds <= self.limits.whole:
            samples, remarks = recordings.read(job.path)
            self._require_frame(job.path, len(samples))
            if self.recognizer.normalize:
                samples = levels.standardized(samples)
            whole = Piece(job, samples, remark="; ".join(remarks) or None)
            yield from [whole] if len(samples) <= self.limits.whole * SAMPLE_RATE else self._cut(whole)
            return
        summary = recordings.summarize(job.path)
        self._require_frame(job.path, summary.num_samples)
        spans = self._spans(summary.num_samples)
        for samples, span in zip(recordings.stretches(job.path, spans, summary.channel), spans, strict=True):
            if self.recognizer.normalize:
                samples = levels.standardized(samples, summary.mean, summary.variance)
            remark = "; ".join(summary.remarks) or None
            yield Piece(job, samples, span[0] // self.stride, span == spans[-1], remark)

    def _spans(self, num_samples: int) -> list[tuple[int, int]]:
        window, overlap = (int(s * SAMPLE_RATE) for s in (self.limits.window, self.limits.overlap))
        return windows.plan(num_samples, window, overlap, self.stride)

    def _cut(self, piece: Piece) -> list[Piece]:
        """Cut audio that is in memory into windows."""
        spans = self._spans(len(piece.samples))
        return [
            replace(piece, samples=piece.samples[begin:end], first=piece.first + begin // self.stride, last=False)
            for begin, end in spans[:-1]
        ] + [replace(piece, samples=piece.samples[spans[-1][0] :], first=piece.first + spans[-1][0] // self.stride)]

    def _require_frame(self, path: Path, num_samples: int) -> None:
        if num_samples < self.field:
            seconds, least = num_samples / SAMPLE_RATE, self.field / SAMPLE_RATE
            raise AudioError(f"{path}: {seconds:.3f} s, shorter than what the model looks at at a time ({least:g} s)")

    # ---- the model

    def _results(self, batch: list[Piece]) -> Iterator[tuple[Piece, Frames | AudioError]]:
        yield from ((piece, piece.error) for piece in batch if piece.error)
        if pieces := [piece for piece in batch if not piece.error]:
            yield from self._listen(pieces)

    def _listen(self, pieces: Sequence[Piece]) -> Iterator[tuple[Piece, Frames | AudioError]]:
        """Yield the frames of each piece; of a batch that is too large for the memory by halves."""
        for piece, found in memory.by_halves(pieces, self._frames, self._shrink):
            if isinstance(found, MemoryError):
                yield from self._listen_to_less(piece, str(found))
            else:
                yield piece, found

    def _shrink(self, pieces: Sequence[Piece]) -> None:
        half = max(len(piece.samples) for piece in pieces) / SAMPLE_RATE * len(pieces) / 2
        if half < self.batch_seconds:
            self.limits.batch = self.batch_seconds = half
            logger.warning("out of memory: batches of %.0f s from here on", half)

    def _listen_to_less(self, piece: Piece, said: str) -> Iterator[tuple[Piece, Frames | AudioError]]:
        seconds = len(piece.samples) / SAMPLE_RATE
        if seconds > self.limits.window:
            self.limits.whole = min(self.limits.whole, seconds / 2)
            logger.warning("out of memory: audio of more than %.0f s in windows from here on", self.limits.whole)
            for part in self._cut(piece):
                yield from self._listen([part])
        else:
            need = f"{piece.job.path}: {seconds:.0f} s of audio need more memory than there is ({said})"
            yield piece, AudioError(f"{need}; take a smaller --window-seconds (now {self.limits.window:g})")

    def _frames(self, pieces: Sequence[Piece]) -> list[Frames | AudioError]:
        padded, padding = audio.pad([torch.from_numpy(piece.samples) for piece in pieces])
        langs = [piece.job.lang for piece in pieces]
        emissions_BTV, frames_B = self.recognizer.emissions(padded, (~padding).sum(1), langs, ready=True)
        scores_BT, path_BT = (tensor.cpu().numpy() for tensor in emissions_BTV.max(-1))
        found: list[Frames | AudioError] = []
        for row, (lang, frames) in enumerate(zip(langs, frames_B.tolist(), strict=True)):
            if not np.isfinite(scores_BT[row, :frames]).all():
                found.append(AudioError(f"{pieces[row].job.path}: the model answers with numbers that are not finite"))
                continue
            emissions_TV = None
            if self.keep_emissions:  # a language's head may be narrower than those of the whole batch
                emissions_TV = emissions_BTV[row, :frames, : len(self.recognizer.dictionary(lang))].cpu().numpy().copy()
            found.append(Frames(path_BT[row, :frames].copy(), scores_BT[row, :frames].copy(), emissions_TV))
        return found


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield items, of which the next is made in a thread meanwhile."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, items, end)
        while (item := following.result()) is not end:
            following = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
