"""Audio files as manifests need them, 16 kHz and one channel: look whether a file is right, and make it so once."""

import io
import os
import re
import shutil
from pathlib import Path

import numpy as np

from mms_recipes.manifest import SAMPLE_RATE

READY_FORMATS = ("WAV", "FLAC")  # taken as they are at 16 kHz mono: quick to open anywhere
_WAV_CUT = re.compile(r"data : (\d+) \(should be \d+\)")  # libsndfile's log, where a wav holds less than it says
_UNKNOWN_SIZE = 0x7FFF_0000  # bytes; programs that write to a pipe give a size like this


class AudioError(ValueError):
    """A file that is missing, cannot be read as audio, or is shorter than it should be."""


def probe(path: Path, num_samples: int) -> tuple[str, str] | None:
    """Return (kind of problem, what was found) if a file is not 16 kHz mono of this length, else None.

    The kinds are those of ``validation.REMEDIES``. Only the header and the last sample are read.
    """
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            rate, channels, length = file.samplerate, file.channels, file.frames
            if length > 0 and file.format != "WAV":  # other headers tell the length that the file had when it was whole
                file.seek(length - 1)
                length -= 1 - len(file.read(1))
    except (soundfile.SoundFileError, OSError) as error:
        return ("unreadable audio", str(error)) if path.exists() else ("missing audio", "no such file")
    if length <= 0:
        return "empty audio", "the file holds no samples"
    if rate != SAMPLE_RATE:
        return "wrong sample rate", f"{rate} Hz, expected {SAMPLE_RATE}"
    if channels != 1:
        return "not mono", f"{channels} channels, expected 1"
    if length != num_samples:
        return "wrong length", f"{length} samples, but the manifest says {num_samples}"
    return None


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
            rate, kind, promised = file.samplerate, file.format, file.frames
            cut = _WAV_CUT.search(file.extra_info)
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"{shown}: not readable as audio ({error})") from None
    if len(samples) == 0 or not np.isfinite(samples).all():
        raise AudioError(f"{shown}: {'no samples' if len(samples) == 0 else 'samples that are not finite numbers'}")
    if len(samples) < promised or (cut and int(cut[1]) < _UNKNOWN_SIZE):
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
    """Write or copy a file under a temporary name and then put it in place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if isinstance(source, Path):
            shutil.copyfile(source, temporary)
        else:
            temporary.write_bytes(source)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
