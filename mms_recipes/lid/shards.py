"""What a job of an evaluation of identification heard, and the report of all jobs together.

OUT/shards/<shard>.json (shard_files.py) holds the answers and <shard>.npz the logits, 4 bytes for each utterance and
class: how sure an answer is waits for the temperature, which is fitted on dev of all languages.
Shapes: N utterances, K classes to choose from.
"""

import dataclasses
import logging
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mms_recipes import files, parsing, shard_files
from mms_recipes.lid import calibration, scores
from mms_recipes.lid import protocol as lid_protocol
from mms_recipes.lid.calibration import Temperature
from mms_recipes.lid.scores import Answer, Crops
from mms_recipes.lid.speech import Source
from mms_recipes.report import lid_files
from mms_recipes.report.lid_runs import Best
from mms_recipes.report.reading import Count, Rate, Share, Some

logger = logging.getLogger(__name__)

Logits = npt.NDArray[np.float32]
OWN = ("shard", "num_shards", "model", "temperature")  # settings that scores.json does not tell


class Fit(NamedTuple):
    """Utterances to fit the temperature on: their logits, their classes, their folders' places in `expected`."""

    logits_NK: Logits
    target_N: npt.NDArray[np.int64]
    folder_N: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shard:
    """What one job heard.

    `expected` holds for "scores" and "temperature" how many utterances each folder's manifest has, of all shards.
    `settings` holds besides the model's fingerprint and, where there is nothing to fit on, the temperature beside it.
    """

    settings: Mapping[str, Any]
    expected: Mapping[str, Mapping[str, int]]
    answers: Sequence[Answer]  # not calibrated; one for each row of logits_NK
    crops: Sequence[Crops]
    logits_NK: Logits
    fit: Fit


def write(out: Path, shard: Shard) -> Path:
    """Write what a job heard below the folder of the whole evaluation; return the file that says that it is done."""
    path = _arrays(out, shard.settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replaced(path) as temporary, temporary.open("wb") as file:
        np.savez(file, logits=shard.logits_NK, **shard.fit._asdict())
    told = {"answers": [asdict(one) for one in shard.answers], "crops": [asdict(one) for one in shard.crops]}
    return shard_files.write(out, {"settings": shard.settings, "expected": shard.expected} | told)


def read(out: Path) -> Shard:
    """Put the shards of an evaluation together, in the order of one job.

    Raises FileNotFoundError naming the shards that are missing, ValueError when they are of different evaluations.
    """
    shards = [_parse(out, document) for document in shard_files.read(out)]
    first = shards[0]
    places = {folder: number for number, folder in enumerate(first.expected["scores"])}

    def place(answer: Answer) -> int:
        return places.get(_folder(answer), len(places))

    answers = [answer for one in shards for answer in one.answers]
    order = sorted(range(len(answers)), key=lambda row: place(answers[row]))
    crops = []
    for several in zip(*(one.crops for one in shards), strict=True):
        cropped = sorted((answer for one in several for answer in one.cropped), key=place)
        crops.append(Crops(several[0].seconds, cropped, sorted((a for one in several for a in one.whole), key=place)))
    logits_NK, target_N, folder_N = (np.concatenate(parts) for parts in zip(*(one.fit for one in shards), strict=True))
    rows = np.argsort(folder_N, kind="stable")
    return Shard(
        settings=first.settings,
        expected=first.expected,
        answers=[answers[row] for row in order],
        crops=crops,
        logits_NK=np.concatenate([one.logits_NK for one in shards])[order],
        fit=Fit(logits_NK[rows], target_N[rows], folder_N[rows]),
    )


def write_report(out: Path, whole: Shard) -> None:
    """Fit the temperature and write the report of all languages.

    Raises ValueError, and writes nothing, unless every utterance was heard exactly once.
    """
    scores.check_counts(whole.answers, whole.expected["scores"])
    fitted = _settle_temperature(whole)
    temperature = fitted.temperature if fitted else 1.0
    answers = [_calibrated(one, row, temperature) for one, row in zip(whole.answers, whole.logits_NK, strict=True)]
    settings = {key: value for key, value in whole.settings.items() if key not in OWN}
    beside = None
    if settings["protocol"]:
        langs, restricted = list(whole.expected["scores"]), bool(settings["lid"]["classes"])
        num_classes = settings["classes_of_the_model"]
        beside = lid_protocol.document(Path(settings["data"]), settings["split"], langs, num_classes, restricted)
    lid_files.write(out, answers, whole.crops, settings, fitted, beside)


def _settle_temperature(whole: Shard) -> Temperature | None:
    """Fit the temperature, and keep it beside the model; with nothing to fit it on, the one that lay there."""
    settings, expected, fit = whole.settings, whole.expected["temperature"], whole.fit
    if not expected:
        return Temperature(**settings["temperature"]) if settings["temperature"] else None
    split, checkpoint = settings["lid"]["fit_split"], Path(settings["checkpoint"])
    heard = np.bincount(fit.folder_N, minlength=len(expected)).tolist()
    for (folder, count), found in zip(expected.items(), heard, strict=True):
        if found != count:
            raise ValueError(
                f"no report is written: {folder}: {found:,} utterances of {split} to fit the temperature on, expected "
                f"{count:,} as in its manifest; evaluate its shard again"
            )
    corpora = dict.fromkeys(str(Path(settings["data"], folder).parent) for folder in expected)
    fitted = Temperature(
        calibration.fit_temperature(fit.logits_NK, fit.target_N),
        len(fit.target_N),
        ", ".join(corpora),
        split,
        settings["model"],
    )
    logger.info("temperature %.3f, fitted on %d utterances of %s", fitted.temperature, fitted.utterances, split)
    if settings["lid"]["keep_temperature"] and settings["classes"] == settings["classes_of_the_model"]:
        try:
            logger.info("kept in %s", calibration.write_temperature(checkpoint, fitted))
        except OSError as error:
            logger.warning("%s: the temperature is not kept beside the model (%s)", checkpoint, error)
    return fitted


def _calibrated(answer: Answer, logits_K: Logits, temperature: float) -> Answer:
    sure_K = -np.sort(-calibration.probabilities(logits_K, temperature))
    best = [(name, float(sure)) for (name, _), sure in zip(answer.best, sure_K, strict=False)]  # the first so many
    return dataclasses.replace(answer, best=best)


def _folder(answer: Answer) -> str:
    return str(Source(answer.corpus, answer.lang))


def _arrays(out: Path, settings: Mapping[str, Any]) -> Path:
    return out / shard_files.FOLDER / f"{settings['shard']}.npz"


class _Answer(parsing.Schema):
    uid: str
    lang: str
    wanted: str
    seconds: Rate
    rank: Some | None
    best: Best
    raw: Share
    corpus: str = ""


class _Crops(parsing.Schema):
    seconds: Rate
    cropped: list[_Answer]
    whole: list[_Answer]


class _Expected(parsing.Schema):
    scores: dict[str, Count]
    temperature: dict[str, Count]


class _LidSettings(parsing.Schema):
    classes: list[str]
    fit_split: str | None
    keep_temperature: bool


class _Settings(parsing.Schema):
    name: str
    data: str
    split: str
    checkpoint: str
    protocol: str | None
    lid: _LidSettings
    classes: Some
    classes_of_the_model: Some
    model: str
    temperature: calibration.Fitted | None


class _Document(parsing.Schema):
    settings: _Settings
    expected: _Expected
    answers: list[_Answer]
    crops: list[_Crops]


def _name(answer: _Answer) -> tuple[str, str, str]:
    return answer.corpus, answer.lang, answer.uid


def _parse(out: Path, fields: Mapping[str, Any]) -> Shard:
    path = _arrays(out, fields["settings"])
    shard = path.with_suffix(".json")
    try:
        read = parsing.parse(_Document, fields, shard)
        if any([_name(a) for a in one.cropped] != [_name(a) for a in one.whole] for one in read.crops):
            raise ValueError("crops: other utterances than those that are whole")
        with np.load(path, allow_pickle=False) as arrays:
            logits_NK, fit = arrays["logits"], Fit(*(arrays[name] for name in Fit._fields))
        _check_arrays(logits_NK, fit, read)
    except (ValueError, TypeError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        said = str(error).removeprefix(f"{shard}: ") or repr(error)
        raise ValueError(f"{shard}, {path.name}: not the answers of a shard ({said}); evaluate it again") from None
    answers = [Answer(**dict(one)) for one in read.answers]
    crops = [
        Crops(one.seconds, [Answer(**dict(a)) for a in one.cropped], [Answer(**dict(a)) for a in one.whole])
        for one in read.crops
    ]
    return Shard(fields["settings"], fields["expected"], answers, crops, logits_NK, fit)


def _check_arrays(logits_NK: Any, fit: Any, read: _Document) -> None:
    """Raise ValueError unless the arrays are those of a shard: their types, sizes, and finite logits."""
    num_classes, num_fit = read.settings.classes, len(fit.target_N)
    if logits_NK.shape != (len(read.answers), num_classes):
        raise ValueError(f"logits of {logits_NK.shape}, expected ({len(read.answers)}, {num_classes})")
    if fit.logits_NK.shape != (num_fit, num_classes) or fit.folder_N.shape != (num_fit,):
        raise ValueError(f"logits of {fit.logits_NK.shape} to fit on, expected ({num_fit}, {num_classes})")
    for name, array, kind in (("logits", logits_NK, "f"), ("logits_NK", fit.logits_NK, "f")):
        if array.dtype.kind != kind or not np.isfinite(array).all():
            raise ValueError(f"{name}: numbers that are not finite, or of type {array.dtype}")
    for name, array, below in (
        ("target_N", fit.target_N, num_classes),
        ("folder_N", fit.folder_N, len(read.expected.temperature)),
    ):
        if array.dtype.kind != "i" or (num_fit and not (array.min() >= 0 and array.max() < below)):
            raise ValueError(f"{name}: expected whole numbers below {below}")
