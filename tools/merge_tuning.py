"""Put a tuning together that was split over jobs: python tools/merge_tuning.py OUT

OUT is the folder that was given to `python -m mms_recipes.tune ... out=OUT num_shards=N shard=K` for every K below N.
Prints the table of all languages that a single job would have printed; the weights are beside the language models
already. It is refused while a shard is missing, or where a language was not tuned exactly once on all its utterances.
"""

import argparse
import sys
from pathlib import Path

from mms_recipes.evaluation import tuner


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="work folder of the tuning")
    args = parser.parse_args(arguments)
    try:
        print(tuner.table(tuner.merge(args.out)))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
