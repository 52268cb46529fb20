"""From a checkpoint, a dev split and language models to the weights that decode it best, language by language.

A language's emissions are computed once and kept below the work folder; then every point of a sweep decodes all of its
utterances, in parallel processes which share emissions and model. A language is finished when its decoding.json
stands beside its model; one that was made of the same things is not tuned again.
"""

import hashlib
import json
import logging
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydantic
from omegaconf import DictConfig

import mms_recipes.plugins  # noqa: F401
from mms_recipes import __version__, alignment, config, files, languages, manifest, metrics, parsing, shard_files
from mms_recipes.corpora import validation
from mms_recipes.decoding import beam, language_model, pool, tuning
from mms_recipes.decoding.beam import BeamOptions
from mms_recipes.decoding.tuning import Axis, Point
from mms_recipes.evaluation import checks, emission_files, evaluator, recognition, sweep
from mms_recipes.evaluation.emissions import Split
from mms_recipes.evaluation.sweep import Errors, Sweep
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.metrics import MACRO
from mms_recipes.recognizer import Recognizer
from mms_recipes.report import surface

logger = logging.getLogger(__name__)

MANDATORY = ["checkpoint", "data", "decoding.lm"]
POINTS, PICTURE = "tuning.tsv", "tuning.png"
METRICS, STAGES = ("wer", "cer"), ("greedy", "default", "tuned")


def tune(cfg: DictConfig) -> dict[str, dict[str, Any]]:
    """Find the weights of every language of the shard and write them to <lm>/<lang>/decoding.json; return those files.

    Of several shards, what this one found is also kept in `cfg.out` for tools/merge_tuning.py. Raises ValueError or
    FileNotFoundError before any audio is read when something does not fit, ChildProcessError when a worker was killed:
    the language that was being tuned keeps what it had.
    """
    config.require(cfg, MANDATORY, "tune")
    config.refuse_unknown_keys(cfg)
    settings = checks.settings_of(cfg)
    if cfg.decoding.search not in (recognition.EITHER_LM, recognition.WORD_LM, recognition.LETTER_LM):
        raise ValueError(f"tune: decoding.search is {cfg.decoding.search!r}, which has no weights; give decoding=lm")
    if cfg.split == "test":
        logger.warning("tuning on test: error rates of test say nothing any more; tune on dev")
    data, models = Path(cfg.data), Path(cfg.decoding.lm)
    langs = languages.resolve(cfg.langs) if cfg.langs else validation.find_languages(data, [cfg.split])
    expected = {lang: len(manifest.read_manifest(data / lang / f"{cfg.split}.tsv")) for lang in langs}
    langs = languages.shard(langs, cfg.num_shards, cfg.shard)
    words = {lang: recognition.searches_words(cfg.decoding.search, models / lang) for lang in langs}
    given = {kind: (_options(cfg, kind), _axes(cfg, kind)) for kind in set(words.values())}
    pool.num_workers(cfg.decoding.workers)
    recognizer, splits = evaluator.open_model(cfg, langs)
    for lang in langs:
        beam.check_files(models / lang, recognizer.dictionary(lang).symbols, words[lang], cfg.decoding.drop_oov)
    checks.check_out(Path(cfg.out))
    shard_files.remove(Path(cfg.out), cfg.shard)
    found = {}
    try:
        for number, lang in enumerate(langs, start=1):
            logger.info("[%d/%d] %s: %d utterances", number, len(langs), lang, len(splits[lang].utterances))
            found[lang] = _tune_language(cfg, recognizer, lang, splits[lang], words[lang], *given[words[lang]])
    except KeyboardInterrupt as interrupt:
        interrupt.args = (f"{len(found)} of {len(langs)} languages are tuned and kept; the same command goes on",)
        raise
    if cfg.num_shards > 1:
        path = shard_files.write(Path(cfg.out), {"settings": settings, "expected": expected, "found": found})
        logger.info("%s; when all are there: python tools/merge_tuning.py %s", path, cfg.out)
    return found


def merge(out: Path) -> dict[str, dict[str, Any]]:
    """Return what the shards of a tuning found, by language, as `tune` returns it.

    Raises FileNotFoundError while a shard is missing, ValueError unless each language was tuned once, on its split.
    """
    shards = shard_files.read(out)
    for shard in shards:
        path = out / shard_files.FOLDER / f"{shard['settings']['shard']}.json"
        try:
            parsing.parse(_Shard, shard, path)
        except ValueError as error:
            raise ValueError(f"{error}; delete the file and run that shard again") from None
    counts = Counter[str]()
    for lang, one in ((lang, one) for shard in shards for lang, one in shard["found"].items()):
        counts[lang] += one["utterances"]
    expected: dict[str, int] = shards[0]["expected"]
    if wrong := [lang for lang in sorted(expected.keys() | counts.keys()) if counts[lang] != expected.get(lang)]:
        found = ", ".join(f"{lang} on {counts[lang]} utterances, expected {expected.get(lang, 0)}" for lang in wrong)
        raise ValueError(f"{out / shard_files.FOLDER}: tuned {found}; run the shards of these languages again")
    return {lang: shard["found"][lang] for lang in expected for shard in shards if lang in shard["found"]}


def _options(cfg: DictConfig, words: bool) -> BeamOptions:
    """The search with the weights that stay as they are."""
    sought = ["lm_weight", "word_score" if words else "sil_score"]
    if fixed := [f"decoding.{name}" for name in sought if cfg.decoding[name] is not None]:
        raise ValueError(
            f"tune: {' and '.join(fixed)} given, but that is looked for; leave it out, or narrow its range "
            f"({sought[0]}_range='[1,2]', {sought[1]}_range=...)"
        )
    settings = {name: cfg.decoding[name] for name in BeamOptions.__dataclass_fields__}
    return BeamOptions(**{name: value for name, value in settings.items() if value is not None} | {"nbest": 1})


def _axes(cfg: DictConfig, words: bool) -> tuple[Axis, Axis]:
    defaults = BeamOptions()
    found = []
    for name in ("lm_weight", "word_score" if words else "sil_score"):
        bounds = list(cfg[f"{name}_range"])
        if len(bounds) != 2:
            raise ValueError(f"{name}_range is {bounds}, expected the lowest and the highest value")
        found.append(Axis(name, bounds[0], bounds[1], default=getattr(defaults, name)))
    return found[0], found[1]


# ---- one language


def _tune_language(
    cfg: DictConfig,
    recognizer: Recognizer,
    lang: str,
    split: Split,
    words: bool,
    options: BeamOptions,
    axes: tuple[Axis, Axis],
) -> dict[str, Any]:
    """Tune one language, unless that was done with the same things; return its decoding.json."""
    models, work = Path(cfg.decoding.lm) / lang, Path(cfg.out) / lang
    paths = [split.labels.words.file, models / language_model.MODEL, *([models / language_model.LEXICON] * words)]
    settings = [options, axes, cfg.step, cfg.finest, cfg.count_space]
    parts = [emission_files.source_hash(recognizer, lang, split), *map(files.sha256, paths), *settings]
    inputs = hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]
    done = _finished(models / language_model.TUNED, inputs)
    if done:
        logger.info("%s: tuned on %s of the same things; delete the file to tune again", models, done["date"])
        return done
    start = time.monotonic()
    rows, kept = emission_files.keep(work, recognizer, lang, split, int(cfg.batch_seconds * SAMPLE_RATE))
    space = beam.load_space(models, recognizer.dictionary(lang).symbols, words, cfg.decoding.drop_oov)
    job = Sweep(lang, split, rows, kept, space, options, axes, cfg.count_space)
    metric = "cer" if languages.is_character_scored(lang) else "wer"
    with_greedy = sweep.greedy_errors(recognizer, job)
    measured = sweep.measure(job, recognizer, metric, cfg.step, cfg.finest, pool.num_workers(cfg.decoding.workers))
    default = tuple(axis.default for axis in axes)
    best = tuning.best({point: one.counts(metric).errors for point, one in measured.items()}, default)
    stages = dict(zip(STAGES, (with_greedy, measured[default], measured[best]), strict=True))
    document = {name: getattr(job.at(best), name) for name in language_model.WEIGHTS}
    document |= {"metric": metric, "split": cfg.split, "utterances": len(rows), "points": len(measured)}
    document |= {stage: {m: errors.rate(m) for m in METRICS} for stage, errors in stages.items()}
    document |= {"beam_size": options.beam_size, "beam_size_token": options.beam_size_token}
    document |= {"base_hash": recognizer.base_hash, "inputs": inputs, "mms_recipes": __version__}
    document |= {"date": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": round(time.monotonic() - start, 1)}
    _warn(job, best, metric, stages)
    _write(work, job, measured, {"default": default, "tuned": best}, metric)
    files.write_text(models / language_model.TUNED, json.dumps(document, indent=1) + "\n")
    return document


class _Rates(parsing.Schema):
    wer: float = pydantic.Field(ge=0)
    cer: float = pydantic.Field(ge=0)


class _Found(parsing.Schema):
    """What a language's decoding.json holds, as far as it is shown."""

    lm_weight: float
    word_score: float
    sil_score: float
    utterances: int = pydantic.Field(gt=0)
    greedy: _Rates
    default: _Rates
    tuned: _Rates
    inputs: str
    date: str


class _Shard(parsing.Schema):
    expected: dict[str, int]
    found: dict[str, _Found]


def _finished(path: Path, inputs: str) -> dict[str, Any] | None:
    """Return a decoding.json that was made of the same inputs; None for any other, which will be replaced."""
    try:
        document = parsing.read_json(dict[str, Any], path)
        read = parsing.parse(_Found, document, path)
    except (FileNotFoundError, ValueError):
        return None
    return document if read.inputs == inputs else None


def _warn(job: Sweep, best: Point, metric: str, stages: dict[str, Errors]) -> None:
    """Say what makes a result doubtful."""
    for name in tuning.at_bounds(job.axes, best):
        logger.warning("%s: the best %s lies on the bound of its range; try a wider %s_range", job.lang, name, name)
    plain, tuned = (stages[stage].rate(metric) for stage in ("greedy", "tuned"))
    if tuned > plain:
        logger.warning(
            "%s: greedy search has %s %.2f, the best weights %.2f: is the model of too little text, or of another "
            "kind? Do without it for this language", job.lang, metric.upper(), plain, tuned,
        )  # fmt: skip


# ---- what is told


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return a text table of the error rates by language: greedy, with default weights, with tuned ones."""
    header = ["language", "utterances", *(f"{m.upper()} {stage}" for stage in STAGES for m in METRICS)]
    lines = [[*header, *language_model.WEIGHTS]]
    for lang, one in found.items():
        rates = [f"{one[stage][m]:.2f}" for stage in STAGES for m in METRICS]
        lines.append([lang, f"{one['utterances']:,}", *rates, *(f"{one[name]:g}" for name in language_model.WEIGHTS)])
    means = [f"{metrics.macro(one[stage][m] for one in found.values()):.2f}" for stage in STAGES for m in METRICS]
    lines.append([MACRO, f"{sum(one['utterances'] for one in found.values()):,}", *means, "", "", ""])
    return alignment.text_table(lines, feet=1)


def _write(work: Path, job: Sweep, measured: dict[Point, Errors], marked: dict[str, Point], metric: str) -> None:
    """Write all points as a table, and their picture where matplotlib is there."""
    names = [axis.name for axis in job.axes]
    lines = [[*names, *METRICS, "word_errors", "character_errors", "utterances"]]
    for point, errors in measured.items():
        rates = [f"{errors.rate(m):.4f}" for m in METRICS]
        counts = [str(number) for number in (errors.words.errors, errors.characters.errors, errors.utterances)]
        lines.append([*(f"{value:g}" for value in point), *rates, *counts])
    files.write_text(work / POINTS, "".join("\t".join(line) + "\n" for line in lines))
    rates_of = {point: errors.rate(metric) for point, errors in measured.items()}
    title = f"{job.lang}: {metric.upper()} of {len(job.rows):,} utterances at {len(measured)} points"
    try:
        surface.draw(work / PICTURE, rates_of, names, title, marked)
    except ModuleNotFoundError as error:
        logger.warning("no %s (%s); pip install '.[plots]' draws the surface", work / PICTURE, error)
