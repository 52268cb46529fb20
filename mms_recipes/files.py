"""Files written in one step, so that nobody ever meets half of one; names that may become names of files; SHA-256."""

import contextlib
import errno
import functools
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from mms_recipes import parsing

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of writing that do not name the file

# `.name.<machine>-<pid>-<random>.tmp`; before 2026-12 `.name.<random>.tmp` and folders `.link.<random>`
TEMPORARY = re.compile(r"\.(?:.+\.(?:(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-)?[0-9a-f]{8}\.tmp|link\.[a-z0-9_]{8})")

NAME = re.compile(r"\w[\w.-]*")
NAME_BYTES = 128  # of 255 that file systems take, with room for what is put around it


def plain_name(name: str, where: str | Path, what: str = "language") -> str:
    """Return a name that a file gave, which is to be the name of a file or a folder.

    Raises ValueError for what could lead elsewhere (slashes, "..", nothing, a first character that is no letter), or is
    no name (control characters, more than NAME_BYTES); `where` it was found, and `what` it names, are in the message.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name) or len(name.encode("utf-8", "replace")) > NAME_BYTES:
        raise ValueError(
            f"{where}: {what} {parsing.shown(name)} cannot be the name of a file; expected letters, digits, '_', '-' "
            f"and '.', at most {NAME_BYTES} bytes, as in eng or urd-script_arabic"
        )
    return name


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file or folder right in `folder`. Raises ValueError as `plain_name`."""
    return folder / plain_name(name, folder, "the name")


@contextlib.contextmanager
def replaced(path: Path, sync: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; put it in place at the end, or leave nothing on an error.

    Without `sync` a machine that crashes may lose the contents: for what is many and quickly made again. Raises OSError
    that names `path` when the disk or the quota is full.
    """
    clean(path.parent)
    temporary = _temporary(path)
    try:
        temporary.touch()
        allowed = temporary.stat().st_mode
        yield temporary
        mode = temporary.stat().st_mode
        if mode | allowed != mode:  # safetensors 0.8 makes files for their owner alone (its issue 782)
            temporary.chmod(mode | allowed)
        if sync:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A name beside `path` that tells which process of which machine has it: others see when that one is gone."""
    return path.with_name(f".{path.name}.{_machine()}-{os.getpid()}-{os.urandom(4).hex()}.tmp")


@functools.cache
def clean(folder: Path) -> None:
    """Remove what processes of this machine that were killed while they wrote have left in `folder`; once a process."""
    for path in _temporaries(folder):
        found = TEMPORARY.fullmatch(path.name)
        if found and found["machine"] == _machine() and not Path(f"/proc/{found['pid']}").exists():
            _remove(path)


def clean_own(*folders: Path) -> None:
    """Remove all that was left half written in folders into which this process alone writes, by whatever machine."""
    for folder in folders:
        for path in _temporaries(folder):
            if TEMPORARY.fullmatch(path.name):
                _remove(path)


def _temporaries(folder: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder) if entry.name.startswith(".")]
    except OSError:
        return []


def _remove(path: Path) -> None:
    """Remove a file, or a folder with files: `.link.*`, as earlier versions left them."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@functools.cache
def _machine() -> str:
    """This start of this machine, and its space of process numbers; '0' where there is no /proc: nothing is removed."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return hashlib.sha256(f"{boot}{os.readlink('/proc/self/ns/pid')}".encode()).hexdigest()[:8]
    except OSError:
        return "0"


def write_text(path: Path, text: str, sync: bool = True) -> None:
    """Write a text file (UTF-8, line ends as they are) as `replaced` does."""
    write_bytes(path, text.encode(), sync)


def write_bytes(path: Path, content: bytes, sync: bool = True) -> None:
    """Write a file as `replaced` does."""
    with replaced(path, sync) as temporary:
        temporary.write_bytes(content)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's contents, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
