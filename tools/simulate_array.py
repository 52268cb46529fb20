"""Try out an array of LSAH shards on paper: wall time and waste, by shards, GPUs, preemptions and checkpoints.

    python tools/simulate_array.py --speed 720 --gpus 8,64,512 --shards 64,256,1143 --preemptions 0.1

A shard trains its languages on one GPU: it starts up, works, writes a checkpoint every so often. A GPU is taken away at
random, `--preemptions` times an hour. What was done since the last checkpoint is lost, unless Slurm left the time to
write one (`--graceful`); the shard waits (`--requeue-minutes`), goes to the end of the queue, and starts up again.

Every language's work is --updates times --update-seconds of audio, or times what it has where that is less: sizes come
from prepared manifests (--manifests) or are all enough. `--speed` is the throughput that one GPU of yours has
(`audio_per_second` of a training log, on some languages): nothing here was measured on a GPU.
"""

import argparse
import heapq
import math
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mms_recipes import languages, manifest
from mms_recipes.corpora import validation


@dataclass(frozen=True)
class Array:
    """What happens to each shard; all times in seconds."""

    gpus: int
    startup: float  # until the first update: imports, reading the base and manifests
    interval: float  # of work between checkpoints
    write: float  # one checkpoint
    rate: float = 0.0  # preemptions per second and GPU
    graceful: float = 0.0  # share of them that leave the time for a checkpoint
    requeue: float = 0.0  # until a preempted shard may start again


@dataclass
class Outcome:
    """What an array took: wall seconds, and GPU seconds by what they were spent on."""

    wall: float = 0.0
    work: float = 0.0
    startup: float = 0.0
    writing: float = 0.0
    lost: float = 0.0  # work and writing that had to be done again
    preemptions: int = 0

    @property
    def gpu_seconds(self) -> float:
        return self.work + self.startup + self.writing + self.lost

    @property
    def waste(self) -> float:
        """Share of the GPU time that was no work, 0 to 1."""
        return 1 - self.work / self.gpu_seconds if self.gpu_seconds else 0.0


def simulate(work: Sequence[float], array: Array, seed: int = 1) -> Outcome:
    """Run the shards, `work` seconds each, first come first served; the same seed gives the same preemptions."""
    generator, outcome = random.Random(seed), Outcome(work=sum(work))
    free = [0.0] * min(array.gpus, len(work))  # when each GPU is free
    heapq.heapify(free)
    queue = [(0.0, number, number, seconds) for number, seconds in enumerate(work)]  # may start, turn, shard, left
    turn = len(work)
    while queue:
        ready, _, shard, left = heapq.heappop(queue)
        start = max(ready, heapq.heappop(free))
        runs = generator.expovariate(array.rate) if array.rate else math.inf
        used, done = attempt(left, runs, generator.random() < array.graceful, array, outcome)
        heapq.heappush(free, start + used)
        outcome.wall = max(outcome.wall, start + used)
        if done < left:
            turn += 1
            heapq.heappush(queue, (start + used + array.requeue, turn, shard, left - done))
    return outcome


def attempt(left: float, runs: float, graceful: bool, array: Array, outcome: Outcome) -> tuple[float, float]:
    """Run a shard with `left` seconds of work on a GPU that is taken away after `runs`: seconds used, work kept.

    What the time went into is added to `outcome`. A checkpoint is written at the end, too.
    """
    writes = math.ceil(left / array.interval)
    needed = array.startup + left + writes * array.write
    if runs >= needed:
        outcome.startup += array.startup
        outcome.writing += writes * array.write
        return needed, left
    outcome.preemptions += 1
    outcome.startup += min(runs, array.startup)
    since = max(0.0, runs - array.startup)  # work and writing
    whole = int(since // (array.interval + array.write))  # intervals that are done, with their checkpoints
    rest = since - whole * (array.interval + array.write)
    kept = whole * array.interval
    if graceful and since:
        more = min(rest, array.interval, left - kept)
        outcome.writing += (whole + 1) * array.write
        return runs + array.write - max(0.0, rest - more), kept + more
    outcome.writing += whole * array.write
    outcome.lost += rest
    return runs, kept


def best_interval(write: float, rate: float) -> float:
    """Seconds of work between checkpoints that lose least (Young 1974), where preemption comes without warning."""
    return math.sqrt(2 * write / rate) if rate else math.inf


# ---- what there is to train


def language_work(args: argparse.Namespace) -> list[float]:
    """GPU seconds of training of each language."""
    if args.manifests is None:
        sizes = [math.inf] * args.langs
    else:
        names = validation.find_languages(args.manifests, ["train"])
        sizes = [manifest.read_manifest(args.manifests / lang / "train.tsv").seconds() for lang in names]
    return [args.updates * min(args.update_seconds, seconds) / args.speed for seconds in sizes]


def shard_work(by_language: Sequence[float], num_shards: int) -> list[float]:
    """GPU seconds of each shard; languages are dealt out as task.num_shards does."""
    numbers = [str(number) for number in range(len(by_language))]
    shards = [languages.shard(numbers, num_shards, shard) for shard in range(num_shards)]
    return [sum(by_language[int(number)] for number in one) for one in shards]


# ---- command


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    try:
        by_language = language_work(args)
        rows = [row(args, by_language, gpus, shards) for gpus in args.gpus for shards in args.shards]
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rate = args.preemptions / 3600
    print(
        f"{len(by_language):,} languages, {sum(by_language) / 3600:,.1f} GPU hours of work at {args.speed:g} s of audio"
    )
    print(f"per second; {args.preemptions:g} preemptions per GPU hour, {args.graceful:.0%} with time for a checkpoint;")
    best = f"{best_interval(args.write_seconds, rate) / 60:.1f}" if rate and args.write_seconds else "none"
    print(f"a checkpoint every {args.interval_minutes:g} minutes (without warning least is lost at: {best})")
    print()
    head = ["GPUs", "shards", "languages of one", "wall time, hours", "GPU hours", "preemptions", "no work"]
    table = [head, ["---:"] * len(head), *rows]
    print("\n".join("| " + " | ".join(cells) + " |" for cells in table))
    return 0


def row(args: argparse.Namespace, by_language: Sequence[float], gpus: int, shards: int) -> list[str]:
    """Simulate one combination some times; return the means."""
    array = Array(
        gpus=gpus,
        startup=args.startup_seconds,
        interval=args.interval_minutes * 60,
        write=args.write_seconds,
        rate=args.preemptions / 3600,
        graceful=args.graceful,
        requeue=args.requeue_minutes * 60,
    )
    work = shard_work(by_language, shards)
    found = [simulate(work, array, seed) for seed in range(args.repeats)]
    wall, spent = (statistics.mean(getattr(one, name) / 3600 for one in found) for name in ("wall", "gpu_seconds"))
    waste, preempted = (statistics.mean(getattr(one, name) for one in found) for name in ("waste", "preemptions"))
    size = f"{len(by_language) / shards:.3g}"
    return [str(gpus), f"{shards:,}", size, f"{wall:.1f}", f"{spent:,.1f}", f"{preempted:.1f}", f"{waste:.1%}"]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--speed", type=positive, required=True, help="seconds of audio per second that one GPU trains")
    add("--langs", type=int, default=1143, help="ids (default: %(default)s, those of asr_l1107)")
    add("--manifests", type=Path, help="prepared corpus: its languages and sizes")
    add("--updates", type=positive, default=2000, help="of each language (default: %(default)g, lsah_1107)")
    add("--update-seconds", type=positive, default=180, help="audio of one (default: %(default)g, lsah_1107)")
    add("--gpus", type=numbers, default=[8, 64, 512], help="how many at once (default: 8,64,512)")
    add("--shards", type=numbers, default=[64, 256, 1143], help="task.num_shards (default: 64,256,1143)")
    add("--startup-seconds", type=amount, default=120, help="until the first update (default: %(default)g)")
    add("--interval-minutes", type=positive, default=10, help="of work between checkpoints (default: %(default)g)")
    add("--write-seconds", type=amount, default=5, help="to write one (default: %(default)g)")
    add("--preemptions", type=amount, default=0.0, help="per GPU and hour (default: %(default)g)")
    add("--graceful", type=share, default=0.0, help="share of them with time for a checkpoint (default: %(default)g)")
    add("--requeue-minutes", type=amount, default=2, help="until a shard may start again (default: %(default)g)")
    add("--repeats", type=int, default=20, help="simulations, whose mean is told (default: %(default)s)")
    return parser.parse_args(arguments)


def positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text}, expected more than 0")
    return number


def amount(text: str) -> float:
    number = float(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text}, expected 0 or more")
    return number


def share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text}, expected 0 to 1")
    return number


def numbers(text: str) -> list[int]:
    found = [int(word) for word in text.split(",")]
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text}, expected numbers of 1 and more, with commas between")
    return found


if __name__ == "__main__":
    sys.exit(main())
