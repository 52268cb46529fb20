"""Recordings whose language is not known, identified by their beginning and sent to an adapter."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import torch

from mms_recipes import recordings
from mms_recipes.data import audio
from mms_recipes.lid import answers, spans
from mms_recipes.lid.identifier import load_identifier
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.recordings import Samples
from mms_recipes.sound import levels
from mms_recipes.transcription import routing
from mms_recipes.transcription.listener import CPU_BATCH_SECONDS, Job
from mms_recipes.transcription.routing import Route, Routes

SECONDS = 30.0  # of a recording's beginning tell its language


class Router:
    """A model that identifies languages, and the adapters that there are (None: one head writes all languages)."""

    def __init__(
        self, lid: str | Path, routes: Routes, available: Collection[str] | None, device: torch.device
    ) -> None:
        """Load the model and the temperature beside it. Raises what `load_identifier` and `open_choice` raise."""
        self.identifier = load_identifier(lid, device)
        self.choice = answers.open_choice(self.identifier, Path(lid))
        self.routes, self.available = routes, available

    def route(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Route | ValueError]]:
        """Yield each job with where its language leads, or with why that is nowhere."""
        batch: list[tuple[Job, Samples]] = []
        for job in sorted(jobs, key=lambda job: -min(job.seconds, SECONDS)):
            try:
                samples = recordings.read(job.path, SECONDS)[0]
            except ValueError as error:
                yield job, error
                continue
            sound = spans.sound(samples)
            if sound is None and self.routes.fallback == routing.NEAREST:
                sound = samples  # any answer will do
            if sound is None or len(sound) < self.identifier.min_samples:
                yield job, self._unheard(job)
                continue
            samples = sound
            longest = max(len(samples), *(len(other) for _, other in batch), 0)
            if longest * (len(batch) + 1) > CPU_BATCH_SECONDS * SAMPLE_RATE:  # small enough for any memory
                yield from self._identify(batch)
                batch = []
            batch.append((job, levels.standardized(samples) if self.identifier.normalize else samples))
        yield from self._identify(batch)

    def _unheard(self, job: Job) -> Route | ValueError:
        """Where to send a recording that begins with silence."""
        said = f"less than {spans.LEAST_SECONDS:g} s of sound in its first {SECONDS:g} s, too little for its language"
        fallback = self.routes.fallback
        if fallback and fallback != routing.NEAREST:
            return Route(fallback, 0.0, f"{said}; taken as {fallback}, the fallback")
        return ValueError(f"{job.path}: {said}; give it with --lang, or --fallback-lang")

    def _identify(self, batch: Sequence[tuple[Job, Samples]]) -> Iterator[tuple[Job, Route | ValueError]]:
        if not batch:
            return
        padded, padding = audio.pad([torch.from_numpy(samples) for _, samples in batch])
        probabilities_BK = self.choice.probabilities(self.identifier.logits(padded, (~padding).sum(1))).tolist()
        for (job, _), row in zip(batch, probabilities_BK, strict=True):
            probabilities = dict(zip(self.choice.classes, row, strict=True))
            try:
                yield job, routing.choose(probabilities, self.available, self.routes)
            except ValueError as error:
                yield job, ValueError(f"{job.path}: {error}")
