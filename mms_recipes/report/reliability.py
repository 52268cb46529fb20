"""How often what is so sure is right, as a picture: probabilities across, the share that is right upward."""

from collections.abc import Mapping, Sequence
from typing import Any

_SIDE, _EDGE = 300, 48
_AXES = f'<path class="g" d="M{_EDGE} {_SIDE}H{_EDGE + _SIDE}M{_EDGE} {_SIDE}V0M{_EDGE} {_SIDE}L{_EDGE + _SIDE} 0"/>'
_AXES += "".join(
    f'<text x="{_EDGE + tick * _SIDE // 100}" y="{_SIDE + 18}" text-anchor="middle">{tick} %</text>'
    f'<text x="{_EDGE - 5}" y="{_SIDE - tick * _SIDE // 100 + 4}" text-anchor="end">{tick} %</text>'
    for tick in (0, 50, 100)
)


def svg(curves: Mapping[str, Sequence[Mapping[str, Any]]], total: int, heading: str) -> str:
    """Draw the bins of each curve, by title; `total` counts what is in all bins, `heading` is the id of its title."""
    shapes = "".join(
        f'<g class="r{number}">{"".join(_dot(one, title, total) for one in listed)}</g>'
        for number, (title, listed) in enumerate(curves.items())
    )
    box = f"0 -8 {_EDGE + _SIDE + 20} {_SIDE + 32}"
    return f'<svg class="overview" role="img" viewBox="{box}" aria-labelledby="{heading}">{_AXES}{shapes}</svg>'


def _dot(one: Mapping[str, Any], title: str, total: int) -> str:
    """Draw a bin of answers; its area is their share."""
    x, y = _EDGE + one["confidence"] * _SIDE, _SIDE - one["accuracy"] * _SIDE
    told = f"{title}: {one['utterances']:,} answers {100 * one['confidence']:.1f} % sure, "
    told += f"{100 * one['accuracy']:.1f} % right"
    size = 2.5 + 5 * (one["utterances"] / total) ** 0.5
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}"><title>{told}</title></circle>'
