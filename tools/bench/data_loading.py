"""Measure how fast audio is read for training, by container: python tools/bench/data_loading.py [--data CORPUS].

The same utterances, speech-like noise or those of a prepared corpus, lie as wav, flac and ogg files and, by
tools/pack_shards.py, as tar and as zip of flac. Each is read as fine-tuning reads it: the task's dataset, labels and
batches, fairseq's iterator and its worker processes; nobody computes anything with the batches. Containers take turns
pass by pass, so what else the machine does meets all of them. A pass counts from its first batch, when all workers run.
Prints the medians of audio seconds per second as a Markdown table; with 0 workers training itself reads.

The files were just written, so they are read from the page cache: this is what decoding costs. --drop-cache has the
system forget them before every pass (it is a request; a memory file system such as tmpfs keeps them).
"""

import argparse
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from mms_recipes import audio_files, manifest
from mms_recipes.corpora import validation
from mms_recipes.manifest import SAMPLE_RATE, Utterance

Samples = npt.NDArray[np.float32]
LETTERS = "s p e e c h | l i k e |"
FILES = {"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS")}
SHARDS = ("tar", "zip")
FRAME = 1_600  # samples, 0.1 s: how long a sound lasts
PACK = Path(__file__).resolve().parents[1] / "pack_shards.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a prepared corpus whose train split is read (default: made)")
    parser.add_argument("--minutes", type=float, default=40, help="of audio (default: %(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="processes (default: 0 1 2)")
    parser.add_argument("--repeats", type=int, default=5, help="passes over each container (default: %(default)s)")
    parser.add_argument("--batch-seconds", type=float, default=30, help="audio of a batch (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where to write, for another disk (default: a temporary folder)")
    if hasattr(os, "posix_fadvise"):
        parser.add_argument("--drop-cache", action="store_true", help="forget the files before each pass")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        corpora = write(Path(folder), args.data, args.minutes)
        rates: dict[tuple[str, int], list[float]] = {}
        drop = getattr(args, "drop_cache", False)
        for _ in range(args.repeats):
            for workers in args.workers:
                for name, corpus in corpora.items():
                    if drop:
                        drop_cache(corpus)
                    rate = read(corpus, workers, int(args.batch_seconds * SAMPLE_RATE))
                    rates.setdefault((name, workers), []).append(rate)
    report(rates, args.workers, args.repeats, drop)


# ---- the audio


def write(folder: Path, data: Path | None, minutes: float) -> dict[str, Path]:
    """Write the utterances into every container and return the corpora by name, as training takes them."""
    corpora = {f"{suffix} files": folder / suffix for suffix in FILES}
    rows: dict[str, list[Utterance]] = {suffix: [] for suffix in FILES}
    seconds = 0.0
    for number, samples in enumerate(speak(minutes) if data is None else take(data, minutes)):
        seconds += len(samples) / SAMPLE_RATE
        for suffix, (form, subtype) in FILES.items():
            path = folder / suffix / "eng" / "audio" / f"{number:06}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples, SAMPLE_RATE, format=form, subtype=subtype)
            uid = f"eng_train_{number:06}"
            rows[suffix].append(Utterance(f"audio/{path.name}", len(samples), LETTERS, "speech like", uid))
    for suffix in FILES:
        corpus = folder / suffix
        manifest.write_split(corpus / "eng", "train", corpus / "eng", rows[suffix])
        for target in (corpus, corpus / "eng"):
            manifest.write_dictionary(target / "dict.ltr.txt", dict.fromkeys(sorted(set(LETTERS.split())), 1))
    for form in SHARDS:
        corpora[f"{form} of flac"] = folder / form
        pack = [sys.executable, str(PACK), str(folder / "flac"), str(folder / form), "--format", form]
        subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
    for name, corpus in corpora.items():
        size = sum(path.stat().st_size for path in audio_of(corpus))
        amount = f"{len(rows['wav']):,} utterances, {seconds / 60:.1f} minutes, {size / 1e6:,.1f} MB"
        print(f"{name:<12} {amount}", flush=True)
    return corpora


def speak(minutes: float) -> Iterator[Samples]:
    """Yield utterances of 2 to 15 s: buzz and noise in frames of changing pitch, resonances and loudness."""
    generator = np.random.default_rng(1)
    hertz = np.fft.rfftfreq(2 * FRAME, 1 / SAMPLE_RATE)
    left = minutes * 60
    while left > 0:
        seconds = min(generator.uniform(2, 15), max(left, 2))
        left -= seconds
        num_frames = int(seconds * SAMPLE_RATE) // FRAME
        pitch = np.repeat(generator.uniform(90, 240, num_frames + 1), FRAME)
        buzz = np.diff(np.floor(np.cumsum(pitch / SAMPLE_RATE)), prepend=0)
        source = np.lib.stride_tricks.sliding_window_view(buzz, 2 * FRAME)[::FRAME][:num_frames]
        voiced, loudness = generator.random((2, num_frames, 1)) * [[[1.3]], [[1.0]]]
        source = np.minimum(voiced, 1) * source + 0.02 * generator.normal(size=source.shape)
        resonances = generator.uniform([300, 900, 2200], [800, 2200, 3500], (num_frames, 3))[:, :, None]
        shape = (1 / (1 + ((hertz - resonances) / 90) ** 2)).sum(1) / (1 + (hertz / 2500) ** 2)
        frames = np.fft.irfft(np.fft.rfft(source * np.hanning(2 * FRAME)) * shape) * loudness * (loudness > 0.2)
        samples = np.zeros((num_frames + 1) * FRAME)
        for number, frame in enumerate(frames):
            samples[number * FRAME : (number + 2) * FRAME] += frame
        samples = 0.5 * samples / np.abs(samples).max() + 0.0003 * generator.normal(size=len(samples))
        yield samples.astype(np.float32)


def take(data: Path, minutes: float) -> Iterator[Samples]:
    """Yield the train utterances of a prepared corpus, its languages one after the other, as many as asked."""
    left = minutes * 60
    for lang in validation.find_languages(data, ["train"]):
        utterances = manifest.read_manifest(data / lang / "train.tsv")
        for row in range(len(utterances)):
            if left <= 0:
                return
            with audio_files.opened(utterances.path(row)) as stream:
                samples = stream.read()[:, 0]
            left -= len(samples) / SAMPLE_RATE
            yield samples


def audio_of(corpus: Path) -> Iterator[Path]:
    """Yield the files that hold the audio of a corpus."""
    return (path for name in ("audio", "shards") for path in (corpus / "eng").glob(f"{name}/*"))


def drop_cache(corpus: Path) -> None:
    """Ask the system to forget what it keeps of a corpus's audio in memory, once it is on the disk."""
    for path in audio_of(corpus):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


# ---- the race


def read(corpus: Path, workers: int, max_samples: int) -> float:
    """Read one epoch as fine-tuning does; return seconds of audio per second, from the first batch on."""
    import mms_recipes.plugins  # noqa: F401

    # isort: split
    from mms_recipes.tasks.finetuning import FinetuningConfig, FinetuningTask

    audio_files.close_shards()
    task = FinetuningTask(FinetuningConfig(data=str(corpus), langs=["eng"], seed=1))
    task.load_dataset("train")
    dataset = task.datasets["train"]
    iterator = task.get_batch_iterator(dataset, max_tokens=max_samples, num_workers=workers)
    batches = iterator.next_epoch_itr(shuffle=True)
    next(batches)
    start, num_samples = time.perf_counter(), 0
    for batch in batches:
        num_samples += int(dataset.num_samples[batch["id"].numpy()].sum())
    elapsed = time.perf_counter() - start
    next(batches._itr, None)  # fairseq stops by count; the workers end where the loader sees its own end
    return num_samples / SAMPLE_RATE / elapsed


def report(rates: dict[tuple[str, int], list[float]], workers: list[int], repeats: int, dropped: bool) -> None:
    """Print the machine and one row for each container: medians, and what one of the workers does."""
    state = "dropped from the page cache before each pass" if dropped else "in the page cache"
    print(f"\n{platform.machine()}, {os.cpu_count()} CPUs, {repeats} passes, files {state}; s of audio per s\n")
    print("| container |" + "".join(f" {n} workers |" for n in workers) + f" per worker, of {max(workers)} |")
    print("|---|" + "---:|" * (len(workers) + 1))
    for name in dict.fromkeys(name for name, _ in rates):
        medians = [statistics.median(rates[name, n]) for n in workers]
        alone = statistics.median(rates[name, max(workers)]) / max(1, *workers)
        print(f"| {name} |" + "".join(f" {rate:,.0f} |" for rate in medians) + f" {alone:,.0f} |")


if __name__ == "__main__":
    logging.disable(logging.INFO)
    warnings.filterwarnings(
        "ignore", message="'pin_memory' argument is set as true"
    )  # fairseq's, where there is no GPU
    main()
