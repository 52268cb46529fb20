"""The one way in which audio is read: from begin to end, in blocks, whatever its header says of its length.

What goes wrong with a file is an AudioError that names it, so that one bad file stops nothing else.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from mms_recipes.sound import containers
from mms_recipes.sound.stores import AudioError, Disk, Memory, NoFileError, Store, UnreadableError, View

Samples = npt.NDArray[np.float32]  # (n, channels)
BLOCK_SECONDS = 10
RATES = range(100, 2_000_001)  # Hz; what is outside is a damaged header
NO_HEADER = (".gsm", ".vox")  # libsndfile goes by the name
COARSE = ("PCM_16", "PCM_S8", "PCM_U8", "ALAW", "ULAW", "GSM610", "IMA_ADPCM", "MS_ADPCM")
MPEG = "MPEG_LAYER_"
TOLERANCE = 0.5  # seconds by which a count of MPEG frames may differ from what decodes: decoders drop some at the ends
_MOST = 1 << 22  # samples of all channels in a block
_ENDLESS = 1 << 62  # libsndfile's count where there is none


class _Forward(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read in order: soundfile neither seeks after each read nor stops at a length that is false."""

    def seekable(self) -> bool:
        return False


class Stream:
    """Audio open for reading from begin to end; `is_cut` and `num_read` count when the blocks came to their end."""

    def __init__(self, pieces: Sequence[Path | int | io.IOBase], plan: containers.Plan, where: str) -> None:
        self._pieces, self._where, self._is_cut, self.num_read = pieces, where, plan.is_cut, 0
        self._first = _Forward(pieces[0], closefd=False)
        self.rate, self.channels = int(self._first.samplerate), int(self._first.channels)
        self.format, self.subtype = str(self._first.format), str(self._first.subtype)
        if self.rate not in RATES:
            raise AudioError(f"{where}: a sample rate of {self.rate} Hz, expected {RATES.start} to {RATES.stop - 1}")
        is_mpeg = self.subtype.startswith(MPEG)
        if is_mpeg and not plan.is_mpeg:
            raise AudioError(f"{where}: frames of mp3 whose number cannot be told; {containers.WRITE_ANEW}")
        frames = int(self._first.frames)
        self.length = frames if plan.length is None and frames < _ENDLESS and len(pieces) == 1 else plan.length
        self._is_mended = bool(plan.pieces) and plan.length is None
        self._tolerance = TOLERANCE * self.rate if is_mpeg else 0

    @property
    def is_cut(self) -> bool:
        """Whether its header promises more than could be read."""
        return self._is_cut or (self.length or 0) - self.num_read > self._tolerance

    @property
    def is_told(self) -> bool:
        """Whether other programs find all of it too, by the length that its header tells."""
        return not self._is_mended and self.length == self.num_read

    @property
    def is_fine(self) -> bool:
        """Whether its samples have more than 16 bits."""
        return self.subtype not in COARSE

    def blocks(self, size: int | None = None) -> Iterator[Samples]:
        """Yield samples (n, channels) in order, `size` of each channel at a time (10 s by default), the last fewer."""
        size = max(1, min(size or BLOCK_SECONDS * self.rate, _MOST // self.channels))
        for number, piece in enumerate(self._pieces):
            with faults(self._where):
                file = _Forward(piece, closefd=False) if number else self._first
            try:
                self._require_alike(file)
                block = np.zeros((size, 0), np.float32)
                while len(block) == size:
                    with faults(self._where):
                        block = file.read(size, dtype="float32", always_2d=True)
                    self.num_read += len(block)
                    if len(block):
                        yield block
            finally:
                file.close()

    def read(self) -> Samples:
        """Return all that is left, (n, channels)."""
        parts = list(self.blocks(self.length + 1 if self.length else None))
        return parts[0] if len(parts) == 1 else np.concatenate([np.zeros((0, self.channels), np.float32), *parts])

    def close(self) -> None:
        self._first.close()

    def _require_alike(self, file: soundfile.SoundFile) -> None:
        if (file.samplerate, file.channels) != (self.rate, self.channels):
            raise AudioError(
                f"{self._where}: from {self.num_read / self.rate:.1f} s on it has {file.samplerate} Hz and "
                f"{file.channels} channel(s), before {self.rate} Hz and {self.channels}: files of two kinds were "
                "joined; take them apart"
            )


@contextmanager
def opened(source: Path | bytes | Store, where: str | None = None) -> Iterator[Stream]:
    """Open audio for reading, `where` being what messages call it. Raises AudioError, then or while it is read."""
    where = where or str(source)
    with faults(where):
        store = Disk(source) if isinstance(source, Path) else Memory(source) if isinstance(source, bytes) else source
        if isinstance(source, Path) and source.suffix.lower() == ".raw":
            raise AudioError(f"{source}: raw samples do not say their rate and form; write them as wav")
        plan = containers.examine(store, where)
        pieces: list[Path | int | io.IOBase] = [io.BufferedReader(View(stores), 1 << 16) for stores in plan.pieces]
        stream = Stream(pieces or [_whole(store, source)], plan, where)
    try:
        yield stream
    finally:
        stream.close()


def measure(source: Path | Store, where: str) -> tuple[int, int, int]:
    """Return sample rate, channels and samples of each channel, with as little reading as tells them for certain.

    Where the header is known to be trusted, it and the last sample are read. Raises AudioError.
    """
    with faults(where):
        store = Disk(source) if isinstance(source, Path) else source
        plan = containers.examine(store, where)
        if not plan.is_mpeg and len(plan.pieces) < 2:
            with soundfile.SoundFile(_whole(store, source), closefd=False) as file:
                length = int(file.frames)
                if 0 < length < _ENDLESS:
                    file.seek(length - 1)
                    return int(file.samplerate), int(file.channels), length - 1 + len(file.read(1))
    with opened(source, where) as stream:
        length = sum(map(len, stream.blocks()))
        return stream.rate, stream.channels, length


def _whole(store: Store, source: Path | bytes | Store) -> Path | int | io.IOBase:
    """Return what soundfile opens to read a store as it is."""
    if isinstance(source, Path) and source.suffix.lower() in NO_HEADER:
        return source
    if isinstance(store, Disk):
        return store.descriptor
    return io.BytesIO(store.data) if isinstance(store, Memory) else io.BufferedReader(View([store]), 1 << 16)


@contextmanager
def faults(where: str) -> Iterator[None]:
    """Turn whatever libsndfile, soundfile and the disk raise for a file into an AudioError that names it."""
    try:
        yield
    except AudioError:
        raise
    except FileNotFoundError:
        raise AudioError(f"{where}: no such file") from None
    except NoFileError as error:
        raise AudioError(f"{where}: {error}") from None
    except (soundfile.SoundFileError, OSError, ValueError, MemoryError, RuntimeError, TypeError) as error:
        reason = str(getattr(error, "error_string", error)) or type(error).__name__
        raise UnreadableError(f"{where}: not readable as audio ({reason})") from None
