"""Subtitles from words with times: SRT and WebVTT.

A cue holds at most two lines of 42 columns (wide East Asian characters take two) and 7 s; a pause begins a new one.
CTC models hear a word in its middle, so a cue stays for half a second more where the next leaves room.
"""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mms_recipes.alignment import display_width

LINE_COLUMNS, MAX_LINES, MAX_SECONDS = 42, 2, 7.0
PAUSE_SECONDS, LEAD_OUT_SECONDS, SHORTEST_SECONDS = 1.0, 0.5, 1.0
LEAST_SECONDS = 0.001  # what the formats can write

TimedWord = tuple[str, float, float]  # text, start and end in seconds


@dataclass(frozen=True)
class Cue:
    """Lines and when they are shown, in seconds."""

    start: float
    end: float
    lines: tuple[str, ...]


def cues(words: Sequence[TimedWord], spaces: bool = True, length: float | None = None) -> list[Cue]:
    """Put words into cues; without `spaces` they are letters of a script that writes without.

    Cues follow each other, none is empty, and none ends after the recording, whose `length` is in seconds.
    """
    length = math.inf if length is None else math.floor(length * 1000) / 1000
    words = _within(words, length)
    groups: list[list[TimedWord]] = []
    for word in words:
        if not groups or _is_full(groups[-1], word, spaces):
            groups.append([])
        groups[-1].append(word)
    found = []
    for number, group in enumerate(groups):
        following = groups[number + 1][0][1] if number + 1 < len(groups) else math.inf
        start, end = group[0][1], group[-1][2]
        wished = max(min(end + LEAD_OUT_SECONDS, start + MAX_SECONDS), start + SHORTEST_SECONDS, end)
        texts = [text for text, _, _ in group]
        until = max(min(wished, following, length), start + LEAST_SECONDS)
        found.append(Cue(start, until, tuple(_lines(texts, spaces))))
    return found


def _within(words: Sequence[TimedWord], length: float) -> list[TimedWord]:
    """Return words that begin one after the other within a recording, none of them empty."""
    found: list[TimedWord] = []
    latest = max(length - LEAST_SECONDS, 0.0)
    for text, start, end in words:
        begin = min(max(start, found[-1][1] + LEAST_SECONDS if found else 0.0), latest)
        found.append((text, begin, max(min(end, length), begin + LEAST_SECONDS)))
    return found


def to_srt(cues: Iterable[Cue]) -> str:
    """Return cues as SubRip."""
    return "".join(
        f"{number}\n{_time(cue.start, ',')} --> {_time(cue.end, ',')}\n{_shown(cue)}\n\n"
        for number, cue in enumerate(cues, start=1)
    )


def to_vtt(cues: Iterable[Cue]) -> str:
    """Return cues as WebVTT, in which <, > and & are escaped."""
    shown = (
        f"{_time(cue.start, '.')} --> {_time(cue.end, '.')}\n{html.escape(_shown(cue), quote=False)}\n\n"
        for cue in cues
    )
    return "WEBVTT\n\n" + "".join(shown)


def _is_full(group: Sequence[TimedWord], word: TimedWord, spaces: bool) -> bool:
    if word[1] - group[-1][2] > PAUSE_SECONDS or word[2] - group[0][1] > MAX_SECONDS:
        return True
    return len(_lines([*(text for text, _, _ in group), word[0]], spaces)) > MAX_LINES


def _lines(texts: Sequence[str], spaces: bool) -> list[str]:
    """Break into lines; when two hold it all, they become as even as they can."""
    lines = _filled(texts, spaces, LINE_COLUMNS)
    if len(lines) == 2:
        total = display_width("".join(lines))
        for columns in range(total // 2, LINE_COLUMNS):
            if len(even := _filled(texts, spaces, columns)) == 2:
                return even
    return lines


def _filled(texts: Sequence[str], spaces: bool, columns: int) -> list[str]:
    lines: list[str] = []
    for text in texts:
        longer = f"{lines[-1]}{' ' * spaces}{text}" if lines else text
        if lines and display_width(longer) <= columns:
            lines[-1] = longer
        else:
            lines.append(text)
    return lines


def _shown(cue: Cue) -> str:
    return "\n".join(cue.lines)


def _time(seconds: float, point: str) -> str:
    thousandths = round(seconds * 1000)
    minutes, thousandths = divmod(thousandths, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{thousandths // 1000:02}{point}{thousandths % 1000:03}"
