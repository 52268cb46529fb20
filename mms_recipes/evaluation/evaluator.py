"""From a checkpoint and manifests to scores: base loaded once, all languages in one process.

Greedy search mixes languages in its batches. Beam search goes language by language: the emissions of its utterances,
then their searches in parallel processes, which share them and the language's model.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

import mms_recipes.plugins  # noqa: F401
from mms_recipes import __version__, config, devices, files, languages, letters, manifest, metrics, shard_files
from mms_recipes.corpora import prepared, validation
from mms_recipes.decoding import beam, language_model, pool, word_times
from mms_recipes.decoding.beam import BeamOptions, Hypothesis
from mms_recipes.decoding.greedy import greedy
from mms_recipes.decoding.word_times import Timing
from mms_recipes.evaluation import benchmarks, checks, emissions
from mms_recipes.evaluation.benchmarks import Protocol
from mms_recipes.evaluation.emissions import Split
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.recognizer import Recognizer, load_recognizer
from mms_recipes.report import shards
from mms_recipes.report.scores import UtteranceScore, write_report
from mms_recipes.unicode_forms import in_form_of

logger = logging.getLogger(__name__)

MANDATORY = ["checkpoint", "data", "out"]
GREEDY, WORD_LM, LETTER_LM, EITHER_LM = "greedy", "word_lm", "letter_lm", "lm"
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
    start = time.monotonic()
    nbest: list[str] = []
    if options:
        found = list(score_beam(recognizer, splits, cfg, options))
        scores, nbest = [one for one, _ in found], [line for _, lines in found for line in lines]
    else:
        scores = list(score(recognizer, splits, int(cfg.batch_seconds * SAMPLE_RATE), cfg.count_space, cfg.word_times))
    seconds = sum(s.seconds for s in scores)
    logger.info("%.0f s of audio in %.1f s", seconds, time.monotonic() - start)
    if untimed := sum(s.word_times is not None and s.confidence is None and bool(s.hypothesis) for s in scores):
        logger.warning("%d hypotheses do not fit into their frames: no word times and no confidence", untimed)
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


def beam_options(decoding: DictConfig, langs: list[str]) -> dict[str, BeamOptions]:
    """The options of each language's beam search: what was given, else what was tuned, else the default; greedy: none.

    Raises ValueError when a setting cannot be.
    """
    if decoding.search == GREEDY:
        return {}
    if decoding.search not in (WORD_LM, LETTER_LM, EITHER_LM) or "lm" not in decoding:
        raise ValueError(
            f"decoding.search is {decoding.search!r}; choose decoding={GREEDY}, decoding={EITHER_LM}, "
            f"decoding={WORD_LM} or decoding={LETTER_LM}, which set it"
        )
    names = {name: decoding[name] for name in BeamOptions.__dataclass_fields__}
    given = {name: value for name, value in names.items() if value is not None}
    found = {}
    for lang in langs:
        tuned = language_model.read_tuned(Path(decoding.lm) / lang)
        found[lang] = BeamOptions(**(tuned | given))
    return found


def score(
    recognizer: Recognizer, splits: dict[str, Split], max_samples: int, count_space: bool, timed: bool = True
) -> Iterator[UtteranceScore]:
    """Yield the score of every utterance; languages share batches, sorted by length, longest first."""
    places = [(lang, row) for lang, split in splits.items() for row in range(len(split.utterances))]
    sizes = np.concatenate([split.utterances.num_samples for split in splits.values()])
    order = np.argsort(-sizes.astype(np.int64), kind="stable")
    total = float(sizes.sum()) / SAMPLE_RATE
    with tqdm(total=round(total), desc="evaluate", unit="s of audio", mininterval=1) as progress:
        for batch in emissions.batches(order, sizes, max_samples):
            chosen = [places[index] for index in batch]
            yield from _score_batch(recognizer, splits, chosen, count_space, timed)
            progress.update(round(float(sizes[batch].sum()) / SAMPLE_RATE))


def _score_batch(
    recognizer: Recognizer, splits: dict[str, Split], chosen: list[tuple[str, int]], count_space: bool, timed: bool
) -> Iterator[UtteranceScore]:
    padded, lengths = emissions.read_batch(recognizer, splits, chosen)
    langs = [lang for lang, _ in chosen]
    emissions_BTV, frames_B = recognizer.emissions(padded, lengths, langs, ready=True)
    hypotheses = [recognizer.words(row, lang) for row, lang in zip(greedy(emissions_BTV, frames_B), langs, strict=True)]
    timings = _time_best_paths(recognizer, emissions_BTV, frames_B, langs) if timed else [None] * len(chosen)
    for (lang, row), hypothesis, timing in zip(chosen, hypotheses, timings, strict=True):
        yield _utterance_score(lang, splits[lang], row, hypothesis, count_space, timing)


def _time_best_paths(
    recognizer: Recognizer, emissions_BTV: torch.Tensor, frames_B: torch.Tensor, langs: list[str]
) -> Iterator[Timing]:
    """Yield the timing of each utterance's most likely path: no other alignment of what greedy search found is."""
    scores_BT, path_BT = (tensor.cpu().numpy() for tensor in emissions_BTV.max(-1))
    seconds = recognizer.frame_seconds
    for path_T, scores_T, frames, lang in zip(path_BT, scores_BT, frames_B.tolist(), langs, strict=True):
        symbols, by_unit = recognizer.dictionary(lang).symbols, languages.is_character_scored(lang)
        yield word_times.time_path(path_T[:frames], scores_T[:frames], symbols, seconds, by_unit)


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
        confidence=timing and timing.confidence,
        word_times=times,
        respelt=hypothesis != found,
    )


# ---- beam search


def score_beam(
    recognizer: Recognizer, splits: dict[str, Split], cfg: DictConfig, options: dict[str, BeamOptions]
) -> Iterator[tuple[UtteranceScore, list[str]]]:
    """Yield the score of every utterance by beam search and its lines of nbest.tsv; settings as in EvaluateConfig.

    A language's utterances come longest first, as in `score`: the intervals of both resample the same utterances.
    Raises FileNotFoundError or ValueError before any audio is read when a language's model does not fit, and
    ChildProcessError when a worker was killed.
    """
    folder = Path(cfg.decoding.lm)
    drop_oov, workers = cfg.decoding.drop_oov, pool.num_workers(cfg.decoding.workers)
    words = {lang: searches_words(cfg.decoding.search, folder / lang) for lang in splits}
    for lang in splits:
        beam.check_files(folder / lang, recognizer.dictionary(lang).symbols, words[lang], drop_oov)
    total = sum(len(split.utterances) for split in splits.values())
    with tqdm(total=total, desc="evaluate", unit=" utterances", mininterval=1) as progress:
        for lang, split in splits.items():
            progress.set_postfix_str(lang)
            space = beam.load_space(folder / lang, recognizer.dictionary(lang).symbols, words[lang], drop_oov)
            decoder = space.decoder(options[lang])
            done: dict[int, tuple[UtteranceScore, list[str]]] = {}
            for row, found, timing in _search(recognizer, lang, split, cfg, decoder, workers):
                texts = [recognizer.text(hypothesis, lang) for hypothesis in found]
                scored = _utterance_score(lang, split, row, texts[0], cfg.count_space, timing)
                done[row] = scored, _nbest_lines(scored.uid, lang, found, texts)
                progress.update()
            yield from (done[row] for row in sorted(done, key=lambda row: (-split.utterances.num_samples[row], row)))


def searches_words(search: str, folder: Path) -> bool:
    """Return whether a language, whose model is in `folder`, is searched for words; else for letters."""
    return search == WORD_LM or (search == EITHER_LM and language_model.has_lexicon(folder))


def _search(
    recognizer: Recognizer, lang: str, split: Split, cfg: DictConfig, decoder: beam.BeamDecoder, workers: int
) -> Iterator[tuple[int, list[Hypothesis], Timing | None]]:
    """Yield each row of a split with its hypotheses and the best one's timing.

    A block's emissions come first, then its searches in parallel.
    """
    rows: list[int] = []
    emissions_TV: list[np.ndarray] = []
    symbols, seconds = recognizer.dictionary(lang).symbols, recognizer.frame_seconds
    by_unit = languages.is_character_scored(lang)

    def search(item: int) -> tuple[list[Hypothesis], Timing | None]:
        found = decoder.decode(emissions_TV[item])
        if not cfg.word_times:
            return found, None
        best = found[0]
        timing = word_times.time_hypothesis(emissions_TV[item], best.units, symbols, seconds, by_unit, best.words)
        return found, timing

    def name(item: int) -> str:
        return f"{lang} {split.labels.uids[rows[item]]}"

    max_samples = int(cfg.batch_seconds * SAMPLE_RATE)
    for rows, emissions_TV in emissions.blocks(recognizer, lang, split, max_samples):  # noqa: B007 (search reads them)
        found = pool.work_through(search, len(rows), workers, name)
        yield from ((rows[item], hypotheses, timing) for item, (hypotheses, timing) in found)


def _nbest_lines(uid: str, lang: str, found: list[Hypothesis], texts: list[str]) -> list[str]:
    return [
        f"{uid}\t{lang}\t{rank}\t{h.score:.4f}\t{h.emission_score:.4f}\t{h.lm_score:.4f}\t{text}"
        for rank, (h, text) in enumerate(zip(found, texts, strict=True), start=1)
    ]


def _settings(cfg: DictConfig, base_hash: str, options: dict[str, BeamOptions]) -> dict[str, Any]:
    """What scores.json says of how it was made; the decoding is greedy, or a search with each language's weights."""
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
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
    return told | {"unk_score": str(decoding["unk_score"]), "weights": weights}  # JSON has no infinity
