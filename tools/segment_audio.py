"""Cut long unlabelled audio into utterances for pretraining: python tools/segment_audio.py SRC OUT [--lang zul]

SRC holds recordings of any kind that libsndfile reads, in folders of any depth: all of one language with --lang, else
in one folder for each language, named by its id. OUT/<lang>/ gets {train,dev,test}.tsv, without labels, and the
utterances as 16 kHz mono FLAC under audio/<path of the recording>/. As in the MMS paper (section 3.2): spans of speech
are joined while what is not speech is at most 20 % of the joined span, the rest is discarded; joined spans are cut at
random to 5.5 to 30 s; languages with less than 5 minutes of train audio are dropped: their audio stays in OUT, without
manifests. What is finished is skipped when the command is given again. Exit code 1 when a recording was broken.

In several jobs: the same command with --num-shards N --shard K for every K below N, which cuts and writes no manifests;
then once with --merge, which writes them. That is refused while a shard is missing, or a recording was neither cut nor
found to be broken.

Speech is found by silero-vad (pip install '.[vad]'), 400 times as fast as it is spoken, on one core: it found 99 % of
real speech and took 2 to 4 % of music, tones and noise for it; webrtcvad, at its strictest, 96 % and 41 to 96 %.
"""

import argparse
import functools
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path

from segment_manifests import Summary, table, write_manifests
from segment_recording import (
    RECEIPT,
    UNFINISHED,
    Receipt,
    Recording,
    Settings,
    cut_recording,
    detector_version,
    read_receipt,
)
from segment_sources import by_language, find_recordings
from tqdm import tqdm

from mms_recipes import languages, shard_files
from mms_recipes.corpora.segmentation import Rules
from mms_recipes.corpora.validation import SPLITS

Receipts = dict[Recording, Receipt]
Faults = dict[Recording, str]  # what is wrong with those that are broken


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    try:
        summaries, broken = work(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if summaries:
        print(table(summaries))
    if broken:
        told = sorted(broken.values())
        remedy = "" if args.allow_missing else " (--allow-missing accepts that)"
        print("\n".join([f"broken and left out{remedy}:", *told]), file=sys.stderr)
    dropped = [summary.lang for summary in summaries if summary.is_dropped()]
    if dropped:
        print(f"dropped, with less than {args.min_language_minutes:g} min of train audio: ", end="", file=sys.stderr)
        print(f"{len(dropped)} of {len(summaries)} languages: {', '.join(dropped)}", file=sys.stderr)
    return 1 if (dropped and len(dropped) == len(summaries)) or (broken and not args.allow_missing) else 0


def work(args: argparse.Namespace) -> tuple[list[Summary], Faults]:
    """Cut, merge, or both; return what became of each language, of one shard of several nothing, and what is broken."""
    rules = Rules(args.min_seconds, args.max_seconds, args.max_gap)
    shares = parse_shares(args.splits)
    if args.workers < 1:
        raise ValueError(f"--workers {args.workers}: expected 1 or more")
    settings: Settings = {**asdict(rules), "seed": args.seed, "detector": detector_version()}
    recordings = find_recordings(args.src, args.out, args.lang)
    if args.merge:
        receipts, broken = merge(recordings, args, settings)
    else:
        own = deal(recordings, args.num_shards, args.shard)
        shard_files.remove(args.out, args.shard)
        receipts, broken = cut_recordings(own, args.out, rules, settings, args.workers)
        if args.num_shards > 1:
            write_shard(recordings, args, settings, broken)
            return [], broken
    tidy(recordings, args.out)
    for recording, receipt in receipts.items():
        if receipt.remark:
            print(f"{recording.path}: {receipt.remark}", file=sys.stderr)
    return [write_manifests(lang, own, receipts, shares, args) for lang, own in by_language(recordings).items()], broken


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
    shards = parser.add_argument_group("several machines")
    shards.add_argument("--num-shards", type=int, default=1, help="split the recordings into this many jobs")
    shards.add_argument("--shard", type=int, default=0, help="which of the jobs this is, 0 to num_shards - 1")
    shards.add_argument("--merge", action="store_true", help="write the manifests of what all shards have cut")
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


def cut_recordings(
    recordings: Sequence[Recording], out: Path, rules: Rules, settings: Settings, workers: int
) -> tuple[Receipts, Faults]:
    """Cut the recordings that are not finished; return the receipts, and what is wrong with those that are broken."""
    receipts, broken = finished(recordings, out, settings), Faults()
    waiting = sorted((r for r in recordings if r not in receipts), key=lambda r: -r.size)
    print(f"{len(recordings)} recordings: {len(receipts)} finished before, {len(waiting)} to cut", flush=True)
    cut = functools.partial(cut_recording, out=out, rules=rules, settings=settings)
    with tqdm(total=sum(r.size for r in waiting), desc="cutting", unit="B", unit_scale=True) as bar:
        for recording, result in run(cut, waiting, workers):
            bar.update(recording.size)
            if isinstance(result, Receipt):
                receipts[recording] = result
            else:
                broken[recording] = result
    return receipts, broken


def finished(recordings: Sequence[Recording], out: Path, settings: Settings) -> Receipts:
    """Return the receipts of what was cut before, from the same files and in the same way."""
    found = ((recording, read_receipt(recording.target(out))) for recording in recordings)
    return {recording: receipt for recording, receipt in found if receipt and receipt.is_of(recording, settings)}


def tidy(recordings: Sequence[Recording], out: Path) -> None:
    """Remove what is half done, and name what was made of recordings that are gone."""
    for lang, own in by_language(recordings).items():
        shutil.rmtree(out / lang / UNFINISHED, ignore_errors=True)
        known = {recording.target(out) for recording in own}
        if others := [path.parent for path in (out / lang / "audio").rglob(RECEIPT) if path.parent not in known]:
            found = f"{lang}: {len(others)} recordings in {out} are no longer in SRC, and not in the manifests"
            print(f"{found}: {', '.join(sorted(map(str, others))[:5])}")


# ---- shards


def deal(recordings: Sequence[Recording], num_shards: int, shard: int) -> list[Recording]:
    """Return the recordings of one shard; long ones are dealt out first, so that shards are even."""
    by_key = {recording.key: recording for recording in sorted(recordings, key=lambda r: -r.size)}
    return [by_key[key] for key in languages.shard(list(by_key), num_shards, shard, "recordings")]


def write_shard(recordings: Sequence[Recording], args: argparse.Namespace, settings: Settings, broken: Faults) -> None:
    """Note for `merge` that this shard is done, and what it found to be broken."""
    told = {**settings, "recordings": len(recordings), "num_shards": args.num_shards, "shard": args.shard}
    faults = {recording.key: fault for recording, fault in broken.items()}
    path = shard_files.write(args.out, {"settings": told, "broken": faults})
    print(f"{path}; when all shards are there: the same command with --merge, without --num-shards and --shard")


def merge(recordings: Sequence[Recording], args: argparse.Namespace, settings: Settings) -> tuple[Receipts, Faults]:
    """Return what all shards together have cut, and what they found to be broken.

    Raises FileNotFoundError while a shard is missing, ValueError unless all was cut in the way that is asked for and
    every recording is either finished, in its one place, or known to be broken.
    """
    if args.num_shards != 1 or args.shard:
        raise ValueError("--merge puts all shards together; leave --num-shards and --shard out")
    shards = shard_files.read(args.out)
    made, folder = shards[0]["settings"], args.out / shard_files.FOLDER
    for key, value in {**settings, "recordings": len(recordings)}.items():
        if made.get(key) != value:
            raise ValueError(
                f"{folder}: {key} was {made.get(key)}, now it is {value}; give the options of the shards, and run all "
                "of them again if the recordings changed (what is finished is skipped)"
            )
    receipts = finished(recordings, args.out, settings)
    told = {key: fault for shard in shards for key, fault in shard["broken"].items()}
    broken = {r: told[r.key] for r in recordings if r.key in told and r not in receipts}
    if missing := [str(r.path) for r in recordings if r not in receipts and r not in broken]:
        raise ValueError(
            f"{len(missing)} of {len(recordings)} recordings are neither cut nor known to be broken, or changed since: "
            f"{', '.join(missing[:5])}; run all shards again (what is finished is skipped)"
        )
    print(f"{len(recordings)} recordings in {len(shards)} shards: {len(receipts)} cut, {len(broken)} broken")
    return receipts, broken


# ---- processes


def end_with_parent() -> None:
    """Make this worker end when the process that started it is killed; else it would wait for work for ever."""

    def watch(parent: BaseProcess) -> None:
        parent.join()
        os._exit(1)

    if parent := parent_process():
        threading.Thread(target=watch, args=(parent,), daemon=True).start()


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


if __name__ == "__main__":
    sys.exit(main())
