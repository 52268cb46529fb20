"""What was said in a recording, and how it is written: lines of text or JSON, or subtitles; where to."""

import contextlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from mms_recipes import files, languages
from mms_recipes.decoding.word_times import Word
from mms_recipes.sources import Source
from mms_recipes.transcription import subtitles

TEXT, JSON_LINES, SRT, VTT = "text", "jsonl", "srt", "vtt"
SUFFIXES = {TEXT: ".txt", JSON_LINES: ".json", SRT: ".srt", VTT: ".vtt"}


@dataclass(frozen=True)
class Transcript:
    """The words of one recording; `error` says why there are none.

    `words` have start and end in seconds and confidence in 0 to 1; of a script without spaces they are its letters.
    `lang_probability` is there when the language was found out. `remark` is what the user should know about it.
    """

    path: Path
    lang: str | None = None
    text: str = ""
    seconds: float | None = None
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
            said |= {"seconds": self.seconds, "text": self.text, "confidence": self.confidence}
            said["words"] = [
                {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}
                | {"confidence": round(word.confidence, 4)}
                for word in self.words
            ]
        said |= {"remark": self.remark}
        kept = {name: value for name, value in said.items() if value is not None}
        line = json.dumps(kept, ensure_ascii=False)
        try:
            line.encode()
        except UnicodeEncodeError:
            return json.dumps(kept)
        return line

    def as_cues(self) -> list[subtitles.Cue]:
        """Return the words as subtitles."""
        spaces = self.lang is None or not languages.is_character_scored(self.lang)
        return subtitles.cues([(word.text, word.start, word.end) for word in self.words], spaces)


def to_text(transcript: Transcript, kind: str, alone: bool) -> str:
    """Return what a format writes of a transcript; `alone` in a file of its own. An error is written as JSON only."""
    if kind == JSON_LINES:
        return transcript.as_json() + "\n"
    if transcript.error is not None:
        return ""
    if kind == TEXT:
        return f"{transcript.text}\n" if alone else f"{shown(transcript.path)}\t{transcript.text}\n"
    return (subtitles.to_srt if kind == SRT else subtitles.to_vtt)(transcript.as_cues())


def shown(path: Path) -> str:
    """Return a path for a line of text: as it is, or as a JSON string when it holds a tab, a line break or the like."""
    name = str(path)
    strange = any(char.isascii() and not char.isprintable() for char in name)
    return json.dumps(name, ensure_ascii=False) if strange else name


# ---- where it goes


Write = Callable[[Source, Transcript], None]


@contextlib.contextmanager
def open_output(out: Path | str | None, kind: str, found: Sequence[Source], stdout: IO[bytes]) -> Iterator[Write]:
    """Give what writes one transcript after the other: to stdout, into the file `out`, or files in the folder `out`.

    `out` is a folder when it is one already, when it ends in a slash, and for subtitles of several recordings. A file
    appears when all of it is written. Raises ValueError or OSError at once when the output cannot be written.
    """
    subtitled = kind in (SRT, VTT)
    if out is None:
        if subtitled and len(found) > 1:
            raise ValueError(f"{kind} of {len(found)} recordings: give a folder for them with --out")
        yield lambda source, transcript: _send(stdout, to_text(transcript, kind, alone=subtitled))
    elif Path(out).is_dir() or str(out).endswith(("/", os.sep)) or (subtitled and len(found) > 1):
        yield _folder(Path(out), kind, found)
    else:
        with _file(Path(out)) as file:
            yield lambda source, transcript: _send(file, to_text(transcript, kind, alone=subtitled))


def _send(file: IO[bytes], text: str) -> None:
    file.write(text.encode(errors="surrogateescape"))
    file.flush()


def _folder(out: Path, kind: str, found: Sequence[Source]) -> Write:
    names = output_names(found, SUFFIXES[kind])
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise OSError(f"{out}: cannot be written to ({error.strerror}); give another folder with --out") from None

    def write(source: Source, transcript: Transcript) -> None:
        if text := to_text(transcript, kind, alone=True):
            path = out / names[source]
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_text(path, text)

    return write


@contextlib.contextmanager
def _file(out: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `out`, which takes its place when all went well."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(stack.enter_context(files.replaced(out)).open("wb"))
        except OSError as error:
            raise OSError(f"{out}: cannot be written ({error.strerror}); give another --out") from None
        yield file


def output_names(found: Sequence[Source], suffix: str) -> dict[Source, Path]:
    """Return where in a folder the transcript of each recording goes: its name with another suffix.

    Where two names differ in their suffix only, these are kept. Raises ValueError when two recordings share a name.
    """
    plain = {source: source.relative.with_suffix(suffix) for source in found}
    taken = Counter(plain.values())
    names = {
        source: name if taken[name] == 1 else source.relative.with_name(source.relative.name + suffix)
        for source, name in plain.items()
    }
    first: dict[Path, Source] = {}
    for source, name in names.items():
        other = first.setdefault(name, source)
        if other is not source:
            raise ValueError(
                f"{other.path} and {source.path} would both be written to {name}; give the folder that holds both, "
                "or transcribe them one after the other"
            )
    return names
