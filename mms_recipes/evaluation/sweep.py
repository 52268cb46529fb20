"""What tuning measures: every utterance of a language decoded at every point, in parallel, its errors counted."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from mms_recipes import metrics
from mms_recipes.decoding import beam, greedy, pool, tuning
from mms_recipes.decoding.beam import BeamOptions
from mms_recipes.decoding.tuning import Axis, Point
from mms_recipes.evaluation.emissions import Split
from mms_recipes.metrics import ErrorCounts
from mms_recipes.recognizer import Recognizer


@dataclass(frozen=True)
class Errors:
    """What one way of decoding made of a split: counts over its utterances."""

    words: ErrorCounts = field(default_factory=ErrorCounts)
    characters: ErrorCounts = field(default_factory=ErrorCounts)
    utterances: int = 0

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(self.words + other.words, self.characters + other.characters, self.utterances + other.utterances)

    def counts(self, metric: str) -> ErrorCounts:
        return self.words if metric == "wer" else self.characters

    def rate(self, metric: str) -> float:
        """Return `wer` or `cer` in percent."""
        return round(self.counts(metric).rate, 4)


@dataclass(frozen=True)
class Sweep:
    """One language: its utterances, the rows and emissions of each, longest first, and what is looked for."""

    lang: str
    split: Split
    rows: list[int]
    emissions_TV: list[npt.NDArray[np.float32]]
    space: beam.SearchSpace
    options: BeamOptions
    axes: tuple[Axis, Axis]
    count_space: bool

    def at(self, point: Point) -> BeamOptions:
        """Return the options of the search at a point."""
        weights: dict[str, Any] = {axis.name: value for axis, value in zip(self.axes, point, strict=True)}
        return replace(self.options, **weights)


def measure(
    sweep: Sweep, recognizer: Recognizer, metric: str, step: float, finest: float, workers: int
) -> dict[Point, Errors]:
    """Return what every point of the search made of the whole split."""
    found: dict[Point, Errors] = {}
    with tqdm(total=0, desc=sweep.lang, unit=" searches", mininterval=1) as progress:

        def look_at(points: Sequence[Point]) -> list[int]:
            progress.total += len(points) * len(sweep.rows)
            found.update(_measure(sweep, recognizer, points, workers, progress))
            return [found[point].counts(metric).errors for point in points]

        tuning.search(sweep.axes, step, finest, look_at)
    return found


def _measure(
    sweep: Sweep, recognizer: Recognizer, points: Sequence[Point], workers: int, progress: Any
) -> dict[Point, Errors]:
    """Decode all utterances at each point. Raises ChildProcessError unless every one of them came back, once."""
    count = len(sweep.rows)

    @functools.lru_cache(maxsize=1)
    def decoder(number: int) -> beam.BeamDecoder:
        return sweep.space.decoder(sweep.at(points[number]))

    def decode(item: int) -> Errors:
        number, place = divmod(item, count)
        (hypothesis,) = decoder(number).decode(sweep.emissions_TV[place])
        return _errors(sweep, sweep.rows[place], recognizer.text(hypothesis, sweep.lang))

    def name(item: int) -> str:
        number, place = divmod(item, count)
        return f"{sweep.lang} {sweep.split.labels.uids[sweep.rows[place]]} at {points[number]}"

    came: list[dict[int, Errors]] = [{} for _ in points]
    for item, errors in pool.work_through(decode, len(points) * count, workers, name):
        number, place = divmod(item, count)
        came[number][place] = errors
        progress.update()
    for point, by_place in zip(points, came, strict=True):
        if len(by_place) != len(sweep.split.utterances):
            raise ChildProcessError(
                f"{sweep.lang}: {len(by_place)} of {len(sweep.split.utterances)} utterances came back at {point}"
            )
    return {point: sum(by_place.values(), Errors()) for point, by_place in zip(points, came, strict=True)}


def greedy_errors(recognizer: Recognizer, sweep: Sweep) -> Errors:
    """Return what greedy search makes of the whole split."""
    found = Errors()
    for row, emissions_TV in zip(sweep.rows, sweep.emissions_TV, strict=True):
        batch_BTV, frames_B = torch.from_numpy(np.array(emissions_TV))[None], torch.tensor([len(emissions_TV)])
        (units,) = greedy.greedy(batch_BTV, frames_B)
        found += _errors(sweep, row, recognizer.words(units, sweep.lang))
    return found


def _errors(sweep: Sweep, row: int, hypothesis: str) -> Errors:
    reference = sweep.split.labels.words[row]
    characters = metrics.character_errors(reference, hypothesis, count_space=sweep.count_space)
    return Errors(metrics.word_errors(reference, hypothesis), characters, 1)
