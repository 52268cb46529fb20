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
import zlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mms_recipes import files
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.sound import levels, reader
from mms_recipes.sound.reader import Stream
from mms_recipes.sound.stores import AudioError as AudioError
from mms_recipes.sound.stores import Disk, Part
from mms_recipes.sound.stores import require_regular as require_regular

READY_FORMATS = ("WAV", "FLAC")  # taken as they are at 16 kHz mono: quick to open anywhere
PACK_AGAIN = "pack again with tools/pack_shards.py"
OPEN_SHARDS = 64  # kept open by a process: on a network disk every opening is a round trip
_IN_SHARD = re.compile(r"(.+\.(?:tar|zip)):([0-9]{1,18}):([0-9]{1,18})", re.DOTALL)
_ZIP_HEADER = struct.Struct("<6xHH4xI4xIHH")  # of a member: flags, method, CRC-32, size, bytes of name, extra field
_ZIP_NAME = 4096  # bytes of name and extra field that are looked through for the header's begin
_ENCRYPTED, _STREAMED, _LARGE = 1, 8, 0xFFFF_FFFF  # flags, and a size: then the true size stands elsewhere


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


def opened(path: Path) -> AbstractContextManager[Stream]:
    """Open an utterance for reading: its file, or its bytes from a shard.

    Raises AudioError, then or while it is read: missing, no audio, or the shard ends before the utterance does.
    """
    member = find_member(path)
    return reader.opened(path if member is None else _read_member(member), str(path))


def read_bytes(path: Path) -> bytes:
    """Return the bytes of an utterance as they are stored. Raises AudioError when they are not there."""
    member = find_member(path)
    try:
        if member:
            return _read_member(member)
        file = Disk(path)
        return file.read(0, file.size)
    except OSError as error:
        raise AudioError(f"{path}: not readable ({error}); check with tools/validate_manifests.py") from None


def middle(path: Path, size: int) -> tuple[int, bytes]:
    """Return how many bytes an utterance has as it is stored, and up to ``size`` of them from its middle.

    Raises AudioError where it is no regular file, OSError where it is not there.
    """
    member = find_member(path)
    file = Disk(path) if member is None else _open_shard(member.shard)
    start, length = (0, file.size) if member is None else (member.offset, member.size)
    begin = start + max(0, length - size) // 2
    return length, file.read(begin, min(begin + size, start + length))


def probe(path: Path, num_samples: int) -> tuple[str, str] | None:
    """Return (kind of problem, what was found) if an utterance is not 16 kHz mono of this length, else None.

    The kinds are those of ``problems.REMEDIES``. Where that is enough, only headers and the last sample are read.
    """
    member = find_member(path)
    if member and (fault := member_fault(member)):
        return fault
    try:
        store = Part(_open_shard(member.shard), member.offset, member.offset + member.size) if member else path
        rate, channels, length = reader.measure(store, str(path))
    except (AudioError, OSError) as error:
        there = member is not None or path.exists()
        what = str(error).removeprefix(f"{path}: ")
        return ("unreadable audio", what) if there else ("missing audio", "no such file")
    if length <= 0:
        return "empty audio", "the file holds no samples"
    if rate != SAMPLE_RATE:
        return "wrong sample rate", f"{rate} Hz, expected {SAMPLE_RATE}"
    if channels != 1:
        return "not mono", f"{channels} channels, expected 1"
    if length != num_samples:
        return "wrong length", f"{length} samples, but the manifest says {num_samples}"
    return None


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


@functools.lru_cache(maxsize=OPEN_SHARDS)
def _open_shard(path: Path) -> Disk:
    return Disk(path)


def close_shards() -> None:
    """Forget the shards that are open, so that those that were replaced are opened anew."""
    _open_shard.cache_clear()


def _read_member(member: Member) -> bytes:
    """Return the bytes of a member. Whether its header agrees is seen by ``member_fault``, once and not every epoch."""
    is_zip = member.shard.name.endswith(".zip")
    try:
        shard = _open_shard(member.shard)
        start = max(0, member.offset - _ZIP_HEADER.size - _ZIP_NAME) if is_zip else member.offset
        before_and_data = shard.read(start, member.offset + member.size)
        before, data = before_and_data[: member.offset - start], before_and_data[member.offset - start :]
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
    header = _zip_header(before) if is_zip else None
    if header and header.size == len(data) and not header.flags & _STREAMED and header.checksum != zlib.crc32(data):
        raise AudioError(
            f"{member.shard}: bytes {member.offset} to {member.offset + member.size} are damaged, their checksum is "
            f"another: restore the shard, or {PACK_AGAIN}"
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


class _ZipHeader(NamedTuple):
    """What the local header of a member of a zip says."""

    flags: int
    method: int
    checksum: int
    size: int


def _zip_header(before: bytes) -> _ZipHeader | None:
    """Find the local header that ends where these bytes end."""
    start = before.rfind(b"PK\3\4")
    while start >= 0:
        if len(before) - start >= _ZIP_HEADER.size:
            *found, name, extra = _ZIP_HEADER.unpack_from(before, start)
            if start + _ZIP_HEADER.size + name + extra == len(before):
                return _ZipHeader(*found)
        start = before.rfind(b"PK\3\4", 0, start)
    return None


def _zip_fault(before: bytes, size: int) -> tuple[str, str] | None:
    """Look at the local header, which ends where the member begins: it must be stored, not compressed."""
    header = _zip_header(before)
    if header is None:
        return "not in its shard", f"expected the header of a file of {size} bytes before it, found none"
    if header.method or header.flags & _ENCRYPTED:
        encrypted = ", encrypted" * (header.flags & _ENCRYPTED)
        return "compressed in its shard", f"method {header.method}{encrypted}, expected 0, stored as it is"
    if header.size != size and header.size != _LARGE and not header.flags & _STREAMED:
        found = f"the header before it is that of one of {header.size}"
        return "not in its shard", f"expected a file of {size} bytes, {found}"
    return None


class Placed(NamedTuple):
    """Audio that is ready for a manifest: where it lies, its number of samples, and what is to be said of it."""

    path: Path
    num_samples: int
    remarks: tuple[str, ...] = ()


def place(source: Path | bytes, target: Path, in_place: bool) -> Placed:
    """Make 16 kHz mono audio of a file, or of the bytes of one.

    What is right already is copied byte for byte, or with ``in_place`` left where it is; else ``target`` is written as
    16-bit wav, louder or quieter where it would be clipped or lost. ``target`` has no suffix: it gets that of the
    format. Raises AudioError when the audio cannot be used.
    """
    import soundfile
    import soxr

    shown = str(source) if isinstance(source, Path) else target.name
    with reader.opened(source, shown) as stream:
        samples, rate, kind, is_fine = stream.read(), stream.rate, stream.format, stream.is_fine
    if len(samples) == 0 or not np.isfinite(samples).all():
        raise AudioError(f"{shown}: {'no samples' if len(samples) == 0 else 'samples that are not finite numbers'}")
    if stream.is_cut:
        raise AudioError(f"{shown}: cut off or damaged, {len(samples)} samples are left of it; get the file again")
    is_ready = rate == SAMPLE_RATE and samples.shape[1] == 1 and kind in READY_FORMATS and stream.is_told
    meter = levels.Meter(is_fine)
    if is_ready:
        meter.add(samples[:, 0])
        kept = tuple(filter(None, [meter.remark()]))
    if is_ready and (meter.variance >= levels.SILENT_VARIANCE or meter.is_silent()):
        if in_place and isinstance(source, Path):
            return Placed(source, len(samples), kept)
        target = target.with_name(f"{target.name}.{kind.lower()}")
        _write(target, source)
        return Placed(target, len(samples), kept)
    mixer = levels.Mixer()
    mono = mixer.mono(samples)
    if (channel := mixer.choice()) is not None:
        mono = levels.Mixer(channel).mono(samples)
    mono = soxr.resample(mono, rate, SAMPLE_RATE) if rate != SAMPLE_RATE else mono
    if not np.isfinite(mono).all():
        raise AudioError(f"{shown}: samples too large to compute with")
    scaled, remark = levels.to_16_bits(mono, shown, is_fine)
    wav = io.BytesIO()
    soundfile.write(wav, scaled, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    target = target.with_name(f"{target.name}.wav")
    _write(target, wav.getvalue())
    return Placed(target, len(mono), tuple(filter(None, (levels.told(channel), remark))))


def _write(target: Path, source: Path | bytes) -> None:
    """Write or copy a file, not synced: there are hundreds of thousands."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.replaced(target, sync=False) as temporary:
        if isinstance(source, Path):
            shutil.copyfile(source, temporary)
        else:
            temporary.write_bytes(source)
