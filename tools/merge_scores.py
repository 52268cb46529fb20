"""Put an evaluation together that was split over jobs: python tools/merge_scores.py OUT

OUT is the folder that was given to `python -m mms_recipes.evaluate ... out=OUT num_shards=N shard=K` for every K below
N. Its report is the one that a single job would have written. It is refused while a shard is missing, or where the
shards did not score every utterance of the manifests exactly once.
"""

import argparse
import sys
from pathlib import Path

from mms_recipes import report
from mms_recipes.evaluation import evaluator
from mms_recipes.report import shards


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the scores")
    args = parser.parse_args(arguments)
    try:
        whole = shards.read(args.out)
        evaluator.write(args.out, whole)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report.comparison_table({str(whole.settings["name"]): args.out / "scores.json"}))
    print(f"full report: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
