"""Recordings whose language is not known, identified by their beginning and sent to an adapter."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import torch

from mms_recipes import recordings
from mms_recipes.data import audio
from mms_recipes.lid import answers
from mms_recipes.lid.identifier import load_identifier
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.recordings import Samples
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
                if len(samples) < self.identifier.min_samples:
                    raise ValueError(f"{job.path}: {len(samples) / SAMPLE_RATE:.3f} s, too short to tell its language")
            except ValueError as error:
                yield job, error
                continue
            longest = max(len(samples), *(len(other) for _, other in batch), 0)
            if longest * (len(batch) + 1) > CPU_BATCH_SECONDS * SAMPLE_RATE:  # small enough for any memory
                yield from self._identify(batch)
                batch = []
            batch.append((job, recordings.normalized(samples) if self.identifier.normalize else samples))
        yield from self._identify(batch)

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
