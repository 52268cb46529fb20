"""Memory: a base with adapters of four times its size converts and loads with less than twice the base.

The base is in memory of our own once, as a mapped file may be written over or cut while it is in use.

What counts is private memory (anonymous, or mapped and changed) beyond that of the imports, at its highest: pages of
mapped files are the system's to take back.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Model

from mms_recipes.formats import stock_checkpoints
from mms_recipes.formats.portable import Kind, LanguagePart, OnDemand, Portable
from mms_recipes.models.adapters import AdapterStack
from tests.fairseq.small import dictionary, small_config

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="private memory is read from Linux's /proc"),
]
REPOSITORY = Path(__file__).resolve().parents[2]
ADAPTERS_PER_BASE = 4
BLOCKS, DIM, ADAPTER_DIM = 12, 512, 64
LETTERS = "|" + "".join(chr(0x4E00 + number) for number in range(95))

# Does one thing in a process of its own and prints the highest private memory meanwhile, in bytes beyond the start
MEASURED = """
import gc, json, re, sys, threading, time
from pathlib import Path
import torch
import transformers
from transformers import Wav2Vec2ForCTC
import mms_recipes.plugins
from mms_recipes import transcriber
from mms_recipes.conversion import converter

def private():
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def watch():
    while not done.wait(0.005):
        peaks.append(private())

what, *paths = sys.argv[1:]
gc.collect()
start, peaks, done = private(), [], threading.Event()
threading.Thread(target=watch, daemon=True).start()
if what == "load":
    for path in paths:
        ours = transcriber.Transcriber(path)
        ours.recognizer.add_languages(["l0003"])
        assert list(ours.recognizer.dictionaries) == ["l0003"]
        del ours
elif what == "all":
    held = {lang: part.tensors for lang, part in converter.read(Path(paths[0])).adapters.items()}
    held = {lang: {name: tensor + 0 for name, tensor in part.items()} for lang, part in held.items()}
else:
    converter.convert(Path(paths[0]), Path(paths[1]), what)
peaks.append(private())
done.set()
print(json.dumps({"peak": max(peaks) - start, "samples": len(peaks)}))
"""


def peak(what: str, *paths: Path) -> int:
    """The highest private memory of one conversion, or of loading, in bytes."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environment = plain | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", MEASURED, what, *map(str, paths)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["samples"] > 10
    return int(found["peak"])


@pytest.fixture(scope="module")
def one_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A one-file checkpoint as mms1b_l1107.pt, and the size of its base in bytes."""
    cfg = small_config(
        encoder_layers=BLOCKS,
        encoder_embed_dim=DIM,
        encoder_ffn_embed_dim=3 * DIM,
        encoder_attention_heads=8,
    )
    model = Wav2Vec2Model(cfg)
    model.remove_pretraining_modules()
    base = sum(tensor.nbytes for tensor in model.state_dict().values())
    stack = AdapterStack(["l"], [len(LETTERS) + 4], BLOCKS, DIM, ADAPTER_DIM)
    count = ADAPTERS_PER_BASE * base // sum(parameter.nbytes for parameter in stack.parameters()) + 1

    def part(lang: str) -> LanguagePart:
        stack.langs = [lang]
        stack.reset(1, "kaiming")
        return LanguagePart(stack.language_state(lang), list(dictionary(LETTERS).symbols))

    langs = [f"l{number:04d}" for number in range(count)]
    state = stock_checkpoints.to_checkpoint(
        Portable("here", Kind.lsah, cfg, True, model.state_dict(), adapters=OnDemand(langs, part))
    )
    path = tmp_path_factory.mktemp("memory") / "one.pt"
    torch.save(state | {"adapter": dict(state["adapter"])}, path)
    assert path.stat().st_size > (ADAPTERS_PER_BASE + 1) * base
    return path, base


def test_conversions_and_loading_hold_the_base_and_not_the_adapters(one_file: tuple[Path, int]) -> None:
    one, base = one_file
    folder = one.parent
    found = {
        "one file to Hugging Face": peak("huggingface", one, folder / "hf"),
        "one file to adapters": peak("adapters", one, folder / "adapters"),
        "Hugging Face to one file": peak("fairseq", folder / "hf", folder / "back.pt"),
        "adapters to one file": peak("fairseq", folder / "adapters", folder / "again.pt"),
        # in a process each: malloc keeps what a model before has freed
        "loading each": max(peak("load", path) for path in (one, folder / "hf", folder / "adapters")),
    }
    shares = {name: round(size / base, 2) for name, size in found.items()}
    print(shares)
    assert max(shares.values()) < 2, shares


def test_the_measure_sees_adapters_that_are_all_held(one_file: tuple[Path, int]) -> None:
    one, base = one_file
    assert peak("all", one) > 0.9 * ADAPTERS_PER_BASE * base
