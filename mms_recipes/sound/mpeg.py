"""MPEG audio (mp3) is a row of frames, and nothing says how many there are but a table that is optional.

libsndfile stops where that table says, or where it guesses that the end is. So the frames are counted here, by their
headers alone, and where the table is missing or false another is put before them.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from mms_recipes.sound.stores import AudioError, Memory, Part, Store

CHUNK = 1 << 20  # bytes that are looked through at a time
MIN_RUN = 3  # frames in a row that are no accident
_HEADER = 4
_LOOK = 1 << 14  # bytes that hold MIN_RUN frames of any kind
_BITRATES = {  # kbit/s, by the lower sampling rates or not, and layer
    (False, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (False, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (False, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (True, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (True, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (True, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


class Kind(NamedTuple):
    """What all frames of a file share: version and layer, sampling rate, samples of a frame, channels."""

    version: int
    layer: int
    rate: int
    samples: int
    mono: bool = False


def _table() -> dict[int, tuple[int, Kind]]:
    """Return bytes and kind of a frame by the first 23 bits of its header."""
    table = {}
    for version, rates in _RATES.items():
        low = version != 3
        for layer in (1, 2, 3):
            samples = {1: 384, 2: 1152, 3: 576 if low else 1152}[layer]
            for number, bitrate in enumerate(_BITRATES[low, layer], start=1):
                for place, rate in enumerate(rates):
                    for padding in (0, 1):
                        slot = 4 if layer == 1 else 1
                        size = (samples // 8 // slot * bitrate * 1000 // rate + padding) * slot
                        for unprotected in (0, 1):
                            bits = 0x7FF << 12 | version << 10 | (4 - layer) << 8 | unprotected << 7
                            bits |= number << 3 | place << 1 | padding
                            table[bits] = size, Kind(version, layer, rate, samples)
    return table


_FRAMES = _table()


@dataclass
class Frames:
    """What a walk over a file found: its frames of sound, where they lie, and what its tables promise."""

    kind: Kind
    count: int = 0
    runs: list[tuple[int, int]] = field(default_factory=list)  # bytes from, to
    promised: list[int] = field(default_factory=list)  # frames, by each table
    is_cut: bool = False  # it ends within a frame
    header: bytes = b""  # of the first frame

    @property
    def seconds(self) -> float:
        return self.count * self.kind.samples / self.kind.rate

    @property
    def num_samples(self) -> int:
        return self.count * self.kind.samples

    def is_told_rightly(self) -> bool:
        """Say whether the only table has the right number of frames (some count the table itself)."""
        return len(self.promised) == 1 and 0 <= self.promised[0] - self.count <= 1

    def stores(self, store: Store) -> list[Store]:
        """Return the frames of sound behind a table with their true number."""
        return [Memory(_write_table(self.header, self.kind, self.count)), *(Part(store, *run) for run in self.runs)]


def walk(store: Store, where: str) -> Frames | None:
    """Count the frames of a file, its tags and tables left out; None when it has none.

    Raises AudioError for frames of several kinds, as when files of two sampling rates were joined.
    """
    found: Frames | None = None
    for start, size, kind, header, promised in _frames(store):
        if found is None:
            found = Frames(kind, header=header)
        elif kind != found.kind:
            raise AudioError(
                f"{where}: from {found.seconds:.1f} s on it is {_spell(kind)}, before {_spell(found.kind)}: files of "
                "two kinds were joined; take them apart, or write it anew: ffmpeg -i IN out.flac"
            )
        if start + size > store.size:
            found.is_cut = True
        elif promised is not None:
            found.promised.append(promised)
        else:
            found.count += 1
            if found.runs and found.runs[-1][1] == start:
                found.runs[-1] = (found.runs[-1][0], start + size)
            else:
                found.runs.append((start, start + size))
    return found if found and found.count else None


def _frames(store: Store) -> Iterator[tuple[int, int, Kind, bytes, int | None]]:
    """Yield begin, size, kind and header of each frame, and for a table the number of frames that it promises."""
    place, last = _behind_tags(store, 0), None
    data, origin = b"", 0
    while place + _HEADER <= store.size:
        if place + _LOOK > origin + len(data) and origin + len(data) < store.size:
            data, origin = store.read(place, place + CHUNK), place
        here = place - origin
        if here + _HEADER > len(data):
            return  # the file was cut meanwhile
        entry = _FRAMES.get(int.from_bytes(data[here : here + 3], "big") >> 1)
        if entry is None or not (entry[1] == last or _is_run(data[here : here + _LOOK], store.size - place)):
            last = None
            following = _behind_tags(store, place)
            if following == place:  # neither a frame nor a tag: look for the next sign of one
                sign = data.find(b"\xff", here + 1)
                following = origin + (sign if sign >= 0 else len(data))
            place = following
            continue
        size, kind = entry
        last = kind
        mono = data[here + 3] >> 6 == 3
        promised = None
        if not any(data[here + 6 : here + 10]) or data[here + 36 : here + 40] == b"VBRI":
            promised = _read_table(data[here : here + size], kind, mono)
        yield place, size, kind._replace(mono=mono), data[here : here + _HEADER], promised
        place += size


def _is_run(data: bytes, left: int) -> bool:
    """Say whether MIN_RUN frames of one kind begin here, or fewer that reach to the end just so."""
    place, kind = 0, None
    for _ in range(MIN_RUN):
        entry = _FRAMES.get(int.from_bytes(data[place : place + 3], "big") >> 1) if place + _HEADER <= left else None
        if entry is None:
            return place == left or data[place : place + 3] in (b"TAG", b"ID3", b"APE")
        kind = kind or entry[1]
        if entry[1] != kind:
            return False
        place += entry[0]
        if place > left:
            return False
    return True


def _behind_tags(store: Store, place: int) -> int:
    """Return where the tags that begin at a place end: ID3 (both kinds) and APE, before, between and behind frames."""
    while True:
        head = store.read(place, place + 32)
        if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 128:
            size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
            place += 10 + size + 10 * (head[5] >> 4 & 1)
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            place += 32 + struct.unpack_from("<I", head, 12)[0]
        elif head[:3] == b"TAG" and store.size - place == 128:
            place += 128
        else:
            return place


def _side(kind: Kind, mono: bool) -> int:
    """Return where the table begins in a frame: behind the header and what else layer 3 puts there."""
    return _HEADER + ((17 if mono else 32) if kind.version == 3 else (9 if mono else 17))


def _read_table(frame: bytes, kind: Kind, mono: bool) -> int | None:
    """Return the frames that a Xing, Info or VBRI table promises (0: it does not tell), None for a frame of sound."""
    if kind.layer != 3:
        return None
    if frame[36:40] == b"VBRI":
        return int(struct.unpack_from(">I", frame, 50)[0]) if len(frame) >= 54 else 0
    place = _side(kind, mono)
    for begin in (place, place + 2):  # with a checksum, some count it and some do not
        if frame[begin : begin + 4] in (b"Xing", b"Info"):
            has_frames = len(frame) >= begin + 12 and frame[begin + 7] & 1
            return int(struct.unpack_from(">I", frame, begin + 8)[0]) if has_frames else 0
    return None


def _write_table(header: bytes, kind: Kind, count: int) -> bytes:
    """Return a frame with a Xing table that tells the number of frames; nothing where a layer has none."""
    if kind.layer != 3:
        return b""
    bits = int.from_bytes(header[:3], "big") >> 1 & ~0x79 | 0x80  # without bitrate, padding and checksum
    for number in range(1, 15):  # the smallest that has room
        size, _ = _FRAMES[bits | number << 3]
        table = bytes(_side(kind, kind.mono) - _HEADER) + b"Xing" + struct.pack(">II", 1, count)
        if _HEADER + len(table) <= size:
            first = (bits | number << 3) << 1
            return (first.to_bytes(3, "big") + header[3:] + table).ljust(size, b"\0")
    raise AssertionError("the largest frame has room for a table")


def _spell(kind: Kind) -> str:
    return f"{kind.rate} Hz with {'one channel' if kind.mono else 'two channels'}"
