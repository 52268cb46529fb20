"""Put an evaluation together that was split over jobs: python tools/merge_scores.py OUT

OUT is the folder that was given to `python -m mms_recipes.evaluate ... out=OUT num_shards=N shard=K` for every K below
N. Its report is the one that a single job would have written. It is refused while a shard is missing, or where the
shards did not score every utterance of the manifests exactly once.
"""

import argparse
import sys
from pathlib import Path

from mms_recipes import shard_files
from mms_recipes.evaluation import evaluator
from mms_recipes.lid import shards as lid_shards
from mms_recipes.report import lid_files, shards
from mms_recipes.report.reading import read_scores
from mms_recipes.report.scores import comparison_table


def merge(out: Path) -> str:
    """Write the report of all shards, of recognition or of identification; return its table."""
    settings = shard_files.read(out, shards.OWN)[0]["settings"]
    if settings.get("lid"):
        lid_shards.write_report(out, lid_shards.read(out))
        return lid_files.table(read_scores(out / "scores.json"))
    evaluator.write(out, shards.read(out))
    return comparison_table({str(settings["name"]): out / "scores.json"})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the scores")
    args = parser.parse_args(arguments)
    try:
        table = merge(args.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table)
    print(f"scores: {args.out}; as a page: python -m mms_recipes.report {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
