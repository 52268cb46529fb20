"""Search over two weights of a beam search: a coarse grid, then ever finer steps around the best point.

No optimiser library: errors are counted without noise and are flat in steps over the weights, two weights need some 60
points, and points of a round are measured in parallel. Equal runs measure equal points.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Point = tuple[float, ...]  # a value for each axis
Measure = Callable[[Sequence[Point]], Sequence[int]]  # errors of each point

_DIGITS = 6  # of a weight: so that steps which add up to one value meet


@dataclass(frozen=True)
class Axis:
    """A weight that is looked for: its name in BeamOptions, its range and the value that it has untuned."""

    name: str
    low: float
    high: float
    default: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ValueError(f"{self.name}_range is [{self.low}, {self.high}], expected the lower bound first")

    def values(self, step: float) -> list[float]:
        """Return the coarse values, both bounds among them."""
        count = math.floor(round((self.high - self.low) / step, _DIGITS))
        inside = [round(self.low + number * step, _DIGITS) for number in range(count + 1)]
        return list(dict.fromkeys([*inside, self.high]))

    def around(self, value: float, step: float) -> list[float]:
        """Return a value and its neighbours, none outside the range unless `value` is."""
        low, high = min(self.low, value), max(self.high, value)
        return list(dict.fromkeys(round(min(max(value + by, low), high), _DIGITS) for by in (-step, 0.0, step)))


def search(axes: Sequence[Axis], step: float, finest: float, measure: Measure) -> dict[Point, int]:
    """Return the errors of all points that were measured, in the order of measuring, the default point first.

    The grid has steps of `step`. Then the neighbours of the best point are measured with half the step: again while
    the best point moves, else with half of that, down to `finest`. `best` finds the winner.
    """
    for name, value in (("step", step), ("finest", finest)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}, expected more than 0")
    default = tuple(axis.default for axis in axes)
    measured: dict[Point, int] = {}

    def look_at(points: Sequence[Point]) -> None:
        new = [point for point in dict.fromkeys(points) if point not in measured]
        if new:
            measured.update(zip(new, measure(new), strict=True))

    look_at([default, *itertools.product(*(axis.values(step) for axis in axes))])
    while (step := step / 2) >= finest:
        centre = None
        while centre != (found := best(measured, default)):
            centre = found
            near = (axis.around(value, step) for axis, value in zip(axes, centre, strict=True))
            look_at(list(itertools.product(*near)))
    return measured


def best(measured: Mapping[Point, int], default: Point) -> Point:
    """Return the point of fewest errors; of equal ones that with the fewest changes, then the nearest."""

    def badness(point: Point) -> tuple[int, int, float, Point]:
        changes = sum(value != untuned for value, untuned in zip(point, default, strict=True))
        return measured[point], changes, math.dist(point, default), point

    return min(measured, key=badness)


def at_bounds(axes: Sequence[Axis], point: Point) -> list[str]:
    """Name the axes on whose bounds a point lies: better ones may lie beyond."""
    return [axis.name for axis, value in zip(axes, point, strict=True) if value in (axis.low, axis.high)]
