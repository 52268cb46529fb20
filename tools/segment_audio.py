"""Cut long unlabelled audio into utterances for pretraining: python tools/segment_audio.py SRC OUT [--lang zul]

SRC holds recordings of any kind that libsndfile reads, in folders of any depth: all of one language with --lang, else
in one folder for each language, named by its id. OUT/<lang>/ gets {train,dev,test}.tsv, without labels, and the
utterances as 16 kHz mono FLAC under audio/<path of the recording>/. As in the MMS paper (section 3.2): spans of speech
are joined while what is not speech is at most 20 % of the joined span, the rest is discarded; joined spans are cut at
random to 5.5 to 30 s; languages with less than 5 minutes of train audio are dropped: their audio stays in OUT, without
manifests. What is finished is skipped when the command is given again. Exit code 1 when a recording was broken.

Speech is found by silero-vad (pip install '.[vad]'), 400 times as fast as it is spoken, on one core: it found 99 % of
real speech and took 2 to 4 % of music, tones and noise for it; webrtcvad, at its strictest, 96 % and 41 to 96 %.
"""

import argparse
import functools
import os
import re
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from urllib.parse import quote

import soundfile
from segment_recording import (
    RECEIPT,
    UNFINISHED,
    Receipt,
    Recording,
    Settings,
    cut_recording,
    detector_version,
    file_name,
    fingerprint,
    read_receipt,
)
from tqdm import tqdm

from mms_recipes import languages
from mms_recipes.corpora.segmentation import Rules, divide
from mms_recipes.corpora.validation import SPLITS
from mms_recipes.manifest import SAMPLE_RATE, write_text

SUFFIXES = {f".{name.lower()}" for name in soundfile.available_formats() if name != "RAW"}
SUFFIXES |= {".aif", ".aifc", ".oga", ".opus", ".snd", ".sph", ".wave"}


@dataclass(frozen=True)
class Summary:
    """What became of one language; lengths in samples, ``utterances`` by split."""

    lang: str
    recordings: int
    broken: int
    num_samples: int
    kept: int
    too_short: int
    too_short_samples: int
    utterances: Mapping[str, int]
    train_minutes: float

    def is_dropped(self) -> bool:
        """Say whether the language got no manifests."""
        return not any(self.utterances.values())

    def losses(self) -> str:
        """Say what is not in the manifests, and why."""
        silent = self.num_samples - self.kept - self.too_short_samples
        found = f"no speech {hours(silent)} h, too short {hours(self.too_short_samples)} h ({self.too_short} spans)"
        if self.is_dropped():
            found = f"all, because train has {self.train_minutes:.1f} min"
        return found + f", {self.broken} broken" * (self.broken > 0)


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    try:
        rules = Rules(args.min_seconds, args.max_seconds, args.max_gap)
        shares = parse_shares(args.splits)
        if args.workers < 1:
            raise ValueError(f"--workers {args.workers}: expected 1 or more")
        settings: Settings = {**asdict(rules), "seed": args.seed, "detector": detector_version()}
        recordings = find_recordings(args.src, args.out, args.lang)
        receipts, broken = cut_recordings(recordings, args.out, rules, settings, args.workers)
        summaries = [
            write_manifests(lang, own, receipts, shares, args) for lang, own in by_language(recordings).items()
        ]
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(summaries))
    if broken:
        print("\n".join(["broken and left out (--allow-missing accepts that):", *broken]), file=sys.stderr)
    dropped = [summary.lang for summary in summaries if summary.is_dropped()]
    if dropped:
        print(f"dropped, with less than {args.min_language_minutes:g} min of train audio: ", end="", file=sys.stderr)
        print(f"{len(dropped)} of {len(summaries)} languages: {', '.join(dropped)}", file=sys.stderr)
    return 1 if len(dropped) == len(summaries) or (broken and not args.allow_missing) else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", type=Path, help="folder of recordings, or of a folder for each language")
    parser.add_argument("out", type=Path, help="folder to write to, outside SRC")
    parser.add_argument("--lang", help="id of the language of all recordings (default: the folders of SRC tell)")
    parser.add_argument("--splits", default="0.8,0.1,0.1", help="shares of train, dev, test (default: %(default)s)")
    parser.add_argument(
        "--split-by",
        choices=("segment", "file"),
        default="segment",
        help="draw single utterances, as the paper does, so that one speaker is heard in train and in test; or whole "
        "recordings, which keeps speakers apart as far as files do (default: %(default)s)",
    )
    lengths = parser.add_argument_group("lengths", "as in the paper where not given")
    lengths.add_argument("--min-seconds", type=float, default=5.5, help="least length of an utterance")
    lengths.add_argument("--max-seconds", type=float, default=30.0, help="greatest length, at least twice the least")
    lengths.add_argument("--max-gap", type=float, default=0.2, help="share of a joined span that may be no speech")
    lengths.add_argument("--min-language-minutes", type=float, default=5.0, help="of train audio, or it is dropped")
    parser.add_argument("--seed", type=int, default=1, help="of cuts and splits (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="recordings at once (default: cores)")
    parser.add_argument("--relative-root", action="store_true", help="OUT can be moved; stock fairseq cannot read it")
    parser.add_argument("--allow-missing", action="store_true", help="exit code 0 although recordings were broken")
    return parser.parse_args(arguments)


def parse_shares(text: str) -> dict[str, float]:
    """Return the share of each split; ValueError unless they are three, not negative and together 1."""
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) != len(SPLITS) or not (min(shares) >= 0 < shares[0] and abs(sum(shares) - 1) < 1e-6):
        raise ValueError(f"--splits {text!r}: expected shares of {', '.join(SPLITS)}, together 1, as in 0.8,0.1,0.1")
    return dict(zip(SPLITS, shares, strict=True))


def find_recordings(src: Path, out: Path, lang: str | None) -> list[Recording]:
    """Return the audio files under SRC, language by language, and print what was passed by.

    Raises FileNotFoundError when there are none, ValueError when a language is unknown or OUT lies in SRC.
    """
    if not src.is_dir():
        raise FileNotFoundError(f"{src}: no such folder; expected one that holds recordings")
    if out.resolve().is_relative_to(src.resolve()):
        raise ValueError(f"{out} lies in {src} and would be cut itself the next time; choose an OUT outside SRC")
    recordings, passed = [], Counter[str]()
    for name, folder in ({languages.language(lang).id: src} if lang else language_folders(src)).items():
        for path in walk(folder):
            if path.is_dir():
                passed["links to folders"] += 1
            elif path.suffix.lower() in SUFFIXES:
                recordings.append(describe(name, folder, path))
            else:
                passed[path.suffix.lower() or "without suffix"] += 1
    if passed:
        found = ", ".join(f"{count} {kind!r}" for kind, count in sorted(passed.items()))
        print(f"passed by in {src}, because libsndfile does not read it: {found}")
    if not recordings:
        raise FileNotFoundError(f"{src}: no audio in it; libsndfile reads {' '.join(sorted(SUFFIXES))}")
    return recordings


def language_folders(src: Path) -> dict[str, Path]:
    """Return the folders of SRC by language; ValueError names all that is there and belongs to no language."""
    faults, folders = [], {}
    for path in sorted(path for path in src.iterdir() if not path.name.startswith(".")):
        if path.is_dir():
            try:
                folders[languages.language(path.name).id] = path
            except ValueError as error:
                faults.append(f"{path}: {error}")
        elif path.suffix.lower() in SUFFIXES:
            faults.append(f"{path}: in no folder of a language; move it, or give --lang for all of SRC")
    if faults:
        raise ValueError("\n".join(faults))
    return folders


def walk(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and below, and links to folders, which are not followed; sorted, nothing hidden."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        yield from (Path(parent, name) for name in sorted([*files, *links]) if not name.startswith("."))


def describe(lang: str, folder: Path, path: Path) -> Recording:
    """Return a file as a recording; what a manifest cannot hold is written in its name as in addresses, ``%09``."""
    unsafe = r"[%\x00-\x1f\x7f\ud800-\udfff]"
    name = re.sub(unsafe, lambda found: quote(found[0], errors="surrogateescape"), path.relative_to(folder).as_posix())
    return Recording(lang, name, path, *fingerprint(path))


def by_language(recordings: Sequence[Recording]) -> dict[str, list[Recording]]:
    found: dict[str, list[Recording]] = {}
    for recording in recordings:
        found.setdefault(recording.lang, []).append(recording)
    return found


def cut_recordings(
    recordings: Sequence[Recording], out: Path, rules: Rules, settings: Settings, workers: int
) -> tuple[dict[Recording, Receipt], list[str]]:
    """Cut the recordings that are not finished; return the receipts, and what is wrong with those that are broken."""
    receipts: dict[Recording, Receipt] = {}
    for recording in recordings:
        receipt = read_receipt(recording.target(out))
        if receipt and receipt.is_of(recording, settings):
            receipts[recording] = receipt
    for lang, own in by_language(recordings).items():
        known = {recording.target(out) for recording in own}
        if others := [path.parent for path in (out / lang / "audio").rglob(RECEIPT) if path.parent not in known]:
            found = f"{lang}: {len(others)} recordings in {out} are no longer in SRC, and not in the manifests"
            print(f"{found}: {', '.join(sorted(map(str, others))[:5])}")
    waiting = sorted((r for r in recordings if r not in receipts), key=lambda r: -r.size)
    print(f"{len(recordings)} recordings: {len(receipts)} finished before, {len(waiting)} to cut", flush=True)
    remove_unfinished(recordings, out)
    broken = []
    cut = functools.partial(cut_recording, out=out, rules=rules, settings=settings)
    with tqdm(total=sum(r.size for r in waiting), desc="cutting", unit="B", unit_scale=True) as bar:
        for recording, result in run(cut, waiting, workers):
            bar.update(recording.size)
            if isinstance(result, Receipt):
                receipts[recording] = result
            else:
                broken.append(result)
    remove_unfinished(recordings, out)
    return receipts, sorted(broken)


def end_with_parent() -> None:
    """Make this worker end when the process that started it is killed; else it would wait for work for ever."""

    def watch(parent: BaseProcess) -> None:
        parent.join()
        os._exit(1)

    if parent := parent_process():
        threading.Thread(target=watch, args=(parent,), daemon=True).start()


def remove_unfinished(recordings: Sequence[Recording], out: Path) -> None:
    for lang in by_language(recordings):
        shutil.rmtree(out / lang / UNFINISHED, ignore_errors=True)


def run(
    cut: Callable[[Recording], Receipt | str], waiting: Sequence[Recording], workers: int
) -> Iterator[tuple[Recording, Receipt | str]]:
    """Yield each recording with its result, as they are finished."""
    if workers == 1 or len(waiting) < 2:
        yield from ((recording, cut(recording)) for recording in waiting)
        return
    pool = ProcessPoolExecutor(min(workers, len(waiting)), get_context("spawn"), initializer=end_with_parent)
    try:
        futures = {pool.submit(cut, recording): recording for recording in waiting}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise OSError(
            "a worker was killed, perhaps for want of memory; what is finished is kept: give the command again, with "
            "fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def write_manifests(
    lang: str,
    recordings: Sequence[Recording],
    receipts: Mapping[Recording, Receipt],
    shares: Mapping[str, float],
    args: argparse.Namespace,
) -> Summary:
    """Draw the utterances of one language into splits, and write their manifests if there is enough of train."""
    own = {recording: receipts[recording] for recording in recordings if recording in receipts}
    groups: dict[str, dict[str, int]] = {}  # what is drawn into one split together: lengths by path
    for recording, receipt in own.items():
        for number, (start, end) in enumerate(receipt.utterances):
            path = f"audio/{recording.name}/{file_name(number)}"
            groups.setdefault(path if args.split_by == "segment" else recording.name, {})[path] = end - start
    drawn = divide({name: sum(group.values()) for name, group in groups.items()}, shares, f"{args.seed} {lang}")
    splits: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
    for name, group in groups.items():
        splits[drawn[name]] |= group
    minutes = sum(splits["train"].values()) / SAMPLE_RATE / 60
    if minutes < args.min_language_minutes or not splits["train"]:
        splits = {split: {} for split in SPLITS}
    folder = args.out / lang
    folder.mkdir(parents=True, exist_ok=True)
    for split, lengths in splits.items():
        if lengths:
            rows = "".join(f"{path}\t{num_samples}\n" for path, num_samples in lengths.items())
            write_text(folder / f"{split}.tsv", f"{'.' if args.relative_root else folder.resolve()}\n{rows}")
        else:
            (folder / f"{split}.tsv").unlink(missing_ok=True)
    too_short = [end - start for receipt in own.values() for start, end in receipt.too_short]
    return Summary(
        lang,
        recordings=len(recordings),
        broken=len(recordings) - len(own),
        num_samples=sum(receipt.num_samples for receipt in own.values()),
        kept=sum(sum(lengths.values()) for lengths in splits.values()),
        too_short=len(too_short),
        too_short_samples=sum(too_short),
        utterances={split: len(lengths) for split, lengths in splits.items()},
        train_minutes=minutes,
    )


def hours(num_samples: int) -> str:
    return f"{num_samples / SAMPLE_RATE / 3600:.2f}"


def table(summaries: Sequence[Summary]) -> str:
    """Return a line for each language, and one of sums."""
    rows = [["language", "files", "hours in", "kept", *SPLITS, "dropped"]]
    for each in summaries:
        rows.append([each.lang, *counts([each]), each.losses()])
    rows.append(["all", *counts(summaries), ""])
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(len(rows[0]) - 1)]
    return "\n".join(
        row[0].ljust(widths[0]) + "".join(map(str.rjust, row[1:-1], widths[1:])) + f"  {row[-1]}" for row in rows
    )


def counts(summaries: Sequence[Summary]) -> list[str]:
    """Return the sums of some languages as cells of the table."""
    utterances = [sum(each.utterances[split] for each in summaries) for split in SPLITS]
    files = sum(each.recordings for each in summaries)
    lengths = [sum(each.num_samples for each in summaries), sum(each.kept for each in summaries)]
    return [f"{files:,}", *map(hours, lengths), *(f"{number:,}" for number in utterances)]


if __name__ == "__main__":
    sys.exit(main())
