"""Which audio a command is to work on: files, folders, and a list on standard input."""

import logging
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mms_recipes import languages

logger = logging.getLogger(__name__)

STDIN = "-"
AUTO = "auto"  # for a language: it is to be found out
# fmt: off
SUFFIXES = (  # of audio that libsndfile reads
    ".aif", ".aifc", ".aiff", ".au", ".avr", ".caf", ".flac", ".mp1", ".mp2", ".mp3", ".mpga", ".nist", ".oga", ".ogg",
    ".opus", ".paf", ".pvf", ".rf64", ".sds", ".snd", ".sph", ".svx", ".voc", ".w64", ".wav", ".wave", ".wve",
)
OTHERS = (  # of audio and video that it does not read
    ".3gp", ".aac", ".ac3", ".alac", ".amr", ".ape", ".asf", ".avi", ".dsf", ".flv", ".gsm", ".m4a", ".m4b", ".m4v",
    ".mka", ".mkv", ".mov", ".mp4", ".mpc", ".mpeg", ".mpg", ".pcm", ".ra", ".raw", ".rm", ".spx", ".tta", ".vox",
    ".webm", ".wma", ".wmv", ".wv",
)
# fmt: on
# how such files begin
_READ = re.compile(
    rb"fLaC|OggS|ID3|\.snd|caff|NIST_1A|RF64|riff|RIFX|RIFF.{4}WAVE|FORM.{4}(AIF|8SV)|\xff[\xe2\xe3\xf2\xf3\xfa-\xfd]",
    re.S,
)
_NOT_READ = re.compile(
    rb".{4}ftyp(?!avif|heic|heix|mif1)|\x1aE\xdf\xa3|0&\xb2u\x8ef\xcf\x11|#!AMR|\xff[\xf1\xf9]|RIFF.{4}AVI "
    rb"|MAC |wvpk|FLV\x01|ADIF",
    re.S,
)
SHOWN = 10


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
    if _READ.match(data[:16]) or _NOT_READ.match(data[:16]):
        raise ValueError("standard input is audio, expected a list of files; write it to a file and name that")
    if not null and b"\0" in data:
        raise ValueError("the list on standard input holds NUL bytes: add --null for a list of find -print0")
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
    """Yield the audio below a folder. What is there and not taken is counted and named, once."""
    count, others, unnamed, links = 0, list[Path](), list[Path](), list[Path]()
    for parent, folders, names in os.walk(folder.path, onerror=_not_listed):
        folders.sort()
        links += [path for name in folders if (path := Path(parent, name)).is_symlink()]
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                count += 1
                yield Source(path, folder.lang, path.relative_to(folder.path))
            elif path.suffix.lower() in OTHERS or _begins(path, _NOT_READ):
                others.append(path.relative_to(folder.path))
            elif _begins(path, _READ):
                unnamed.append(path.relative_to(folder.path))
    passed = [
        _named(others, "that libsndfile does not read; convert each, as in: ffmpeg -i {0} {1}.flac"),
        _named(unnamed, "that are audio, but hidden or without a suffix of audio; name them one by one"),
        _named([link.relative_to(folder.path) for link in links], "that are links to folders; name them one by one"),
    ]
    told = "; ".join(filter(None, passed))
    if not count:
        looked = f"no audio in this folder; looked for {' '.join(SUFFIXES)}"
        raise ValueError(f"{folder.path}: {looked}{'; passed over: ' if told else ''}{told}")
    if told:
        logger.warning("%s: passed over: %s", folder.path, told)


def _named(paths: Sequence[Path], what: str) -> str:
    """Count and name what is passed over."""
    if not paths:
        return ""
    names = [shlex.quote(str(path)) for path in paths[:SHOWN]]
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return f"{len(paths)} {what.format(names[0], shlex.quote(str(paths[0].with_suffix(''))))}: {', '.join(names)}{more}"


def _begins(path: Path, kinds: re.Pattern[bytes]) -> bool:
    """Whether a regular file begins as these kinds of audio do."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return kinds.match(file.read(16)) is not None
    except OSError:
        return False


def _not_listed(error: OSError) -> None:
    raise error
