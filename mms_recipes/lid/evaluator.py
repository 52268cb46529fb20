"""From a LID model and manifests to scores: all languages in one process, batches by length.

The temperature is fitted first, on dev, and kept beside the model, where `identify` finds it.
Shapes: B batch, S samples, L classes.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from omegaconf import DictConfig, OmegaConf
from torch.nn import functional as F
from tqdm import tqdm

import mms_recipes.plugins  # noqa: F401
from mms_recipes import __version__, config, devices, languages, manifest
from mms_recipes.corpora import validation
from mms_recipes.data import audio
from mms_recipes.evaluation import benchmarks, emissions
from mms_recipes.lid import answers as lid_answers
from mms_recipes.lid import calibration
from mms_recipes.lid import classes as lid_classes
from mms_recipes.lid import protocol as lid_protocol
from mms_recipes.lid import scores as lid_scores
from mms_recipes.lid.calibration import Temperature
from mms_recipes.lid.identifier import Identifier, load_identifier
from mms_recipes.lid.scores import Answer, Crops
from mms_recipes.manifest import SAMPLE_RATE, Manifest
from mms_recipes.report import lid_files

logger = logging.getLogger(__name__)

MANDATORY = ["checkpoint", "data", "out"]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Speech:
    """The utterances of some languages, their classes, and the number of each class among those to choose from."""

    manifests: Mapping[str, Manifest]
    wanted: Mapping[str, str]
    ids: Mapping[str, int]

    def places(self) -> list[tuple[str, int]]:
        return [(lang, row) for lang, table in self.manifests.items() for row in range(len(table))]


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
    if protocol:
        langs = benchmarks.choose_languages(protocol, folder, cfg.split, cfg.langs)
    else:
        langs = languages.resolve(cfg.langs) if cfg.langs else validation.find_languages(folder, [cfg.split])
    identifier = load_identifier(cfg.checkpoint, devices.choose(cfg.device))
    columns = lid_answers.choose_classes(list(cfg.lid.classes), identifier.classes)
    speech = open_split(folder, cfg.split, langs, [identifier.classes[column] for column in columns])
    check_lengths(speech, identifier.min_samples)
    fitted = settle_temperature(identifier, columns, speech, cfg)
    start = time.monotonic()
    answers, crops = score(identifier, columns, speech, cfg, fitted.temperature if fitted else 1.0)
    logger.info("%.0f s of audio in %.1f s", sum(a.seconds for a in answers), time.monotonic() - start)
    lid_scores.check_counts(answers, {lang: len(table) for lang, table in speech.manifests.items()})
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = {key: value for key, value in settings.items() if key not in ("decoding", "word_times", "count_space")}
    settings |= {"mms_recipes": __version__, "classes": len(columns), "classes_of_the_model": len(identifier.classes)}
    beside = None
    if protocol:
        beside = lid_protocol.document(folder, cfg.split, langs, len(identifier.classes), bool(cfg.lid.classes))
    lid_files.write(out, answers, crops, settings, fitted, beside)
    return out


def open_split(folder: Path, split: str, langs: Sequence[str], classes: Sequence[str]) -> Speech:
    """Open the manifests of some languages, and say which languages the model cannot answer."""
    ids = {name: number for number, name in enumerate(classes)}
    manifests = {lang: manifest.read_manifest(folder / lang / f"{split}.tsv") for lang in langs}
    if empty := [lang for lang, table in manifests.items() if not len(table)]:
        raise ValueError(
            f"{folder}: no utterances in {split}.tsv of {', '.join(empty)}; prepare them again, or leave them out with "
            "langs=[...]"
        )
    wanted = {lang: lid_classes.class_of(lang, ids) for lang in langs}
    unknown = [lang for lang in langs if wanted[lang] not in ids]
    if len(unknown) == len(langs):
        raise ValueError(f"{folder}: none of {', '.join(langs[:10])} is among the {len(ids)} classes to choose from")
    if unknown:
        count = sum(len(manifests[lang]) for lang in unknown)
        logger.warning(
            "%s: %s: no class to choose from; all their %d utterances count as wrong", split, ", ".join(unknown), count
        )
    return Speech(manifests, wanted, ids)


def check_lengths(speech: Speech, least: int) -> None:
    """Raise ValueError (file:line) for utterances that are too short to be heard at all."""
    found = [
        table.rows.where(int(row))
        for table in speech.manifests.values()
        for row in np.flatnonzero(table.num_samples < least)
    ]
    if found:
        raise ValueError(
            f"{len(found)} utterance(s) of fewer than {least} samples ({1000 * least / SAMPLE_RATE:g} ms), in which "
            f"the model hears nothing: {', '.join(found[:5])}; take them out of the manifest"
        )


# ---- temperature


def settle_temperature(
    identifier: Identifier, columns: Sequence[int], speech: Speech, cfg: DictConfig
) -> Temperature | None:
    """Fit the temperature on another split (`lid.fit_split`) of the same languages; without one, take what lies beside
    the model."""
    split, folder, checkpoint = cfg.lid.fit_split, Path(cfg.data), Path(cfg.checkpoint)
    there = [lang for lang in speech.manifests if (folder / lang / f"{split}.tsv").is_file()] if split else []
    there = [lang for lang in there if speech.wanted[lang] in speech.ids]
    if split == cfg.split or not there:
        found = calibration.read_temperature(checkpoint, lid_answers.fingerprint(identifier))
        what = f"taken from {calibration.temperature_file(checkpoint)}" if found else "1: none was fitted"
        logger.warning("%s: no other split to fit a temperature on; it is %s", folder, what)
        return found
    dev = open_split(folder, split, there, list(speech.ids))
    check_lengths(dev, identifier.min_samples)
    places, classes = dev.places(), np.array(columns)
    kept: dict[tuple[str, int], Logits] = {}
    reader = _whole(dev, identifier.normalize)
    for batch, logits_BL in listen(identifier, places, _sizes(dev, places), reader, cfg.batch_seconds, split):
        kept |= zip(batch, logits_BL[:, classes], strict=True)
    target_N = np.array([dev.ids[dev.wanted[lang]] for lang, _ in places])
    fitted = Temperature(
        calibration.fit_temperature(np.stack([kept[place] for place in places]), target_N),
        len(places),
        str(folder),
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

    def answers(places: list[tuple[str, int]], seconds: float | None) -> list[Answer]:
        read = _whole(speech, identifier.normalize) if seconds is None else _middle(speech, identifier, seconds)
        sizes = _sizes(speech, places) if seconds is None else np.full(len(places), int(seconds * SAMPLE_RATE))
        title = "whole" if seconds is None else f"{seconds:g} s"
        found: dict[tuple[str, int], Answer] = {}
        for batch, logits_BL in listen(identifier, places, sizes, read, cfg.batch_seconds, title):
            for place, row in zip(batch, logits_BL[:, columns], strict=True):
                found[place] = _answer(speech, place, row, classes, temperature, cfg.lid.top)
        return [found[place] for place in places]

    everything = speech.places()
    whole = answers(everything, None)
    crops = []
    for seconds in cfg.lid.lengths:
        least = max(identifier.min_samples, int(seconds * SAMPLE_RATE))
        rows = [row for row, size in enumerate(_sizes(speech, everything)) if size >= least]
        cropped = answers([everything[row] for row in rows], seconds) if rows else []
        cropped = [dataclasses.replace(answer, seconds=seconds) for answer in cropped]
        crops.append(Crops(seconds, cropped, [whole[row] for row in rows]))
    return whole, crops


def listen(
    identifier: Identifier,
    places: list[tuple[str, int]],
    sizes: npt.NDArray[np.integer],
    read: Callable[[tuple[str, int]], torch.Tensor],
    batch_seconds: float,
    title: str,
) -> Iterator[tuple[list[tuple[str, int]], Logits]]:
    """Yield batches of places and their logits (B, L), longest first; `sizes` are the samples that `read` returns."""
    order = np.argsort(-sizes.astype(np.int64), kind="stable")
    total = float(sizes.sum()) / SAMPLE_RATE
    with tqdm(total=round(total), desc=title, unit="s of audio", mininterval=1) as progress:
        for batch in emissions.batches(order, sizes, int(batch_seconds * SAMPLE_RATE)):
            chosen = [places[index] for index in batch]
            padded, padding = audio.pad([read(place) for place in chosen])
            logits_BL = identifier.logits(padded, (~padding).sum(1)).cpu().numpy()
            if bad := [place for place, row in zip(chosen, logits_BL, strict=True) if not np.isfinite(row).all()]:
                told = ", ".join(f"{lang} row {row + 2}" for lang, row in bad[:5])
                raise ValueError(
                    f"{title}: no finite answer for {told} of the manifest: samples that are not finite numbers (check "
                    "with tools/validate_manifests.py), or weights"
                )
            yield chosen, logits_BL
            progress.update(round(float(sizes[batch].sum()) / SAMPLE_RATE))


def _sizes(speech: Speech, places: Sequence[tuple[str, int]]) -> npt.NDArray[np.int32]:
    return np.array([speech.manifests[lang].num_samples[row] for lang, row in places], dtype=np.int32)


def _whole(speech: Speech, normalize: bool) -> Callable[[tuple[str, int]], torch.Tensor]:
    def read(place: tuple[str, int]) -> torch.Tensor:
        table, row = speech.manifests[place[0]], place[1]
        return audio.read_utterance(table.path(row), int(table.num_samples[row]), normalize)

    return read


def _middle(speech: Speech, identifier: Identifier, seconds: float) -> Callable[[tuple[str, int]], torch.Tensor]:
    """Read the middle of utterances, normalised as a file of that length would be."""
    read, size = _whole(speech, normalize=False), int(seconds * SAMPLE_RATE)

    def crop(place: tuple[str, int]) -> torch.Tensor:
        source = read(place)
        start = (len(source) - size) // 2
        source = source[start : start + size]
        return F.layer_norm(source, source.shape) if identifier.normalize else source

    return crop


def _answer(
    speech: Speech, place: tuple[str, int], logits_L: Logits, classes: Sequence[str], temperature: float, top: int
) -> Answer:
    lang, row = place
    table, wanted = speech.manifests[lang], speech.wanted[lang]
    order = np.argsort(-logits_L, kind="stable")
    sure = calibration.probabilities(logits_L, temperature)
    return Answer(
        uid=table.name(row),
        lang=lang,
        wanted=wanted,
        seconds=int(table.num_samples[row]) / SAMPLE_RATE,
        rank=int(np.flatnonzero(order == speech.ids[wanted])[0]) + 1 if wanted in speech.ids else None,
        best=[(classes[number], float(sure[number])) for number in order[:top].tolist()],
        raw=float(calibration.probabilities(logits_L)[order[0]]),
    )
