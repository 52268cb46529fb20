"""Collect the adapters of a run into one checkpoint, laid out as Meta's mms1b_l1107.pt and its like.

    python tools/merge_adapters.py outputs/demo_lsah/adapters lsah.pt [--base BASE.pt]

The file holds the base and, under `adapter`, each language's tensors and letters under fairseq's own names: stock
fairseq's infer.py reads it, and so does `python -m mms_recipes.evaluate checkpoint=lsah.pt`.
"""

import argparse
import sys
from pathlib import Path

from mms_recipes import adapter_files, checkpoints


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapters", type=Path, help="folder of adapter files")
    parser.add_argument("out", type=Path, help="checkpoint to write (.pt)")
    parser.add_argument("--base", type=Path, help="the adapters' base, if it moved since training")
    args = parser.parse_args(arguments)
    try:
        adapters = list(adapter_files.read_adapters(args.adapters).values())
        base = checkpoints.read_base(args.base or adapters[0].base_path)
        adapter_files.write_one_file(args.out, base, adapters)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{args.out}: base {base.hash} and {len(adapters)} languages, {args.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
