"""The languages of audio files: many files in batches by length, long ones in windows, in memory that is bounded.

Shapes: K classes to choose from.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from mms_recipes import memory, recordings
from mms_recipes.data import audio
from mms_recipes.lid import spans as language_spans
from mms_recipes.lid.answers import Choice
from mms_recipes.lid.identifier import Identifier
from mms_recipes.lid.spans import UNDETERMINED, Span, Window
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.recordings import Samples
from mms_recipes.sound import levels
from mms_recipes.transcription.outputs import in_order

logger = logging.getLogger(__name__)

# a batch of so much audio takes no window that is shorter than this share of its longest
ENOUGH_SECONDS, ALIKE = 20, 0.9
BLOCK = 2_000  # files that are ordered by length together; their answers come in the order asked for


@dataclass(frozen=True)
class Options:
    """How many answers, how probable the first must be, and seconds of a window and of a batch (padded)."""

    top: int = 3
    threshold: float = 0.0
    window: float = 20.0
    batch: float = 160.0

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ValueError(f"--top is {self.top}, expected 1 or more")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"--threshold is {self.threshold:g}, expected a probability, 0 to 1")
        if not 1 <= self.window <= self.batch < math.inf:
            raise ValueError(
                f"--window-seconds is {self.window:g} and --batch-seconds {self.batch:g}: expected at least 1, and a "
                "batch that holds a window"
            )


@dataclass(frozen=True)
class FileLanguage:
    """What is spoken in a file: the language (`und`: too little sound, or less probable than asked), the first
    answers with their probabilities (none for silence), and what is spoken when."""

    path: Path
    seconds: float
    lang: str
    best: Sequence[tuple[str, float]]
    spans: Sequence[Span]


class _Part(NamedTuple):
    """A window that waits for its batch: the number of its file, where it begins and ends, its sound."""

    number: int
    begin: int
    end: int
    sound: Samples


@dataclass
class _Listening:
    """Batches of windows, of at most `limit` samples with padding, and what was heard in each file."""

    identifier: Identifier
    choice: Choice
    limit: int
    window: float
    pending: list[_Part] = field(default_factory=list)
    found: dict[int, list[Window]] = field(default_factory=lambda: defaultdict(list))
    faults: dict[int, str] = field(default_factory=dict)  # files with a window that cannot be answered

    def add(self, number: int, begin: int, samples: Samples) -> None:
        """Take a window of a file; what waits is heard first where this one would not fit to it."""
        end, sound = begin + len(samples), language_spans.sound(samples)
        if sound is None:
            self.found[number].append(Window(begin, end, None, 0))
            return
        if self._is_full_for(len(sound)):
            self.hear()
        self.pending.append(_Part(number, begin, end, sound))

    def hear(self) -> None:
        """Let the model hear what waits."""
        batch, self.pending = self.pending, []
        for part, heard in memory.by_halves(batch, self._probabilities, self._shrink) if batch else ():
            if isinstance(heard, MemoryError):
                self.faults[part.number] = (
                    f"{len(part.sound) / SAMPLE_RATE:.0f} s of audio need more memory than there is ({heard}); take a "
                    f"smaller --window-seconds (now {self.window:g})"
                )
            elif not np.isfinite(heard).all():
                self.faults[part.number] = "the model answers with numbers that are not finite"
            else:
                self.found[part.number].append(Window(part.begin, part.end, heard, len(part.sound)))

    def drop(self, number: int) -> None:
        """Forget a file."""
        self.pending = [part for part in self.pending if part.number != number]
        self.found.pop(number, None)
        self.faults.pop(number, None)

    def _is_full_for(self, size: int) -> bool:
        """Return whether another window would make it longer than the limit, or much of it padding."""
        longest = max((len(part.sound) for part in self.pending), default=0)
        enough = longest * len(self.pending) >= ENOUGH_SECONDS * SAMPLE_RATE
        return max(size, longest) * (len(self.pending) + 1) > self.limit or (enough and size < ALIKE * longest)

    def _probabilities(self, batch: Sequence[_Part]) -> Sequence[npt.NDArray[np.float64]]:
        sources = [part.sound for part in batch]
        if self.identifier.normalize:  # each window by itself, as a file of that length would be
            sources = [levels.standardized(sound) for sound in sources]
        padded, padding = audio.pad([torch.from_numpy(sound) for sound in sources])
        return list(self.choice.probabilities(self.identifier.logits(padded, (~padding).sum(1))))

    def _shrink(self, batch: Sequence[_Part]) -> None:
        half = max(len(part.sound) for part in batch) * len(batch) // 2
        if half < self.limit:
            self.limit = half
            logger.warning("out of memory: batches of %.0f s from here on", half / SAMPLE_RATE)


def identify(
    identifier: Identifier, choice: Choice, paths: Sequence[Path], options: Options
) -> Iterator[FileLanguage | ValueError]:
    """Yield for each file in order what is spoken in it, or what is wrong with it."""
    waiting: dict[int, FileLanguage | ValueError] = {}
    for number in in_order(as_they_come(identifier, choice, paths, options), waiting):
        yield waiting.pop(number)


def as_they_come(
    identifier: Identifier, choice: Choice, paths: Sequence[Path], options: Options
) -> Iterator[tuple[int, FileLanguage | ValueError]]:
    """Yield the place of each file, and what is spoken in it or what is wrong with it, as soon as that is known."""
    listening = _Listening(identifier, choice, int(options.batch * SAMPLE_RATE), options.window)
    for start in range(0, len(paths), BLOCK):
        block = range(start, min(start + BLOCK, len(paths)))
        seconds = {number: recordings.expected_seconds(paths[number]) for number in block}
        with tqdm(total=round(sum(seconds.values())), desc="identify", unit="s of audio", disable=None) as progress:
            waiting: list[int] = []  # all of whose windows are read
            for number in sorted(block, key=lambda number: -seconds[number]):
                try:
                    for begin, samples in _windows(paths[number], identifier.min_samples, options.window):
                        listening.add(number, begin, samples)
                        if number in listening.faults:
                            break
                    waiting.append(number)
                except ValueError as error:
                    listening.drop(number)
                    yield number, error
                progress.update(round(seconds[number]))
                yield from _answered(listening, waiting, paths, options)
            listening.hear()
            yield from _answered(listening, waiting, paths, options)


def _answered(
    listening: _Listening, waiting: list[int], paths: Sequence[Path], options: Options
) -> Iterator[tuple[int, FileLanguage | ValueError]]:
    """Take the files out of those that wait of which every window was heard, and yield their answers."""
    pending = {part.number for part in listening.pending}
    for number in [number for number in waiting if number not in pending]:
        waiting.remove(number)
        fault = listening.faults.pop(number, None)
        windows = listening.found.pop(number, [])
        if fault is not None:
            yield number, ValueError(f"{paths[number]}: {fault}")
        else:
            yield number, _answer(paths[number], windows, listening.choice, options)


def _windows(path: Path, least: int, seconds: float) -> Iterator[tuple[int, Samples]]:
    for begin, samples in language_spans.cut(path, int(seconds * SAMPLE_RATE)):
        if len(samples) < least:
            raise ValueError(
                f"{path}: {len(samples) / SAMPLE_RATE:.3f} s, shorter than what the model looks at at a time "
                f"({least / SAMPLE_RATE:.3f} s)"
            )
        yield begin, samples


def _answer(path: Path, windows: Sequence[Window], choice: Choice, options: Options) -> FileLanguage:
    windows = sorted(windows, key=lambda window: window.begin)
    probabilities_K = language_spans.mean(windows)
    best: list[tuple[str, float]] = []
    if probabilities_K is not None:
        order = (-probabilities_K).argsort(kind="stable")[: options.top].tolist()
        best = [(choice.classes[place], float(probabilities_K[place])) for place in order]
    sure = bool(best) and best[0][1] >= options.threshold
    spans = language_spans.merge(windows, choice.classes, options.threshold)
    return FileLanguage(path, windows[-1].end / SAMPLE_RATE, best[0][0] if sure else UNDETERMINED, best, spans)
