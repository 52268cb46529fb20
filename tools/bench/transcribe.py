"""Measure transcribing files of many languages, in mixed order: ours beside Hugging Face and stock fairseq's infer.py.

    python tools/bench/transcribe.py manifests/demo --adapters outputs/demo_lsah/adapters
    python tools/bench/transcribe.py manifests/demo --random full       # random weights at another size: full, 300m

Test utterances of six languages, shuffled. Ours takes them as they come; Hugging Face takes them as they come, with
`load_adapter` at each change of language, and sorted by language in batches of 8. The same weights, converted by
mms_recipes.convert; one process, models loaded before; the contestants take turns, and the median counts, of the clock
and of the processor's time, which other work on the machine changes less. infer.py runs once for each language, and
beside it our command, both from their start to their end. Texts must be the same; so Hugging Face gets audio normalised
as fairseq does it (its own epsilon is another). At last the time to the first transcript from nothing is taken apart.
Needs the extra [bench].
"""

import argparse
import importlib
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import soundfile
import torch
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model
from omegaconf import OmegaConf

from mms_recipes import adapter_files, checkpoints, config, manifest
from mms_recipes.adapter_files import Adapter
from mms_recipes.conversion import converter
from mms_recipes.corpora import validation
from mms_recipes.models.adapters import AdapterStack
from mms_recipes.sound import levels
from mms_recipes.transcriber import Transcriber

evaluation: Any = importlib.import_module("evaluation")  # the script beside this one
transformers: Any = importlib.import_module("transformers")  # an extra; so mypy says the same without it
FULL = {"conv_feature_layers": "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2", "conv_pos": 128}
FULL |= {"conv_pos_groups": 16}
SIZES: dict[str, dict[str, Any]] = {  # what differs from configs/model/wav2vec2_small.yaml
    "full": FULL
    | {"encoder_layers": 6, "encoder_embed_dim": 512, "encoder_ffn_embed_dim": 2048, "encoder_attention_heads": 8},
    "300m": FULL
    | {"encoder_layers": 24, "encoder_embed_dim": 1024, "encoder_ffn_embed_dim": 4096, "encoder_attention_heads": 16},
}
START = """
import sys, time
start = time.perf_counter()
from mms_recipes.transcriber import Transcriber
imported = time.perf_counter()
model = Transcriber(sys.argv[1], device="cpu")
opened = time.perf_counter()
model.transcribe(sys.argv[2:3], sys.argv[3])
print(imported - start, opened - imported, time.perf_counter() - opened)
"""


class File(NamedTuple):
    """An utterance: its language and its row in the test split."""

    lang: str
    row: int
    path: Path
    seconds: float


Texts = dict[File, str]


def main() -> None:
    args = arguments()
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    files = choose(args.data, args.langs, args.files)
    langs = sorted({file.lang for file in files})
    adapters = random_model(work / args.random, args.random, args.data, langs) if args.random else args.adapters
    folder = work / f"huggingface_{args.random or 'trained'}"
    if not folder.is_dir():
        converter.convert(adapters, folder, "huggingface")
    seconds = sum(file.seconds for file in files)
    print(f"{len(files)} files, {seconds:.0f} s of audio, {len(langs)} languages; {torch.get_num_threads()} threads")
    contest(files, adapters, folder, args.repeats)
    if not args.no_stock:
        beside_infer(files, args.data, adapters, work)
    first_transcript(files[0], adapters, work)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of manifests")
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--adapters", type=Path, help="folder of the adapters of its languages")
    model.add_argument("--random", choices=sorted(SIZES), help="random weights of this size instead")
    parser.add_argument("--work", type=Path, default=Path("outputs/bench_transcribe"), help="(default: %(default)s)")
    parser.add_argument("--files", type=int, default=60, help="(default: %(default)s)")
    parser.add_argument("--langs", type=int, default=6, help="how many languages (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (default: %(default)s)")
    parser.add_argument("--no-stock", action="store_true", help="leave infer.py out")
    return parser.parse_args()


def choose(data: Path, num_langs: int, count: int) -> list[File]:
    """Test utterances of the first languages, as many of each, in an order that is mixed and always the same."""
    langs = validation.find_languages(data, ["test"])[:num_langs]
    files = []
    for lang in langs:
        table = manifest.read_manifest(data / lang / "test.tsv")
        for row in range(count // len(langs)):
            seconds = int(table.num_samples[row]) / manifest.SAMPLE_RATE
            files.append(File(lang, row, table.path(row).resolve(), seconds))
    random.Random(0).shuffle(files)
    return files


def random_model(folder: Path, size: str, data: Path, langs: Sequence[str]) -> Path:
    """Write a base with random weights and adapters for the letters of these languages; return the adapters' folder."""
    small: Any = OmegaConf.load(config.CONFIGS / "model" / "wav2vec2_small.yaml")
    cfg = {name: small[name] for name in small if name != "defaults"} | SIZES[size] | {"_name": "wav2vec2"}
    settings = OmegaConf.merge(OmegaConf.structured(Wav2Vec2Config), {key: cfg[key] for key in cfg if key != "_name"})
    torch.manual_seed(0)
    model, base_path = Wav2Vec2Model(settings), folder / "base.pt"
    if (folder / "adapters").is_dir():
        return folder / "adapters"
    folder.mkdir(parents=True, exist_ok=True)
    task = {"_name": "audio_pretraining", "data": "", "normalize": True}
    torch.save({"cfg": {"model": cfg, "task": task}, "model": model.state_dict()}, base_path)
    base = checkpoints.read_base(base_path)
    symbols = {lang: manifest.read_dictionary(data / lang / "dict.ltr.txt") for lang in langs}
    letters = {lang: [*manifest.SPECIAL_TOKENS, *found] for lang, found in symbols.items()}
    sizes = [len(found) for found in letters.values()]
    stack = AdapterStack(list(langs), sizes, cfg["encoder_layers"], cfg["encoder_embed_dim"], 16)
    stack.reset(seed=1, init="kaiming")
    for number, lang in enumerate(langs):
        start = stack.heads.rows(number).start
        stack.heads.bias.data[start + 1 : start + len(manifest.SPECIAL_TOKENS)] = -100  # each spells them its own way
        known = {"base_hash": base.hash, "num_updates": 0, "dev_cer": None, "base_path": str(base_path)}
        adapter = Adapter(lang, letters=letters[lang], tensors=stack.language_state(lang), **known)  # type: ignore[arg-type]
        adapter_files.write_adapter(folder / "adapters", adapter)
    return folder / "adapters"


# ---- in one process


def contest(files: Sequence[File], adapters: Path, folder: Path, repeats: int) -> None:
    """Print the median seconds of ours and of Hugging Face in both orders."""
    ours, theirs = Transcriber(adapters, device="cpu"), HuggingFace(folder)
    contestants: dict[str, Callable[[], Texts]] = {
        "ours, as they come": lambda: transcribe(ours, files),
        "Hugging Face, as they come": lambda: theirs.transcribe(files, 1),
        "Hugging Face, by language, batches of 8": lambda: theirs.transcribe(
            sorted(files, key=lambda file: file.lang), 8
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    work: dict[str, list[float]] = {name: [] for name in contestants}
    texts: dict[str, Texts] = {}
    for _ in range(repeats):
        for name, run in contestants.items():
            start, busy = time.perf_counter(), time.process_time()
            texts[name] = run()
            times[name].append(time.perf_counter() - start)
            work[name].append(time.process_time() - busy)
    mine = "ours, as they come"
    print("| files in one process | seconds | fastest-slowest run | times ours | processor's seconds | times ours |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in contestants:
        clock, busy = statistics.median(times[name]), statistics.median(work[name])
        ratios = clock / statistics.median(times[mine]), busy / statistics.median(work[mine])
        spread = f"{min(times[name]):.2f}-{max(times[name]):.2f}"
        print(f"| {name} | {clock:.2f} | {spread} | {ratios[0]:.2f} | {busy:.2f} | {ratios[1]:.2f} |")
    for name in texts:
        compare(texts[mine], texts[name], name)


def transcribe(model: Transcriber, files: Sequence[File]) -> Texts:
    found = model.transcribe([file.path for file in files], [file.lang for file in files])
    return {file: transcript.text for file, transcript in zip(files, found, strict=True)}


class HuggingFace:
    """Wav2Vec2ForCTC with adapters, used as its documentation does."""

    def __init__(self, folder: Path) -> None:
        self.model = transformers.Wav2Vec2ForCTC.from_pretrained(folder).eval()
        self.processor = transformers.AutoProcessor.from_pretrained(folder)
        self.processor.feature_extractor.do_normalize = False

    @torch.inference_mode()
    def transcribe(self, files: Sequence[File], batch: int) -> Texts:
        """Take files in the order given, `batch` of one language together."""
        texts: Texts = {}
        lang, at = "", 0
        while at < len(files):
            if files[at].lang != lang:
                lang = files[at].lang
                self.processor.tokenizer.set_target_lang(lang)
                self.model.load_adapter(lang)
            group = [file for file in files[at : at + batch] if file.lang == lang]
            audio = [levels.standardized(soundfile.read(file.path, dtype="float32")[0]) for file in group]
            inputs = self.processor(audio, sampling_rate=manifest.SAMPLE_RATE, return_tensors="pt", padding=True)
            ids = self.model(**inputs).logits.argmax(-1)
            lengths = self.model._get_feat_extract_output_lengths(inputs.attention_mask.sum(-1))
            for file, row, length in zip(group, ids, lengths, strict=True):
                texts[file] = " ".join(self.processor.decode(row[:length]).split())
            at += len(group)
        return texts


def compare(mine: Texts, theirs: Texts, name: str) -> None:
    other = [file for file in mine if mine[file] != theirs[file]]
    print(f"{name}: the same text for {len(mine) - len(other)} of {len(mine)} files")
    for file in other[:5]:
        print(f"  {file.path}: ours {mine[file]!r}, theirs {theirs[file]!r}")


# ---- commands


def beside_infer(files: Sequence[File], data: Path, adapters: Path, work: Path) -> None:
    """Print the seconds of our command and of infer.py once for each language, from start to end."""
    examples = evaluation.copy_infer(work / "stock")
    checkpoint, chosen = work / "lsah.pt", work / "manifests"
    langs = sorted({file.lang for file in files})
    read = list(adapter_files.read_adapters(adapters).values())
    adapter_files.write_one_file(checkpoint, checkpoints.read_base(Path(read[0].base_path).expanduser()), read)
    for lang in langs:
        rows = list(evaluation.utterances(data / lang, "test"))
        wanted = sorted(file.row for file in files if file.lang == lang)
        assert wanted == list(range(len(wanted)))
        manifest.write_split(chosen / lang, "test", Path("/"), rows[: len(wanted)])
        (chosen / lang / "dict.ltr.txt").write_bytes((data / lang / "dict.ltr.txt").read_bytes())
    listed = work / "list.tsv"
    listed.write_text("".join(f"{file.path}\t{file.lang}\n" for file in files), encoding="utf-8")
    command = ["-m", "mms_recipes.transcribe", "-", "--checkpoint", checkpoint, "--out", work / "ours.tsv", "--quiet"]
    with listed.open() as stdin:
        mine = evaluation.call([*command, "--device", "cpu"], work / "ours.log", stdin=stdin)
    stock = evaluation.stock(examples, checkpoint, chosen, langs, "cpu")
    lines = (work / "ours.tsv").read_text(encoding="utf-8").splitlines()
    texts = {file: line.split("\t")[1] for file, line in zip(files, lines, strict=True)}
    print("\n| commands, from start to end | seconds | times ours | processor's seconds | times ours |")
    print("|---|---:|---:|---:|---:|")
    for name, (clock, busy) in {"ours": mine, "infer.py": (stock.seconds, stock.processor)}.items():
        print(f"| {name} | {clock:.1f} | {clock / mine[0]:.2f} | {busy:.1f} | {busy / mine[1]:.2f} |")
    compare(texts, {file: stock.texts[file.lang, file.row] for file in files}, "infer.py")


def first_transcript(file: File, adapters: Path, work: Path) -> None:
    """Print where the time to the first transcript of one file goes."""
    log, times = work / "start.log", []
    for _ in range(3):
        total, _ = evaluation.call(["-W", "ignore", "-c", START, adapters, file.path, file.lang], log)
        times.append([total, *map(float, log.read_text(encoding="utf-8").splitlines()[-1].split())])
    total, imports, opening, first = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"\nfirst transcript ({file.seconds:.1f} s of audio) {total:.1f} s after the start of Python: imports "
          f"{imports:.1f}, opening the model {opening:.1f}, adapter and transcript {first:.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
