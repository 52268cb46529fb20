"""The languages of audio files: many files in batches by length, long ones in windows, in memory that is bounded.

Shapes: K classes to choose from.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from mms_recipes import recordings
from mms_recipes.data import audio
from mms_recipes.lid import spans as language_spans
from mms_recipes.lid.answers import Choice
from mms_recipes.lid.identifier import Identifier
from mms_recipes.lid.spans import UNDETERMINED, Span, Window
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.recordings import Samples

ENOUGH_SECONDS, ALIKE = (
    20,
    0.9,
)  # a batch of so much audio takes no window that is shorter than this share of its longest
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
    """What is spoken in a file: the language (`und`: silence, or less probable than asked), the first answers with
    their probabilities (none for silence), and what is spoken when."""

    path: Path
    seconds: float
    lang: str
    best: Sequence[tuple[str, float]]
    spans: Sequence[Span]


@dataclass
class _Pending:
    """Windows that wait to be heard together: the number of their file, their begin and samples."""

    windows: list[tuple[int, int, Samples]] = field(default_factory=list)
    longest: int = 0

    def is_full_for(self, size: int, limit: int) -> bool:
        """Return whether another window would make it longer than `limit` samples, or much of it padding."""
        enough = self.longest * len(self.windows) >= ENOUGH_SECONDS * SAMPLE_RATE
        return max(size, self.longest) * (len(self.windows) + 1) > limit or (enough and size < ALIKE * self.longest)


def identify(
    identifier: Identifier, choice: Choice, paths: Sequence[Path], options: Options
) -> Iterator[FileLanguage | ValueError]:
    """Yield for each file in order what is spoken in it, or what is wrong with it."""
    for start in range(0, len(paths), BLOCK):
        yield from _identify_block(identifier, choice, paths[start : start + BLOCK], options)


def _identify_block(
    identifier: Identifier, choice: Choice, paths: Sequence[Path], options: Options
) -> Iterator[FileLanguage | ValueError]:
    found: dict[int, list[Window]] = {}
    faults: dict[int, ValueError] = {}
    limit, pending = int(options.batch * SAMPLE_RATE), _Pending()
    seconds = [_expected_seconds(path) for path in paths]
    with tqdm(total=round(sum(seconds)), desc="identify", unit="s of audio", disable=None) as progress:
        for number in sorted(range(len(paths)), key=lambda number: -seconds[number]):
            found[number] = []
            try:
                for begin, samples in _windows(paths[number], identifier.min_samples, options.window):
                    if language_spans.is_silent(samples):
                        found[number].append(Window(begin, begin + len(samples), None))
                        continue
                    if pending.is_full_for(len(samples), limit):
                        _hear(identifier, choice, pending, found)
                        pending = _Pending()
                    pending.windows.append((number, begin, samples))
                    pending.longest = max(pending.longest, len(samples))
            except ValueError as error:
                faults[number] = error
            progress.update(round(seconds[number]))
        _hear(identifier, choice, pending, found)
    for number, path in enumerate(paths):
        yield faults[number] if number in faults else _answer(path, found[number], choice, options)


def _expected_seconds(path: Path) -> float:
    """Return the length by the header; 0 where there is none, which is said when the file is read."""
    try:
        return recordings.expected_seconds(path)
    except ValueError:
        return 0.0


def _windows(path: Path, least: int, seconds: float) -> Iterator[tuple[int, Samples]]:
    for begin, samples in language_spans.cut(path, int(seconds * SAMPLE_RATE)):
        if len(samples) < least:
            raise ValueError(
                f"{path}: {len(samples) / SAMPLE_RATE:.3f} s, shorter than what the model looks at at a time "
                f"({least / SAMPLE_RATE:.3f} s)"
            )
        yield begin, samples


def _hear(identifier: Identifier, choice: Choice, pending: _Pending, found: dict[int, list[Window]]) -> None:
    """Let the model hear a batch, and give each window to its file."""
    if not pending.windows:
        return
    sources = [samples for _, _, samples in pending.windows]
    if identifier.normalize:  # each window by itself, as a file of that length would be
        sources = [recordings.normalized(samples) for samples in sources]
    padded, padding = audio.pad([torch.from_numpy(samples) for samples in sources])
    probabilities_BK = choice.probabilities(identifier.logits(padded, (~padding).sum(1)))
    for (number, begin, samples), row_K in zip(pending.windows, probabilities_BK, strict=True):
        found[number].append(Window(begin, begin + len(samples), row_K))


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
