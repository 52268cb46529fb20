"""Convert a model between fairseq's and Hugging Face's files, or take out its adapters.

    python -m mms_recipes.convert mms1b_all.pt mms-1b-all --to huggingface
    python -m mms_recipes.convert outputs/lsah_fl102/adapters lsah.pt --to fairseq

The layout of the source is found from its files. Before the result is put in its place, source and result are run on a
test signal, and the largest difference is shown.
"""

from mms_recipes.cluster import signals

if __name__ == "__main__":
    signals.end_quietly()  # here, since what follows takes seconds

import argparse
import logging
import sys
from pathlib import Path

from mms_recipes import runner
from mms_recipes.conversion import converter
from mms_recipes.lid import classes as lid_classes


def main() -> int:
    args = arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    converter.convert(
        args.source,
        args.target,
        args.to,
        base=args.base,
        langs=args.langs.split(",") if args.langs else None,
        default_lang=args.default_lang,
        licence=args.licence,
        trust=args.trust_checkpoint,
        classes=lid_classes.read_classes(args.classes) if args.classes else None,
    )
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="checkpoint (.pt), folder of adapters, or Hugging Face folder")
    parser.add_argument("target", type=Path, help="what to write; must not be there yet")
    parser.add_argument("--to", required=True, choices=["fairseq", "huggingface", "adapters"])
    parser.add_argument("--base", type=Path, help="of a folder of adapters: their base, if it moved since training")
    parser.add_argument("--langs", help="keep the adapters of these languages only: eng,fra")
    parser.add_argument(
        "--default-lang", metavar="LANG", help="to huggingface: the language that pipelines take; eng, else the first"
    )
    parser.add_argument("--classes", type=Path, help="of an LID file that does not name them: its dict.lang.txt")
    parser.add_argument("--licence", help="licence of the weights (SPDX id), where the files do not say")
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="read a .pt file that holds Python objects, which runs code from it; for files that you made yourself",
    )
    return parser.parse_args()


if __name__ == "__main__":
    with runner.errors_for_users():
        sys.exit(main())
