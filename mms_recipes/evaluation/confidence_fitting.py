"""Fit how likely transcripts are right: on a dev split, and on copies of it as worse recordings would have it.

A dev split alone is as clean as the training speech, so what a model does with noise would not be known: fitted on it
alone, the confidence of noisy speech is far too high (docs/transcribe.md has figures).
"""

import logging
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from omegaconf import DictConfig

from mms_recipes import calibrated, languages, metrics
from mms_recipes.data import audio, augmentation
from mms_recipes.decoding import confidence
from mms_recipes.decoding.confidence import LETTER, WORD, Calibration, Regression
from mms_recipes.decoding.word_times import Timing, Word
from mms_recipes.evaluation.emissions import Split
from mms_recipes.evaluation.recognition import Recognised
from mms_recipes.recognizer import Recognizer

logger = logging.getLogger(__name__)

Samples = npt.NDArray[np.float32]
Recognise = Callable[[dict[str, Split]], Iterator[Recognised]]

NOISE_SNR = (-5.0, 25.0)  # dB of speech above noise: from not to be understood to hardly to be noticed
TELEPHONE_HZ = (300.0, 3400.0)
SILENT = -100.0  # dB: noise alone
LEAST = 20  # words (letters) to fit a regression on


class Recording(NamedTuple):
    """What a copy of the split goes through; `speech` says whether there is any left in it."""

    name: str
    change: Callable[[Samples, np.random.Generator], Samples]
    speech: bool = True


def _noisy(samples: Samples, generator: np.random.Generator) -> Samples:
    return augmentation.add_noise(samples, generator.uniform(*NOISE_SNR), 2 * generator.random(), generator)


RECORDINGS = (
    Recording("as it is", lambda samples, generator: samples),
    Recording("noise", _noisy),
    Recording("more noise", _noisy),
    Recording("telephone", lambda samples, generator: augmentation.limit_band(samples, *TELEPHONE_HZ)),
    Recording(
        "noise alone",
        lambda samples, generator: augmentation.add_noise(samples, SILENT, 2 * generator.random(), generator),
        speech=False,
    ),
)


class ChangedSplit(Split):
    """A split as another recording would have it."""

    def __init__(self, folder: Path, split: str, recording: Recording) -> None:
        super().__init__(folder, split)
        self.lang, self.recording = folder.name, recording

    def read(self, row: int, normalize: bool) -> torch.Tensor:
        samples = super().read(row, normalize=False).numpy()
        generator = np.random.default_rng([zlib.crc32(f"{self.lang} {self.recording.name}".encode()), row])
        changed = torch.from_numpy(self.recording.change(samples, generator))
        return audio.standardized(changed) if normalize else changed

    def words(self, row: int) -> str:
        """What is said in the copy of an utterance."""
        return self.labels.words[row] if self.recording.speech else ""


class _Examples:
    """What was recognised, as examples for the regressions."""

    def __init__(self) -> None:
        self.timings: list[Timing] = []
        self.right: list[float] = []  # share of the letters
        self.items: dict[str, list[tuple[int, Word, bool]]] = {WORD: [], LETTER: []}  # place, item, whether it is right
        self.empty: list[float] = []

    def add(self, lang: str, reference: str, found: str, timing: Timing) -> None:
        by_unit = languages.is_character_scored(lang)
        errors = metrics.character_errors(reference, found)
        longest = max(errors.reference_length, len("".join(found.split())), 1)
        right = 1 - min(errors.errors / longest, 1.0)
        if timing.evidence is None or timing.evidence.features() is None:
            if reference:  # of noise alone it is right, but who has a recording transcribed expects speech in it
                self.empty.append(right)
            return
        said = list("".join(reference.split())) if by_unit else reference.split()
        steps = metrics.align(said, [word.text for word in timing.words])
        hits = [step.operation == "equal" for step in steps if step.hypothesis]
        if len(hits) == len(timing.words):
            place, kind = len(self.timings), LETTER if by_unit else WORD
            self.items[kind] += [(place, word, hit) for word, hit in zip(timing.words, hits, strict=True)]
        self.timings.append(timing)
        self.right.append(right)

    def utterance(self) -> Regression:
        features = [timing.evidence.features() for timing in self.timings if timing.evidence]
        return confidence.fit(np.array([one for one in features if one is not None]), np.array(self.right))

    def of_items(self, utterance: Regression) -> dict[str, Regression]:
        fitted = {}
        for kind, found in self.items.items():
            if len(found) < LEAST:
                continue
            evidence = [self.timings[place].evidence for place, _, _ in found]
            sure = [float(utterance(one.features())) for one in evidence if one]  # type: ignore[arg-type]
            rows = [
                confidence.word_features(word.score, word.weakest, len(word.text), p)
                for (_, word, _), p in zip(found, sure, strict=True)
            ]
            fitted[kind] = confidence.fit(np.array(rows), np.array([float(hit) for _, _, hit in found]))
        return fitted


def fit(cfg: DictConfig, recognizer: Recognizer, langs: Iterable[str], recognise: Recognise, search: str) -> None:
    """Fit a calibration on `cfg.calibrate` of `cfg.data` and keep it beside the model.

    Raises ValueError when that cannot be: no words timed, one of several shards, nothing recognised in the split.
    """
    if not cfg.word_times:
        raise ValueError("calibrate: needs the paths of the words; leave word_times=false out")
    if cfg.num_shards > 1:
        raise ValueError("calibrate: one job fits it for all languages; run that without num_shards first")
    langs, folder = list(langs), Path(cfg.data)
    examples = _Examples()
    for number, recording in enumerate(RECORDINGS, start=1):
        splits = {lang: ChangedSplit(folder / lang, cfg.calibrate, recording) for lang in langs}
        logger.info("calibrate: %d of %d, %s with %s", number, len(RECORDINGS), cfg.calibrate, recording.name)
        for one in recognise(dict(splits)):
            assert one.timing is not None
            examples.add(one.lang, splits[one.lang].words(one.row), one.texts[0], one.timing)
    if not examples.timings:
        raise ValueError(
            f"calibrate: nothing was recognised in {cfg.calibrate} of {folder}, so nothing can be fitted; train longer"
        )
    utterance = examples.utterance()
    fitted = Calibration(
        search=search,
        data=str(folder),
        split=cfg.calibrate,
        utterances=len(examples.timings) + len(examples.empty),
        heads={lang: calibrated.fingerprint(recognizer, lang) for lang in langs},
        utterance=utterance,
        items=examples.of_items(utterance),
        empty=(sum(examples.empty) + 1) / (len(examples.empty) + 2),  # with one example of each: never 0 or 1
    )
    logger.info("calibrate: kept in %s", confidence.write(Path(cfg.checkpoint), fitted))
