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
    pending: list[_Part] = field(default_factory=list)
    found: dict[int, list[Window]] = field(default_factory=lambda: defaultdict(list))
    too_large: dict[int, str] = field(default_factory=dict)  # files with a window that memory does not hold

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
                self.too_large[part.number] = (
                    f"{len(part.sound) / SAMPLE_RATE:.0f} s of audio need more memory than there is ({heard})"
                )
            else:
                self.found[part.number].append(Window(part.begin, part.end, heard, len(part.sound)))

    def _is_full_for(self, size: int) -> bool:
        """Return whether another window would make it longer than the limit, or much of it padding."""
        longest = max((len(part.sound) for part in self.pending), default=0)
        enough = longest * len(self.pending) >= ENOUGH_SECONDS * SAMPLE_RATE
        return max(size, longest) * (len(self.pending) + 1) > self.limit or (enough and size < ALIKE * longest)

    def _probabilities(self, batch: Sequence[_Part]) -> Sequence[npt.NDArray[np.float64]]:
        sources = [part.sound for part in batch]
        if self.identifier.normalize:  # each window by itself, as a file of that length would be
            sources = [recordings.normalized(sound) for sound in sources]
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
    listening = _Listening(identifier, choice, int(options.batch * SAMPLE_RATE))
    for start in range(0, len(paths), BLOCK):
        yield from _identify_block(listening, paths[start : start + BLOCK], options)


def _identify_block(
    listening: _Listening, paths: Sequence[Path], options: Options
) -> Iterator[FileLanguage | ValueError]:
    listening.found.clear()
    listening.too_large.clear()
    faults: dict[int, ValueError] = {}
    seconds = [recordings.expected_seconds(path) for path in paths]
    with tqdm(total=round(sum(seconds)), desc="identify", unit="s of audio", disable=None) as progress:
        for number in sorted(range(len(paths)), key=lambda number: -seconds[number]):
            try:
                for begin, samples in _windows(paths[number], listening.identifier.min_samples, options.window):
                    listening.add(number, begin, samples)
                    if number in listening.too_large:
                        break
            except ValueError as error:
                faults[number] = error
            progress.update(round(seconds[number]))
        listening.hear()
    for number, told in listening.too_large.items():
        remedy = f"take a smaller --window-seconds (now {options.window:g})"
        faults.setdefault(number, ValueError(f"{paths[number]}: {told}; {remedy}"))
    for number, path in enumerate(paths):
        found = listening.found[number]
        yield faults[number] if number in faults else _answer(path, found, listening.choice, options)


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
