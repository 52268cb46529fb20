"""Measure beam search: ours, fairseq's decoder as its infer.py uses it (one by one), and pyctcdecode.

    python tools/bench/decoding.py lms/eng --text eng/test.wrd --dictionary eng/dict.ltr.txt
    python tools/bench/decoding.py lms/eng --checkpoint runs/lsah/adapters --data manifests/demo --lang eng

LM is the folder of one language that tools/build_lm.py made; without lexicon.txt it is a model of letters. Emissions
are those of a model, or made from the lines of a text as CTC makes them: peaks with repeats and blanks between, some
letters unclear or wrong. All get the same emissions, model, weights and beam. Loading is not counted. The decoders take
turns; printed are medians of utterances per second and the error rates. pyctcdecode runs in a virtual environment of
its own, kept in --venv, on as many processes as ours; it prunes by rules of its own too (--peer-prune), and has no
search without words.
"""

import argparse
import importlib.util
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mms_recipes import manifest, metrics, text
from mms_recipes.decoding import beam, language_model, pool
from mms_recipes.decoding.beam import BeamOptions

Emissions = list[npt.NDArray[np.float32]]
PEERS = ("pyctcdecode==0.5.0", "kenlm", "numpy<2")

# What runs in pyctcdecode's environment: settings and emissions in, seconds and texts out. Its weight is of ln.
PYCTCDECODE = """
import json, math, multiprocessing, sys, time
import numpy as np
from pyctcdecode import build_ctcdecoder
settings = json.load(open(sys.argv[1]))
emissions = [array for _, array in sorted(np.load(sys.argv[2]).items())]
decoder = build_ctcdecoder(settings["labels"], settings["model"], settings["words"],
                           alpha=settings["lm_weight"] / math.log(10), beta=settings["word_score"])
context = multiprocessing.get_context("fork")
with context.Pool(settings["workers"]) as pool:
    start = time.perf_counter()
    texts = decoder.decode_batch(pool, emissions, beam_width=settings["beam_size"], **settings["prune"])
    seconds = time.perf_counter() - start
json.dump({"seconds": seconds, "texts": texts}, open(sys.argv[3], "w"))
"""


class Task(NamedTuple):
    """What every decoder gets, and the words that were said."""

    emissions: Emissions
    references: list[str]
    symbols: list[str]
    folder: Path
    options: BeamOptions
    workers: int

    @property
    def words(self) -> bool:
        return (self.folder / language_model.LEXICON).is_file()

    @property
    def model(self) -> Path:
        return self.folder / language_model.MODEL


class Run(NamedTuple):
    seconds: float
    texts: list[str]


def main() -> None:
    args = arguments()
    options = BeamOptions(
        args.beam_size, args.beam_size_token, lm_weight=args.lm_weight, word_score=args.word_score, sil_score=0.0
    )
    emissions, references, symbols = from_model(args) if args.checkpoint else from_text(args)
    task = Task(emissions, references, symbols, args.lm, options, args.workers)
    frames = sum(map(len, emissions))
    kind = "words" if task.words else "letters"
    print(f"{len(references):,} utterances, {frames:,} frames of {len(symbols)} units; model of {kind}, {options}")
    with tempfile.TemporaryDirectory() as folder:
        decoders: dict[str, Callable[[], Run]] = {
            f"ours, {args.workers} process(es)": ours(task),
            "fairseq's, one by one": fairseqs(task),
        }
        if task.words and (python := environment(args.venv or Path(folder) / "venv")):
            decoders[f"pyctcdecode, {args.workers} process(es)"] = pyctcdecodes(
                task, python, Path(folder), args.peer_prune
            )
        runs: dict[str, list[Run]] = {name: [] for name in decoders}
        for _ in range(args.repeats):
            for name, decode in decoders.items():
                runs[name].append(decode())
    print_table(runs, references)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lm", type=Path, help="folder of one language: lm.bin and, for words, lexicon.txt")
    parser.add_argument("--text", type=Path, help="utterances as words, one a line, to make emissions from")
    parser.add_argument("--dictionary", type=Path, help="with --text: dict.ltr.txt, the letters")
    parser.add_argument("--checkpoint", help="a trained model that makes the emissions instead")
    parser.add_argument("--data", type=Path, help="with --checkpoint: folder of manifests")
    parser.add_argument("--lang", help="with --checkpoint: the language")
    parser.add_argument("--split", default="test", help="with --checkpoint (default: %(default)s)")
    parser.add_argument("--utterances", type=int, default=500, help="at most (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes of ours (default: %(default)s)")
    parser.add_argument("--beam-size", type=int, default=500, help="(default: %(default)s)")
    parser.add_argument("--beam-size-token", type=int, default=50, help="(default: %(default)s)")
    parser.add_argument("--lm-weight", type=float, default=beam.LM_WEIGHT, help="(default: %(default)s)")
    parser.add_argument("--word-score", type=float, default=beam.WORD_SCORE, help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each decoder (default: %(default)s)")
    parser.add_argument(
        "--venv", type=Path, help="environment of pyctcdecode, made if need be (default: a temporary one)"
    )
    parser.add_argument(
        "--peer-prune", type=float, default=[-5, -10], nargs=2, help="pyctcdecode's token_min_logp and beam_prune_logp"
    )
    args = parser.parse_args()
    if bool(args.checkpoint) == bool(args.text) or (args.text and not args.dictionary):
        parser.error("give --text and --dictionary, or --checkpoint, --data and --lang")
    if args.checkpoint and not (args.data and args.lang):
        parser.error("--checkpoint needs --data and --lang")
    return args


# ---- emissions


def from_text(args: argparse.Namespace) -> tuple[Emissions, list[str], list[str]]:
    """Make emissions of the lines of a text, the same for the same text; a short text is gone through again."""
    symbols = [*manifest.SPECIAL_TOKENS, *manifest.read_dictionary(args.dictionary)]
    ids = {symbol: unit for unit, symbol in enumerate(symbols)}
    lines = [line for line in args.text.read_text(encoding="utf-8").splitlines() if line.strip()]
    generator = np.random.default_rng(1)
    references = [lines[number % len(lines)] for number in range(args.utterances)]
    return [emit(text.to_letters(line).split(), ids, generator) for line in references], references, symbols


def emit(letters: list[str], ids: dict[str, int], generator: np.random.Generator) -> npt.NDArray[np.float32]:
    """Log-probabilities (T, V) that say letters with 12 % of them wrong, about 4 frames each."""
    size, frames = len(ids), []
    for letter in letters:
        wrong = letter not in ids or generator.random() < 0.12
        unit = int(generator.integers(len(manifest.SPECIAL_TOKENS), size)) if wrong else ids[letter]
        said = [unit] * generator.integers(1, 3) + [0] * generator.integers(1, 5)  # 0 is the blank
        for place in said:
            frame = generator.normal(0, 1, size)
            frame[1 : len(manifest.SPECIAL_TOKENS)] = -12
            frame[place] += generator.uniform(4, 11)
            if wrong and place and letter in ids:
                frame[ids[letter]] += generator.uniform(2, 9)  # the right one is among the likely ones
            frames.append(frame)
    scores = np.array(frames)
    emissions_TV: npt.NDArray[np.float32] = (scores - np.log(np.exp(scores).sum(1, keepdims=True))).astype(np.float32)
    return emissions_TV


def from_model(args: argparse.Namespace) -> tuple[Emissions, list[str], list[str]]:
    import torch

    from mms_recipes import recognizer
    from mms_recipes.evaluation import emissions

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded = recognizer.load_recognizer(args.checkpoint, device, [args.lang])
    split = emissions.Split(args.data / args.lang, args.split)
    rows: list[int] = []
    found: Emissions = []
    for more, emissions_TV in emissions.blocks(loaded, args.lang, split, 160 * manifest.SAMPLE_RATE):
        rows += more
        found += emissions_TV
    chosen = np.random.default_rng(1).permutation(len(rows))[: args.utterances]
    references = [split.labels.words[rows[place]] for place in chosen]
    return [found[place] for place in chosen], references, list(loaded.dictionary(args.lang).symbols)


# ---- decoders


def ours(task: Task) -> Callable[[], Run]:
    decoder = beam.load_space(task.folder, task.symbols, task.words, drop_oov=True).decoder(task.options)

    def decode() -> Run:
        start = time.perf_counter()
        count = len(task.emissions)
        found = dict(pool.work_through(lambda item: decoder.decode(task.emissions[item]), count, task.workers))
        seconds = time.perf_counter() - start
        best = [found[item][0] for item in range(len(found))]
        return Run(seconds, [said(task, hypothesis.words, hypothesis.units) for hypothesis in best])

    return decode


def fairseqs(task: Task) -> Callable[[], Run]:
    import mms_recipes.plugins  # noqa: F401

    # isort: split
    import fairseq
    import torch
    from fairseq.data import Dictionary

    letters = Dictionary()
    for symbol in task.symbols[len(manifest.SPECIAL_TOKENS) :]:
        letters.add_symbol(symbol)
    folder = Path(fairseq.__file__).parent / "examples" / "speech_recognition" / "new" / "decoders"
    spec = importlib.util.spec_from_file_location("decoders", folder / "__init__.py", submodule_search_locations=[])
    assert spec and spec.loader and spec.submodule_search_locations is not None
    spec.submodule_search_locations.append(str(folder))  # without the package above it, which needs more
    sys.modules["decoders"] = importlib.util.module_from_spec(spec)
    options = task.options
    settings = SimpleNamespace(  # the fields of fairseq's FlashlightDecoderConfig
        nbest=1,
        unitlm=not task.words,
        lmpath=str(task.model),
        lexicon=str(task.folder / language_model.LEXICON) if task.words else None,
        beam=options.beam_size,
        beamsizetoken=options.beam_size_token,
        beamthreshold=options.beam_threshold,
        lmweight=options.lm_weight,
        wordscore=options.word_score,
        unkweight=-math.inf,
        silweight=options.sil_score,
    )
    decoder = importlib.import_module("decoders.flashlight_decoder").KenLMDecoder(settings, letters)

    def decode() -> Run:
        start = time.perf_counter()
        found = [decoder.decode(torch.from_numpy(emissions_TV)[None])[0][0] for emissions_TV in task.emissions]
        seconds = time.perf_counter() - start
        words = task.words
        return Run(seconds, [said(task, h["words"] if words else None, h["tokens"].tolist()) for h in found])

    return decode


def said(task: Task, words: list[str] | None, units: list[int]) -> str:
    return text.to_words(" ".join(task.symbols[unit] for unit in units)) if words is None else " ".join(words)


def environment(folder: Path) -> Path | None:
    """The Python of an environment that has pyctcdecode; None, with the reason printed, when it cannot be installed."""
    python = folder / "bin" / "python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode == 0:
        return python
    print(f"pyctcdecode is not measured, it does not install here: {done.stderr.strip().splitlines()[-1:]}")
    return None


def pyctcdecodes(task: Task, python: Path, folder: Path, prune: list[float]) -> Callable[[], Run]:
    """It knows no special tokens but the blank, whose label is empty; the space is the word mark."""
    kept = [0, *range(len(manifest.SPECIAL_TOKENS), len(task.symbols))]
    labels = ["", *(" " if task.symbols[unit] == text.WORD_END else task.symbols[unit] for unit in kept[1:])]
    lexicon = beam.check_files(task.folder, task.symbols, words=True, drop_oov=True)
    assert lexicon is not None
    settings: dict[str, Any] = {"labels": labels, "model": str(task.model.resolve()), "workers": task.workers}
    settings["prune"] = {"token_min_logp": prune[0], "beam_prune_logp": prune[1]}
    settings["words"] = sorted({word for word, _ in lexicon.entries})
    settings |= {name: getattr(task.options, name) for name in ("lm_weight", "word_score", "beam_size")}
    files = [folder / name for name in ("settings.json", "emissions.npz", "found.json", "peer.py")]
    files[0].write_text(json.dumps(settings), encoding="utf-8")
    np.savez(files[1], **{f"{number:06}": array[:, kept] for number, array in enumerate(task.emissions)})  # type: ignore[arg-type]
    files[3].write_text(PYCTCDECODE, encoding="utf-8")

    def decode() -> Run:
        done = subprocess.run([str(python), *map(str, (files[3], *files[:3]))], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"pyctcdecode failed:\n{done.stderr}")
        found = json.loads(files[2].read_text(encoding="utf-8"))
        return Run(found["seconds"], [" ".join(line.split()) for line in found["texts"]])

    return decode


# ---- results


def print_table(runs: dict[str, list[Run]], references: list[str]) -> None:
    """Print medians as a Markdown table; the ratio is to fairseq's."""
    rates = {name: statistics.median(len(references) / run.seconds for run in of) for name, of in runs.items()}
    peer = next(rate for name, rate in rates.items() if name.startswith("fairseq"))
    print("| decoder | utterances/s | times fairseq's | slowest-fastest run | WER % | CER % |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, of in runs.items():
        pairs = list(zip(references, of[-1].texts, strict=True))
        wer = sum((metrics.word_errors(*pair) for pair in pairs), metrics.ErrorCounts()).rate
        cer = sum((metrics.character_errors(*pair) for pair in pairs), metrics.ErrorCounts()).rate
        spread = sorted(len(references) / run.seconds for run in of)
        print(
            f"| {name} | {rates[name]:.2f} | {rates[name] / peer:.2f} | {spread[0]:.2f}-{spread[-1]:.2f} "
            f"| {wer:.2f} | {cer:.2f} |"
        )
    texts = [of[-1].texts for of in runs.values()]
    same = sum(one == other for one, other in zip(texts[0], texts[1], strict=True))
    print(f"hypotheses of ours that equal fairseq's: {same:,} of {len(references):,}")


if __name__ == "__main__":
    main()
