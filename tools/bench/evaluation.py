"""Measure a whole evaluation: ours in one process beside stock fairseq's infer.py, which takes a language at a time.

    python tools/bench/evaluation.py manifests/demo --adapters outputs/demo_lsah/adapters

Both read the same one-file checkpoint (as tools/merge_adapters.py writes it) and the same utterances, search greedily,
and are timed as a person waits for them: from the start of the command to its end. infer.py is called as Meta's
mms_infer.py calls it, from a copy with the few changes without which it does not start today. The contestants take
turns. Printed are medians for each number of utterances, and every hypothesis that is not the same.

The demo's eight languages become ten by two that are made here and kept in --work: German and Portuguese numbers that
espeak-ng speaks (extra [demo]), with adapters of 30 updates on the same base. They cost the time that others cost; they
are no measure of errors. Utterances are taken from test, then dev, then train, until there are enough.
"""

import argparse
import csv
import importlib.util
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import soundfile

from mms_recipes import adapter_files, checkpoints, manifest
from mms_recipes.corpora import validation

TOOLS = Path(__file__).resolve().parents[1]
ADDED = {"deu": ("de", "de"), "por": ("pt-br", "pt_BR")}  # espeak-ng's voice, num2words's language
NUMBERS = {"kinds": ["cardinal", "ordinal"], "max_ordinal": 99, "stop": "."}
NUMBERS |= {"templates": ["{cardinal}", "{cardinal} {cardinal}", "{cardinal} {ordinal}"]}
SPOKEN = {"train": 120, "dev": 20, "test": 200}  # utterances of an added language
UPDATES = 30

# What infer.py says, and what it must say to start on Python 3.11 and torch 2.6.
DATACLASS_AS_DEFAULT = re.compile(r": (\w+Config) = \1\(\)")
CHANGES = {
    'config_path = Path(__file__).resolve().parent / "conf"': 'config_path = str(Path(__file__).parent / "conf")',
    "InferConfig.__dataclass_fields__[k].default": "InferConfig.__dataclass_fields__[k].type",
    "import editdistance\nimport torch\n": "import editdistance\nimport torch\nfrom fairseq.data import Dictionary\n"
    "torch.serialization.add_safe_globals([Dictionary])\n",
}


class Run(NamedTuple):
    """Seconds of one contestant by the clock and of processor time; its hypotheses by (language, row of manifest)."""

    seconds: float
    processor: float
    texts: dict[tuple[str, int], str]


def main() -> None:
    args = arguments()
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    checkpoint = work / "lsah.pt"
    folders = [args.adapters, add_languages(work, base_of(args))]
    adapters = [adapter for folder in folders for adapter in adapter_files.read_adapters(folder).values()]
    adapter_files.write_one_file(checkpoint, checkpoints.read_base(base_of(args)), adapters)
    examples = copy_infer(work / "stock")
    for count in args.utterances:
        data = work / f"manifests_{count}"
        total = take([args.data, work / "manifests"], count, data)
        langs = validation.find_languages(data, ["test"])
        print(f"\n{len(langs)} languages ({' '.join(langs)}), {total}", flush=True)
        runs: dict[str, list[Run]] = {"ours": [], "infer.py": []}
        for _ in range(args.repeats):
            runs["ours"].append(ours(checkpoint, data, work / "ours", args.device))
            runs["infer.py"].append(stock(examples, checkpoint, data, langs, args.device))
        print_table(runs)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of manifests")
    parser.add_argument("--adapters", type=Path, required=True, help="folder of the adapters of its languages")
    parser.add_argument("--base", type=Path, help="the adapters' base, if it moved since training")
    parser.add_argument("--work", type=Path, default=Path("outputs/bench_evaluation"), help="(default: %(default)s)")
    parser.add_argument("--utterances", type=int, nargs="+", default=[20, 200], help="a language (default: 20 200)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (default: %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of both (default: %(default)s)")
    return parser.parse_args()


def base_of(args: argparse.Namespace) -> Path:
    return args.base or Path(next(iter(adapter_files.read_adapters(args.adapters).values())).base_path).expanduser()


def call(command: Sequence[object], log: Path, **settings: Any) -> tuple[float, float]:
    """Run Python with these arguments, what it says into a log; return its seconds by the clock and of processor time.

    Ends the bench when it fails.
    """
    arguments = list(map(str, command))
    with log.open("w", encoding="utf-8") as file:
        start, used = time.perf_counter(), processor_seconds()
        done = subprocess.run([sys.executable, *arguments], stdout=file, stderr=subprocess.STDOUT, **settings)
        seconds = time.perf_counter() - start, processor_seconds() - used
    if done.returncode:
        last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        sys.exit(f"{last}\nexit code {done.returncode} of: python {' '.join(arguments)}; all that it said: {log}")
    return seconds


def processor_seconds() -> float:
    """Return what all commands that have ended took, user and system."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


# ---- what both are given


def add_languages(work: Path, base: Path) -> Path:
    """Speak the added languages and train their adapters, unless that is done; return the folder of these adapters."""
    for lang in ADDED:
        if not (work / "manifests" / lang / "train.tsv").is_file():
            print(f"{lang}: {sum(SPOKEN.values())} utterances are spoken", flush=True)
            table = speak(lang, work / "spoken" / lang)
            prepare = [
                TOOLS / "prepare_folder.py",
                table,
                work / "manifests",
                "--lang",
                lang,
                "--split-column",
                "split",
            ]
            call(prepare, work / f"prepare_{lang}.log")
    adapters = work / "added" / "adapters"
    if not all((adapters / f"{lang}.safetensors").is_file() for lang in ADDED):
        print(f"adapters of {' and '.join(ADDED)}: {UPDATES} updates", flush=True)
        settings = [f"runs={work}", "name=added", f"task.data={work / 'manifests'}", f"model.base={base.resolve()}"]
        settings += [f"optimization.max_update={UPDATES}", f"dataset.validate_interval_updates={UPDATES}"]
        settings += [f"task.langs=[{','.join(ADDED)}]", f"checkpoint.save_interval_updates={UPDATES}"]
        call(["-m", "mms_recipes.train", "+experiment=demo_lsah", *settings], work / "train.log")
    return adapters


def speak(lang: str, folder: Path) -> Path:
    """Speak numbers in a language; return the table of paths, texts and splits."""
    sys.path.insert(0, str(TOOLS))
    from speak_espeak import SAMPLE_RATE, Espeak
    from speak_sentences import sentences

    voice, numbers = ADDED[lang]
    espeak, found = Espeak(seed=1), sentences(NUMBERS | {"numbers": numbers}, random.Random(lang), set())
    folder.mkdir(parents=True, exist_ok=True)
    rows = [("path", "text", "split")]
    for split, count in SPOKEN.items():
        for number in range(count):
            raw, transcription = next(found)
            audio = espeak.speak(raw, voice, rate=160, pitch=50, pitch_range=50, volume=70)
            soundfile.write(folder / f"{split}{number}.wav", audio, SAMPLE_RATE)
            rows.append((f"{split}{number}.wav", transcription, split))
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "table.csv"


def take(corpora: Sequence[Path], count: int, out: Path) -> str:
    """Write manifests of `count` utterances of every language, as split test; return how much that is, in words."""
    total, seconds = 0, 0.0
    for corpus in corpora:
        for lang in validation.find_languages(corpus, ["test"]):
            chosen = [row for split in ("test", "dev", "train") for row in utterances(corpus / lang, split)][:count]
            if len(chosen) < count:
                sys.exit(f"{corpus / lang}: {len(chosen)} utterances, expected {count}; give fewer to --utterances")
            manifest.write_split(out / lang, "test", Path("/"), chosen)
            shutil.copy(corpus / lang / "dict.ltr.txt", out / lang)
            total += count
            seconds += sum(row.num_samples for row in chosen) / manifest.SAMPLE_RATE
    return f"{total:,} utterances, {seconds:,.0f} s of audio"


def utterances(folder: Path, split: str) -> Iterator[manifest.Utterance]:
    found = manifest.read_manifest(folder / f"{split}.tsv")
    columns = [manifest.read_lines(folder / f"{split}.{suffix}") for suffix in ("ltr", "wrd", "uid")]
    for row in range(len(found)):
        path = str(found.path(row).resolve())
        letters, words, uid = (column[row] for column in columns)
        yield manifest.Utterance(path, int(found.num_samples[row]), letters, words, f"{split}_{uid}")


# ---- the contestants


def ours(checkpoint: Path, data: Path, out: Path, device: str) -> Run:
    settings = [f"checkpoint={checkpoint}", f"data={data}", f"out={out}", f"device={device}"]
    seconds, processor = call(["-m", "mms_recipes.evaluate", *settings], out.with_suffix(".log"))
    texts = {}
    rows: dict[str, dict[str, int]] = {}
    with (out / "hypotheses.tsv").open(encoding="utf-8") as file:
        for line in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            lang = line["lang"]
            if lang not in rows:
                rows[lang] = {uid: row for row, uid in enumerate(manifest.read_lines(data / lang / "test.uid"))}
            texts[lang, rows[lang][line["uid"]]] = line["hypothesis"]
    return Run(seconds, processor, texts)


def copy_infer(folder: Path) -> Path:
    """Copy fairseq's examples that infer.py consists of, with the changes that let it start; return their folder."""
    spec = importlib.util.find_spec("fairseq")
    assert spec and spec.submodule_search_locations
    source, examples = Path(spec.submodule_search_locations[0]) / "examples", folder / "examples"
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("speech_recognition", "mms/asr/config"):
        shutil.copytree(source / part, examples / part)
    (examples / "__init__.py").touch()
    script = examples / "speech_recognition" / "new" / "infer.py"
    code = DATACLASS_AS_DEFAULT.sub(r": \1 = field(default_factory=\1)", script.read_text(encoding="utf-8"))
    for found, changed in CHANGES.items():
        if found not in code:
            sys.exit(f"{source}: infer.py is not that of fairseq-fixed 0.12.3.1: it does not say {found!r}")
        code = code.replace(found, changed)
    script.write_text(code, encoding="utf-8")
    return examples


def stock(examples: Path, checkpoint: Path, data: Path, langs: Sequence[str], device: str) -> Run:
    """Run infer.py once for each language, settings as in fairseq:examples/mms/asr/infer/mms_infer.py."""
    seconds, processor, texts = 0.0, 0.0, {}
    for lang in langs:
        out = examples.parent / "results" / lang
        out.mkdir(parents=True, exist_ok=True)
        settings = ["--config-dir", examples / "mms" / "asr" / "config", "--config-name", "infer_common"]
        settings += ["decoding.type=viterbi", "dataset.max_tokens=1440000", "common_eval.post_process=letter"]
        settings += ["distributed_training.distributed_world_size=1", f"common_eval.path='{checkpoint}'"]
        settings += [f"task.data={data / lang}", f"dataset.gen_subset={lang}:test", f"decoding.results_path={out}"]
        settings += [f"hydra.run.dir={out}", f"common.cpu={device == 'cpu'}"]
        command = [examples / "speech_recognition" / "new" / "infer.py", *settings]
        took = call(command, out / "infer.log", env=os.environ | {"PYTHONPATH": str(examples.parent)})
        seconds, processor = seconds + took[0], processor + took[1]
        for line in (out / "hypo.word").read_text(encoding="utf-8").splitlines():
            text, _, row = line.rpartition(" (None-")
            texts[lang, int(row.removesuffix(")"))] = " ".join(text.split())
    return Run(seconds, processor, texts)


def print_table(runs: dict[str, list[Run]]) -> None:
    print("| evaluation | seconds | fastest-slowest | times faster | processor seconds | times less |")
    print("|---|---:|---:|---:|---:|---:|")
    clock = {name: statistics.median(run.seconds for run in of) for name, of in runs.items()}
    processor = {name: statistics.median(run.processor for run in of) for name, of in runs.items()}
    for name, of in runs.items():
        spread = sorted(run.seconds for run in of)
        print(
            f"| {name} | {clock[name]:.1f} | {spread[0]:.1f}-{spread[-1]:.1f} | {clock['infer.py'] / clock[name]:.2f} "
            f"| {processor[name]:.1f} | {processor['infer.py'] / processor[name]:.2f} |"
        )
    mine, theirs = (runs[name][-1].texts for name in ("ours", "infer.py"))
    other = [key for key in sorted(mine.keys() | theirs.keys()) if mine.get(key) != theirs.get(key)]
    print(f"the same hypotheses: {len(mine) - len(other):,} of {len(mine):,}")
    for lang, row in other:
        print(f"  {lang} {row}: ours {mine.get((lang, row))!r}, infer.py {theirs.get((lang, row))!r}")


if __name__ == "__main__":
    main()
