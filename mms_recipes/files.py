"""Files written in one step, so that nobody ever meets half of one, and what is in a file in short (SHA-256)."""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of writing that do not name the file


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
