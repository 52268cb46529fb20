"""What a model recognises in the utterances of a split: greedily, or by beam search with language models.

Greedy search mixes languages in its batches. Beam search goes language by language: the emissions of its utterances,
then their searches in parallel processes, which share them and the language's model.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig
from tqdm import tqdm

from mms_recipes import languages
from mms_recipes.decoding import beam, language_model, pool, word_times
from mms_recipes.decoding.beam import BeamOptions, Hypothesis
from mms_recipes.decoding.greedy import greedy
from mms_recipes.decoding.word_times import Timing
from mms_recipes.evaluation import emissions
from mms_recipes.evaluation.emissions import Split
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.recognizer import Recognizer

GREEDY, WORD_LM, LETTER_LM, EITHER_LM = "greedy", "word_lm", "letter_lm", "lm"


class Recognised(NamedTuple):
    """What was recognised in row `row` of a language's split: words, best first, and the best one's timing.

    `found` are the hypotheses of a beam search, none of a greedy one.
    """

    lang: str
    row: int
    texts: list[str]
    timing: Timing | None
    found: list[Hypothesis]


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


def by_greedy(
    recognizer: Recognizer, splits: dict[str, Split], batch_seconds: float, timed: bool = True
) -> Iterator[Recognised]:
    """Recognise every utterance; languages share batches, sorted by length, longest first."""
    places = [(lang, row) for lang, split in splits.items() for row in range(len(split.utterances))]
    sizes = np.concatenate([split.utterances.num_samples for split in splits.values()])
    order = np.argsort(-sizes.astype(np.int64), kind="stable")
    total = float(sizes.sum()) / SAMPLE_RATE
    with tqdm(total=round(total), desc="evaluate", unit="s of audio", mininterval=1) as progress:
        for batch in emissions.batches(order, sizes, int(batch_seconds * SAMPLE_RATE)):
            yield from _batch(recognizer, splits, [places[index] for index in batch], timed)
            progress.update(round(float(sizes[batch].sum()) / SAMPLE_RATE))


def _batch(
    recognizer: Recognizer, splits: dict[str, Split], chosen: list[tuple[str, int]], timed: bool
) -> Iterator[Recognised]:
    padded, lengths = emissions.read_batch(recognizer, splits, chosen)
    langs = [lang for lang, _ in chosen]
    emissions_BTV, frames_B = recognizer.emissions(padded, lengths, langs, ready=True)
    hypotheses = [recognizer.words(row, lang) for row, lang in zip(greedy(emissions_BTV, frames_B), langs, strict=True)]
    timings = _time_best_paths(recognizer, emissions_BTV, frames_B, langs) if timed else [None] * len(chosen)
    for (lang, row), hypothesis, timing in zip(chosen, hypotheses, timings, strict=True):
        yield Recognised(lang, row, [hypothesis], timing, [])


def _time_best_paths(
    recognizer: Recognizer, emissions_BTV: torch.Tensor, frames_B: torch.Tensor, langs: list[str]
) -> Iterator[Timing]:
    """Yield the timing of each utterance's most likely path: no other alignment of what greedy search found is."""
    scores_BT, path_BT = (tensor.cpu().numpy() for tensor in emissions_BTV.max(-1))
    seconds = recognizer.frame_seconds
    for path_T, scores_T, frames, lang in zip(path_BT, scores_BT, frames_B.tolist(), langs, strict=True):
        symbols, by_unit = recognizer.dictionary(lang).symbols, languages.is_character_scored(lang)
        yield word_times.time_path(path_T[:frames], scores_T[:frames], symbols, seconds, by_unit)


def by_beam(
    recognizer: Recognizer, splits: dict[str, Split], cfg: DictConfig, options: dict[str, BeamOptions]
) -> Iterator[Recognised]:
    """Recognise every utterance by beam search; settings as in EvaluateConfig.

    A language's utterances come longest first, as in `by_greedy`: the intervals of both resample the same utterances.
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
            done: dict[int, Recognised] = {}
            for row, found, timing in _search(recognizer, lang, split, cfg, decoder, workers):
                done[row] = Recognised(lang, row, [recognizer.text(one, lang) for one in found], timing, found)
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
