"""The search over weights finds the least, looks at no point twice and prefers what changes least."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from mms_recipes.decoding import tuning
from mms_recipes.decoding.tuning import Axis, Point
from mms_recipes.report import surface

AXES = (Axis("lm_weight", 0.0, 5.0, 2.0), Axis("word_score", -3.0, 3.0, -1.0))


class Bowl:
    """Errors that grow with the distance from a least point; notes which points were asked for."""

    def __init__(self, least: Point) -> None:
        self.least, self.asked = least, list[Point]()

    def __call__(self, points: Sequence[Point]) -> list[int]:
        self.asked += points
        return [round(1000 * sum((a - b) ** 2 for a, b in zip(p, self.least, strict=True))) for p in points]


@pytest.mark.parametrize("least", [(1.75, -2.25), (0.0, 3.0), (2.0, -1.0), (4.25, 0.5)])
def test_finds_the_least_point_and_asks_once(least: Point) -> None:
    bowl = Bowl(least)
    measured = tuning.search(AXES, 1.0, 0.25, bowl)
    assert tuning.best(measured, (2.0, -1.0)) == least
    assert bowl.asked[0] == (2.0, -1.0)  # the default is always measured
    assert len(bowl.asked) == len(set(bowl.asked)) == len(measured) <= 80
    assert all(axis.low <= value <= axis.high for p in measured for axis, value in zip(AXES, p, strict=True))


def test_grid_alone_and_a_default_off_the_grid() -> None:
    axes = (Axis("lm_weight", 0.0, 1.0, 2.0), Axis("sil_score", -1.0, 0.5, 0.0))
    measured = tuning.search(axes, 1.0, 2.0, Bowl((0.5, 0.0)))
    assert list(measured) == [(2.0, 0.0), *((x, y) for x in (0.0, 1.0) for y in (-1.0, 0.0, 0.5))]


def test_of_equal_points_the_fewest_changes_win() -> None:
    default = (2.0, -1.0)
    assert tuning.best({(2.0, -1.0): 5, (1.0, -1.0): 5, (0.0, 0.0): 5}, default) == default
    assert tuning.best({(2.0, -1.0): 6, (5.0, -1.0): 5, (1.75, -1.25): 5}, default) == (5.0, -1.0)
    assert tuning.best({(2.0, -1.0): 6, (5.0, -1.0): 5, (3.0, -1.0): 5}, default) == (3.0, -1.0)
    assert tuning.best({(2.0, -1.0): 6, (5.0, -1.0): 5, (0.0, 3.0): 4}, default) == (0.0, 3.0)


def test_points_on_a_bound_are_named() -> None:
    assert tuning.at_bounds(AXES, (5.0, 0.0)) == ["lm_weight"]
    assert tuning.at_bounds(AXES, (4.0, 0.0)) == []


@pytest.mark.parametrize(("step", "finest"), [(0.0, 0.25), (1.0, 0.0), (-1.0, 0.25)])
def test_steps_that_cannot_be(step: float, finest: float) -> None:
    with pytest.raises(ValueError, match=r"(step|finest) is .*, expected more than 0"):
        tuning.search(AXES, step, finest, Bowl((1.0, 0.0)))


def test_a_range_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"lm_weight_range is \[5\.0, 1\.0\], expected the lower bound first"):
        Axis("lm_weight", 5.0, 1.0, 2.0)


def test_surface_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: the picture NOT tested")
    rates: dict[tuple[float, ...], float] = {(x, y): x + y for x in (0.0, 1.0) for y in (0.0, 1.0)}
    surface.draw(
        tmp_path / "a.png", rates, ["lm_weight", "word_score"], "eng", {"default": (1.0, 1.0), "tuned": (0.0, 0.0)}
    )
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
