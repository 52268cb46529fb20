"""The text of one language model, normalised once to disk and counted; for tools/build_lm.py."""

import gzip
import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from segment_audio import end_with_parent
from tqdm import tqdm

from mms_recipes.decoding.lm_text import Block, Encode, Sentences, add_counts, read_blocks
from mms_recipes.decoding.lm_text import prepare as prepare_block
from mms_recipes.files import sha256, write_text

TEXT, COUNTS, INPUTS = "text.gz", "counts.json", "inputs.json"
IN_PROCESS = 4_000_000  # bytes of text that are not worth starting processes for


@dataclass(frozen=True)
class Corpus:
    """Normalised text, tokens with spaces between, and what was counted in it.

    `forgotten`: rare words up to this count were forgotten on the way, 0 for none; `num_bytes` as in lm_text.
    """

    text: Path
    lines: int
    usable: int
    num_bytes: int
    forgotten: int
    counts: Mapping[str, int]

    @property
    def tokens(self) -> int:
        return sum(self.counts.values())


def fingerprint(path: Path) -> dict[str, Any]:
    """Return name, size and checksum of a file."""
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": sha256(path)}


def prepare(
    work: Path, texts: Sequence[Path], lang: str, encode: Encode | None, normalization: str, sources: Any, jobs: int
) -> Corpus:
    """Normalise and count the texts into the folder `work`, unless that is done from equal `sources`.

    Raises ValueError when no line is usable, and for what `lm_text` cannot read.
    """
    inputs = json.dumps([sources, lang, normalization])
    if not (work / COUNTS).is_file() or (work / INPUTS).read_text(encoding="utf-8") != inputs:
        remove(work)
        work.mkdir(parents=True)
        document = count(work, texts, lang, encode, normalization, jobs)
        write_text(work / INPUTS, inputs)
        write_text(work / COUNTS, json.dumps(document, ensure_ascii=False))
    corpus = Corpus(work / TEXT, **json.loads((work / COUNTS).read_text(encoding="utf-8")))
    if not corpus.usable:
        names = ", ".join(map(str, texts))
        remove(work)
        raise ValueError(
            f"{names}: 0 usable lines of {corpus.lines:,}: nothing is left after the normalisation {normalization!r} "
            f"for {lang}; give text of sentences (--normalization none takes it as it is)"
        )
    print(f"  {corpus.usable:,} of {corpus.lines:,} lines, {corpus.tokens:,} tokens, {len(corpus.counts):,} different")
    return corpus


def remove(work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)


def count(
    work: Path, texts: Sequence[Path], lang: str, encode: Encode | None, normalization: str, jobs: int
) -> dict[str, Any]:
    """Write the normalised text and return what `Corpus` tells of it."""
    counts: Counter[str] = Counter()
    lines = usable = num_bytes = forgotten = 0
    total = sum(path.stat().st_size for path in texts)
    part = work / f"{TEXT}.part"
    with (
        gzip.open(part, "wb", compresslevel=1) as out,
        tqdm(total=total, desc="  normalising", unit="B", unit_scale=True, mininterval=1, delay=2) as bar,
    ):
        done, last = 0, None
        for block, sentences in prepare_blocks(texts, lang, encode, normalization, jobs if total > IN_PROCESS else 1):
            out.write(sentences.text)
            lines, usable = lines + sentences.lines, usable + sentences.usable
            num_bytes += sentences.num_bytes
            forgotten = max(forgotten, add_counts(counts, sentences.counts))
            if last is not None and last.path != block.path:
                done += last.path.stat().st_size
            bar.update(done + block.position - bar.n)
            last = block
    os.replace(part, work / TEXT)
    found = {"lines": lines, "usable": usable, "num_bytes": num_bytes, "forgotten": forgotten}
    return found | {"counts": dict(counts)}


def prepare_blocks(
    texts: Sequence[Path], lang: str, encode: Encode | None, normalization: str, jobs: int
) -> Iterator[tuple[Block, Sentences]]:
    """Yield the blocks of the texts in order with their sentences; no more than a few are in memory at once."""
    blocks = (block for path in texts for block in read_blocks(path))
    if jobs == 1:
        yield from ((block, prepare_block(block, lang, normalization, encode)) for block in blocks)
        return
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), initializer=end_with_parent)
    waiting: deque[tuple[Block, Future[Sentences]]] = deque()
    try:
        for block in blocks:
            waiting.append((block, pool.submit(prepare_block, block, lang, normalization, encode)))
            if len(waiting) > 2 * jobs:
                first, future = waiting.popleft()
                yield first, future.result()
        yield from ((block, future.result()) for block, future in waiting)
    except BrokenProcessPool:
        raise OSError(
            "a worker was killed, perhaps for want of memory; give the command again, with fewer --jobs"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
