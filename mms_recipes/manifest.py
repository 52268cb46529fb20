"""Manifests: which audio, how long, and what was said. The format is told in manifests/README.md.

``<split>.tsv`` holds the root folder, then ``path TAB num_samples`` a line; ``.ltr`` (or ``.units``), ``.wrd`` and
``.uid`` hold one line for each utterance; ``dict.ltr.txt`` the letters. Readers keep numpy arrays of offsets: a line is
read from the file when it is asked for, so ten million rows fit in memory and any number of files can be open at once.
"""

import codecs
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, overload

import numpy as np
from numpy.typing import NDArray

from mms_recipes.files import write_text
from mms_recipes.unit_kinds import UnitKind, kind_of

SAMPLE_RATE = 16_000  # Hz, of all audio in manifests
LABEL_SUFFIXES = ("ltr", "wrd", "uid")
PREPARED = "prepared.json"  # in a folder of manifests: what they were made from, and how
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")  # fairseq puts them before the letters

_KERNELS, _STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)  # wav2vec 2.0's convolutions, in samples and frames
_BLOCK_BYTES = 1 << 24
_NEWLINE, _RETURN, _TAB, _ZERO = b"\n\r\t0"
_MAX_SAMPLES, _MAX_DIGITS = 2**31 - 1, 10


@dataclass(frozen=True)
class Utterance:
    """What a manifest says of one utterance; ``path`` is absolute or relative to the root."""

    path: str
    num_samples: int
    letters: str
    words: str
    uid: str


class Lines:
    """The lines of a text file, read one by one when indexed; only their offsets (8 bytes a line) stay in memory."""

    def __init__(self, file: Path, starts: NDArray[np.int64], first_line: int = 1) -> None:
        self.file = file
        self.first_line = first_line  # number of line 0 in the file, for messages
        self._starts = starts  # [lines + 1], the last one lies behind the end
        self._bytes = file.stat().st_size

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> str:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.file} has {len(self)} lines, asked for line {index}, counted from 0")
        index %= len(self)
        start, end = int(self._starts[index]), int(self._starts[index + 1]) - 1
        with self.file.open("rb") as file:
            if os.fstat(file.fileno()).st_size != self._bytes:
                raise ValueError(f"{self.file} has changed since it was opened; start again")
            file.seek(start)
            return self._decode(file.read(end - start), index)

    def __iter__(self) -> Iterator[str]:
        with self.file.open("rb") as file:
            file.seek(int(self._starts[0]))
            for index, line in enumerate(file):
                yield self._decode(line.removesuffix(b"\n"), index)

    def lengths(self) -> NDArray[np.int64]:
        """Return the bytes of each line, line feed not counted."""
        return np.diff(self._starts) - 1

    def where(self, index: int) -> str:
        """Return ``file:line`` of a line, for messages."""
        return f"{self.file}:{index + self.first_line}"

    def _decode(self, line: bytes, index: int) -> str:
        try:
            return line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.where(index)}: not UTF-8 ({error.reason}); save the file as UTF-8") from None


@dataclass(frozen=True)
class Manifest:
    """One ``<split>.tsv``: a root folder and rows of path and length."""

    root: Path
    num_samples: NDArray[np.int32]  # [utterances], at 16 kHz
    rows: Lines

    def __len__(self) -> int:
        return len(self.num_samples)

    def name(self, index: int) -> str:
        """Return the path of an utterance as it is written, absolute or relative to the root."""
        return self.rows[index].partition("\t")[0]

    def names(self) -> Iterator[str]:
        """Yield the path of every utterance as it is written; faster than asking one by one."""
        return (row.partition("\t")[0] for row in self.rows)

    def path(self, index: int) -> Path:
        """Return the audio file of an utterance."""
        return self.root / self.name(index)

    def seconds(self) -> float:
        """Return the length of all utterances together."""
        return float(self.num_samples.sum(dtype=np.int64)) / SAMPLE_RATE


@dataclass(frozen=True)
class Labels:
    """The label files of one split: one line for each utterance of its manifest."""

    units: Lines  # letters, or pieces of words
    words: Lines
    uids: Lines


def read_manifest(tsv: Path) -> Manifest:
    """Open a manifest. A relative root counts from the folder of the tsv.

    Raises FileNotFoundError, or ValueError (file:line) at the first row that is not ``path TAB num_samples``.
    """
    with _open(tsv, "prepare the corpus with tools/prepare_fleurs.py or tools/prepare_folder.py") as file:
        header = file.readline()
        _check_mark(tsv, header)
        root = header.decode("utf-8", errors="surrogateescape").strip()
        if not root or "\t" in root:
            raise ValueError(f"{tsv}:1: found {root!r}, expected the root folder of the audio; rebuild the manifest")
        starts, num_samples = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
        offset, line = len(header), 2
        for block in _blocks(file):
            new_starts, new_samples = _parse_rows(block, f"{tsv}", line)
            starts.append(new_starts + offset)
            num_samples.append(new_samples)
            offset, line = offset + len(block), line + len(new_starts)
    starts.append(np.array([offset], np.int64))
    return Manifest(tsv.parent / root, np.concatenate(num_samples), Lines(tsv, np.concatenate(starts), first_line=2))


def read_lines(path: Path) -> Lines:
    """Open a file of label lines; FileNotFoundError when it is missing."""
    starts, offset = [np.zeros(0, np.int64)], 0
    with _open(path, f"rebuild it with {kind_of(path).maker}") as file:
        for block in _blocks(file):
            if offset == 0:
                _check_mark(path, block)
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == _NEWLINE)
            starts.append(np.concatenate(([0], ends[:-1] + 1)) + offset)
            offset += len(block)
    return Lines(path, np.concatenate([*starts, np.array([offset], np.int64)]))


def read_labels(folder: Path, split: str, num_utterances: int, kind: UnitKind = UnitKind.letters) -> Labels:
    """Open ``.ltr`` (or the labels of another kind), ``.wrd`` and ``.uid`` of a split.

    Raises FileNotFoundError when one is missing, ValueError when it has not as many lines as there are utterances.
    """
    units, words, uids = (read_lines(folder / f"{split}.{suffix}") for suffix in (kind.suffix, *LABEL_SUFFIXES[1:]))
    for lines in (units, words, uids):
        if len(lines) != num_utterances:
            where, remedy = min(len(lines), num_utterances) + 1, f"rebuild them with {kind_of(lines.file).maker}"
            found = f"{len(lines)} labels for {num_utterances} utterances in {split}.tsv"
            raise ValueError(f"{lines.file}:{where}: {found}; {remedy}")
    return Labels(units, words, uids)


def write_split(
    folder: Path, split: str, root: Path, utterances: Iterable[Utterance], relative_root: bool = False
) -> int:
    """Write ``.tsv .ltr .wrd .uid`` of a split and return the number of utterances.

    Each file appears whole or not at all, the tsv last. The root is written absolute, as stock fairseq needs it;
    ``relative_root`` writes it relative to ``folder``, so that the folder can be moved together with its audio.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root = root.resolve()
    header = os.path.relpath(root, folder.resolve()) if relative_root else str(root)
    _check_utf8(header)
    columns: dict[str, list[str]] = {"ltr": [], "wrd": [], "uid": [], "tsv": [header]}
    for row in utterances:
        for text in (row.path, row.letters, row.words, row.uid):
            if any(char in text for char in "\t\n\r"):
                raise ValueError(f"{row.uid}: {text!r} holds a tab or a line break, which a manifest cannot; rename it")
            _check_utf8(text)
        if not 0 < row.num_samples <= _MAX_SAMPLES:
            raise ValueError(f"{row.uid}: {row.num_samples} samples, expected 1 to {_MAX_SAMPLES}; leave it out")
        cells = (row.letters, row.words, row.uid, f"{row.path}\t{row.num_samples}")
        for column, cell in zip(columns.values(), cells, strict=True):
            column.append(cell)
    for suffix, lines in columns.items():
        write_text(folder / f"{split}.{suffix}", "".join(f"{line}\n" for line in lines))
    return len(columns["uid"])


def count_letters(files: Iterable[Path]) -> Counter[str]:
    """Count the letters of ``.ltr`` files, the word mark ``|`` included."""
    counts: Counter[str] = Counter()
    for path in files:
        for line in read_lines(path):
            counts.update(line.split())
    return counts


def write_dictionary(path: Path, counts: Mapping[str, int]) -> None:
    """Write ``letter count`` lines as fairseq reads them: most frequent first, ties by code point, no specials."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    write_text(path, "".join(f"{letter} {count}\n" for letter, count in ordered))


def read_dictionary(path: Path) -> list[str]:
    """Return the letters (pieces) of a dictionary in order; fairseq numbers them from 4 on, after SPECIAL_TOKENS.

    Raises FileNotFoundError, or ValueError (file:line) for a malformed line, a second entry or an empty file.
    """
    letters: dict[str, None] = {}
    for number, line in enumerate(read_lines(path), start=1):
        letter, _, count = line.rpartition(" ")
        if not letter or letter != letter.strip() or " " in letter or not count.isdecimal():
            raise ValueError(f"{path}:{number}: found {line!r}, expected a unit, a space and its count; rebuild it")
        if letter in letters or letter in SPECIAL_TOKENS:
            raise ValueError(f"{path}:{number}: {letter!r} is a special token or there twice; take the line out")
        letters[letter] = None
    if not letters:
        raise ValueError(f"{path}: holds no letters; rebuild it with {kind_of(path).maker}")
    return list(letters)


@overload
def num_frames(num_samples: int) -> int: ...
@overload
def num_frames(num_samples: NDArray[np.int32]) -> NDArray[np.int32]: ...
def num_frames(num_samples: int | NDArray[np.int32]) -> int | NDArray[np.int32]:
    """Return how many frames wav2vec 2.0 makes of audio (20 ms each, stride 320); 0 for less than 400 samples."""
    frames = num_samples
    for kernel, stride in zip(_KERNELS, _STRIDES, strict=True):
        frames = (frames - kernel) // stride + 1
    return max(frames, 0) if isinstance(frames, int) else np.maximum(frames, 0)


def _check_mark(file: Path, content: bytes) -> None:
    """Refuse a file that begins with a byte order mark: stock fairseq takes it for a letter, or for part of a path."""
    if content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"{file}:1: begins with a byte order mark; save the file as UTF-8 without one")


def _check_utf8(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name!a}: the name is not UTF-8; rename it (convmv -f latin1 -t utf8)") from None


def _open(path: Path, remedy: str) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; {remedy}") from None


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the rest of a file in blocks of whole lines; the last line gets its line feed if it has none."""
    rest = b""
    while block := file.read(_BLOCK_BYTES):
        whole, newline, tail = (rest + block).rpartition(b"\n")
        if newline:
            yield whole + newline
        rest = tail
    if rest:
        yield rest + b"\n"


def _parse_rows(block: bytes, file: str, first_line: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return where each row of a block begins and its number of samples, or raise ValueError at the first bad row."""
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(data == _NEWLINE)
    tabs = np.flatnonzero(data == _TAB)
    starts = np.concatenate(([0], ends[:-1] + 1))
    digits_end = ends - ((ends > starts) & (data[ends - 1] == _RETURN))
    places = digits_end - tabs - 1 if len(tabs) == len(ends) else np.zeros(1, np.int64)
    well_formed = bool((places > 0).all() and (places <= _MAX_DIGITS).all() and (starts < tabs).all())
    num_samples = np.zeros(len(ends), np.int64)
    for place in range(int(places.max()) if well_formed else 0):
        inside = place < places
        digit = data[np.where(inside, tabs + 1 + place, 0)].astype(np.int64) - _ZERO
        well_formed &= bool(((digit >= 0) & (digit <= 9))[inside].all())
        num_samples = np.where(inside, num_samples * 10 + digit, num_samples)
    if not well_formed or int(num_samples.max()) > _MAX_SAMPLES:
        raise ValueError(_first_bad_row(block, file, first_line))
    return starts, num_samples.astype(np.int32)


def _first_bad_row(block: bytes, file: str, first_line: int) -> str:
    form = re.compile(rb"[^\t]+\t([0-9]{1,10})\r?")
    rows = block.split(b"\n")
    matches = map(form.fullmatch, rows)
    place = next(n for n, match in enumerate(matches) if not match or int(match[1]) > _MAX_SAMPLES)
    found = f"{file}:{first_line + place}: found {rows[place].decode('utf-8', errors='replace')!r}"
    return f"{found}, expected a path, a tab and the number of samples; rebuild the manifest"
