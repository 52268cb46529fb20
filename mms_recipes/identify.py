"""Say which language is spoken in audio files: python -m mms_recipes.identify FILE... --checkpoint lid.pt

A line for each file: path, language, the first answers with their probabilities; below it, where a recording has
several languages, which is spoken when. FILE is audio of any kind and rate that libsndfile reads, a folder, or - for a
list on standard input. Long recordings are heard in windows, all without their silence. A file that cannot be used does
not stop the others; it is named at the end, and the exit code is 1.
"""

from mms_recipes.cluster import signals

if __name__ == "__main__":
    signals.end_quietly()  # here, since what follows takes seconds

import argparse
import json
import logging
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import mms_recipes.plugins  # noqa: F401  (first: it says how to install fairseq, and silences its import)

# isort: split
from mms_recipes import devices, languages, runner, sources, streams
from mms_recipes.lid import answers as lid_answers
from mms_recipes.lid import file_languages
from mms_recipes.lid.file_languages import FileLanguage, Options
from mms_recipes.lid.identifier import load_identifier
from mms_recipes.lid.spans import LEAST_SECONDS
from mms_recipes.transcription import outputs, transcripts
from mms_recipes.transcription.outputs import Tally

logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    signals.interrupted_by(signal.SIGTERM, signal.SIGHUP)
    logging.basicConfig(format="%(message)s")
    streams.require_output()
    options = Options(args.top, args.threshold, args.window_seconds, args.batch_seconds)
    found = sources.find(args.files, sys.stdin.buffer, args.null)
    with Tally(len(found)) as tally:
        identifier = load_identifier(args.checkpoint, devices.choose(args.device), args.classes)
        asked = args.langs.split(",") if args.langs else []
        choice = lid_answers.open_choice(identifier, args.checkpoint, asked)
        if choice.temperature is None:
            logger.warning(
                "%s: probabilities are not calibrated, they may be too high or too low; run `evaluate "
                "+benchmark=lid` on dev to calibrate them",
                args.checkpoint,
            )

        def send(number: int, said: FileLanguage | ValueError) -> None:
            if isinstance(said, ValueError):
                tally.add(str(said))
                return
            line = _json(said) if args.json else "\n".join(_lines(said))
            sys.stdout.buffer.write(f"{line}\n".encode(errors="surrogateescape"))
            sys.stdout.buffer.flush()
            tally.add(None)

        paths = [source.path for source in found]
        outputs.deliver(file_languages.as_they_come(identifier, choice, paths, options), send, ordered=True)
    return tally.status


def _json(said: FileLanguage) -> str:
    """Return one line of JSON."""
    return json.dumps(
        {
            "path": str(said.path),
            "seconds": round(said.seconds, 3),
            "lang": said.lang,
            "probability": round(said.best[0][1], 6) if said.best else None,
            "best": [[name, round(probability, 6)] for name, probability in said.best],
            "spans": [asdict(span) for span in said.spans],
        },
        allow_nan=False,
    )


def _lines(said: FileLanguage) -> Iterator[str]:
    """Yield the line of a file, and where it has several spans one for each."""
    best = "  ".join(f"{name} {probability:.3f}" for name, probability in said.best)
    best = best or f"less than {LEAST_SECONDS:g} s of sound"
    yield f"{transcripts.shown(said.path)}\t{said.lang}\t{best}"
    for span in said.spans if len(said.spans) > 1 else ():
        sure = "" if span.probability is None else f" {span.probability:.3f}"
        yield f"    {_clock(span.begin)} - {_clock(span.end)}  {languages.named(span.lang)}{sure}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes) // 60}:{int(minutes) % 60:02d}:{rest:04.1f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mms_recipes.identify",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio files, folders, or - for a list on stdin")
    parser.add_argument("--checkpoint", type=Path, required=True, help="LID model: .pt, or a Hugging Face folder")
    parser.add_argument("--classes", type=Path, help="dict.lang.txt of a .pt that does not hold its classes")
    parser.add_argument("--langs", help="choose among these only: ids and sets with commas (eng,fra or asr_fl102)")
    parser.add_argument("--top", type=int, default=3, help="answers to show (%(default)s)")
    parser.add_argument(
        "--threshold", type=float, default=0.0, help="say und where the first is less probable (%(default)g)"
    )
    parser.add_argument("--json", action="store_true", help="a line of JSON for each file")
    parser.add_argument("--null", action="store_true", help="the list on stdin ends its names in NUL (find -print0)")
    parser.add_argument("--window-seconds", type=float, default=20.0, help="of a long recording (%(default)g)")
    parser.add_argument("--batch-seconds", type=float, default=160.0, help="audio per batch, seconds (%(default)g)")
    parser.add_argument("--device", default="auto", help="auto (cuda where it is there), cpu, or cuda:N")
    return parser


if __name__ == "__main__":
    with runner.errors_for_users():
        sys.exit(main())
