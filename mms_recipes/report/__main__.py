"""Show evaluations in a browser: python -m mms_recipes.report RUN [RUN ...] [--out report.html] [--audio DATA]

RUN is a folder that mms_recipes.evaluate wrote (out=...). One run gets a page of its own; several stand side by side,
the later ones compared with the first: all of speech recognition, or all of language identification. The page is one
file that opens without a server and asks the network for nothing.
"""

import argparse
import sys
from pathlib import Path

from mms_recipes.report import figures, lid_page, lid_runs, page
from mms_recipes.report.lid_runs import are_identifications
from mms_recipes.report.runs import read_runs


def main(arguments: list[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    try:
        out = args.out or (args.runs[0] if len(args.runs) == 1 else Path()) / "report.html"
        heard, pictures = _identification(out, args) if are_identifications(args.runs) else _recognition(out, args)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB" + (f", audio of {heard:,} utterances" if args.audio else ""))
    for path in pictures:
        print(path)
    return 0


def _recognition(out: Path, args: argparse.Namespace) -> tuple[int, list[Path]]:
    """Write the page; return how many utterances can be heard, and the pictures that were drawn."""
    if args.embed_audio is not None and args.audio is None:
        raise ValueError("--embed-audio needs --audio DATA, the folder of the manifests")
    runs = read_runs(args.runs)
    heard = page.write_page(out, runs, page.Options(args.worst, args.audio, args.embed_audio))
    return heard, figures.draw(args.png, runs) if args.png else []


def _identification(out: Path, args: argparse.Namespace) -> tuple[int, list[Path]]:
    options = {"--worst": args.worst, "--audio": args.audio, "--embed-audio": args.embed_audio, "--png": args.png}
    if given := [option for option, value in options.items() if value is not None]:
        raise ValueError(f"{', '.join(given)}: of speech recognition; leave it out with language identification")
    lid_page.write_page(out, lid_runs.read_runs(args.runs))
    return 0, []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mms_recipes.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder with scores.json")
    parser.add_argument(
        "-o", "--out", type=Path, help="the page (default: report.html in the folder of a single run, or here)"
    )
    parser.add_argument(
        "--worst",
        type=_count,
        metavar="N",
        help="show the N utterances of each language with the most errors (default: all up to "
        f"{page.FEW_UTTERANCES:,} together, else {page.WORST}, or fewer where there are many languages)",
    )
    parser.add_argument(
        "--audio", type=Path, metavar="DATA", help="folder of the manifests (data=... of evaluate): adds players"
    )
    parser.add_argument(
        "--embed-audio",
        type=_count,
        metavar="M",
        help="put the audio of the first M utterances into the page; else it links to the files, and only audio in "
        f"shards is put into it, of at most {page.EMBEDDED} utterances",
    )
    parser.add_argument(
        "--png", type=Path, metavar="FOLDER", help="also draw wer.png and cer.png into FOLDER (needs the extra [plots])"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number, 0 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
