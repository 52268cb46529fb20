"""Files written in one step, so that nobody ever meets half of one; names that may become names of files; SHA-256."""

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from mms_recipes import parsing

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of writing that do not name the file

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
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")  # nodes may share a pid
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
