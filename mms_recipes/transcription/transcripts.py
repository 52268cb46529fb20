"""What was said in a recording, and how it is written: lines of text or JSON, or subtitles."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mms_recipes import languages, streams
from mms_recipes.decoding.word_times import Word
from mms_recipes.transcription import subtitles

TEXT, JSON_LINES, SRT, VTT = "text", "jsonl", "srt", "vtt"
SUFFIXES = {TEXT: ".txt", JSON_LINES: ".json", SRT: ".srt", VTT: ".vtt"}


@dataclass(frozen=True)
class Transcript:
    """The words of one recording; `error` says why there are none.

    `words` have start and end in seconds; of a script without spaces they are its letters. `score` is what the model
    says of itself, 0 to 1. `confidence` is the share of the letters that is probably right, None unless a calibration
    was fitted for the model (evaluate with calibrate=dev).
    `lang_probability` is there when the language was found out. `remark` is what the user should know about it.
    """

    path: Path
    lang: str | None = None
    text: str = ""
    seconds: float | None = None
    score: float | None = None
    confidence: float | None = None
    words: list[Word] = field(default_factory=list)
    lang_probability: float | None = None
    remark: str | None = None
    error: str | None = None

    def as_json(self) -> str:
        """Return one line of JSON; names that are no UTF-8 keep their bytes as lone surrogates (os.fsdecode)."""
        said: dict[str, Any] = {"path": str(self.path), "lang": self.lang, "lang_probability": self.lang_probability}
        if self.error is not None:
            said |= {"error": self.error}
        else:
            said |= {"seconds": self.seconds, "text": self.text} | _sure(self.confidence, self.score)
            said["words"] = [
                {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}
                | _sure(word.confidence, word.score)
                for word in self.words
            ]
        said |= {"remark": self.remark}
        kept = {name: value for name, value in said.items() if value is not None}
        line = json.dumps(kept, ensure_ascii=False, allow_nan=False)
        try:
            line.encode()
        except UnicodeEncodeError:
            return json.dumps(kept)
        return streams.printable(line)

    def as_cues(self) -> list[subtitles.Cue]:
        """Return the words as subtitles."""
        spaces = self.lang is None or not languages.is_character_scored(self.lang)
        words = [(streams.printable(word.text), word.start, word.end) for word in self.words]
        return subtitles.cues(words, spaces, self.seconds)


def _sure(confidence: float | None, score: float | None) -> dict[str, float]:
    """Name a probability `confidence`, and what is none `score`."""
    if confidence is not None:
        return {"confidence": round(confidence, 4)}
    return {} if score is None else {"score": round(score, 4)}


def to_text(transcript: Transcript, kind: str, alone: bool) -> str:
    """Return what a format writes of a transcript; `alone` in a file of its own. An error is written as JSON only."""
    if kind == JSON_LINES:
        return transcript.as_json() + "\n"
    if transcript.error is not None:
        return ""
    if kind == TEXT:
        text = streams.printable(transcript.text)
        return f"{text}\n" if alone else f"{shown(transcript.path)}\t{text}\n"
    return (subtitles.to_srt if kind == SRT else subtitles.to_vtt)(transcript.as_cues())


def shown(path: Path) -> str:
    """Return a path for a line of text: as it is, or as a JSON string when it holds a tab, a line break or the like."""
    name = str(path)
    return name if streams.printable(name) == name else streams.printable(json.dumps(name, ensure_ascii=False))
