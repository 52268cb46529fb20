"""From a checkpoint and manifests to scores: base loaded once, all languages in one process."""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

import mms_recipes.plugins  # noqa: F401
from mms_recipes import __version__, config, devices, files, languages, letters, manifest, metrics, shard_files
from mms_recipes.calibrated import BEAM, Confidence
from mms_recipes.corpora import prepared, validation
from mms_recipes.decoding import language_model
from mms_recipes.decoding.beam import BeamOptions, Hypothesis
from mms_recipes.decoding.word_times import Timing
from mms_recipes.evaluation import benchmarks, checks, confidence_fitting, recognition
from mms_recipes.evaluation.benchmarks import Protocol
from mms_recipes.evaluation.emissions import Split
from mms_recipes.evaluation.recognition import GREEDY, Recognised, beam_options
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.recognizer import Recognizer, load_recognizer
from mms_recipes.report import shards
from mms_recipes.report.scores import UtteranceScore, write_report
from mms_recipes.unicode_forms import in_form_of

logger = logging.getLogger(__name__)

MANDATORY = ["checkpoint", "data", "out"]
NBEST = "nbest.tsv"
RESPELT = "hypotheses_in_another_unicode_form"  # by language, in the settings of scores.json


def evaluate(cfg: DictConfig) -> Path:
    """Score `cfg.checkpoint` on a split of `cfg.data` and write the report to `cfg.out`; return that folder.

    Of several shards, what this one scored is kept in the folder for tools/merge_scores.py.
    Raises ValueError or FileNotFoundError before any audio is read when something does not fit.
    """
    config.require(cfg, MANDATORY if cfg.decoding.search == GREEDY else [*MANDATORY, "decoding.lm"], "evaluate")
    config.refuse_unknown_keys(cfg)
    folder, out = Path(cfg.data), Path(cfg.out)
    protocol = benchmarks.find(cfg.protocol) if cfg.protocol else None
    langs = _languages(cfg, protocol)
    expected = {lang: len(manifest.read_manifest(folder / lang / f"{cfg.split}.tsv")) for lang in langs}
    langs = languages.shard(langs, cfg.num_shards, cfg.shard)
    options = beam_options(cfg.decoding, langs)
    recognizer, splits = open_model(cfg, langs)
    if protocol:
        benchmarks.check_references(protocol, {lang: split.labels.words for lang, split in splits.items()})
    settings = _settings(cfg, recognizer.base_hash, options)
    checks.check_out(out)
    shard_files.remove(out, cfg.shard)

    def recognised(of: dict[str, Split]) -> Iterator[Recognised]:
        if options:
            return recognition.by_beam(recognizer, of, cfg, options)
        return recognition.by_greedy(recognizer, of, cfg.batch_seconds, cfg.word_times)

    search = BEAM if options else GREEDY
    if cfg.calibrate:
        confidence_fitting.fit(cfg, recognizer, langs, recognised, search)
    confidence = Confidence(cfg.checkpoint, search)
    start = time.monotonic()
    try:
        scores, nbest = score(recognizer, splits, recognised(splits), confidence, cfg.count_space)
    except KeyboardInterrupt as interrupt:
        interrupt.args = (f"no scores are written, {out} is as it was; give the command again",)
        raise
    seconds = sum(s.seconds for s in scores)
    logger.info("%.0f s of audio in %.1f s", seconds, time.monotonic() - start)
    if untimed := sum(s.word_times is not None and s.score is None and bool(s.hypothesis) for s in scores):
        logger.warning("%d hypotheses do not fit into their frames: no word times and no score of them", untimed)
    shard = shards.Shard(settings, expected, scores, nbest if options and cfg.decoding.nbest > 1 else [])
    if cfg.num_shards > 1:
        logger.info("%s; when all are there: python tools/merge_scores.py %s", shards.write(out, shard), out)
    else:
        write(out, shard)
    return out


def open_model(cfg: DictConfig, langs: Sequence[str]) -> tuple[Recognizer, dict[str, Split]]:
    """Read the references of languages, and the model, which writes their letters; warn where it cannot."""
    splits = {lang: Split(Path(cfg.data) / lang, cfg.split) for lang in langs}
    checks.check(splits)
    texts = {lang: letters.of_lines(split.labels.words) for lang, split in splits.items()}
    recognizer = load_recognizer(cfg.checkpoint, devices.choose(cfg.device), langs, cfg.base, texts)
    for lang, text in texts.items():
        if said := letters.remark(recognizer.dictionary(lang).symbols, text):
            logger.warning("%s: %s", lang, said)
    return recognizer, splits


def write(out: Path, whole: shards.Shard) -> None:
    """Write the report of all languages. Raises ValueError unless every utterance was scored exactly once."""
    (out / NBEST).unlink(missing_ok=True)  # of an earlier evaluation
    settings = dict(whole.settings)
    if respelt := Counter(score.lang for score in whole.scores if score.respelt):
        settings[RESPELT] = dict(sorted(respelt.items()))
        logger.warning("%s", benchmarks.told_of_forms(settings[RESPELT], len(whole.scores)))
    if settings["protocol"]:
        protocol, count_space = benchmarks.find(settings["protocol"]), settings["count_space"]
        scores = [benchmarks.rescore(one, protocol, count_space) for one in whole.scores]
        folder, langs = Path(settings["data"]), list(whole.expected)
        beside = benchmarks.document(protocol, folder, settings["split"], langs, count_space)
        if respelt:
            beside["differs"].append(benchmarks.told_of_forms(respelt, len(scores)))
        write_report(out, scores, whole.expected, settings, protocol.metric, beside)
    else:
        write_report(out, whole.scores, whole.expected, settings)
    if whole.nbest:
        header = ["uid", "lang", "rank", "score", "emission_score", "lm_score", "hypothesis"]
        files.write_text(out / NBEST, "".join(f"{line}\n" for line in ["\t".join(header), *whole.nbest]))


def _languages(cfg: DictConfig, protocol: Protocol | None) -> list[str]:
    """The languages to score; of a benchmark all, and its text rules are there."""
    if not protocol:
        return languages.resolve(cfg.langs) if cfg.langs else validation.find_languages(Path(cfg.data), [cfg.split])
    langs = benchmarks.choose_languages(protocol, Path(cfg.data), cfg.split, cfg.langs)
    for lang in langs:
        benchmarks.text_rules(protocol, lang)
    return langs


def score(
    recognizer: Recognizer,
    splits: dict[str, Split],
    recognised: Iterable[Recognised],
    confidence: Confidence,
    count_space: bool,
) -> tuple[list[UtteranceScore], list[str]]:
    """Return the score of every utterance, and the lines of nbest.tsv after a beam search."""
    scores: list[UtteranceScore] = []
    nbest: list[str] = []
    for one in recognised:
        timing = one.timing and confidence.of(recognizer, one.lang, one.timing)
        scores.append(_utterance_score(one.lang, splits[one.lang], one.row, one.texts[0], count_space, timing))
        nbest += _nbest_lines(scores[-1].uid, one.lang, one.found, one.texts)
    return scores, nbest


def _utterance_score(
    lang: str, split: Split, row: int, hypothesis: str, count_space: bool, timing: Timing | None
) -> UtteranceScore:
    reference, found = split.labels.words[row], hypothesis
    hypothesis = in_form_of(reference, found)
    times = timing and timing.words
    if times and hypothesis != found and len(times) == len(hypothesis.split()):  # of letters they stay as they are
        times = [word._replace(text=text) for word, text in zip(times, hypothesis.split(), strict=True)]
    return UtteranceScore(
        uid=split.labels.uids[row],
        lang=lang,
        reference=reference,
        hypothesis=hypothesis,
        words=metrics.word_errors(reference, hypothesis),
        characters=metrics.character_errors(reference, hypothesis, count_space=count_space),
        seconds=int(split.utterances.num_samples[row]) / SAMPLE_RATE,
        score=timing and timing.score,
        confidence=timing and timing.confidence,
        word_times=times and [(word.text, word.start, word.end, word.score, word.confidence) for word in times],
        respelt=hypothesis != found,
    )


def _nbest_lines(uid: str, lang: str, found: list[Hypothesis], texts: list[str]) -> list[str]:
    return [
        f"{uid}\t{lang}\t{rank}\t{h.score:.4f}\t{h.emission_score:.4f}\t{h.lm_score:.4f}\t{text}"
        for rank, (h, text) in enumerate(zip(found, texts, strict=bool(found)), start=1)
    ]


def _settings(cfg: DictConfig, base_hash: str, options: dict[str, BeamOptions]) -> dict[str, Any]:
    """What scores.json says of how it was made; the decoding is greedy, or a search with each language's weights."""
    settings = checks.settings_of(cfg)
    decoding = settings.pop("decoding")
    if cfg.num_shards == 1:
        del settings["num_shards"], settings["shard"]
    settings |= {"base_hash": base_hash, "mms_recipes": __version__}
    settings["decoding"] = _search_settings(decoding, options) if options else GREEDY
    settings["normalization"] = prepared.read(Path(cfg.data)).normalizations()
    checks.check_settings(settings)
    return settings


def _search_settings(decoding: dict[str, Any], options: dict[str, BeamOptions]) -> dict[str, Any]:
    weights = {lang: {name: asdict(used)[name] for name in language_model.WEIGHTS} for lang, used in options.items()}
    told = {name: value for name, value in decoding.items() if name not in language_model.WEIGHTS}
    return told | {"weights": weights}
