"""One recording becomes utterances: found, cut and written, whole or not at all. The work of tools/segment_audio.py."""

import functools
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from mms_recipes import recordings
from mms_recipes.audio_files import AudioError
from mms_recipes.corpora.segmentation import Rules, Span, segment, speech_spans
from mms_recipes.files import write_text
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.sound import levels, reader

Audio = NDArray[np.float32]  # mono, 16 kHz
Settings = dict[str, str | float]

DETECTOR = "silero-vad"
RECEIPT = "segments.json"  # beside the utterances of a recording; they are put in place together
UNFINISHED = ".cutting"  # in the folder of a language; what lies there is thrown away in the end
WINDOW = 512  # samples that silero-vad judges at a time
ROWS, STRETCH, WARM_UP = 16, 512, 64  # stretches that it judges at a time, and windows of each: 16 s after 2 s


@dataclass(frozen=True)
class Recording:
    """One file to cut. ``name``: its path inside the folder of its language, as it is written in manifests."""

    lang: str
    name: str
    path: Path
    size: int  # bytes
    mtime_ns: int

    @property
    def key(self) -> str:
        """Return what no other recording is called."""
        return f"{self.lang}/{self.name}"

    def target(self, out: Path) -> Path:
        """Return the folder for its utterances."""
        return out / self.lang / "audio" / self.name


@dataclass(frozen=True)
class Receipt:
    """What was made of a recording, in samples; and of what and how, so that it is made again when that changes."""

    settings: Settings
    size: int
    mtime_ns: int
    num_samples: int
    utterances: list[Span]
    too_short: list[Span]
    remark: str = ""  # what is to be known of it

    def is_of(self, recording: Recording, settings: Settings) -> bool:
        """Say whether it was this file, cut in this way."""
        return (self.settings, self.size, self.mtime_ns) == (settings, recording.size, recording.mtime_ns)


def detector_version() -> str:
    """Return name and version of the detector; ValueError when it is not installed."""
    try:
        return f"{DETECTOR} {metadata.version(DETECTOR)}"
    except metadata.PackageNotFoundError:
        raise ValueError(f"{DETECTOR}, which finds the speech, is not installed; pip install '.[vad]'") from None


def cut_recording(recording: Recording, out: Path, rules: Rules, settings: Settings) -> Receipt | str:
    """Cut one recording; return its receipt, or what is wrong with the file. Its folder appears whole or not at all."""
    unfinished = out / recording.lang / UNFINISHED / hashlib.sha256(recording.name.encode()).hexdigest()[:16]
    for left in (unfinished, replaced_by(unfinished)):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        sound, probabilities, num_samples = listen(recording.path)
        speech = speech_spans(probabilities, WINDOW, num_samples)
        cuts = segment(speech, rules, f"{settings['seed']} {recording.lang} {recording.name}")
        told = [*sound.remarks(), *([] if cuts[0] else ["no utterance in it"])]
        receipt = Receipt(settings, recording.size, recording.mtime_ns, num_samples, *cuts, "; ".join(told))
        unfinished.mkdir(parents=True)
        for number, samples in enumerate(cut_out(sound.blocks(), receipt.utterances)):
            write_flac(unfinished / file_name(number), samples)
        if fingerprint(recording.path) != (recording.size, recording.mtime_ns):
            raise AudioError(f"{recording.path}: changed while it was read; give the command again")
        write_text(unfinished / RECEIPT, json.dumps(asdict(receipt)) + "\n")
        put_in_place(unfinished, recording.target(out))
    except AudioError as error:
        return str(error)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return receipt


def fingerprint(path: Path) -> tuple[int, int]:
    """Return bytes and time of a file; zeros for a link to nowhere, of which reading says what is wrong."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


class Sound:
    """A recording at a level that 16 bits hold: its gain is known when it was read to its end once."""

    def __init__(self, path: Path) -> None:
        self.path, self.channel = path, recordings.choose_channel(path)
        with reader.opened(path) as stream:
            self.meter = levels.Meter(stream.is_fine)
        self.gain = levels.Gain()

    def measured(self) -> Iterator[Audio]:
        """Yield its samples as they are, some seconds at a time, and set the gain by them. Raises AudioError."""
        for block in recordings.blocks(self.path, whole=True, channel=self.channel):
            self.meter.add(block)
            yield block
        self.gain = self.meter.gain(str(self.path))

    def blocks(self) -> Iterator[Audio]:
        """Yield its samples at their level. Raises AudioError, sooner or later also for what was cut off."""
        for block in recordings.blocks(self.path, whole=True, channel=self.channel):
            yield block if self.gain.factor == 1.0 else (block * np.float64(self.gain.factor)).astype(np.float32)

    def remarks(self) -> list[str]:
        """Return what is to be said of it."""
        return list(filter(None, (levels.told(self.channel), self.gain.remark or self.meter.remark())))


def listen(path: Path) -> tuple[Sound, Audio, int]:
    """Return a recording at its level, the probability of speech in each WINDOW of it, its number of samples."""
    sound = Sound(path)
    probabilities, num_samples = speech_probabilities(sound.measured())
    if sound.gain.factor != 1.0:
        probabilities, num_samples = speech_probabilities(sound.blocks())
    return sound, probabilities, num_samples


@functools.cache
def detector() -> Any:
    """Load silero-vad, once in each process, on one thread."""
    import torch
    from silero_vad import load_silero_vad

    torch.set_num_threads(1)
    return load_silero_vad()


def speech_probabilities(blocks: Iterable[Audio]) -> tuple[Audio, int]:
    """Return the probability of speech in each WINDOW samples of a recording, and its number of samples.

    ROWS stretches of the recording are judged at once, each after the WARM_UP before it, from which the model learns
    what it hears. Against window after window it was three times as fast and no less right; 0.4 % of samples differed.
    """
    import torch

    model = detector()
    probabilities = [np.zeros(0, np.float32)]
    before, num_samples = np.zeros(WARM_UP * WINDOW, np.float32), 0
    for chunk in regroup(blocks, ROWS * STRETCH * WINDOW):
        num_samples += len(chunk)
        num_windows = -(-len(chunk) // WINDOW)
        stretch = min(STRETCH, num_windows)
        missing = -len(chunk) % (stretch * WINDOW)
        samples = np.concatenate([before, chunk, np.zeros(missing, np.float32)])
        rows = torch.from_numpy(samples).unfold(0, (WARM_UP + stretch) * WINDOW, stretch * WINDOW)
        model.reset_states()
        with torch.no_grad():
            judged = [model(rows[:, n * WINDOW :][:, :WINDOW], SAMPLE_RATE) for n in range(WARM_UP + stretch)]
        probabilities.append(torch.cat(judged[WARM_UP:], dim=1).flatten()[:num_windows].numpy())
        before = samples[len(samples) - len(before) :].copy()  # a view would keep all of it
    return np.concatenate(probabilities), num_samples


def regroup(blocks: Iterable[Audio], size: int) -> Iterator[Audio]:
    """Yield the same samples in blocks of ``size``; the last is shorter."""
    held: list[Audio] = []
    for block in blocks:
        held.append(block)
        while sum(map(len, held)) >= size:
            whole = np.concatenate(held)
            yield whole[:size]
            held = [whole[size:].copy()]
    if any(map(len, held)):
        yield np.concatenate(held)


def cut_out(blocks: Iterator[Audio], spans: Sequence[Span]) -> Iterator[Audio]:
    """Yield the samples of each span; no more than a block and a span are held."""
    held, begin = np.zeros(0, np.float32), 0  # the first sample of `held` is number `begin`
    for start, end in spans:
        while begin + len(held) < end:
            skipped = min(max(start - begin, 0), len(held))
            block = next(blocks, None)
            if block is None:
                raise AudioError("shorter than when it was first read; give the command again")
            held = np.concatenate([held[skipped:], block])
            begin += skipped
        yield held[start - begin : end - begin]


def write_flac(path: Path, samples: Audio) -> None:
    """Write 16 kHz mono; 16-bit audio that was not resampled keeps its very samples."""
    flac = io.BytesIO()  # so that a full disk is an OSError, not a fault of the recording
    pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
    soundfile.write(flac, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    path.write_bytes(flac.getvalue())


def file_name(number: int) -> str:
    return f"{number:05}.flac"


def put_in_place(new: Path, target: Path) -> None:
    """Make ``new`` the folder ``target``; what was there before moves away first, whole, and is removed."""
    old = replaced_by(new)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def replaced_by(new: Path) -> Path:
    """Return where the folder waits to be removed whose place ``new`` takes."""
    return new.with_name(f"{new.name}.old")


def read_receipt(folder: Path) -> Receipt | None:
    """Return the receipt in the folder of a recording, if there is one and all utterances lie beside it.

    Raises FileExistsError when the folder holds something that this tool did not make.
    """
    if not folder.exists():
        return None
    if not (folder / RECEIPT).is_file():
        raise FileExistsError(f"{folder}: no {RECEIPT} in it, so this tool did not make it; choose another OUT")
    try:
        receipt = Receipt(**json.loads((folder / RECEIPT).read_text("utf-8")))
    except (TypeError, ValueError):  # of another version of this tool
        return None
    there = set(os.listdir(folder))
    return receipt if there.issuperset(map(file_name, range(len(receipt.utterances)))) else None
