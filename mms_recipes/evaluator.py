"""From a checkpoint and manifests to scores: base loaded once, all languages in one process, batches mixed."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

import mms_recipes.plugins  # noqa: F401
from mms_recipes import __version__, config, languages, manifest, metrics, report, runner, validation
from mms_recipes.data import audio
from mms_recipes.recognizer import Recognizer, load_recognizer

logger = logging.getLogger(__name__)

MANDATORY = ["checkpoint", "data", "out"]


def evaluate(cfg: DictConfig) -> Path:
    """Score `cfg.checkpoint` on a split of `cfg.data` and write the report to `cfg.out`; return that folder.

    Raises ValueError or FileNotFoundError before any audio is read when something does not fit.
    """
    config.require(cfg, MANDATORY, "evaluate")
    config.refuse_unknown_keys(cfg)
    folder, out = Path(cfg.data), Path(cfg.out)
    langs = languages.resolve(cfg.langs) if cfg.langs else validation.find_languages(folder, [cfg.split])
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if cfg.device == "auto" else cfg.device)
    if device.type == "cpu":
        runner.keep_freed_memory()
    recognizer = load_recognizer(cfg.checkpoint, device, langs, cfg.base)
    splits = {lang: Split(folder / lang, cfg.split) for lang in langs}
    start = time.monotonic()
    scores = list(score(recognizer, splits, int(cfg.batch_seconds * audio.SAMPLE_RATE), cfg.count_space))
    seconds = sum(s.seconds for s in scores)
    logger.info("%.0f s of audio in %.1f s", seconds, time.monotonic() - start)
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    settings |= {"base_hash": recognizer.base_hash, "mms_recipes": __version__, "decoding": "greedy"}
    settings["normalization"] = _normalization(folder)
    report.write_report(out, scores, {lang: len(split.utterances) for lang, split in splits.items()}, settings)
    return out


class Split:
    """One language's utterances and their references."""

    def __init__(self, folder: Path, split: str) -> None:
        self.utterances = manifest.read_manifest(folder / f"{split}.tsv")
        self.labels = manifest.read_labels(folder, split, len(self.utterances))


def score(
    recognizer: Recognizer, splits: dict[str, Split], max_samples: int, count_space: bool
) -> Iterator[report.UtteranceScore]:
    """Yield the score of every utterance; languages share batches, sorted by length, longest first."""
    places = [(lang, row) for lang, split in splits.items() for row in range(len(split.utterances))]
    sizes = np.concatenate([split.utterances.num_samples for split in splits.values()])
    order = np.argsort(-sizes.astype(np.int64), kind="stable")
    total = float(sizes.sum()) / audio.SAMPLE_RATE
    with tqdm(total=round(total), desc="evaluate", unit="s of audio", mininterval=1) as progress:
        for batch in _batches(order, sizes, max_samples):
            chosen = [places[index] for index in batch]
            yield from _score_batch(recognizer, splits, chosen, count_space)
            progress.update(round(float(sizes[batch].sum()) / audio.SAMPLE_RATE))


def _batches(order: np.ndarray, sizes: np.ndarray, max_samples: int) -> Iterator[np.ndarray]:
    start = 0
    while start < len(order):
        count = max(1, max_samples // max(1, int(sizes[order[start]])))  # the first is the longest
        yield order[start : start + count]
        start += count


def _score_batch(
    recognizer: Recognizer, splits: dict[str, Split], chosen: list[tuple[str, int]], count_space: bool
) -> Iterator[report.UtteranceScore]:
    tables = [splits[lang].utterances for lang, _ in chosen]
    pairs = list(zip(tables, (row for _, row in chosen), strict=True))
    sources = [audio.read_utterance(t.path(row), int(t.num_samples[row]), recognizer.normalize) for t, row in pairs]
    padded, padding = audio.pad(sources)
    hypotheses = recognizer.transcribe(padded, (~padding).sum(1), [lang for lang, _ in chosen])
    for (lang, row), source, hypothesis in zip(chosen, sources, hypotheses, strict=True):
        labels = splits[lang].labels
        reference = labels.words[row]
        yield report.UtteranceScore(
            uid=labels.uids[row],
            lang=lang,
            reference=reference,
            hypothesis=hypothesis,
            words=metrics.word_errors(reference, hypothesis),
            characters=metrics.character_errors(reference, hypothesis, count_space=count_space),
            seconds=len(source) / audio.SAMPLE_RATE,
        )


def _normalization(folder: Path) -> str:
    """The version of the text normalisation that made the references, from prepared.json."""
    prepared = folder / "prepared.json"
    return str(json.loads(prepared.read_text()).get("normalization", "unknown")) if prepared.is_file() else "unknown"
