"""From a LID model and manifests to scores: all languages in one process, batches by length.

The temperature is fitted first, on dev, and kept beside the model, where `identify` finds it.
Shapes: B batch, S samples, L classes.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

import mms_recipes.plugins  # noqa: F401
from mms_recipes import __version__, config, devices
from mms_recipes.data import audio
from mms_recipes.evaluation import benchmarks, emissions
from mms_recipes.lid import answers as lid_answers
from mms_recipes.lid import calibration
from mms_recipes.lid import protocol as lid_protocol
from mms_recipes.lid import scores as lid_scores
from mms_recipes.lid.calibration import Temperature
from mms_recipes.lid.identifier import Identifier, load_identifier
from mms_recipes.lid.scores import Answer, Crops
from mms_recipes.lid.speech import Place, Source, Speech, check_lengths, find_sources, middle, open_split, whole
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.report import lid_files

logger = logging.getLogger(__name__)

MANDATORY = ["checkpoint", "data", "out"]
Logits = npt.NDArray[np.float32]


def evaluate(cfg: DictConfig) -> Path:
    """Score `cfg.checkpoint` on a split of `cfg.data` and write the report to `cfg.out`; return that folder.

    Raises ValueError or FileNotFoundError before any audio is read when something does not fit.
    """
    config.require(cfg, MANDATORY, "evaluate")
    config.refuse_unknown_keys(cfg)
    if cfg.decoding.search != "greedy" or cfg.base is not None:
        raise ValueError("decoding=... and base=... are of speech recognition; leave them out with a LID model")
    protocol = lid_protocol.require(cfg.protocol)
    folder, out = Path(cfg.data), Path(cfg.out)
    if protocol and cfg.corpora:
        raise ValueError(f"protocol={protocol.name} is of one corpus: give its folder as data=..., without corpora=...")
    if protocol:
        langs = benchmarks.choose_languages(protocol, folder, cfg.split, cfg.langs)
        sources = [Source("", lang) for lang in langs]
    else:
        sources = find_sources(folder, cfg.corpora, cfg.langs, cfg.split)
    identifier = load_identifier(cfg.checkpoint, devices.choose(cfg.device))
    columns = lid_answers.choose_classes(list(cfg.lid.classes), identifier.classes)
    speech = open_split(folder, cfg.split, sources, [identifier.classes[column] for column in columns])
    check_lengths(speech, identifier.min_samples)
    fitted = settle_temperature(identifier, columns, speech, cfg)
    start = time.monotonic()
    answers, crops = score(identifier, columns, speech, cfg, fitted.temperature if fitted else 1.0)
    logger.info("%.0f s of audio in %.1f s", sum(a.seconds for a in answers), time.monotonic() - start)
    lid_scores.check_counts(answers, {str(source): len(table) for source, table in speech.manifests.items()})
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = {key: value for key, value in settings.items() if key not in ("decoding", "word_times", "count_space")}
    settings |= {"mms_recipes": __version__, "classes": len(columns), "classes_of_the_model": len(identifier.classes)}
    settings["corpora"] = list(dict.fromkeys(source.corpus for source in sources if source.corpus))
    beside = None
    if protocol:
        beside = lid_protocol.document(folder, cfg.split, langs, len(identifier.classes), bool(cfg.lid.classes))
    lid_files.write(out, answers, crops, settings, fitted, beside)
    return out


# ---- temperature


def settle_temperature(
    identifier: Identifier, columns: Sequence[int], speech: Speech, cfg: DictConfig
) -> Temperature | None:
    """Fit the temperature on another split (`lid.fit_split`) of the same languages; without one, take what lies beside
    the model."""
    split, folder, checkpoint = cfg.lid.fit_split, Path(cfg.data), Path(cfg.checkpoint)
    known = [source for source in speech.manifests if speech.wanted[source] in speech.ids]
    there = [one for one in known if split and (folder / one.corpus / one.lang / f"{split}.tsv").is_file()]
    if split == cfg.split or not there:
        found = calibration.read_temperature(checkpoint, lid_answers.fingerprint(identifier))
        what = f"taken from {calibration.temperature_file(checkpoint)}" if found else "1: none was fitted"
        logger.warning("%s: no other split to fit a temperature on; it is %s", folder, what)
        return found
    dev = open_split(folder, split, there, list(speech.ids))
    check_lengths(dev, identifier.min_samples)
    places, classes = dev.places(), np.array(columns)
    kept: dict[Place, Logits] = {}
    reader = whole(dev, identifier.normalize)
    for batch, logits_BL in listen(identifier, places, dev.sizes(places), reader, cfg.batch_seconds, split):
        kept |= zip(batch, logits_BL[:, classes], strict=True)
    target_N = np.array([dev.ids[dev.wanted[source]] for source, _ in places])
    fitted = Temperature(
        calibration.fit_temperature(np.stack([kept[place] for place in places]), target_N),
        len(places),
        ", ".join(dict.fromkeys(str(folder / one.corpus) for one in there)),
        split,
        lid_answers.fingerprint(identifier),
    )
    logger.info("temperature %.3f, fitted on %d utterances of %s", fitted.temperature, len(places), split)
    if cfg.lid.keep_temperature and len(columns) == len(identifier.classes):
        try:
            logger.info("kept in %s", calibration.write_temperature(checkpoint, fitted))
        except OSError as error:
            logger.warning("%s: the temperature is not kept beside the model (%s)", checkpoint, error)
    return fitted


# ---- scores


def score(
    identifier: Identifier, columns: Sequence[int], speech: Speech, cfg: DictConfig, temperature: float
) -> tuple[list[Answer], list[Crops]]:
    """Return the answers for all utterances, in the order of the manifests, and for crops of each of `lid.lengths`."""
    classes = [identifier.classes[column] for column in columns]

    def answers(places: list[Place], seconds: float | None) -> list[Answer]:
        read = whole(speech, identifier.normalize) if seconds is None else middle(speech, identifier, seconds)
        sizes = speech.sizes(places) if seconds is None else np.full(len(places), int(seconds * SAMPLE_RATE))
        title = "whole" if seconds is None else f"{seconds:g} s"
        found: dict[Place, Answer] = {}
        for batch, logits_BL in listen(identifier, places, sizes, read, cfg.batch_seconds, title):
            for place, row in zip(batch, logits_BL[:, columns], strict=True):
                found[place] = _answer(speech, place, row, classes, temperature, cfg.lid.top)
        return [found[place] for place in places]

    everything = speech.places()
    every = answers(everything, None)
    crops = []
    for seconds in cfg.lid.lengths:
        least = max(identifier.min_samples, int(seconds * SAMPLE_RATE))
        rows = [row for row, size in enumerate(speech.sizes(everything)) if size >= least]
        cropped = answers([everything[row] for row in rows], seconds) if rows else []
        cropped = [dataclasses.replace(answer, seconds=seconds) for answer in cropped]
        crops.append(Crops(seconds, cropped, [every[row] for row in rows]))
    return every, crops


def listen(
    identifier: Identifier,
    places: list[Place],
    sizes: npt.NDArray[np.integer],
    read: Callable[[Place], torch.Tensor],
    batch_seconds: float,
    title: str,
) -> Iterator[tuple[list[Place], Logits]]:
    """Yield batches of places and their logits (B, L), longest first; `sizes` are the samples that `read` returns."""
    order = np.argsort(-sizes.astype(np.int64), kind="stable")
    total = float(sizes.sum()) / SAMPLE_RATE
    with tqdm(total=round(total), desc=title, unit="s of audio", mininterval=1) as progress:
        for batch in emissions.batches(order, sizes, int(batch_seconds * SAMPLE_RATE)):
            chosen = [places[index] for index in batch]
            padded, padding = audio.pad([read(place) for place in chosen])
            logits_BL = identifier.logits(padded, (~padding).sum(1)).cpu().numpy()
            if bad := [place for place, row in zip(chosen, logits_BL, strict=True) if not np.isfinite(row).all()]:
                told = ", ".join(f"{source} row {row + 2}" for source, row in bad[:5])
                raise ValueError(
                    f"{title}: no finite answer for {told} of the manifest: samples that are not finite numbers (check "
                    "with tools/validate_manifests.py), or weights"
                )
            yield chosen, logits_BL
            progress.update(round(float(sizes[batch].sum()) / SAMPLE_RATE))


def _answer(
    speech: Speech, place: Place, logits_L: Logits, classes: Sequence[str], temperature: float, top: int
) -> Answer:
    source, row = place
    table, wanted = speech.manifests[source], speech.wanted[source]
    order = np.argsort(-logits_L, kind="stable")
    sure = calibration.probabilities(logits_L, temperature)
    return Answer(
        uid=table.name(row),
        lang=source.lang,
        corpus=source.corpus,
        wanted=wanted,
        seconds=int(table.num_samples[row]) / SAMPLE_RATE,
        rank=int(np.flatnonzero(order == speech.ids[wanted])[0]) + 1 if wanted in speech.ids else None,
        best=[(classes[number], float(sure[number])) for number in order[:top].tolist()],
        raw=float(calibration.probabilities(logits_L)[order[0]]),
    )
