"""Utterances from disk: 16 kHz mono in, float tensors out."""

import logging
from pathlib import Path

import torch

from mms_recipes import audio_files
from mms_recipes.manifest import SAMPLE_RATE as SAMPLE_RATE
from mms_recipes.sound import levels

logger = logging.getLogger(__name__)

RAW_VARIANCE, MEAN_TOLERANCE = 0.5, 0.1  # speech at full scale has a variance of about 0.1


def read_utterance(path: Path, num_samples: int, normalize: bool) -> torch.Tensor:
    """Read one utterance of the manifest: float32 (num_samples,), zero mean and unit variance if `normalize`.

    The path is that of a file or a place in a shard (`audio_files.find_member`).
    Raises ValueError when the file is not 16 kHz mono or its length is not the manifest's.
    """
    try:
        with audio_files.opened(path) as stream:
            rate, samples = stream.rate, stream.read()
    except audio_files.AudioError as error:
        remedy = _shard_remedy(path) or "check with tools/validate_manifests.py"
        raise ValueError(f"{error}; {remedy}") from error
    if rate != SAMPLE_RATE or samples.shape[1] != 1:
        raise ValueError(
            f"{path}: {rate} Hz with {samples.shape[1]} channel(s), expected {SAMPLE_RATE} Hz mono; "
            "prepare the corpus again with tools/prepare_fleurs.py or tools/prepare_folder.py"
        )
    if len(samples) != num_samples:
        remedy = _shard_remedy(path) or "the file was cut or replaced: prepare the corpus again"
        raise ValueError(f"{path}: {len(samples)} samples, but its manifest says {num_samples}; {remedy}")
    source = torch.from_numpy(samples[:, 0])
    return standardized(source) if normalize else source


def standardized(source: torch.Tensor) -> torch.Tensor:
    """Return audio (S,) with zero mean and unit variance, as `levels.standardized` says."""
    return torch.from_numpy(levels.standardized(source.numpy()))


def _shard_remedy(path: Path) -> str | None:
    """Say what to do about an utterance in a shard that cannot be used: it may not lie where its manifest says."""
    member = audio_files.find_member(path)
    if member is None:
        return None
    fault = audio_files.member_fault(member)
    return f"{fault[1]}; {audio_files.PACK_AGAIN}" if fault else f"restore the shard, or {audio_files.PACK_AGAIN}"


def as_expected(source_BS: torch.Tensor, lengths_B: torch.Tensor, normalize: bool) -> torch.Tensor:
    """Return padded audio as a model expects it: with `normalize` each utterance is standardised that is not yet.

    Raw audio lies within -1 and 1, so its variance is below that of standardised audio. A model without `normalize`
    takes raw audio; what looks standardised is used, and a warning says so.
    """
    result = source_BS
    for row, length in enumerate(lengths_B.tolist()):
        source_S = source_BS[row, :length]
        variance, mean = (float(value) for value in torch.var_mean(source_S.double(), correction=0))
        if not normalize and variance > RAW_VARIANCE:
            logger.warning(
                "audio has variance %.2f, as if it was standardised; this model was trained on raw audio (-1 to 1)",
                variance,
            )
        elif normalize and not (RAW_VARIANCE <= variance <= 1 / RAW_VARIANCE and abs(mean) < MEAN_TOLERANCE):
            if result is source_BS:
                result = source_BS.clone()
            result[row, :length] = standardized(source_S.float().cpu()).to(result)
    return result


def pad(sources: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack utterances of different length: (B, S) filled with zeros and the padding mask (B, S), True where padded."""
    lengths = torch.tensor([len(source) for source in sources])
    padded = torch.nn.utils.rnn.pad_sequence(sources, batch_first=True)
    return padded, torch.arange(padded.shape[1])[None] >= lengths[:, None]


def crop_to_shortest(sources: list[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
    """Cut every utterance at a random place to the length of the shortest: (B, S) without padding (pretraining)."""
    size = min(len(source) for source in sources)
    starts = [int(torch.randint(len(source) - size + 1, (), generator=generator)) for source in sources]
    return torch.stack([source[start : start + size] for source, start in zip(sources, starts, strict=True)])
