"""Parts of recordings as utterances of their own: each recording is read once, in memory of its longest parts."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mms_recipes import files, recordings
from mms_recipes.audio_files import AudioError, Placed
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.recordings import Samples
from mms_recipes.sound import levels

Span = tuple[float, float]  # begin and end, seconds
SLACK = 0.5  # seconds by which a part may end after its recording: times are rounded, and lossy formats pad


def name_of(recording: str, span: Span) -> str:
    """Return a name for a part: that of its recording and its times in milliseconds, so that names sort by time."""
    return f"{recording}_{round(1000 * span[0]):08d}-{round(1000 * span[1]):08d}"


def cut(recording: Path, spans: Mapping[str, Span], folder: Path) -> dict[str, Placed | str]:
    """Write the parts of a recording as `folder/<name>.wav`, 16 kHz and mono.

    Returns where each lies and its number of samples, or why there is none: its times, or the recording.
    """
    placed: dict[str, Placed | str] = {}
    waiting = sorted(spans, key=lambda name: spans[name])[::-1]
    held: dict[str, list[Samples]] = {}
    end = 0  # samples of the recording that were read
    try:
        for block in recordings.blocks(recording):
            begin, end = end, end + len(block)
            while waiting and _samples(spans[waiting[-1]][0]) < end:
                held[waiting.pop()] = []
            for name in list(held):
                first, last = map(_samples, spans[name])
                held[name].append(block[max(first - begin, 0) : max(last - begin, 0)].copy())
                if last <= end:
                    placed[name] = _write(folder / f"{name}.wav", np.concatenate(held.pop(name)))
            if not waiting and not held:
                break
        for name in [*held, *waiting]:
            if _samples(spans[name][1]) > end + SLACK * SAMPLE_RATE or name in waiting:
                start, stop = spans[name]
                length = f"{recording} has {end / SAMPLE_RATE:.2f} s"
                placed[name] = f"the segment is from {start:g} to {stop:g} s, but {length}; times are seconds"
            else:
                placed[name] = _write(folder / f"{name}.wav", np.concatenate(held[name]))
    except AudioError as error:
        placed |= {name: str(error) for name in spans.keys() - placed.keys()}
    return placed


def missing_seconds(span: Span, num_samples: int) -> float:
    """Return by how much a part is shorter than its times, because its recording ends; 0 within a rounding."""
    missing = span[1] - span[0] - num_samples / SAMPLE_RATE
    return missing if missing > 0.001 else 0.0


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


def _write(target: Path, samples: Samples) -> Placed | str:
    """Write a part as 16-bit wav, at a level that neither clips nor is lost."""
    import soundfile

    if not len(samples):
        return "the segment holds no samples"
    wav = io.BytesIO()
    try:
        scaled, remark = levels.to_16_bits(samples, target.stem)
    except AudioError as error:
        return str(error)
    soundfile.write(wav, scaled, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.replaced(target, sync=False) as temporary:
        temporary.write_bytes(wav.getvalue())
    return Placed(target, len(samples), (remark,) if remark else ())
