"""Measure language identification of many short files beside Hugging Face's pipeline: python tools/bench/lid.py.

Both read the same folder (Wav2Vec2ForSequenceClassification, random weights unless --model names one) and the same
files, one process, reading included, float32, on the CPU: ours batched by length, the audio-classification pipeline in
the order of the files with batches of 1 and 8. Contestants take turns. All must give the same first answer for every
file, or it stops; so Hugging Face gets audio normalised as fairseq does it (its own epsilon is another). Prints medians
as a Markdown table, by the clock and by the processor time of the process, which says more where other work is on the
machine. Needs the extra [bench].
"""

import argparse
import importlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

import mms_recipes.plugins  # noqa: F401
from mms_recipes.lid import answers as lid_answers
from mms_recipes.lid import file_languages
from mms_recipes.lid.file_languages import FileLanguage, Options
from mms_recipes.lid.identifier import load_identifier
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.sound import levels

transformers: Any = importlib.import_module("transformers")  # an extra; so mypy says the same without it
# without these most of the time can go to page faults of memory that is freed and taken again
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "268435456"}
SIZES = {  # blocks, width; 300m is MMS's smaller base, 1b that of the released LID models
    "small": (6, 512),
    "300m": (24, 1024),
    "1b": (48, 1280),
}
NUM_CLASSES = 126
Runner = Callable[[Sequence[Path]], list[str]]


def make_model(folder: Path, size: str, paths: Sequence[Path]) -> None:
    """Write a model of MMS's kind with random weights, whose answers for some files are as various as they can be."""
    blocks, width = SIZES[size]
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=width,
        num_hidden_layers=blocks,
        num_attention_heads=width // 64 if width != 1280 else 16,
        intermediate_size=4 * width,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        classifier_proj_size=1024,
        id2label={number: f"lang{number}" for number in range(NUM_CLASSES)},
        label2id={f"lang{number}": number for number in range(NUM_CLASSES)},
    )
    if config.conv_dim[-1] == width:  # fairseq then has no projection, and our reader refuses the folder
        config.conv_dim = (*config.conv_dim[:-1], width - 64)
    model = transformers.Wav2Vec2ForSequenceClassification(config).eval()
    torch.nn.init.normal_(model.classifier.weight)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    with torch.no_grad():  # what random encoders make of two sounds differs little: take away what it has in common
        heard = [extractor(soundfile.read(path)[0], sampling_rate=SAMPLE_RATE, return_tensors="pt") for path in paths]
        logits_NL = torch.cat([model(one["input_values"]).logits for one in heard])
        spread = float(logits_NL.std(0).mean())
        model.classifier.bias -= logits_NL.mean(0)
        model.classifier.weight /= spread
        model.classifier.bias /= spread
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)


def make_files(folder: Path, count: int) -> list[Path]:
    """Write files of 0.5 to 8 s, most of them 1 to 4: buzzing of various pitch, vowels and noise."""
    generator, paths = np.random.default_rng(0), []
    for number in range(count):
        seconds = float(np.clip(generator.lognormal(0.8, 0.5), 0.5, 8))
        at = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        pitch = generator.uniform(80, 300) * (1 + 0.1 * np.sin(2 * np.pi * generator.uniform(0.5, 4) * at))
        phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
        formants = generator.uniform(300, 3500, 3)
        weights = [sum(np.exp(-((k * 150 - f) ** 2) / 6e4) for f in formants) for k in range(1, 25)]
        sound = sum(weight * np.sin(k * phase) for k, weight in enumerate(weights, start=1))
        sound += generator.uniform(0, 0.5) * generator.standard_normal(len(at))
        paths.append(folder / f"{number:04d}.wav")
        soundfile.write(paths[-1], 0.3 * sound / np.abs(sound).max(), SAMPLE_RATE)
    return paths


def ours(model: Path, batch_seconds: float) -> Runner:
    identifier = load_identifier(model, torch.device("cpu"))
    choice = lid_answers.open_choice(identifier, model)

    def run(paths: Sequence[Path]) -> list[str]:
        found = file_languages.identify(identifier, choice, paths, Options(batch=batch_seconds))
        return [said.best[0][0] for said in found if isinstance(said, FileLanguage)]

    return run


def hugging_face(model: Path, batch_size: int) -> Runner:
    pipe = transformers.pipeline("audio-classification", model=str(model), device=-1, batch_size=batch_size)
    pipe.feature_extractor.do_normalize = False

    def read(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
        for path in paths:  # itself it would start ffmpeg for each file
            samples, rate = soundfile.read(path, dtype="float32")
            yield {"raw": levels.standardized(samples), "sampling_rate": rate}

    def run(paths: Sequence[Path]) -> list[str]:
        return [found[0]["label"] for found in pipe(read(paths), top_k=1)]

    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="Hugging Face folder of a LID model (default: random weights)")
    parser.add_argument("--size", choices=SIZES, default="300m", help="of random weights (default: %(default)s)")
    parser.add_argument("--files", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="passes of each contestant (default: %(default)s)")
    parser.add_argument("--batch-seconds", type=float, default=160.0, help="of ours (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch (default: %(default)s)")
    args = parser.parse_args()
    if not MALLOC.keys() <= os.environ.keys():  # they count from the start of a process
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | MALLOC)
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        paths = make_files(Path(folder), args.files)
        seconds = sum(soundfile.info(path).duration for path in paths)
        model = args.model or Path(folder) / "model"
        if args.model is None:
            make_model(model, args.size, paths[:12])
        contestants = {
            "ours": ours(model, args.batch_seconds),
            "Hugging Face, batch 1": hugging_face(model, 1),
            "Hugging Face, batch 8": hugging_face(model, 8),
        }
        return measure(contestants, paths, seconds, args)


def measure(contestants: dict[str, Runner], paths: list[Path], seconds: float, args: argparse.Namespace) -> int:
    """Let them take turns, compare what they answer, and print the table; return the exit code."""
    for run in contestants.values():
        run(paths[:16])
    clocks: dict[str, list[float]] = {name: [] for name in contestants}
    processors: dict[str, list[float]] = {name: [] for name in contestants}
    answers: dict[str, list[str]] = {}
    for _ in range(args.repeats):
        for name, run in contestants.items():
            clock, processor = time.perf_counter(), time.process_time()
            answers[name] = run(paths)
            clocks[name].append(time.perf_counter() - clock)
            processors[name].append(time.process_time() - processor)
    expected = answers["ours"]
    for name, found in answers.items():
        if differ := sum(one != other for one, other in zip(expected, found, strict=True)):
            print(f"{name} answers otherwise than ours for {differ} of {len(paths)} files", file=sys.stderr)
            return 1
    print(f"{len(paths):,} files, {seconds:.0f} s of audio, {len(set(expected))} different answers, the same by all;")
    print(f"{args.threads} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, transformers "
          f"{transformers.__version__}, {args.model or args.size}\n")  # fmt: skip
    against = "times as long as ours: clock, processor"
    print(f"| who | seconds | range | audio seconds per second | processor seconds | {against} |")
    print("|---|---:|---:|---:|---:|---:|")
    clock, processor = (statistics.median(of["ours"]) for of in (clocks, processors))
    for name, listed in clocks.items():
        mine, used = statistics.median(listed), statistics.median(processors[name])
        print(
            f"| {name} | {mine:.1f} | {min(listed):.1f} to {max(listed):.1f} | {seconds / mine:.0f} | {used:.1f} | "
            f"{mine / clock:.2f}, {used / processor:.2f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
