"""Write down what is said in audio files, a line for each: path, tab, words.

    python -m mms_recipes.transcribe FILE... --checkpoint outputs/lsah_fl102/adapters --lang ita

A file that cannot be used does not stop the others; it is named at the end, and the exit code is 1.
"""

import argparse
import sys
from pathlib import Path

from mms_recipes import devices, languages, runner, transcriber
from mms_recipes.recognizer import load_recognizer


def main() -> int:
    args = arguments()
    languages.resolve([args.lang])  # a misspelt id, before anything is read
    recognizer = load_recognizer(args.checkpoint, devices.choose("auto"), [args.lang], args.base)
    wrong = []
    for path, heard in transcriber.transcribe(recognizer, args.files, args.lang, args.batch_seconds):
        if isinstance(heard, ValueError):
            wrong.append(heard)
        else:
            print(f"{path}\t{heard}", flush=True)
    if wrong:
        print(f"{len(wrong)} of {len(args.files)} files could not be used:", *wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="audio of any kind and rate that libsndfile reads")
    parser.add_argument("--checkpoint", required=True, help="dense checkpoint (.pt), folder of adapters, or one file")
    parser.add_argument("--lang", required=True, help="language id, as in manifests/languages.tsv")
    parser.add_argument("--base", help="the adapters' base, if it moved since training")
    parser.add_argument("--batch-seconds", type=float, default=160.0, help="audio per batch, seconds (%(default)g)")
    return parser.parse_args()


if __name__ == "__main__":
    with runner.errors_for_users():
        sys.exit(main())
