"""Measure the start of an epoch over many languages: python tools/bench/mixture.py [--langs N] [--utterances N].

Writes synthetic manifests to a temporary folder (about 0.3 GB for 13 million utterances), opens them, and prints what
the plan of an epoch takes: which utterances are drawn, and in which batches. Each beta has a process of its own.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROWS_A_BLOCK = 100_000
MAX_SAMPLES = 2_880_000  # samples of a batch, 180 s at 16 kHz (MMS paper section 5.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--langs", type=int, default=1_107, help="languages (default: %(default)s)")
    parser.add_argument("--utterances", type=int, default=13_000_000, help="of all languages (default: %(default)s)")
    parser.add_argument("--beta", type=float, nargs="+", default=[1.0, 0.3], help="sampling (default: 1.0 0.3)")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.open:
        measure(args.open, *args.beta)
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), args.langs, args.utterances)
        for beta in args.beta:
            subprocess.run([sys.executable, __file__, "--open", folder, "--beta", str(beta)], check=True)


def write(folder: Path, num_langs: int, num_utterances: int) -> None:
    """Write train.tsv of languages of uneven size: the hundredth largest has about a tenth of the largest's."""
    shares = 1 / np.sqrt(np.arange(1, num_langs + 1))
    counts = np.maximum(1, np.rint(shares / shares.sum() * num_utterances)).astype(int)
    generator = np.random.default_rng(1)
    for number, count in enumerate(counts):
        (folder / f"l{number:04}").mkdir()
        with (folder / f"l{number:04}" / "train.tsv").open("w") as tsv:
            tsv.write("/corpus/audio\n")
            for start in range(0, count, ROWS_A_BLOCK):
                sizes = generator.integers(32_000, 320_000, min(ROWS_A_BLOCK, count - start))
                tsv.writelines(f"{start + row:07}.wav\t{size}\n" for row, size in enumerate(sizes.tolist()))


def measure(folder: Path, beta: float) -> None:
    """Print what the start of an epoch takes."""
    import mms_recipes.plugins  # noqa: F401

    # isort: split
    from fairseq.data.iterators import EpochBatchIterator

    from mms_recipes import sampling
    from mms_recipes.data.mixture import MixtureDataset, read_corpus

    start = time.perf_counter()
    corpora = [read_corpus(folder, path.name, "train", None) for path in sorted(folder.iterdir())]
    opened, before = time.perf_counter() - start, _status("VmRSS")
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    start = time.perf_counter()
    weights = sampling.sampling_weights([corpus.utterances.seconds() for corpus in corpora], beta)
    dataset = MixtureDataset(corpora, weights=weights, seed=1, normalize=True)
    batches = dataset.batches(1, MAX_SAMPLES)
    planned = time.perf_counter() - start
    iterator = EpochBatchIterator(dataset, dataset.collater, lambda data, number: batches)
    shuffled = iterator.ordered_batches(1, fix_batches_to_gpus=False, shuffle=True)
    seconds, more = time.perf_counter() - start, _status("VmHWM") - before
    drawn = sum(map(len, shuffled))
    print(f"beta {beta}: {len(dataset.langs):,} languages, {drawn:,} utterances in {len(shuffled):,} batches")
    print(f"  manifests opened in {opened:.1f} s; then {before:,.0f} MB resident")
    print(f"  start of an epoch: {seconds:.1f} s ({planned:.1f} s of it ours), {more:,.0f} MB more at its peak")


def _status(name: str) -> float:
    """Memory of this process in MB: now (VmRSS) or at its peak (VmHWM); off Linux the peak since its start."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    line = next(line for line in status.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1e3


if __name__ == "__main__":
    main()
