"""Speak a corpus with espeak-ng, laid out on disk as FLEURS is published.

    python tools/speak_corpus.py OUT [--minutes 10] [--seed 1] [--langs en_us fr_fr] [--jobs 2]

It writes `OUT/data/<code>/<split>.tsv` and `OUT/data/<code>/audio/<split>.tar.gz`. The sentences come from num2words
and the word lists and templates of speak_corpus.toml, and of speak_more.toml for languages beside the demo's. No
sentence occurs twice, and no voice speaks in two splits.
The same arguments and versions give the same bytes; a language that is there already with the same ones is left as is.
"""

import argparse
import gzip
import hashlib
import io
import json
import multiprocessing
import random
import shutil
import tarfile
import time
import wave
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from speak_espeak import SAMPLE_RATE, Audio, Espeak
from speak_sentences import PHRASES_FILES, load_languages, sentences

FINISHED = "spoken.json"  # written last into a language's folder: the settings that made it
DEV_MINUTES, TEST_MINUTES = 1.0, 2.0

# espeak-ng's voice variants by split; those that croak, whisper or clip are not among them.
VOICES = {
    "train": ["m1", "m3", "m4", "m6", "m7", "Michael", "adam", "robert", "f1", "f3", "f4", "linda", "Annie"],
    "dev": ["m5", "f5"],
    "test": ["m2", "max", "f2", "aunty"],
}
FEMALE = {"f1", "f2", "f3", "f4", "f5", "linda", "Annie", "aunty"}


def wav_bytes(audio: Audio) -> bytes:
    """Return 16 kHz mono audio as the bytes of a 16-bit PCM wav file."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(audio.astype("<i2").tobytes())
    return stream.getvalue()


def add_file(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add one file to a tar archive, with nothing in its header that differs from run to run."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


@dataclass(frozen=True)
class Order:
    """What to speak, and what the bytes depend on."""

    code: str
    minutes: float
    seed: int
    version: str


def source_version() -> str:
    """Return a fingerprint of this tool, its word lists and the packages that make words and sound."""
    files = sorted(Path(__file__).parent.glob("speak_*"))
    sources = hashlib.sha256(b"".join(path.read_bytes() for path in files if path.is_file())).hexdigest()
    return " ".join([sources[:12], *(f"{name} {version(name)}" for name in ("espeakng-loader", "num2words", "soxr"))])


def speak_split(folder: Path, split: str, minutes: float, order: Order, espeak: Espeak, spoken: set[str]) -> int:
    """Speak one split of at least `minutes` into `folder`; return its number of utterances."""
    rng = random.Random(f"{order.seed} {order.code} {split}")
    lang = load_languages()[order.code]
    rows: list[str] = []
    num_samples = 0
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    with (
        (folder / "audio" / f"{split}.tar.gz").open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for raw, transcription in sentences(lang, rng, spoken):
            variant = rng.choice(VOICES[split])
            audio = espeak.speak(
                raw,
                f"{lang['voice']}+{variant}",
                rate=rng.randint(135, 185),
                pitch=rng.randint(30, 65),
                pitch_range=rng.randint(35, 65),
                volume=rng.randint(50, 95),
            )
            name = f"{rng.randrange(10**17, 10**18)}.wav"
            add_file(archive, f"{split}/{name}", wav_bytes(audio))
            letters = " ".join(transcription.replace(" ", "|")) + " |"
            gender = "FEMALE" if variant in FEMALE else "MALE"
            rows.append("\t".join([str(len(spoken)), name, raw, transcription, letters, str(len(audio)), gender]))
            num_samples += len(audio)
            if num_samples >= minutes * 60 * SAMPLE_RATE:
                break
    (folder / f"{split}.tsv").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return len(rows)


def speak_language(order: Order, out: Path) -> str:
    """Speak one language into `out/data/<code>`, which appears only when complete; return one line for the user."""
    began = time.monotonic()
    folder = out / "data" / order.code
    partial = out / f".{order.code}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    espeak = Espeak(order.seed)
    spoken: set[str] = set()
    # Test and dev first: more minutes of train then leave them as they are.
    minutes = {"test": TEST_MINUTES, "dev": DEV_MINUTES, "train": order.minutes}
    minutes = {split: min(wanted, order.minutes) for split, wanted in minutes.items()}
    utterances = {
        split: speak_split(partial, split, wanted, order, espeak, spoken) for split, wanted in minutes.items()
    }
    (partial / FINISHED).write_text(json.dumps(asdict(order), indent=1) + "\n", encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(folder)
    counts = ", ".join(f"{split} {utterances[split]} ({wanted:g} min)" for split, wanted in minutes.items())
    return f"{order.code}: {counts}; took {time.monotonic() - began:.1f} s"


def is_finished(order: Order, out: Path) -> bool:
    """Say whether the language is there, made with the same settings.

    Raises FileExistsError when a folder is in the way that this tool did not make.
    """
    folder = out / "data" / order.code
    if not folder.exists():
        return False
    if not (folder / FINISHED).exists():
        raise FileExistsError(f"{folder}: holds a corpus that speak_corpus.py did not make; choose another OUT")
    return bool(json.loads((folder / FINISHED).read_text(encoding="utf-8")) == asdict(order))


def speak_corpus(out: Path, codes: list[str], minutes: float, seed: int, jobs: int) -> None:
    """Speak the languages that are not there yet, each in a process of its own, and say how far it is."""
    known = load_languages()
    if unknown := [code for code in codes if code not in known]:
        raise ValueError(f"no word lists for {' '.join(unknown)} in speak_corpus.toml; there are {' '.join(known)}")
    if minutes <= 0:
        raise ValueError(f"--minutes is {minutes:g}; expected more than 0")
    orders = [Order(code, minutes, seed, source_version()) for code in codes]
    waiting = [order for order in orders if not is_finished(order, out)]
    done = len(orders) - len(waiting)
    print(f"speak {len(orders)} languages into {out}: {done} are there, {len(waiting)} to do", flush=True)
    if not waiting:
        return
    out.mkdir(parents=True, exist_ok=True)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, max_tasks_per_child=1) as pool:
        futures = [pool.submit(speak_language, order, out) for order in waiting]
        for number, future in enumerate(as_completed(futures), start=1):
            print(f"[{number}/{len(waiting)}] {future.result()}", flush=True)


def main() -> None:
    """Read the command line and speak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder; the corpus goes to OUT/data/<code>")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training speech per language (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another gives other sentences and voices (%(default)s)")
    codes = list(load_languages(PHRASES_FILES[:1]))
    parser.add_argument("--langs", nargs="+", default=codes, metavar="CODE", help="FLEURS codes (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="languages spoken at a time (%(default)s)")
    args = parser.parse_args()
    try:
        speak_corpus(args.out, args.langs, args.minutes, args.seed, args.jobs)
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
