"""Audio files to text: many files, many languages, one model. docs/transcribe.md shows how.

from mms_recipes.transcriber import Transcriber
for transcript in Transcriber("outputs/demo_lsah/adapters").transcribe(["one.wav", "two.flac"], langs="ita"):
    print(transcript.text, transcript.words)
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mms_recipes.plugins  # noqa: F401  (first: it silences fairseq's import)
from mms_recipes import devices, languages, recordings, unicode_forms
from mms_recipes.calibrated import BEAM, GREEDY, Confidence
from mms_recipes.decoding import word_times
from mms_recipes.decoding.word_times import Timing
from mms_recipes.recognizer import Heads, Recognizer, open_recognizer
from mms_recipes.sources import AUTO, Source
from mms_recipes.transcription import routing
from mms_recipes.transcription.listener import Heard, Job, Limits, Listener
from mms_recipes.transcription.outputs import in_order
from mms_recipes.transcription.routing import Route, Routes
from mms_recipes.transcription.transcripts import Transcript

logger = logging.getLogger(__name__)

Advance = Callable[[float], object]


def _nothing(seconds: float) -> None: ...


BLOCK_FILES = 2000  # are sorted by length together; their transcripts come when all of them are done
BLOCK_BYTES = 1 << 30  # emissions that wait for their beam search


class Transcriber:
    """A dense model, or adapters, ready to write down recordings. Any number of threads may share one.

    It pickles small: another process opens the models again by their paths, which must be there.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        *,
        base: str | Path | None = None,
        lid: str | Path | None = None,
        lm: str | Path | None = None,
        routes: Routes | None = None,
        limits: Limits | None = None,
        device: str = "auto",
    ) -> None:
        """Load a dense checkpoint (.pt), or the base of a folder of adapters or of a one-file checkpoint.

        `base`: where the adapters' base is, if it moved. `lid`: the model that identifies languages for "auto", by
        `routes`. `lm`: folder of language models (tools/build_lm.py); without, decoding is greedy. Raises
        FileNotFoundError or ValueError when something is not there or does not fit.
        """
        self.checkpoint = checkpoint
        paths = {"checkpoint": checkpoint, "base": base, "lid": lid, "lm": lm}
        self._paths = {name: Path(path).absolute() for name, path in paths.items() if path is not None}
        self.device, self.routes, self.limits = devices.choose(device), routes or Routes(), limits or Limits()
        self.recognizer: Recognizer = open_recognizer(checkpoint, self.device, base)
        fallback = self.routes.fallback
        self._require([*self.routes.preferred, *([fallback] if fallback and fallback != routing.NEAREST else [])])
        self._confidence = Confidence(checkpoint, GREEDY if lm is None else BEAM)
        self._search = None
        if lm is not None:
            from mms_recipes.transcription.lm_search import LMSearch  # takes time to import, and an extra

            self._search = LMSearch(lm)
        self._router = None
        if lid is not None:
            from mms_recipes.transcription.router import Router

            self._router = Router(lid, self.routes, self.recognizer.available, self.device)

    def __reduce__(self) -> tuple[Callable[..., "Transcriber"], tuple[Any, ...]]:
        """Pickle as the paths of the models, which are opened again, and the heads that were read so far."""
        options = {**self._paths, "routes": self.routes, "limits": self.limits, "device": str(self.device)}
        return _open_again, (options, self.recognizer.heads, self.recognizer.base_hash)

    def transcribe(
        self, paths: str | Path | Sequence[str | Path], langs: str | Sequence[str], advance: Advance = _nothing
    ) -> list[Transcript]:
        """Return the transcript of each file, in order; that of a file that cannot be used has an `error`.

        One path is a list of one. `langs`: a language id or "auto" for all, or one for each file. `advance` gets the
        seconds of audio that are done. Raises ValueError before the work begins when a language is unknown or has no
        adapter.
        """
        paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
        each = [langs] * len(paths) if isinstance(langs, str) else list(langs)
        if len(each) != len(paths):
            raise ValueError(f"{len(each)} languages for {len(paths)} files; give one for each, or one for all")
        found = [Source(Path(path), lang) for path, lang in zip(paths, each, strict=True)]
        return list(self.stream(found, None, advance))

    def stream(
        self,
        found: Sequence[Source],
        lang: str | None,
        advance: Advance = _nothing,
        seconds: Sequence[float] | None = None,
    ) -> Iterator[Transcript]:
        """Yield transcripts in the order of the recordings; `lang` is for those that have no language of their own.

        `seconds`: how long the recordings are by their headers, where that is known already. Raises what `transcribe`
        raises, and ChildProcessError when a process of the search was ended.
        """
        waiting: dict[int, Transcript] = {}
        for number in in_order(self.as_they_come(found, lang, advance, seconds), waiting):
            yield waiting.pop(number)

    def as_they_come(
        self,
        found: Sequence[Source],
        lang: str | None,
        advance: Advance = _nothing,
        seconds: Sequence[float] | None = None,
    ) -> Iterator[tuple[int, Transcript]]:
        """Yield the place of each recording with its transcript as soon as it is done, otherwise as `stream`."""
        wanted = [source.lang or lang for source in found]
        given = self._check(found, wanted)
        self._prepare(given)
        lengths = seconds or (recordings.expected_seconds(source.path) for source in found)
        jobs = (
            Job(number, source.path, one or "", length)
            for number, (source, one, length) in enumerate(zip(found, wanted, lengths, strict=True))
        )
        for block in self._blocks(jobs):
            yield from self._transcribe(block, advance)

    def _check(self, found: Sequence[Source], wanted: Sequence[str | None]) -> list[str]:
        """Return the languages that are named, once each. Raises ValueError when something cannot be."""
        if None in wanted:
            raise ValueError(f"{found[wanted.index(None)].path}: which language? Give --lang, or a column in the list")
        if AUTO in wanted and self._router is None:
            raise ValueError("language auto: give the model that identifies languages (--lid), or name them (--lang)")
        given = [one for one in dict.fromkeys(wanted) if one and one != AUTO]
        self._require(given)
        return given

    def _require(self, wanted: Iterable[str]) -> None:
        for one in wanted:
            languages.language(one)
        if self.recognizer.available is not None:
            routing.require(list(wanted), self.recognizer.available, self.checkpoint)

    def _blocks(self, jobs: Iterable[Job]) -> Iterator[list[Job]]:
        """Yield jobs that are sorted by length together; for a search, as many as memory has room for."""
        longest = float("inf")
        if self._search:
            units = max([128, *map(len, self.recognizer.dictionaries.values())])
            longest = BLOCK_BYTES / (4 * units) * self.recognizer.frame_seconds
        block: list[Job] = []
        for job in jobs:
            if len(block) == BLOCK_FILES or (block and sum(one.seconds for one in block) + job.seconds > longest):
                yield block
                block = []
            block.append(job)
        if block:
            yield block

    def _transcribe(self, block: Sequence[Job], advance: Advance) -> Iterator[tuple[int, Transcript]]:
        """Route, hear and decode recordings; yield their transcripts by number."""
        routed: dict[int, Route] = {}
        jobs = [job for job in block if job.lang != AUTO]
        unknown = [job for job in block if job.lang == AUTO]
        if unknown and self._router:
            routes = list(self._router.route(unknown))
            faults = self._faults({found.lang for _, found in routes if isinstance(found, Route)})
            for job, found in routes:
                if isinstance(found, ValueError):
                    yield job.number, Transcript(job.path, error=str(found))
                elif found.lang in faults:
                    said = f"{job.path}: sounds like {languages.named(found.lang)}: {faults[found.lang]}"
                    yield job.number, Transcript(job.path, error=said)
                else:
                    routed[job.number] = found
                    jobs.append(job._replace(lang=found.lang))
        limits = self.limits
        listener = Listener(self.recognizer, limits, keep_emissions=self._search is not None)
        by_number = {job.number: job for job in jobs}
        for_search: dict[int, Heard] = {}
        for number, heard in listener.hear(jobs, _nothing if self._search else advance):  # the search takes longer
            job = by_number[number]
            if not isinstance(heard, Heard):
                yield number, Transcript(job.path, job.lang, error=str(heard))
            elif self._search:
                for_search[number] = heard
            else:
                yield number, self._transcript(job, heard, *self._best_path(job.lang, heard), routed.get(number))
        if listener.limits != limits:
            self.limits = listener.limits  # smaller ones: memory ran out
        for number, text, timing in self._searched(by_number, for_search, advance):
            yield number, self._transcript(by_number[number], for_search[number], text, timing, routed.get(number))

    def _faults(self, langs: Collection[str]) -> dict[str, str]:
        """Make languages that were identified ready; return what is wrong with those that cannot be."""
        faults: dict[str, str] = {}
        try:
            self._prepare(sorted(langs))  # all at once: with each that is added the adapters are stacked again
        except (ValueError, OSError) as error:
            if len(langs) == 1:
                return {lang: str(error) for lang in langs}
            for lang in sorted(langs):
                faults |= self._faults([lang])
        return faults

    def _prepare(self, langs: Sequence[str]) -> None:
        self.recognizer.add_languages(langs)
        if self._search:
            for lang in langs:
                self._search.check(lang, self.recognizer.dictionary(lang).symbols)

    def _best_path(self, lang: str, heard: Heard) -> tuple[str, Timing]:
        """Return text and timing by greedy decoding."""
        frames, symbols = heard.frames, self.recognizer.dictionary(lang).symbols
        by_unit, seconds = languages.is_character_scored(lang), self.recognizer.frame_seconds
        timing = word_times.time_path(frames.path_T, frames.scores_T, symbols, seconds, by_unit)
        return self.recognizer.words(frames.units(), lang), timing

    def _searched(
        self, jobs: dict[int, Job], heard: dict[int, Heard], advance: Advance
    ) -> Iterator[tuple[int, str, Timing]]:
        """Yield number, text and timing of what was heard, by beam search."""
        for lang in dict.fromkeys(jobs[number].lang for number in heard):
            of_lang = [(number, one.frames) for number, one in heard.items() if jobs[number].lang == lang]
            assert self._search is not None
            yield from self._search.search(self.recognizer, lang, of_lang, advance)

    def _transcript(self, job: Job, heard: Heard, text: str, timing: Timing, route: Route | None) -> Transcript:
        remarks = [remark for remark in (route and route.remark, heard.remark) if remark]
        timing = self._confidence.of(self.recognizer, job.lang, timing)
        return Transcript(
            job.path,
            job.lang,
            unicode_forms.composed(text),
            heard.seconds,
            timing.score,
            timing.confidence,
            word_times.composed(timing.words),
            route.probability if route else None,
            "; ".join(remarks) or None,
        )


def _open_again(options: dict[str, Any], heads: Heads, base_hash: str) -> Transcriber:
    """Return the Transcriber that was pickled. Raises ValueError when its base is not there as it was."""
    found = Transcriber(**options)
    if found.recognizer.base_hash != base_hash:
        raise ValueError(f"{options['checkpoint']}: its base is another than when this Transcriber was pickled")
    found.recognizer.heads = heads
    return found
