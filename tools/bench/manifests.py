"""Measure how fast a large manifest opens and what it keeps in memory: python tools/bench/manifests.py [--rows N].

Writes synthetic rows to a temporary folder (about 1.3 GB for 10 million), opens manifest and labels in a process of its
own, and prints seconds, resident memory and the time to read single rows.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mms_recipes.manifest import read_lines, read_manifest

ROWS_A_BLOCK = 100_000
LOOK_UPS = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of the manifest (default: %(default)s)")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.open:
        measure(args.open)
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), args.rows)
        subprocess.run([sys.executable, __file__, "--open", folder], check=True)


def write(folder: Path, rows: int) -> None:
    """Write train.tsv and train.ltr with this many rows."""
    letters = "t h e | q u i c k | b r o w n | f o x | j u m p s |"
    with (folder / "train.tsv").open("w") as tsv, (folder / "train.ltr").open("w") as ltr:
        tsv.write("/corpus/audio\n")
        for start in range(0, rows, ROWS_A_BLOCK):
            block = range(start, min(start + ROWS_A_BLOCK, rows))
            tsv.write(
                "".join(f"lang{i % 1107:04d}/train/utterance_{i:08d}.flac\t{16000 + i % 480000}\n" for i in block)
            )
            ltr.write("".join(f"{letters}\n" for _ in block))
    print(f"wrote {rows:,} rows: " + ", ".join(f"{p.name} {p.stat().st_size / 1e6:,.0f} MB" for p in folder.iterdir()))


def measure(folder: Path) -> None:
    """Open both files and print what that took; peak memory is that of this process, the interpreter included."""
    print(f"before: {_peak_mb():,.0f} MB resident")
    start = time.perf_counter()
    utterances = read_manifest(folder / "train.tsv")
    print(
        f"manifest: {len(utterances):,} rows in {time.perf_counter() - start:.1f} s, peak {_peak_mb():,.0f} MB resident"
    )
    start = time.perf_counter()
    letters = read_lines(folder / "train.ltr")
    print(
        f"labels:   {len(letters):,} lines in {time.perf_counter() - start:.1f} s, peak {_peak_mb():,.0f} MB resident"
    )
    start = time.perf_counter()
    for number in range(LOOK_UPS):
        index = number * len(utterances) // LOOK_UPS
        utterances.path(index)
        letters[index]
    print(f"look-up:  {(time.perf_counter() - start) / LOOK_UPS * 1e6:.0f} microseconds for a path and its letters")


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
