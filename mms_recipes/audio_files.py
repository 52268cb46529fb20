"""Audio as manifests need it, 16 kHz and one channel: look whether it is right, read it, and make it so once.

An utterance is a file of its own, or lies in a shard: an uncompressed tar, or a zip that stores its members as they
are. The path ``FILE.tar:OFFSET:SIZE`` names the bytes of a member (fairseq:data/audio/audio_utils.py:parse_path).
Shards are read where they lie; nothing is unpacked.
"""

import functools
import io
import os
import re
import shutil
import struct
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mms_recipes import files
from mms_recipes.manifest import SAMPLE_RATE

READY_FORMATS = ("WAV", "FLAC")  # taken as they are at 16 kHz mono: quick to open anywhere
PACK_AGAIN = "pack again with tools/pack_shards.py"
OPEN_SHARDS = 64  # kept open by a process: on a network disk every opening is a round trip
_WAV_CUT = re.compile(r"data : (\d+) \(should be \d+\)")  # libsndfile's log, where a wav holds less than it says
_UNKNOWN_SIZE = 0x7FFF_0000  # bytes; programs that write to a pipe give a size like this
_IN_SHARD = re.compile(r"(.+\.(?:tar|zip)):([0-9]{1,18}):([0-9]{1,18})", re.DOTALL)
_ZIP_HEADER = struct.Struct("<6xHH12xIHH")  # of a member: flags, method, size, bytes of its name, of its extra field
_ZIP_NAME = 4096  # bytes of name and extra field that are looked through for the header's begin
_ENCRYPTED, _STREAMED, _LARGE = 1, 8, 0xFFFF_FFFF  # flags, and a size: then the true size stands elsewhere


class AudioError(ValueError):
    """Audio that is missing, cannot be read, or is not where a manifest says."""


@dataclass(frozen=True)
class Member:
    """Where an utterance lies in a shard: ``size`` bytes from ``offset`` on."""

    shard: Path
    offset: int
    size: int


def find_member(path: Path) -> Member | None:
    """Return the place in a shard that a path of a manifest names, or None when the path is that of a file.

    The form decides; only where there is no such shard may a file of this very name be meant.
    """
    found = _IN_SHARD.fullmatch(str(path))
    if not found:
        return None
    member = Member(Path(found[1]), int(found[2]), int(found[3]))
    try:
        _open_shard(member.shard)
    except FileNotFoundError:
        return None if path.is_file() else member
    except OSError:
        pass  # told by whoever reads it
    return member


def is_in_shard(name: str) -> bool:
    """Say whether a path, as a manifest writes it, has the form of a place in a shard."""
    return _IN_SHARD.fullmatch(name) is not None


def open_audio(path: Path) -> Path | io.BytesIO:
    """Return what soundfile opens to read an utterance: its file, or its bytes from a shard.

    Raises AudioError when the shard is missing or ends before the utterance does.
    """
    member = find_member(path)
    return path if member is None else io.BytesIO(_read_member(member))


def read_bytes(path: Path) -> bytes:
    """Return the bytes of an utterance as they are stored. Raises AudioError when they are not there."""
    member = find_member(path)
    try:
        return path.read_bytes() if member is None else _read_member(member)
    except OSError as error:
        raise AudioError(f"{path}: not readable ({error}); check with tools/validate_manifests.py") from None


def probe(path: Path, num_samples: int) -> tuple[str, str] | None:
    """Return (kind of problem, what was found) if an utterance is not 16 kHz mono of this length, else None.

    The kinds are those of ``problems.REMEDIES``. Only headers and the last sample are read.
    """
    import soundfile

    member = find_member(path)
    if member and (fault := member_fault(member)):
        return fault
    try:
        window = io.BufferedReader(_Window(_open_shard(member.shard), member), 1 << 16) if member else None
        with soundfile.SoundFile(window or path) as file:
            rate, channels, length = file.samplerate, file.channels, file.frames
            if length > 0 and file.format != "WAV":  # other headers tell the length that the file had when it was whole
                file.seek(length - 1)
                length -= 1 - len(file.read(1))
    except (soundfile.SoundFileError, OSError) as error:
        there = member is not None or path.exists()
        return ("unreadable audio", reason(error)) if there else ("missing audio", "no such file")
    if length <= 0:
        return "empty audio", "the file holds no samples"
    if rate != SAMPLE_RATE:
        return "wrong sample rate", f"{rate} Hz, expected {SAMPLE_RATE}"
    if channels != 1:
        return "not mono", f"{channels} channels, expected 1"
    if length != num_samples:
        return "wrong length", f"{length} samples, but the manifest says {num_samples}"
    return None


def reason(error: Exception) -> str:
    """Return why audio could not be read, without the file, which the message names already."""
    return str(getattr(error, "error_string", error))


def member_fault(member: Member) -> tuple[str, str] | None:
    """Return (kind of problem, what was found) if no member of the shard lies just where a manifest says, else None."""
    try:
        shard = _open_shard(member.shard)
        end = member.offset + member.size
        if end > shard.size:
            return "not in its shard", f"expected bytes {member.offset} to {end}, but the shard has {shard.size} bytes"
        if member.shard.name.endswith(".tar"):
            return _tar_fault(shard.read(max(0, member.offset - tarfile.BLOCKSIZE), member.offset), member.size)
        start = max(0, member.offset - _ZIP_HEADER.size - _ZIP_NAME)
        return _zip_fault(shard.read(start, member.offset), member.size)
    except FileNotFoundError:
        return "missing audio", f"no shard {member.shard}"
    except OSError as error:
        return "unreadable audio", f"{member.shard}: {error}"


class _Shard:
    """A shard open for reading. It closes when the last reader lets go of it, so none reads from a closed file."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self.descriptor).st_size

    def __del__(self, close: Any = os.close) -> None:
        if hasattr(self, "descriptor"):
            close(self.descriptor)

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from start to end, fewer only where the shard ends; safe in threads and after a fork."""
        size = max(0, min(end, self.size) - start)
        data = os.pread(self.descriptor, size, start)
        while len(data) < size and (more := os.pread(self.descriptor, size - len(data), start + len(data))):
            data += more
        return data


@functools.lru_cache(maxsize=OPEN_SHARDS)
def _open_shard(path: Path) -> _Shard:
    return _Shard(path)


def close_shards() -> None:
    """Forget the shards that are open, so that those that were replaced are opened anew."""
    _open_shard.cache_clear()


class _Window(io.RawIOBase):
    """A member as a file of its own, of which only what is asked for is read."""

    def __init__(self, shard: _Shard, member: Member) -> None:
        self.shard, self.start, self.end = shard, member.offset, member.offset + member.size
        self.place = member.offset

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.place = (self.start, self.place, self.end)[whence] + offset
        return self.tell()

    def tell(self) -> int:
        return self.place - self.start

    def readinto(self, buffer: Any) -> int:
        data = self.shard.read(self.place, min(self.place + len(buffer), self.end))
        buffer[: len(data)] = data
        self.place += len(data)
        return len(data)


def _read_member(member: Member) -> bytes:
    """Return the bytes of a member. Whether its header agrees is seen by ``member_fault``, once and not every epoch."""
    try:
        shard = _open_shard(member.shard)
        data = shard.read(member.offset, member.offset + member.size)
    except FileNotFoundError:
        raise AudioError(f"{member.shard}: no such shard; restore it, or {PACK_AGAIN}") from None
    except OSError as error:
        raise AudioError(f"{member.shard}: not readable ({error}); restore it, or {PACK_AGAIN}") from None
    if len(data) != member.size:
        found, end = os.fstat(shard.descriptor).st_size, member.offset + member.size
        raise AudioError(
            f"{member.shard}: {found} bytes, expected an utterance at bytes {member.offset} to {end}; "
            f"the shard was cut or replaced: restore it, or {PACK_AGAIN}"
        )
    return data


def _tar_fault(before: bytes, size: int) -> tuple[str, str] | None:
    """Compare the header, which ends where the member begins; this covers ustar, GNU's and pax's headers."""
    try:
        header = tarfile.TarInfo.frombuf(before, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        return "not in its shard", f"expected the header of a file of {size} bytes before it, found none ({error})"
    if header.isreg() and header.size == size:
        return None
    what = f"{header.name!r} of {header.size} bytes" + ("" if header.isreg() else ", which is not a file")
    return "not in its shard", f"expected a file of {size} bytes, the header before it is that of {what}"


def _zip_fault(before: bytes, size: int) -> tuple[str, str] | None:
    """Find the local header, which ends where the member begins: it must be stored, not compressed."""
    start = before.rfind(b"PK\3\4")
    while start >= 0:
        if len(before) - start >= _ZIP_HEADER.size:
            flags, method, plain, name, extra = _ZIP_HEADER.unpack_from(before, start)
            if start + _ZIP_HEADER.size + name + extra == len(before):
                break
        start = before.rfind(b"PK\3\4", 0, start)
    if start < 0:
        return "not in its shard", f"expected the header of a file of {size} bytes before it, found none"
    if method or flags & _ENCRYPTED:
        return "compressed in its shard", f"method {method}{', encrypted' * (flags & 1)}, expected 0, stored as it is"
    if plain != size and plain != _LARGE and not flags & _STREAMED:
        return "not in its shard", f"expected a file of {size} bytes, the header before it is that of one of {plain}"
    return None


def is_cut_off(file: Any, num_read: int) -> bool:
    """Say whether an open SoundFile, of which num_read samples could be read, promises more in its header."""
    cut = _WAV_CUT.search(file.extra_info)
    return num_read < file.frames or bool(cut and int(cut[1]) < _UNKNOWN_SIZE)


def place(source: Path | bytes, target: Path, in_place: bool) -> tuple[Path, int]:
    """Make 16 kHz mono audio of a file, or of the bytes of one, and return where it lies and its number of samples.

    What is right already is copied byte for byte, or with ``in_place`` left where it is; else ``target`` is written as
    16-bit wav. ``target`` has no suffix: it gets that of the format. Raises AudioError when the audio cannot be used.
    """
    import soundfile
    import soxr

    if isinstance(source, Path) and not source.is_file():
        raise AudioError(f"{source}: no such file")
    shown = source if isinstance(source, Path) else target.name
    try:
        with soundfile.SoundFile(source if isinstance(source, Path) else io.BytesIO(source)) as file:
            rate, kind = file.samplerate, file.format
            samples = file.read(dtype="float32", always_2d=True)
            cut_off = is_cut_off(file, len(samples))
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"{shown}: not readable as audio ({error})") from None
    if len(samples) == 0 or not np.isfinite(samples).all():
        raise AudioError(f"{shown}: {'no samples' if len(samples) == 0 else 'samples that are not finite numbers'}")
    if cut_off:
        raise AudioError(f"{shown}: cut off, {len(samples)} samples are left of it")
    if rate == SAMPLE_RATE and samples.shape[1] == 1 and kind in READY_FORMATS:
        if in_place and isinstance(source, Path):
            return source, len(samples)
        target = target.with_name(f"{target.name}.{kind.lower()}")
        _write(target, source)
        return target, len(samples)
    mono = soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE)
    wav = io.BytesIO()
    soundfile.write(wav, mono, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    target = target.with_name(f"{target.name}.wav")
    _write(target, wav.getvalue())
    return target, len(mono)


def _write(target: Path, source: Path | bytes) -> None:
    """Write or copy a file, not synced: there are hundreds of thousands."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.replaced(target, sync=False) as temporary:
        if isinstance(source, Path):
            shutil.copyfile(source, temporary)
        else:
            temporary.write_bytes(source)
