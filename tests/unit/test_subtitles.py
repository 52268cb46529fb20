"""Subtitles from words with times."""

import itertools

from mms_recipes.alignment import display_width
from mms_recipes.transcription import subtitles


def spoken(texts: list[str], seconds: float = 0.4, start: float = 0.0) -> list[tuple[str, float, float]]:
    return [(text, start + n * seconds, start + (n + 0.75) * seconds) for n, text in enumerate(texts)]


def test_cues_are_short_and_their_lines_even() -> None:
    words = spoken([f"word{number}" for number in range(60)])
    cues = subtitles.cues(words)
    assert " ".join(line for cue in cues for line in cue.lines).split() == [text for text, _, _ in words]
    for cue, following in itertools.pairwise(cues):
        assert len(cue.lines) <= 2 and all(display_width(line) <= 42 for line in cue.lines)
        assert cue.end - cue.start <= 7 and cue.end <= following.start
    widths = [display_width(line) for line in cues[0].lines]
    assert len(widths) == 2 and abs(widths[0] - widths[1]) <= 7


def test_a_pause_begins_a_new_cue_and_a_short_one_stays() -> None:
    cues = subtitles.cues([("yes", 1.0, 1.2), ("no", 5.0, 5.2), ("never", 5.4, 5.6)])
    assert [cue.lines for cue in cues] == [("yes",), ("no never",)]
    assert (cues[0].start, cues[0].end) == (1.0, 2.0) and cues[1].end == 6.1


def test_scripts_without_spaces_have_none_and_are_wide() -> None:
    cues = subtitles.cues(spoken(list("日本語の文字は幅が広いので一行に二十一字しか入らない" * 3), 0.1), spaces=False)
    assert all(display_width(line) <= 42 and " " not in line for cue in cues for line in cue.lines)
    assert len(cues) == 2


def test_a_word_that_is_too_long_stands_alone() -> None:
    cues = subtitles.cues(spoken(["short", "x" * 90, "short"]))
    assert [cue.lines for cue in cues] == [("short", "x" * 90), ("short",)]


def test_formats() -> None:
    cues = [subtitles.Cue(0.12, 1.5, ("a <b>", "& c")), subtitles.Cue(3723.0055, 3724.9999, ("d",))]
    assert subtitles.to_srt(cues) == (
        "1\n00:00:00,120 --> 00:00:01,500\na <b>\n& c\n\n2\n01:02:03,006 --> 01:02:05,000\nd\n\n"
    )
    assert subtitles.to_vtt(cues).startswith(
        "WEBVTT\n\n00:00:00.120 --> 00:00:01.500\na &lt;b&gt;\n&amp; c\n\n01:02:03.006 --> "
    )
    assert subtitles.to_vtt([]) == "WEBVTT\n\n" and subtitles.to_srt([]) == ""


def test_cues_stay_within_the_recording_and_follow_each_other() -> None:
    """They ended up to a second after the audio, and words that touch gave empty cues."""
    words = [
        ("a", 0.0, 0.02),
        ("b", 0.02, 0.02),
        ("c", 5.0, 4.9),
        ("d", 4.95, 5.3),
        ("e", 9.0, 9.0599),
        ("f", 9.5, 12.0),
    ]
    for length in (0.025, 5.1, 9.05991, 12.3456):
        cues = subtitles.cues([word for word in words if word[1] < length], length=length)
        assert all(0 <= cue.start < cue.end <= length for cue in cues)
        assert all(cue.end <= following.start for cue, following in itertools.pairwise(cues))
        for text in (subtitles.to_srt(cues), subtitles.to_vtt(cues)):
            times = [line.split(" --> ") for line in text.splitlines() if " --> " in line]
            assert all(start < end for start, end in times)
