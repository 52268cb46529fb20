"""Audio files to text, by greedy search."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from mms_recipes.data import audio
from mms_recipes.recognizer import Recognizer

MIN_SAMPLES = 400  # one receptive field of wav2vec 2.0, 25 ms


def transcribe(
    recognizer: Recognizer, paths: Iterable[Path], lang: str, batch_seconds: float
) -> Iterator[tuple[Path, str | ValueError]]:
    """Yield each file with its words, or with what is wrong with it; files are batched as they come.

    A file longer than a batch is refused: attention over it takes memory that grows with the square of its length.
    """
    limit = int(batch_seconds * audio.SAMPLE_RATE)
    batch: list[tuple[Path, torch.Tensor]] = []
    for path in paths:
        try:
            source = audio.read_file(path, recognizer.normalize)
            _check_length(path, len(source), limit)
        except ValueError as error:
            yield from _finish(recognizer, batch, lang)
            batch = []
            yield path, error
            continue
        if max(len(source), *(len(other) for _, other in batch), 0) * (len(batch) + 1) > limit:
            yield from _finish(recognizer, batch, lang)
            batch = []
        batch.append((path, source))
    yield from _finish(recognizer, batch, lang)


def _finish(
    recognizer: Recognizer, batch: list[tuple[Path, torch.Tensor]], lang: str
) -> Iterator[tuple[Path, str | ValueError]]:
    if not batch:
        return
    padded, padding = audio.pad([source for _, source in batch])
    texts = recognizer.transcribe(padded, (~padding).sum(1), [lang] * len(batch))
    yield from zip((path for path, _ in batch), texts, strict=True)


def _check_length(path: Path, num_samples: int, limit: int) -> None:
    seconds = num_samples / audio.SAMPLE_RATE
    if num_samples < MIN_SAMPLES:
        raise ValueError(f"{path}: {seconds:.3f} s, shorter than what the model looks at at a time (0.025 s)")
    if num_samples > limit:
        raise ValueError(
            f"{path}: {seconds:.0f} s, longer than a batch of {limit / audio.SAMPLE_RATE:g} s; cut it with "
            "tools/segment_audio.py, or raise --batch-seconds"
        )
