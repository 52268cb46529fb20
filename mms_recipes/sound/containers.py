"""What the containers of audio promise, and what they hold: libsndfile believes lengths that are false or missing.

Each way of saying a length is looked at here, by headers alone. Where a length is missing or false in a way that can be
mended, libsndfile gets the same bytes with another length in front.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mms_recipes.sound import mpeg
from mms_recipes.sound.stores import AudioError, Memory, Part, Store

UNKNOWN = 0x7FFF_0000  # bytes of a 32-bit length; programs that write to a pipe give a size like this
TOLERATED = 4096  # bytes behind the samples that may be anything
TAIL = 1 << 16  # bytes of which it is seen whether they are all zero
MPEG_TAGS = (0x50, 0x55)  # WAVE_FORMAT_MPEG, WAVE_FORMAT_MPEGLAYER3
WRITE_ANEW = "write the file anew: ffmpeg -i IN out.flac"


@dataclass
class Plan:
    """How to read a file: each of `pieces` is opened by itself, one after the other; none: the file as it is.

    `length`: the frames (samples of each channel) that there must be, where that is known better than by libsndfile.
    `is_cut`: less is there than its header promises. `is_mpeg`: frames of MPEG audio were found and counted.
    """

    pieces: Sequence[Sequence[Store]] = field(default_factory=list)
    length: int | None = None
    is_cut: bool = False
    is_mpeg: bool = False


class _Samples(NamedTuple):
    """The chunk of samples: its begin, its promised bytes, and where and how (struct) these are written."""

    begin: int
    size: int
    written: int
    form: str
    is_even: bool = True  # a byte follows on an odd size

    @property
    def unknown(self) -> int:
        """The largest number, which stands for a size that is not known."""
        return (1 << 8 * struct.calcsize(self.form) - self.form.islower()) - 1


def examine(store: Store, where: str) -> Plan:
    """Say how to read a file so that all of it is read. Raises AudioError where that cannot be said."""
    head = store.read(0, 64)
    if head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0") or head[:8] == b"APETAGEX":
        flac = _flac(store, _behind_id3(head))
        return flac or _mpeg(store, where)
    if head[:4] == b"fLaC":
        return _flac(store, 0) or Plan()
    if head[:4] == b"OggS":
        return _ogg(store)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return _wav(store, where, ">" if head[:4] == b"RIFX" else "<")
    if head[:4] == b"FORM" and head[8:11] == b"AIF":
        return _chunks(store, where, b"SSND", ">")
    if head[:4] == b"riff" and head[24:28] == b"wave":
        return _w64(store)
    if head[:4] == b"caff":
        return _caf(store, where)
    if head[:4] in (b".snd", b"dns."):
        return _au(store, where, ">" if head[:4] == b".snd" else "<")
    return Plan()


# ---- MPEG


def _mpeg(store: Store, where: str, is_bare: bool = True) -> Plan:
    """Plan for frames of MPEG audio; not `is_bare`: they are taken out of a container."""
    found = mpeg.walk(store, where)
    if found is None:
        return Plan()  # libsndfile says what it is
    promised = max(found.promised, default=0)
    is_cut = found.is_cut or (len(found.promised) == 1 and promised - found.count > 1)
    if found.is_told_rightly() and is_bare:
        return Plan(is_cut=found.is_cut, is_mpeg=True)
    return Plan([found.stores(store)], found.num_samples, is_cut, is_mpeg=True)


# ---- FLAC


def _behind_id3(head: bytes) -> int:
    return 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]) if head[:3] == b"ID3" else 0


def _flac(store: Store, place: int) -> Plan | None:
    """Plan for FLAC, in which libsndfile reads no more than the header promises, though the frames go on."""
    head = store.read(place, place + 26)
    if head[:4] != b"fLaC" or len(head) < 26:
        return None
    rate_and_length = int.from_bytes(head[18:26], "big")
    length = rate_and_length & (1 << 36) - 1
    if not length:
        return Plan()
    unknown = Memory(head[:18] + (rate_and_length - length).to_bytes(8, "big"))
    return Plan([[unknown, Part(store, place + 26, store.size)]], length)


# ---- Ogg


def _ogg(store: Store) -> Plan:
    """Plan for Ogg: streams that follow on each other are read one by one; a page that is not whole is a cut."""
    begins, place, ended = [], 0, True
    while len(page := store.read(place, place + 27 + 255)) >= 27 and page[:4] == b"OggS":
        flags, count = page[5], page[26]
        size = 27 + count + sum(page[27 : 27 + count])
        if flags & 2 and ended:
            begins.append(place)
        ended = bool(flags & 4)
        if place + size > store.size:
            break
        place += size
    if page[:4] != b"OggS" and len(page) >= 27:
        return Plan()  # damage, of which libogg loses no more than it must; a count of frames tells it
    is_cut = not ended or place < store.size
    pieces = [[Part(store, *ends)] for ends in zip(begins, [*begins[1:], store.size], strict=True)]
    return Plan(pieces if len(pieces) > 1 else [], is_cut=is_cut)


# ---- containers of chunks


def _wav(store: Store, where: str, order: str) -> Plan:
    tag = 0
    for name, begin, size in _walk_chunks(store, 12, order):
        if name == b"fmt ":
            tag = struct.unpack(f"{order}H", store.read(begin, begin + 2).ljust(2, b"\0"))[0]
        elif name == b"ds64":
            return _rf64(store, where, begin)
        elif name == b"data" and tag in MPEG_TAGS:
            end = store.size if size == 0 else min(begin + size, store.size)
            plan = _mpeg(Part(store, begin, end), where, is_bare=False)
            plan.is_cut |= store.size < begin + size < begin + UNKNOWN
            return plan
    return _chunks(store, where, b"data", order)


def _rf64(store: Store, where: str, place: int) -> Plan:
    for name, begin, _ in _walk_chunks(store, 12, "<"):
        if name == b"data":
            size = struct.unpack("<Q", store.read(place + 8, place + 16).ljust(8, b"\0"))[0]
            return _promise(store, where, _Samples(begin, size, place + 8, "<Q"))
    return Plan()


def _chunks(store: Store, where: str, name: bytes, order: str) -> Plan:
    """Plan by the chunk that holds the samples, of a length of 32 bits before it."""
    for found, begin, size in _walk_chunks(store, 12, order):
        if found == name:
            return _promise(store, where, _Samples(begin, size, begin - 4, f"{order}I"))
    return Plan()


def _w64(store: Store) -> Plan:
    """Plan for Sony's 64-bit wav, of which libsndfile reads all that is there."""
    place = 40
    while len(head := store.read(place, place + 24)) == 24:
        size = struct.unpack("<Q", head[16:])[0]  # with these 24 bytes
        if head[:4] == b"data":
            return Plan(is_cut=UNKNOWN > size > store.size - place)
        place += max(24, size + -size % 8)
    return Plan()


def _caf(store: Store, where: str) -> Plan:
    place = 8
    while len(head := store.read(place, place + 12)) == 12:
        size = struct.unpack(">q", head[4:])[0]
        if head[:4] == b"data":
            return _promise(store, where, _Samples(place + 12, size, place + 4, ">q", is_even=False))
        place += 12 + max(size, 0)
    return Plan()


def _au(store: Store, where: str, order: str) -> Plan:
    begin, size = struct.unpack(f"{order}II", store.read(4, 12).ljust(8, b"\0"))
    return _promise(store, where, _Samples(begin, size, 8, f"{order}I"))


def _walk_chunks(store: Store, place: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, begin and promised size of each chunk."""
    while len(head := store.read(place, place + 8)) == 8:
        size = struct.unpack(f"{order}I", head[4:])[0]
        yield head[:4], place + 8, size
        place += 8 + size + size % 2


def _promise(store: Store, where: str, chunk: _Samples) -> Plan:
    """Compare the promised bytes of samples with those that are there."""
    begin, size = chunk.begin, chunk.size
    there = store.size - begin
    if size <= 0 or size == chunk.unknown:
        if there <= 0 or (size == 0 and _is_chunk(store, begin, chunk)):
            return Plan()
        true = struct.pack(chunk.form, min(there, chunk.unknown - 1))
        after = chunk.written + len(true)
        return Plan([[Part(store, 0, chunk.written), Memory(true), Part(store, after, store.size)]])
    if there < size:
        return Plan(is_cut=size < UNKNOWN and there + 1 < size)  # the byte that makes a size even is often left out
    behind, rest = begin + size + (size % 2 if chunk.is_even else 0), there - size
    if rest > TOLERATED and not _is_chunk(store, behind, chunk) and any(store.read(behind, behind + TAIL)):
        raise AudioError(
            f"{where}: its header promises {size} bytes of samples, and {rest} bytes more follow, which are no part of "
            f"it: the length is false; {WRITE_ANEW} (for wav: ffmpeg -ignore_length 1 -i IN out.flac)"
        )
    return Plan()


def _is_chunk(store: Store, place: int, chunk: _Samples) -> bool:
    """Say whether something with a name and a size that fits begins here, as chunks of this container do."""
    head = store.read(place, place + 12)
    if len(head) < 12 or not all(32 <= byte < 127 for byte in head[:4]):
        return False
    size = int(struct.unpack_from(chunk.form if chunk.form == ">q" else f"{chunk.form[0]}I", head, 4)[0])
    return 0 <= size <= store.size - place
