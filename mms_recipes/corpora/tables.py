"""Tables of audio and text (.tsv, .csv): their encoding, their columns, and rows that are whole or refused.

Nothing is guessed that could be otherwise: a row has as many cells as the header, and a column is found by its name.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mms_recipes.parsing import shown

# Names by which a column is known when it is not named: case, blanks and dashes do not matter.
KNOWN = {
    "path": ("path", "audio", "file", "audio_path", "audio_filepath", "file_name", "filename", "file_path", "wav"),
    "text": ("text", "sentence", "transcription", "transcript"),
    "start": ("start", "begin", "offset", "start_time", "begin_time"),
    "end": ("end", "stop", "end_time"),
    "duration": ("duration", "dur", "length"),
}
_AUDIO = re.compile(r"\.(?:wave?|flac|mp3|ogg|oga|opus|aiff?|au|snd|sph|w64|caf|m4a|mp4|aac|webm|wma|amr)\s*$", re.I)
_MARKS = (  # those of UTF-32 begin like those of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_SECONDS = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_LINE_END = re.compile(r"\r\n|\r|\n")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}

Cells = tuple[int, list[str]]  # number of its (first) line, cells


@dataclass(frozen=True)
class Row:
    """One row. ``split`` is empty without such a column; ``span``: begin and end in seconds where it is a part of a
    recording."""

    where: str  # file:line
    path: str
    text: str
    split: str = ""
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class Wanted:
    """Columns that the user named; without a name they are found by one that is known."""

    path: str | None = None
    text: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Table:
    """The rows of a table, and in words which columns they were taken from."""

    rows: list[Row]
    columns: str


def read_text(path: Path) -> str:
    """Return the text of a file: UTF-8, or the Unicode form that its byte order mark names.

    Raises ValueError (file:line) where it is something else, or holds NUL bytes.
    """
    content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = _line_of(content[: error.start].decode(encoding, errors="ignore"))
        found = " ".join(f"0x{byte:02x}" for byte in content[error.start : error.end])
        name = {"utf-8-sig": "UTF-8"}.get(encoding, encoding.upper())
        remedy = "save the file as UTF-8 (a spreadsheet offers 'CSV UTF-8'; or: iconv -f WINDOWS-1252 -t UTF-8)"
        raise ValueError(f"{path}:{line}: not {name} (byte {found}); {remedy}") from None
    if (place := text.find("\0")) >= 0:
        remedy = "the file is damaged, or UTF-16 without its mark; save it as UTF-8"
        raise ValueError(f"{path}:{_line_of(text[:place])}: holds a NUL byte; {remedy}")
    return text


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line; raises what ``read_text`` raises."""
    lines = _LINE_END.split(read_text(path))
    return ((number, line) for number, line in enumerate(lines, start=1) if line or number < len(lines))


def read_table(path: Path, wanted: Wanted) -> Table:
    """Read a table: .csv quoted as usual, anything else by tabs without quoting.

    With a header, columns are found by name. Without one there are two, path and text, and the first cell ends as audio
    does. Raises FileNotFoundError, or ValueError (file:line) for an encoding, a header or a row that does not fit.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a .tsv or .csv of path and text")
    lines, separator = _read_cells(path)
    if not lines:
        raise ValueError(f"{path}: empty; expected rows of path and text")
    number, first = lines[0]
    header = [_plain(cell) for cell in first]
    named = [name for name in (wanted.path, wanted.text, wanted.split) if name is not None]
    if named or {_key(name) for name in header} & {*KNOWN["path"], *KNOWN["text"]}:
        columns = _Columns(f"{path}:{number}", first, wanted)
        rows = lines[1:]
    else:
        columns = _without_header(path, lines, separator)
        rows = lines
    if not rows:
        raise ValueError(f"{path}: a header and no rows; expected rows of path and text")
    whole = [columns.row(path, line, cells, separator) for line, cells in rows]
    return Table(whole, f"{columns.spoken()}; separated by {_SEPARATORS[separator]}")


def _read_cells(path: Path) -> tuple[list[Cells], str]:
    """Return the rows that are not blank, and what separates their cells."""
    if path.suffix.lower() != ".csv":
        return [(number, line.split("\t")) for number, line in read_lines(path) if line.strip()], "\t"
    text = read_text(path)
    separator = _separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[Cells] = []
    line = 1
    try:
        for cells in reader:
            if any(cells):
                _check_lines_within(path, line, cells, len(rows[0][1]) if rows else 0, separator)
                rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        found = 'a cell that begins with " does not end' if "unexpected end" in str(error) else str(error)
        remedy = 'close it, or write a " within a quoted cell as ""'
        raise ValueError(f"{path}:{line}: {found} (read to line {reader.line_num}); {remedy}") from None
    return rows, separator


def _separator(text: str) -> str:
    """Return what separates the cells of a .csv: the one with which the first line names columns, else a comma."""
    first = _LINE_END.split(text, maxsplit=1)[0]
    for separator in (",", ";", "\t"):
        names = {_key(name.strip('"')) for name in first.split(separator)}
        if len(names) > 1 and names & {*KNOWN["path"], *KNOWN["text"]}:
            return separator
    return next((separator for separator in (";", "\t") if separator in first and "," not in first), ",")


def _check_lines_within(path: Path, line: int, cells: Sequence[str], width: int, separator: str) -> None:
    """Refuse a quoted cell that swallowed rows: a line within it has as many cells as a row."""
    for cell in cells:
        within = _LINE_END.split(cell)[1:]
        if any(part.count(separator) == width - 1 for part in within if width > 1):
            raise ValueError(
                f"{path}:{line}: a quoted cell goes on over {len(within)} line ends, and rows seem to be in it: "
                f'{shown(cell)}; close its ", or take the line ends out of it'
            )


def _without_header(path: Path, lines: Sequence[Cells], separator: str) -> "_Columns":
    """Return path and text, first and second, where a table without a header can be nothing else."""
    number, first = lines[0]
    way = f"add a first line that names the columns: path{'<tab>' if separator == chr(9) else separator}text"
    found = f"{path}:{number}: the first line names no column ({shown(first)})"
    if len(first) == 1:
        other = " If something else separates them, name the file .csv." if separator == "\t" else ""
        raise ValueError(f"{found}, expected path and text separated by {_SEPARATORS[separator]}; {way}.{other}")
    if not _AUDIO.search(first[0]):
        known = f"{', '.join(KNOWN['path'])}; {', '.join(KNOWN['text'])}"
        raise ValueError(
            f"{found} and begins with no audio file. Names that are known: {known}. Give others with --path-column and "
            f"--text-column; if the table has no header, {way}"
        )
    if len(first) > 2:
        raise ValueError(f"{found} of {len(first)}, so it is not certain which holds the text; {way} in their order")
    texts = [cells[1] for _, cells in lines if len(cells) == 2]
    if not any(map(str.isalpha, "".join(texts))) or all(map(_AUDIO.search, texts)):
        raise ValueError(f"{found}, and the second cells hold no text; {way}, or put the text there")
    return _Columns(f"{path}:{number}", ["path", "text"], Wanted(), in_words="path and text, the table has no header")


class _Columns:
    """Which cell is what."""

    def __init__(self, where: str, header: Sequence[str], wanted: Wanted, in_words: str = "") -> None:
        self.where, self.header, self.in_words = where, [_plain(name) for name in header], in_words
        self.path = self._find("path", wanted.path)
        self.text = self._find("text", wanted.text)
        self.split = self._find("split", wanted.split) if wanted.split is not None else None
        self.start, self.end, self.duration = (self._known(kind) for kind in ("start", "end", "duration"))
        if (self.start is None) != (self.end is None) and not (self.end is None and self.duration is not None):
            there, absent = ("start", "end or duration") if self.end is None else ("end", "start")
            raise ValueError(
                f"{where}: a column of the {there} of segments, but none of their {absent} ({shown(self.header)}); add "
                f"it (seconds), or rename the column if rows are whole files"
            )

    def spoken(self) -> str:
        """Return in words where everything comes from."""
        if self.in_words:
            return self.in_words
        said = f"paths from column {self.header[self.path]!r}, text from column {self.header[self.text]!r}"
        if self.start is not None:
            end = self.end if self.end is not None else self.duration
            said += f", segments in seconds from {self.header[self.start]!r} and {self.header[end or 0]!r}"
        return said

    def row(self, path: Path, line: int, cells: Sequence[str], separator: str) -> Row:
        """Return one row; ValueError (file:line) when its cells do not fit."""
        where = f"{path}:{line}"
        if len(cells) != len(self.header):
            fewer = len(cells) < len(self.header)
            way = (
                "every column needs its cell"
                if fewer
                else f'put the cell in quotes ("...") if it holds {_SEPARATORS[separator]}, or save the table as .tsv'
                if separator != "\t"
                else "take the tab out of the text, or save the table as .csv with quotes"
            )
            columns = f"{len(self.header)} columns ({', '.join(self.header)}) separated by {_SEPARATORS[separator]}"
            raise ValueError(f"{where}: found {len(cells)} cells for {columns}: {shown(list(cells))}; {way}")
        if not self.in_words and [_key(cell) for cell in cells] == [_key(name) for name in self.header]:
            raise ValueError(f"{where}: the header a second time; take the line out")
        if not cells[self.path].strip():
            raise ValueError(f"{where}: found {shown(list(cells))}, expected path and text; the path is empty")
        split = cells[self.split].strip() if self.split is not None else ""
        return Row(where, cells[self.path].strip(), cells[self.text], split, self._span(where, cells))

    def _find(self, kind: str, wanted: str | None) -> int:
        """Return the place of a column, by the name that was given or by one that is known."""
        if wanted is None:
            place = self._known(kind)
            if place is None:
                raise ValueError(
                    f"{self.where}: the header has {', '.join(self.header)}, but none of {', '.join(KNOWN[kind])}; "
                    f"name it: --{kind}-column COLUMN. If the table has no header, add a header line"
                )
            return place
        found = [n for n, name in enumerate(self.header) if name.casefold() == _plain(wanted).casefold()]
        if len(found) != 1:
            has = f"the first line has {', '.join(self.header)}"
            number = "no" if not found else f"{len(found)} times the"
            raise ValueError(f"{self.where}: {has}: {number} column {wanted!r}; see --{kind}-column")
        return found[0]

    def _known(self, kind: str) -> int | None:
        """Return the place of the one column with a known name; ValueError when several could be meant."""
        found = [n for n, name in enumerate(self.header) if _key(name) in KNOWN[kind]]
        if len(found) > 1:
            names = ", ".join(self.header[n] for n in found)
            way = f"choose one: --{kind}-column COLUMN" if kind in ("path", "text") else "rename those that are not"
            raise ValueError(f"{self.where}: {len(found)} columns may hold the {kind}: {names}; {way}")
        return found[0] if found else None

    def _span(self, where: str, cells: Sequence[str]) -> tuple[float, float] | None:
        if self.start is None:
            return None
        start = self._seconds(where, cells, self.start)
        if self.end is not None:
            end = self._seconds(where, cells, self.end)
        else:
            assert self.duration is not None
            end = start + self._seconds(where, cells, self.duration)
        if end <= start:
            raise ValueError(f"{where}: the segment ends at {end:g} s and starts at {start:g} s; its end must be later")
        return start, end

    def _seconds(self, where: str, cells: Sequence[str], column: int) -> float:
        cell = cells[column].strip()
        if not _SECONDS.fullmatch(cell):
            raise ValueError(f"{where}: {self.header[column]} is {shown(cell)}, expected seconds, such as 12.5")
        return float(cell)


def _plain(name: str) -> str:
    return name.strip().strip("\ufeff").strip()


def _key(name: str) -> str:
    return re.sub(r"[\s-]+", "_", _plain(name).casefold())


def _line_of(before: str) -> int:
    return len(_LINE_END.findall(before)) + 1
