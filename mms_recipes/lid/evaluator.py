"""From a LID model and manifests to scores: all languages in one process, or a share of them in each of several.

The temperature is fitted on dev, at the end (lid/shards.py), and kept beside the model, where `identify` finds it.
Shapes: N utterances, B batch, L classes, K classes to choose from.
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
from mms_recipes import __version__, config, devices, languages, shard_files
from mms_recipes.corpora import prepared
from mms_recipes.data import audio
from mms_recipes.evaluation import benchmarks, checks, emissions
from mms_recipes.lid import answers as lid_answers
from mms_recipes.lid import calibration, shards
from mms_recipes.lid import protocol as lid_protocol
from mms_recipes.lid.identifier import Identifier, load_identifier
from mms_recipes.lid.scores import Answer, Crops
from mms_recipes.lid.shards import Logits
from mms_recipes.lid.speech import Place, Source, Speech, check_lengths, find_sources, middle, open_split, whole
from mms_recipes.manifest import SAMPLE_RATE

logger = logging.getLogger(__name__)

MANDATORY = ["checkpoint", "data", "out"]


def evaluate(cfg: DictConfig) -> Path:
    """Score `cfg.checkpoint` on a split of `cfg.data` and write the report to `cfg.out`; return that folder.

    Of several shards, what this one heard is kept in the folder for tools/merge_scores.py.
    Raises ValueError or FileNotFoundError before any audio is read when something does not fit.
    """
    config.require(cfg, MANDATORY, "evaluate")
    config.refuse_unknown_keys(cfg)
    if cfg.decoding.search != "greedy" or cfg.base is not None:
        raise ValueError("decoding=... and base=... are of speech recognition; leave them out with a LID model")
    out = Path(cfg.out)
    sources = _sources(cfg)
    langs = languages.shard(list(dict.fromkeys(source.lang for source in sources)), cfg.num_shards, cfg.shard)
    identifier = load_identifier(cfg.checkpoint, devices.choose(cfg.device))
    columns = lid_answers.choose_classes(list(cfg.lid.classes), identifier.classes)
    speech = open_split(Path(cfg.data), cfg.split, sources, [identifier.classes[column] for column in columns])
    check_lengths(speech, identifier.min_samples)
    dev = _open_dev(speech, identifier, cfg)
    for some in (speech.of(langs), dev.of(langs)):
        checks.check_audio({str(source): table for source, table in some.manifests.items()})
    if cfg.protocol:
        prepared.read(Path(cfg.data))
    settings = _settings(cfg, sources, identifier, columns)
    settings["temperature"] = None if dev.manifests else _temperature_beside(identifier, cfg)
    checks.check_settings(settings)
    checks.check_out(out)
    shard_files.remove(out, cfg.shard)
    fit = _hear_dev(identifier, columns, dev, langs, cfg)
    start = time.monotonic()
    answers, logits_NK, crops = score(identifier, columns, speech.of(langs), cfg)
    logger.info("%.0f s of audio in %.1f s", sum(a.seconds for a in answers), time.monotonic() - start)
    expected = {"scores": speech.counts(), "temperature": dev.counts()}
    shard = shards.Shard(settings, expected, answers, crops, logits_NK, fit)
    if cfg.num_shards > 1:
        logger.info("%s; when all are there: python tools/merge_scores.py %s", shards.write(out, shard), out)
    else:
        shards.write_report(out, shard)
    return out


def _sources(cfg: DictConfig) -> list[Source]:
    """Return the folders to score, of all shards; of a benchmark all of its languages."""
    protocol, folder = lid_protocol.require(cfg.protocol), Path(cfg.data)
    if not protocol:
        return find_sources(folder, cfg.corpora, cfg.langs, cfg.split)
    if cfg.corpora:
        raise ValueError(f"protocol={protocol.name} is of one corpus: give its folder as data=..., without corpora=...")
    return [Source("", lang) for lang in benchmarks.choose_languages(protocol, folder, cfg.split, cfg.langs)]


def _settings(
    cfg: DictConfig, sources: Sequence[Source], identifier: Identifier, columns: Sequence[int]
) -> dict[str, Any]:
    """Return what the report says of how it was made, and the fingerprint of the model."""
    every: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = {key: value for key, value in every.items() if key not in ("decoding", "word_times", "count_space")}
    settings |= {"mms_recipes": __version__, "classes": len(columns), "classes_of_the_model": len(identifier.classes)}
    corpora = list(dict.fromkeys(source.corpus for source in sources if source.corpus))
    return settings | {"corpora": corpora, "model": lid_answers.fingerprint(identifier)}


# ---- temperature


def _open_dev(speech: Speech, identifier: Identifier, cfg: DictConfig) -> Speech:
    """Return what the temperature is to be fitted on: `lid.fit_split` of the same languages, as far as there is one."""
    split, folder = cfg.lid.fit_split, Path(cfg.data)
    known = [source for source in speech.manifests if speech.wanted[source] in speech.ids]
    there = [one for one in known if split and (folder / one.corpus / one.lang / f"{split}.tsv").is_file()]
    if split == cfg.split or not there:
        return speech.of([])
    dev = open_split(folder, split, there, list(speech.ids))
    check_lengths(dev, identifier.min_samples)
    return dev


def _temperature_beside(identifier: Identifier, cfg: DictConfig) -> dict[str, Any] | None:
    """Return the temperature that lies beside the model, as shards hold it, and say where it is from."""
    checkpoint = Path(cfg.checkpoint)
    found = calibration.read_temperature(checkpoint, lid_answers.fingerprint(identifier))
    what = f"taken from {calibration.temperature_file(checkpoint)}" if found else "1: none was fitted"
    logger.warning("%s: no other split to fit a temperature on; it is %s", cfg.data, what)
    return dataclasses.asdict(found) if found else None


def _hear_dev(
    identifier: Identifier, columns: Sequence[int], dev: Speech, langs: Sequence[str], cfg: DictConfig
) -> shards.Fit:
    """Return what the model says of dev of some languages; their folders are counted among those of all."""
    mine, folders = dev.of(langs), {source: number for number, source in enumerate(dev.manifests)}
    places = mine.places()
    return shards.Fit(
        _hear(identifier, columns, mine, cfg.batch_seconds, cfg.lid.fit_split),
        np.array([mine.ids[mine.wanted[source]] for source, _ in places], dtype=np.int64),
        np.array([folders[source] for source, _ in places], dtype=np.int64),
    )


# ---- scores


def score(
    identifier: Identifier, columns: Sequence[int], speech: Speech, cfg: DictConfig
) -> tuple[list[Answer], Logits, list[Crops]]:
    """Return the answers for all utterances, in the order of the manifests, their logits (N, K), and the answers for
    crops of each of `lid.lengths`; none is calibrated."""
    classes = [identifier.classes[column] for column in columns]
    everything = speech.places()
    logits_NK = _hear(identifier, columns, speech, cfg.batch_seconds, "whole")
    pairs = zip(everything, logits_NK, strict=True)
    every = [_answer(speech, place, logits_K, classes, cfg.lid.top) for place, logits_K in pairs]
    crops = []
    for seconds in cfg.lid.lengths:
        least = max(identifier.min_samples, int(seconds * SAMPLE_RATE))
        rows = [row for row, size in enumerate(speech.sizes(everything)) if size >= least]
        places, sizes = [everything[row] for row in rows], np.full(len(rows), int(seconds * SAMPLE_RATE))
        read, found = middle(speech, identifier, seconds), dict[int, Answer]()
        for batch, logits_BL in listen(identifier, places, sizes, read, cfg.batch_seconds, f"{seconds:g} s"):
            for index, logits_K in zip(batch, logits_BL[:, columns], strict=True):
                answer = _answer(speech, places[index], logits_K, classes, cfg.lid.top)
                found[index] = dataclasses.replace(answer, seconds=seconds)
        crops.append(Crops(seconds, [found[index] for index in range(len(rows))], [every[row] for row in rows]))
    return every, logits_NK, crops


def _hear(identifier: Identifier, columns: Sequence[int], speech: Speech, batch_seconds: float, title: str) -> Logits:
    """Return the logits (N, K) of whole utterances, in the order of the manifests."""
    places, read = speech.places(), whole(speech, identifier.normalize)
    logits_NK = np.empty((len(places), len(columns)), dtype=np.float32)
    for batch, logits_BL in listen(identifier, places, speech.sizes(places), read, batch_seconds, title):
        logits_NK[batch] = logits_BL[:, columns]
    return logits_NK


def listen(
    identifier: Identifier,
    places: list[Place],
    sizes: npt.NDArray[np.integer],
    read: Callable[[Place], torch.Tensor],
    batch_seconds: float,
    title: str,
) -> Iterator[tuple[list[int], Logits]]:
    """Yield batches of places, by index, and their logits (B, L); `sizes` are the samples that `read` returns.

    A batch holds utterances of one folder, longest first: rounding then depends on nothing that another shard hears.
    """
    folders: dict[Source, list[int]] = {}
    for index, (source, _) in enumerate(places):
        folders.setdefault(source, []).append(index)
    total = float(sizes.sum()) / SAMPLE_RATE
    with tqdm(total=round(total), desc=title, unit="s of audio", mininterval=1) as progress:
        for indices in folders.values():
            order = np.array(sorted(indices, key=lambda index: -sizes[index]))
            for batch in emissions.batches(order, sizes, int(batch_seconds * SAMPLE_RATE)):
                yield batch.tolist(), _logits(identifier, [places[index] for index in batch], read, title)
                progress.update(round(float(sizes[batch].sum()) / SAMPLE_RATE))


def _logits(identifier: Identifier, chosen: list[Place], read: Callable[[Place], torch.Tensor], title: str) -> Logits:
    padded, padding = audio.pad([read(place) for place in chosen])
    logits_BL: Logits = identifier.logits(padded, (~padding).sum(1)).cpu().numpy()
    if bad := [place for place, row in zip(chosen, logits_BL, strict=True) if not np.isfinite(row).all()]:
        told = ", ".join(f"{source} row {row + 2}" for source, row in bad[:5])
        raise ValueError(
            f"{title}: no finite answer for {told} of the manifest: samples that are not finite numbers (check "
            "with tools/validate_manifests.py), or weights"
        )
    return logits_BL


def _answer(speech: Speech, place: Place, logits_K: Logits, classes: Sequence[str], top: int) -> Answer:
    source, row = place
    table, wanted = speech.manifests[source], speech.wanted[source]
    order = np.argsort(-logits_K, kind="stable")
    sure = calibration.probabilities(logits_K)
    return Answer(
        uid=table.name(row),
        lang=source.lang,
        corpus=source.corpus,
        wanted=wanted,
        seconds=int(table.num_samples[row]) / SAMPLE_RATE,
        rank=int(np.flatnonzero(order == speech.ids[wanted])[0]) + 1 if wanted in speech.ids else None,
        best=[(classes[number], float(sure[number])) for number in order[:top].tolist()],
        raw=float(sure[order[0]]),
    )
