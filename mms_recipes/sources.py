"""Which audio a command is to work on: files, folders, and a list on standard input."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mms_recipes import languages

STDIN = "-"
AUTO = "auto"  # for a language: it is to be found out
SUFFIXES: tuple[str, ...] = (".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64")
SUFFIXES += (".sph", ".voc", ".w64", ".wav", ".wave")


@dataclass(frozen=True)
class Source:
    """One audio file: the language that the list gives it, and its place below the folder that it was found in."""

    path: Path
    lang: str | None = None
    name: Path | None = None

    @property
    def relative(self) -> Path:
        """What to call its output: the place below the folder, else the file's name."""
        return self.name or Path(self.path.name)


def find(paths: Sequence[str | Path], stdin: BinaryIO, null: bool = False) -> list[Source]:
    """Return the files that are named, those below folders (audio suffixes only, sorted), and for "-" those of a list.

    A file that is not there is returned too: whoever reads it says so, and goes on with the others.
    Raises ValueError when a folder has no audio, or when there is nothing at all.
    """
    found: list[Source] = []
    for path in paths:
        listed = read_list(stdin.read(), null) if str(path) == STDIN else [Source(Path(path))]
        for source in listed:
            found += _below(source) if source.path.is_dir() else [source]
    if not found:
        raise ValueError("no audio files: the list on standard input is empty")
    return found


def read_list(data: bytes, null: bool) -> list[Source]:
    """Return the files of a list: a path a line, or a path, a tab and a language id or `auto`.

    With `null` the entries end in NUL bytes (find -print0), so that names may hold line breaks. Raises ValueError
    (stdin:line) when what stands behind a tab is no language.
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    entries = data.split(b"\0") if null else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return [_entry(os.fsdecode(entry), number) for number, entry in enumerate(entries, start=1) if entry.strip()]


def _entry(entry: str, number: int) -> Source:
    path, tab, lang = entry.rpartition("\t")
    if not tab or os.path.lexists(entry):  # a tab may be part of a name
        return Source(Path(entry))
    lang = lang.strip()
    if lang != AUTO:
        try:
            languages.language(lang)
        except ValueError as error:
            raise ValueError(f"stdin:{number}: {error}") from None
    return Source(Path(path), lang)


def _below(folder: Source) -> Iterator[Source]:
    count = 0
    for parent, folders, names in os.walk(folder.path, onerror=_not_listed):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                count += 1
                yield Source(path, folder.lang, path.relative_to(folder.path))
    if not count:
        raise ValueError(f"{folder.path}: no audio in this folder; looked for {' '.join(SUFFIXES)}")


def _not_listed(error: OSError) -> None:
    raise error
