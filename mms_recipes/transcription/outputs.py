"""Where transcripts go: standard output, one file, or a file for each recording in a folder.

Nothing is replaced that was there before the command, unless that is asked for, and never what the command reads.
"""

import contextlib
import itertools
import logging
import os
import shutil
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from mms_recipes import files, streams
from mms_recipes.sources import Source
from mms_recipes.transcription.transcripts import SRT, SUFFIXES, VTT, Transcript, shown, to_text

logger = logging.getLogger(__name__)

T = TypeVar("T")
Write = Callable[[Source, Transcript], str | None]  # returns what is wrong with this output alone
SHOWN = 5


def in_order(results: Iterable[tuple[int, T]], waiting: dict[int, T]) -> Iterator[int]:
    """Put results by their numbers into `waiting`, and yield each number from 0 on when its turn has come."""
    following = 0
    for number, result in results:
        waiting[number] = result
        while following in waiting:
            yield following
            following += 1


def deliver(results: Iterable[tuple[int, T]], send: Callable[[int, T], object], ordered: bool) -> None:
    """Send results in the order of their numbers, or as they come; where that ends early, all that came so far."""
    waiting: dict[int, T] = {}
    try:
        for number in in_order(results, waiting) if ordered else _as_they_come(results, waiting):
            send(number, waiting[number])
            del waiting[number]
    except BaseException:
        for number in sorted(waiting):
            send(number, waiting[number])
        raise


def _as_they_come(results: Iterable[tuple[int, T]], waiting: dict[int, T]) -> Iterator[int]:
    for number, result in results:
        waiting[number] = result
        yield number


class Tally:
    """Counts what a command does with its files; in the end prints what could not be used.

    When the end comes early it also says how many are done and kept; `where` that is.
    """

    def __init__(self, total: int, where: str = "") -> None:
        self.total, self.where, self.done = total, where, 0
        self.faults: list[str] = []

    def add(self, fault: str | None) -> None:
        if fault is None:
            self.done += 1
        else:
            self.faults.append(fault)

    @property
    def status(self) -> int:
        return 1 if self.faults else 0

    def __enter__(self) -> "Tally":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self.faults:
            print(f"{len(self.faults)} of {self.total} files could not be used:", file=sys.stderr)
            print(*map(streams.printable, self.faults), sep="\n", file=sys.stderr)
        kept = f"{self.done} of {self.total} files are done{self.where if self.done else ''}"
        if isinstance(error, KeyboardInterrupt):
            error.args = (kept,)
        elif error is not None and self.done:
            logger.warning("%s", kept)


@dataclass(frozen=True)
class Guard:
    """What may not be replaced: what the command reads, and without `overwrite` all that is there."""

    reads: Mapping[tuple[int, int], Path]  # by device and inode, so by whatever name
    overwrite: bool = False

    def fault(self, out: Path) -> str | None:
        """Return why a file may not be written, None if it may."""
        try:
            status = out.stat()
        except OSError:
            return "is a link that leads nowhere" if out.is_symlink() and not self.overwrite else None
        if read := self.reads.get((status.st_dev, status.st_ino)):
            return f"is {shown(read)}, which this command reads"
        return None if self.overwrite else "is there already"

    def require(self, outs: Sequence[Path]) -> None:
        """Raise FileExistsError unless all of these files may be written."""
        found = [(out, fault) for out in outs if (fault := self.fault(out))]
        if not found:
            return
        told = ", ".join(f"{shown(out)} {fault}" for out, fault in found[:SHOWN])
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        count = f"{len(found)} of {len(outs)} transcripts: " if len(outs) > 1 else ""
        read = any("which this command reads" in fault for _, fault in found)
        remedy = "give another --out" if read else "give another --out, or --overwrite to replace what is there"
        raise FileExistsError(f"{count}{told}{more}; {remedy}")


def guard(reads: Iterable[str | Path | int | None], overwrite: bool) -> Guard:
    """Return what guards files that are read: paths and descriptors; what is not there needs no guard."""
    known: dict[tuple[int, int], Path] = {}
    for read in reads:
        if read is not None:
            with contextlib.suppress(OSError, ValueError):
                status = os.stat(read)
                known[status.st_dev, status.st_ino] = Path("standard input" if isinstance(read, int) else read)
    return Guard(known, overwrite)


@contextlib.contextmanager
def open_output(
    out: Path | str | None, kind: str, found: Sequence[Source], stdout: IO[bytes], guard: Guard | None = None
) -> Iterator[Write]:
    """Give what writes one transcript after the other: to stdout, into the file `out`, or files in the folder `out`.

    `out` is a folder when it is one already, when it ends in a slash, and for subtitles of several recordings. A file
    appears when all of it is written, or with the lines that are done when the block ends in an exception. Raises
    ValueError or OSError at once when the output cannot be written, or would replace what it may not.
    """
    guard = guard or Guard({})
    subtitled = kind in (SRT, VTT)
    if out is None or _is_file_of(stdout, Path(out)):
        if subtitled and len(found) > 1:
            raise ValueError(f"{kind} of {len(found)} recordings: give a folder for them with --out")
        yield _to(stdout, kind, alone=subtitled)
    elif is_folder(out, kind, found):
        yield _folder(Path(out), kind, found, guard)
    else:
        with _stream(Path(out)) if _is_stream(Path(out)) else _file(Path(out), guard) as file:
            yield _to(file, kind, alone=subtitled)


def is_folder(out: Path | str | None, kind: str, found: Sequence[Source]) -> bool:
    """Whether an output is a folder with a file for each recording."""
    if out is None:
        return False
    return Path(out).is_dir() or str(out).endswith(("/", os.sep)) or (kind in (SRT, VTT) and len(found) > 1)


def _to(file: IO[bytes], kind: str, alone: bool) -> Write:
    def write(source: Source, transcript: Transcript) -> None:
        file.write(to_text(transcript, kind, alone).encode(errors="surrogateescape"))
        file.flush()

    return write


def _folder(out: Path, kind: str, found: Sequence[Source], guard: Guard) -> Write:
    names = output_names(found, SUFFIXES[kind])
    try:
        guard.require([out / name for name in names.values()])
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except FileExistsError as error:
        if error.errno is None:
            raise
        raise OSError(f"{out}: is a file, expected a folder for --out") from None
    except OSError as error:
        raise OSError(f"{out}: cannot be written to ({error.strerror}); give another folder with --out") from None
    written: set[Path] = set()

    def write(source: Source, transcript: Transcript) -> str | None:
        if not (text := to_text(transcript, kind, alone=True)):
            return None
        path = out / names[source]
        if path not in written and (fault := guard.fault(path)):  # it was not when the command began
            return f"{shown(source.path)}: not written: {shown(path)} {fault}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(path.resolve(), text.encode(errors="surrogateescape"))
        except OSError as error:
            if error.errno in files.FULL:
                raise
            return f"{shown(source.path)}: {shown(path)} could not be written ({error.strerror})"
        written.add(path)
        return None

    return write


@contextlib.contextmanager
def _file(out: Path, guard: Guard) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `out`, which takes its place at the end; if that came early, with what is done."""
    guard.require([out])
    out, early = out.resolve(), None
    with contextlib.ExitStack() as stack:
        try:
            temporary = stack.enter_context(files.replaced(out))
            file = stack.enter_context(temporary.open("wb"))
        except OSError as error:
            raise OSError(f"{out}: cannot be written ({error.strerror}); give another --out") from None
        try:
            yield file
        except BaseException as error:
            if not file.tell():
                raise
            early = error
        if fault := guard.fault(out):  # it was not when the command began
            file.close()
            spare = Path(shutil.copyfile(temporary, _free(out)))
            raise FileExistsError(f"{shown(out)} {fault} by now; the transcripts are in {shown(spare)}") from early
    if early is not None:
        raise early


def _free(out: Path) -> Path:
    return next(path for n in itertools.count(1) if not os.path.lexists(path := out.with_name(f"{out.name}.{n}")))


def _is_file_of(stdout: IO[bytes], out: Path) -> bool:
    """Whether an output is what standard output goes to already, as /dev/stdout is."""
    try:
        return os.path.samestat(out.stat(), os.fstat(stdout.fileno()))
    except OSError:
        return False


def _is_stream(out: Path) -> bool:
    try:
        mode = out.stat().st_mode
    except OSError:
        return False
    if stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
        raise OSError(f"{out}: a socket or a disk, expected a file, a folder or a pipe for --out")
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


@contextlib.contextmanager
def _stream(out: Path) -> Iterator[IO[bytes]]:
    """Open a pipe or a terminal, which gets each transcript at once."""
    with out.open("wb", buffering=0) as file:
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
                f"{shown(other.path)} and {shown(source.path)} would both be written to {shown(name)}; give the folder "
                "that holds both, or transcribe them one after the other"
            )
    return names
