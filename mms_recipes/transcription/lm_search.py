"""Beam search of recordings, however long, with each language's n-gram model; as evaluate does it."""

import functools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mms_recipes import files
from mms_recipes.decoding import beam, language_model, pool, word_times
from mms_recipes.decoding.beam import BeamOptions
from mms_recipes.decoding.word_times import Timing
from mms_recipes.languages import is_character_scored
from mms_recipes.recognizer import Recognizer
from mms_recipes.text import WORD_END
from mms_recipes.transcription import windows
from mms_recipes.transcription.windows import Frames

SEGMENT_SECONDS = 30.0  # longest stretch of one search, whose memory grows with its length


class LMSearch:
    """Language models in a folder, `<lang>/lm.bin` and for words `<lang>/lexicon.txt`, with the weights tuned for them.

    `workers` processes search at the same time, 0 for one per core.
    """

    def __init__(self, folder: str | Path, workers: int = 0) -> None:
        self.folder, self.workers = Path(folder), pool.num_workers(workers)
        self._checked: set[str] = set()

    def _of(self, lang: str) -> Path:
        """The folder of a language, which may be a class that a model of others named."""
        return files.inside(self.folder, lang)

    def check(self, lang: str, symbols: Sequence[str]) -> None:
        """Raise FileNotFoundError or ValueError unless there is a model for a language's head; it is not loaded."""
        if lang not in self._checked:
            self._options(lang)
            beam.check_files(self._of(lang), symbols, language_model.has_lexicon(self._of(lang)))
            self._checked.add(lang)

    def search(
        self,
        recognizer: Recognizer,
        lang: str,
        heard: Sequence[tuple[int, Frames]],
        advance: Callable[[float], object],
    ) -> Iterator[tuple[int, str, Timing]]:
        """Yield number, text and timing of recordings of one language, in order.

        `advance` is told the seconds of audio that were searched. Raises what `check` raises, and ChildProcessError
        when a worker was ended.
        """
        symbols, by_unit = recognizer.dictionary(lang).symbols, is_character_scored(lang)
        frame_seconds = recognizer.frame_seconds
        self.check(lang, symbols)  # of a language that was identified it is the first time
        space = beam.load_space(self._of(lang), symbols, language_model.has_lexicon(self._of(lang)))
        decoder, longest = space.decoder(self._options(lang)), round(SEGMENT_SECONDS / frame_seconds)
        word_end = symbols.index(WORD_END) if WORD_END in symbols else -1
        stretches = [
            (number, begin, frames.slice(begin, end))
            for number, frames in heard
            for begin, end in windows.segments(frames.path_T, word_end, longest)
        ]

        def work(item: int) -> tuple[beam.Hypothesis, Timing]:
            emissions_TV = stretches[item][2].emissions_TV
            assert emissions_TV is not None
            best = decoder.decode(emissions_TV)[0]
            timing = word_times.time_hypothesis(emissions_TV, best.units, symbols, frame_seconds, by_unit, best.words)
            return best, timing

        found: dict[int, tuple[beam.Hypothesis, Timing]] = {}
        for item, result in pool.work_through(work, len(stretches), self.workers, lambda item: f"{lang}, part {item}"):
            found[item] = result
            advance(len(stretches[item][2]) * frame_seconds)
        for number, _ in heard:
            parts = [(begin, frames, found[item]) for item, (n, begin, frames) in enumerate(stretches) if n == number]
            texts = [recognizer.text(best, lang) for _, _, (best, _) in parts]
            timings = [(begin * frame_seconds, timing) for begin, _, (_, timing) in parts]
            yield number, " ".join(filter(None, texts)), joined(timings)

    def _options(self, lang: str) -> BeamOptions:
        tuned: dict[str, Any] = dict(language_model.read_tuned(self._of(lang)))
        return BeamOptions(**tuned)


def joined(timings: Sequence[tuple[float, Timing]]) -> Timing:
    """Join the timings of stretches: where each begins in seconds, and its own timing."""
    words = [
        word._replace(start=begin + word.start, end=begin + word.end)
        for begin, timing in timings
        for word in timing.words
    ]
    known = [timing.evidence for _, timing in timings if timing.evidence]
    if not known:
        return Timing(words, None)
    evidence = functools.reduce(operator.add, known)
    return Timing(words, math.exp(evidence.score / evidence.frames), evidence)
