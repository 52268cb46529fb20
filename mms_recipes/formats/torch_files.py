"""Files of torch.save, read so that what is used is what was checked: values are copied into memory of our own.

Nothing is memory-mapped, so a file that is written over or cut while a model is in use changes nothing and ends
nothing. The format holds a CRC-32 of every part; it is compared as each part is read. Files before torch 1.6 are no zip
archives and hold none.
"""

import bisect
import contextlib
import copy
import gc
import os
import pickle
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip's part: the lengths of its name and of what follows that
LEVELS = 64  # of dicts and lists in each other; a checkpoint has some ten
THREADS = 4  # reading and CRC-32 release Python's lock
DAMAGED = "damaged: {} does not match its checksum; restore it from a backup, or get it again"


class TorchFile:
    """A file of torch.save: its contents with tensors that have no values yet (torch's meta device).

    `mapped` reads values from the mapped file after all: for a file that only this process can change.
    Raises ValueError when it is none, is damaged, or holds classes off the safe list (named).
    """

    def __init__(self, path: Path, mapped: bool = False) -> None:
        self.path, self.file = path, path.open("rb", buffering=0)
        self.stamp = self._stamp()
        self.is_zip = zipfile.is_zipfile(self.file)
        self.map = torch.UntypedStorage.from_file(str(path), False, self.stamp[0]) if mapped and self.is_zip else None
        try:
            if self.is_zip:
                self._read_directory()
            self.file.seek(0)
            with _without_collector():
                self.contents = torch.load(self.file, map_location="meta" if self.is_zip else "cpu", weights_only=True)
                _require_shallow(self.contents)
        except pickle.UnpicklingError as error:
            self.file.seek(0)
            if not self.is_zip and self.file.read(1) != pickle.PROTO:
                raise ValueError(f"{path}: not a torch checkpoint") from None
            raise ValueError(
                f"{path}: refused: it holds Python objects that a checkpoint has no need of ({_unsafe(path, error)}); "
                "reading them would run code from the file. Take one that holds only tensors, from a source you trust"
            ) from error
        except zipfile.BadZipFile as error:
            raise ValueError(
                f"{path}: damaged or cut off ({error}); restore it from a backup, or get it again"
            ) from None
        except (
            *(RuntimeError, EOFError, OSError, LookupError, ValueError, AssertionError),
            *(TypeError, AttributeError, OverflowError, NotImplementedError),  # of a pickle whose parts do not fit
        ) as error:
            said = str(error).partition("\n")[0] or type(error).__name__  # of an empty file: EOFError, without a word
            raise ValueError(f"{path}: not a torch checkpoint, or cut off ({said})") from error

    def _read_directory(self) -> None:
        with zipfile.ZipFile(self.file) as archive:
            self.parts = sorted(archive.infolist(), key=lambda part: part.header_offset)
            for part in self.parts:
                name = part.filename.partition("/")[2]
                if not name.startswith("data/"):
                    content = archive.read(part)  # compares its checksum
                    if name == "byteorder" and content.decode("ascii", "replace") != sys.byteorder:
                        raise ValueError("numbers in the byte order of another kind of machine")
        self.offsets = [part.header_offset for part in self.parts]

    def _stamp(self) -> tuple[int, int]:
        status = os.fstat(self.file.fileno())
        return status.st_size, status.st_mtime_ns

    # ---- values

    def values(self, contents: Any) -> Any:
        """The same with values in every tensor. Raises ValueError when a part is damaged or was changed meanwhile."""
        if not self.is_zip:
            return contents
        found = {_offset(tensor): tensor.untyped_storage().nbytes() for tensor in _tensors(contents)}
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            read = dict(zip(found, pool.map(self._part, found, found.values()), strict=True))
        return self._filled(contents, read)

    def _filled(self, value: Any, read: Mapping[int, Any]) -> Any:
        if isinstance(value, torch.Tensor):
            if not _is_empty(value):
                return value
            filled, storage = torch.empty(0, dtype=value.dtype), read[_offset(value)]
            place = (value.storage_offset(), value.shape, value.stride())
            if value.numel() * value.element_size() > storage.nbytes():  # else a few bytes stand for gigabytes
                raise ValueError(f"{self.path}: a tensor of {tuple(value.shape)}, of which the file holds less")
            try:
                return filled.set_(storage, *place)
            except RuntimeError as error:
                raise ValueError(f"{self.path}: a tensor of {tuple(value.shape)} that is not in it") from error
        if isinstance(value, dict):
            made = copy.copy(value)
            made.update({key: self._filled(inner, read) for key, inner in value.items()})
            return made
        if type(value) in (list, tuple):
            return type(value)(self._filled(inner, read) for inner in value)
        return value

    def _part(self, offset: int, size: int) -> Any:
        """One part of the file, by where its values begin."""
        if size == 0:
            return torch.empty(0, dtype=torch.uint8).untyped_storage()
        part = self.parts[max(0, bisect.bisect_right(self.offsets, offset) - 1)]
        header = os.pread(self.file.fileno(), LOCAL_HEADER.size, part.header_offset)
        start = part.header_offset + LOCAL_HEADER.size + sum(LOCAL_HEADER.unpack(header)) if len(header) == 30 else -1
        if (start, part.file_size, part.compress_type) != (offset, size, zipfile.ZIP_STORED):
            raise ValueError(f"{self.path}: {self._changed() or DAMAGED.format(part.filename)}")
        if self.map is not None:
            found: Any = self.map[offset : offset + size]
            view = memoryview(torch.empty(0, dtype=torch.uint8).set_(found).numpy())  # type: ignore[arg-type]
        else:
            values = torch.empty(size, dtype=torch.uint8)
            found, view = values.untyped_storage(), memoryview(values.numpy())  # type: ignore[arg-type]
            done = 0
            while done < size and (count := os.preadv(self.file.fileno(), [view[done:]], offset + done)):
                done += count
            if done < size:
                raise ValueError(f"{self.path}: {self._changed() or 'cut off'}")
        if zlib.crc32(view) != part.CRC:
            raise ValueError(f"{self.path}: {self._changed() or DAMAGED.format(part.filename)}")
        return found

    def _changed(self) -> str:
        if self._stamp() == self.stamp:
            return ""
        return "was changed or cut while it was in use; put the file back, or start again with the new one"


def _require_shallow(value: Any, levels: int = LEVELS) -> None:
    """Raise ValueError for values within values within values, which would end a walk through them."""
    if levels == 0:
        raise ValueError(f"values within values, more than {LEVELS} deep")
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            if isinstance(inner, dict | list | tuple):
                _require_shallow(inner, levels - 1)


def _is_empty(tensor: torch.Tensor) -> bool:
    """Whether a tensor's values are in the file still."""
    return tensor.is_meta and tensor.layout == torch.strided and not tensor.is_quantized


def _offset(tensor: torch.Tensor) -> int:
    return int(getattr(tensor.untyped_storage(), "_checkpoint_offset", -1))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        if _is_empty(value):
            yield value
    elif isinstance(value, dict | list | tuple):
        inside: Iterable[Any] = value.values() if isinstance(value, dict) else value
        for inner in inside:
            yield from _tensors(inner)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Keep Python from looking through what is read, again and again as it grows: some 320,000 tensors in l1107."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _unsafe(path: Path, error: Exception) -> str:
    if zipfile.is_zipfile(path):
        return ", ".join(sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))) or "not listed"
    lines = [line for line in str(error).splitlines() if "Unsupported" in line]
    return (lines or str(error).splitlines())[0].strip()
