"""Write down what is said in audio files: text, JSON lines with the times of words, or subtitles.

    python -m mms_recipes.transcribe FILE_OR_FOLDER... --checkpoint outputs/lsah_fl102/adapters --lang ita
    find recordings -name '*.mp3' | python -m mms_recipes.transcribe - --checkpoint ... --lang auto --lid lid.pt

Lines come in the order of the files. A file that cannot be used does not stop the others; it is named at the end, and
the exit code is 1. docs/transcribe.md tells more.
"""

from mms_recipes.cluster import signals

if __name__ == "__main__":
    signals.end_quietly()  # here, since what follows takes seconds

import argparse
import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Iterator

from tqdm import tqdm

from mms_recipes import recordings, runner, sources, streams
from mms_recipes.transcriber import Transcriber
from mms_recipes.transcription import outputs, transcripts
from mms_recipes.transcription.listener import Limits
from mms_recipes.transcription.outputs import Tally
from mms_recipes.transcription.routing import Routes
from mms_recipes.transcription.transcripts import Transcript, shown


def main() -> int:
    args = arguments()
    signals.interrupted_by(signal.SIGTERM, signal.SIGHUP)
    logging.getLogger().setLevel(logging.WARNING)  # importing fairseq made it DEBUG
    found = sources.find(args.files, sys.stdin.buffer, args.null)
    if args.out is None:
        streams.require_output()
    reads = [source.path for source in found] + [args.checkpoint, args.base, args.lid, 0]
    guard = outputs.guard(reads, args.overwrite)
    tally = Tally(len(found), f", in {args.out}" if args.out else "")
    with tally, outputs.open_output(args.out, args.format, found, sys.stdout.buffer, guard) as write:
        limits = Limits(args.batch_seconds, args.whole_seconds, args.window_seconds)
        routes = Routes(args.prefer, args.fallback_lang, args.lid_threshold)
        models = {"base": args.base, "lid": args.lid, "lm": args.lm, "device": args.device}
        transcriber = Transcriber(args.checkpoint, routes=routes, limits=limits, **models)
        seconds = [recordings.expected_seconds(source.path) for source in found]

        def send(number: int, transcript: Transcript) -> None:
            with tqdm.external_write_mode(sys.stdout, nolock=True):
                fault = write(found[number], transcript) or transcript.error
            tally.add(fault)
            if transcript.remark and not fault:
                logging.warning("%s: %s", shown(transcript.path), transcript.remark)

        with progress(sum(seconds), args.quiet) as advance:
            come = transcriber.as_they_come(found, args.lang, advance, seconds)
            outputs.deliver(come, send, ordered=not outputs.is_folder(args.out, args.format, found))
    return tally.status


@contextlib.contextmanager
def progress(total: float, quiet: bool) -> Iterator[Callable[[float], object]]:
    """Show a bar with the time left on stderr; give what moves it on by seconds of audio."""
    form = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}]"
    with tqdm(total=total, desc="transcribe", bar_format=form, mininterval=1, disable=quiet) as bar:
        yield lambda seconds: bar.update(min(seconds, total - bar.n))  # headers may promise less than there is


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("files", nargs="+", help="audio that libsndfile reads, of any rate; folders; - for a list on standard input, "
        "a path a line, or a path, a tab and a language")  # fmt: skip
    add("--checkpoint", required=True, help="dense checkpoint (.pt), folder of adapters, or one file")
    add("--base", help="the adapters' base, if it moved since training")
    add("--lang", help="language id, as in manifests/languages.tsv, or auto; for files that the list gives none")
    add("--null", action="store_true", help="the list's entries end in NUL bytes (find -print0)")
    add("--format", choices=list(transcripts.SUFFIXES), default=transcripts.TEXT, help="(default: %(default)s)")
    add("--out", help="file; or folder (there already, or with a slash) for a file each (default: standard output)")
    add("--overwrite", action="store_true", help="replace outputs that are there already; what is read never is")
    add("--lm", help="folder of language models, as tools/build_lm.py writes it: beam search instead of greedy")
    add("--lid", help="model that identifies languages (.pt or Hugging Face folder), for auto")
    add("--fallback-lang", metavar="LANG", help="auto: what to take where a language has no adapter; nearest: the most "
        "probable one that has")  # fmt: skip
    add("--lid-threshold", type=float, default=0.0, help="auto: fall back below this probability (%(default)g)")
    add("--prefer", default=[], type=lambda text: text.split(","), metavar="LANG,...",
        help="auto: which adapter of a language with several scripts or dialects")  # fmt: skip
    add("--batch-seconds", type=float, help="audio per batch (160, on a CPU 40); halves itself when memory runs out")
    add("--whole-seconds", type=float, default=Limits.whole,
        help="longer audio is heard in overlapping windows (%(default)g)")  # fmt: skip
    add("--window-seconds", type=float, default=Limits.window, help="length of these windows (%(default)g)")
    add("--device", default="auto", help="auto (cuda where it is there), cpu, or cuda:N")
    add("--quiet", action="store_true", help="no progress bar")
    return parser.parse_args()


if __name__ == "__main__":
    with runner.errors_for_users():
        sys.exit(main())
