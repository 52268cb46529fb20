"""Where the bytes of audio lie: a regular file, the memory, a part of either; and several parts as one open file."""

import io
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol


class AudioError(ValueError):
    """Audio that is missing, cannot be read, or is not where a manifest says."""


class UnreadableError(AudioError):
    """A file that libsndfile does not read."""


class NoFileError(OSError):
    """A pipe, a device, a socket or a folder where a file is expected: some would be read for ever."""

    def __init__(self, mode: int) -> None:
        kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        super().__init__(f"{kind}, expected a regular file; copy what it gives into one")


class Store(Protocol):
    """Bytes that can be read anywhere."""

    @property
    def size(self) -> int:
        """How many bytes there are."""

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from start to end, fewer only where the store ends."""


class Disk:
    """A regular file open for reading. It closes when the last reader lets go of it, so none reads from a closed file.

    Raises FileNotFoundError, NoFileError, or another OSError.
    """

    def __init__(self, path: Path | str) -> None:
        # without O_NONBLOCK, opening a pipe waits for a writer
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        status = os.fstat(self.descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NoFileError(status.st_mode)
        self.size = status.st_size

    def __del__(self, close: Any = os.close) -> None:
        if hasattr(self, "descriptor"):
            close(self.descriptor)

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from start to end, fewer only where the file ends; safe in threads and after a fork."""
        size = max(0, min(end, self.size) - start)
        data = os.pread(self.descriptor, size, start)
        while len(data) < size and (more := os.pread(self.descriptor, size - len(data), start + len(data))):
            data += more
        return data


class Memory:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size = data, len(data)

    def read(self, start: int, end: int) -> bytes:
        return self.data[start:end]


class Part(NamedTuple):
    """The bytes from start to end of a store."""

    store: Store
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start

    def read(self, start: int, end: int) -> bytes:
        return self.store.read(self.start + start, min(self.start + end, self.end))


class View(io.RawIOBase):
    """Stores one after the other as a file of its own, of which only what is asked for is read."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = [store for store in stores if store.size]
        self.size = sum(store.size for store in self.stores)
        self.place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.place = (0, self.place, self.size)[whence] + offset
        return self.place

    def tell(self) -> int:
        return self.place

    def readinto(self, buffer: Any) -> int:
        filled, begin = 0, 0
        for store in self.stores:
            inside = self.place - begin
            if 0 <= inside < store.size and filled < len(buffer):
                data = store.read(inside, min(inside + len(buffer) - filled, store.size))
                buffer[filled : filled + len(data)] = data
                filled += len(data)
                self.place += len(data)
                if inside + len(data) < store.size:
                    break  # the buffer is full, or the file was cut meanwhile
            begin += store.size
        return filled


def require_regular(path: Path) -> None:
    """Raise AudioError for what is not there and for what is no regular file, without opening it."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise NoFileError(mode)
    except FileNotFoundError:
        raise AudioError(f"{path}: no such file") from None
    except NoFileError as error:
        raise AudioError(f"{path}: {error}") from None
    except (OSError, ValueError) as error:
        raise AudioError(f"{path}: not readable ({error})") from None
