"""KenLM's programs, run with their exit codes checked and their last words shown; for tools/build_lm.py."""

import functools
import gzip
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lm_corpus import Corpus
from tqdm import tqdm

from mms_recipes.decoding.language_model import ARPA_START, HIGHEST_ORDER, ORDER_OF_WHEELS
from mms_recipes.decoding.ngrams import Recipe
from mms_recipes.files import replaced, write_text

CHECKOUT = Path(__file__).resolve().parents[1]
KEPT, SHOWN = 200, 12  # last lines of a program; and of one that failed, in the message
ARPA, ESTIMATED = "lm.arpa", "estimated.json"
UNLIMITED = 99
FALLBACK = re.compile(r"Substituting fallback discounts for order (\d+)")  # counted from 0
STAGE = re.compile(r"=== (\d/\d .*) ===")
READ_WITH_FLASHLIGHT = """
import sys
from flashlight.lib.text.decoder.kenlm import KenLM
from flashlight.lib.text.dictionary import Dictionary
KenLM(sys.argv[1], Dictionary())
"""


@dataclass(frozen=True)
class Programs:
    """Where KenLM's programs are."""

    lmplz: Path
    build_binary: Path


@dataclass(frozen=True)
class Estimated:
    """A model as ARPA text, with its n-grams of each order, and the orders whose discounts fell back to fixed ones."""

    arpa: Path
    ngrams: list[int]
    discount_fallback: list[int]


def find_programs(folder: Path | None) -> Programs:
    """Find lmplz and build_binary: in `folder` or its bin, else in .kenlm of the checkout, else on PATH.

    Raises FileNotFoundError.
    """
    for place in [folder / "bin", folder] if folder else [CHECKOUT / ".kenlm" / "bin"]:
        programs = Programs(place / "lmplz", place / "build_binary")
        if programs.lmplz.is_file() and programs.build_binary.is_file():
            return programs
    if folder:
        raise FileNotFoundError(
            f"{folder}: no lmplz and build_binary; build them: python tools/build_kenlm.py {folder}"
        )
    on_path = shutil.which("lmplz"), shutil.which("build_binary")
    if on_path[0] and on_path[1]:
        return Programs(Path(on_path[0]), Path(on_path[1]))
    raise FileNotFoundError(
        f"KenLM's lmplz and build_binary are neither in {CHECKOUT / '.kenlm' / 'bin'} nor on PATH; build them with "
        "`make kenlm` (no root is needed), or name their folder with --kenlm"
    )


def highest_order_written(programs: Programs, wanted: int) -> int:
    """Return the highest order that build_binary takes; `wanted` is returned as it is when every build takes it."""
    return wanted if wanted <= ORDER_OF_WHEELS else _ask(str(programs.build_binary))


def highest_order_read(wanted: int) -> int:
    """Return the highest order that the flashlight-text of this environment reads, or that of its wheels without one.

    `wanted` is returned as it is when every build reads it.
    """
    if wanted <= ORDER_OF_WHEELS:
        return wanted
    if importlib.util.find_spec("flashlight") is None:
        return ORDER_OF_WHEELS
    return _ask(sys.executable, "-c", READ_WITH_FLASHLIGHT)


@functools.cache
def _ask(*reader: str) -> int:
    """Give a reader of models one of an order that none reads; KenLM answers with the highest that it was built for."""
    counts = "".join(f"ngram {order}=1\n" for order in range(1, UNLIMITED + 1))
    with tempfile.TemporaryDirectory() as folder:
        arpa = Path(folder) / "probe.arpa"
        arpa.write_text(f"{ARPA_START}\n{counts}\n\\1-grams:\n", encoding="utf-8")
        # the second file is build_binary's output; without one it does not come to the counts
        command = [*reader, str(arpa), str(arpa.with_suffix(".bin"))]
        answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
    said = answer.stderr.decode(errors="replace")
    if found := HIGHEST_ORDER.search(said):
        return int(found[1])
    raise ValueError(
        f"{reader[0]} does not tell up to which order it reads models; give --highest-order. It said: {said[-300:]}"
    )


def sorting_memory(num_bytes: int) -> str:
    """Return how much memory lmplz may take for text of this size: it touches all of it, however small the text is."""
    megabytes = max(64, 16 * num_bytes >> 20)
    return f"{megabytes}M" if megabytes < 2048 else "50%"


def estimate(
    programs: Programs,
    work: Path,
    corpus: Corpus,
    vocabulary: Sequence[str],
    recipe: Recipe,
    memory: str,
    inputs: str,
) -> Estimated:
    """Estimate the model with lmplz into `work`, unless that is done from equal `inputs`.

    When modified Kneser-Ney's discounts cannot be estimated from the text, lmplz is run again with --discount_fallback.
    Where they were replaced is said. Raises OSError with lmplz's last lines when it fails.
    """
    arpa, state = work / ARPA, work / ESTIMATED
    if state.is_file() and (document := json.loads(state.read_text(encoding="utf-8")))["inputs"] == inputs:
        return Estimated(arpa, document["ngrams"], document["discount_fallback"])
    part = work / f"{ARPA}.part"
    command = [str(programs.lmplz), "--order", str(recipe.order), "--arpa", str(part), "--memory", memory]
    command += ["--temp_prefix", f"{work}{os.sep}"]
    if corpus.forgotten or len(vocabulary) < len(corpus.counts):
        write_text(work / "vocabulary.txt", "".join(f"{token}\n" for token in vocabulary))
        command += ["--limit_vocab_file", str(work / "vocabulary.txt")]
    command += ["--prune", *map(str, recipe.pruning)] if recipe.pruning else []
    try:
        said = run([*command, "--discount_fallback"] if recipe.discount_fallback else command, corpus.text)
    except OSError as error:
        if recipe.discount_fallback or "--discount_fallback" not in str(error):
            raise
        print("  lmplz asks for --discount_fallback: it is run again with it", flush=True)
        said = run([*command, "--discount_fallback"], corpus.text)
    fallback = [int(found[1]) + 1 for line in said if (found := FALLBACK.search(line))]
    if fallback:
        orders = ", ".join(map(str, fallback))
        print(
            f"  --discount_fallback: too few rare n-grams of order {orders} to estimate discounts, fixed ones are used"
        )
    os.replace(part, arpa)
    estimated = Estimated(arpa, read_counts(arpa), fallback)
    document = {"inputs": inputs, "ngrams": estimated.ngrams, "discount_fallback": fallback}
    write_text(state, json.dumps(document, ensure_ascii=False))
    return estimated


def read_counts(arpa: Path) -> list[int]:
    """Return the number of n-grams of each order from the head of an ARPA file."""
    counts = []
    with arpa.open(encoding="utf-8") as file:
        for line in file:
            if line.startswith("ngram "):
                counts.append(int(line.partition("=")[2]))
            elif line.startswith("\\1-grams:"):
                return counts
    raise ValueError(f"{arpa}: no '\\1-grams:' in it; delete its folder and build again")


def compress(programs: Programs, arpa: Path, out: Path, structure: str, memory: str) -> None:
    """Write the model in KenLM's binary form; OSError with the last lines of build_binary when it fails."""
    with replaced(out) as part:
        run([str(programs.build_binary), "-T", f"{arpa.parent}{os.sep}", "-S", memory, structure, str(arpa), str(part)])


def run(command: Sequence[str], text: Path | None = None) -> list[str]:
    """Run a program with a compressed text as its input, and show its stages; return the last lines that it said.

    Raises OSError with the last of them when it fails.
    """
    last: deque[str] = deque(maxlen=KEPT)
    # the settings that speed training up hand memory on uncleared, which lmplz as it comes does not always survive
    # (tools/build_kenlm.py mends it)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE if text else subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stderr is not None
    listener = threading.Thread(target=_listen, args=(process.stderr, last))
    listener.start()
    try:
        if text:
            _feed(process, text)
    except BaseException:
        process.kill()
        raise
    finally:
        status = process.wait()
        listener.join()
    if status:
        how = f"exit code {status}" if status > 0 else f"killed by signal {-status}"
        raise OSError(
            f"{Path(command[0]).name} failed ({how}):\n  "
            + "\n  ".join(list(last)[-SHOWN:])
            + f"\nRun as: {' '.join(command)}"
        )
    return list(last)


def _feed(process: "subprocess.Popen[bytes]", text: Path) -> None:
    assert process.stdin is not None
    total = text.stat().st_size
    with (
        text.open("rb") as raw,
        gzip.open(raw) as file,
        tqdm(total=total, desc="  lmplz reads", unit="B", unit_scale=True, mininterval=1, delay=2) as bar,
    ):
        try:
            while block := file.read(1 << 20):
                process.stdin.write(block)
                bar.update(raw.tell() - bar.n)
            process.stdin.close()
        except BrokenPipeError:  # it has given up, and says why
            pass


def _listen(stderr: IO[bytes], last: deque[str]) -> None:
    """Keep the last lines of a program, and print its stages when there is a person to see them."""
    for line in stderr:
        said = line.decode(errors="replace").rstrip()
        if set(said) - set("-*0123456789"):  # not a progress bar
            last.append(said)
        if (stage := STAGE.search(said)) and sys.stderr.isatty():
            tqdm.write(f"  lmplz {stage[1]}", file=sys.stderr)
