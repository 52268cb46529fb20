"""How sure a classifier is, and how sure it may be: probabilities, a temperature fitted on dev, calibration error.

Shapes: N utterances, L classes.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mms_recipes import files, parsing

NUM_BINS = 15  # Guo et al. 2017, On Calibration of Modern Neural Networks
COLDEST, HOTTEST = 0.1, 10.0  # temperatures; a dev set without an error would ask for 0
_STEPS, _ROWS = 40, 1024

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by, fitted for one model; `model` is the fingerprint of the head that it belongs to."""

    temperature: float
    utterances: int
    data: str
    split: str
    model: str


@dataclass(frozen=True)
class Bin:
    """The answers with a confidence from `low` to `high`: how many, how sure on average, the share that is right."""

    low: float
    high: float
    utterances: int
    confidence: float
    accuracy: float


def probabilities(logits_NL: Floats, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Return the probabilities of the classes, float64, rows that sum to 1."""
    scaled_NL = logits_NL.astype(np.float64) / temperature
    powers_NL = np.exp(scaled_NL - scaled_NL.max(axis=-1, keepdims=True))
    result: npt.NDArray[np.float64] = powers_NL / powers_NL.sum(axis=-1, keepdims=True)
    return result


def fit_temperature(logits_NL: Floats, target_N: npt.NDArray[np.int64]) -> float:
    """Return the temperature under which the targets are most likely, between COLDEST and HOTTEST.

    The likelihood has one maximum, where the expected logit under the model is the mean logit of the targets.
    """
    if not len(target_N):
        raise ValueError("no utterance of a known class to fit a temperature on")
    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(_STEPS):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if _slope(logits_NL, target_N, middle) > 0 else (middle, high)
    return float(1 / np.sqrt(low * high))


def _slope(logits_NL: Floats, target_N: npt.NDArray[np.int64], coldness: float) -> float:
    """Return how fast the negative log-likelihood grows with the inverse temperature."""
    total = 0.0
    for start in range(0, len(target_N), _ROWS):
        rows, targets = logits_NL[start : start + _ROWS], target_N[start : start + _ROWS]
        expected_N = (probabilities(rows, 1 / coldness) * rows).sum(axis=-1)
        total += float((expected_N - rows[np.arange(len(rows)), targets]).sum())
    return total


def bins(confidence_N: Floats, right_N: npt.NDArray[np.bool_]) -> list[Bin]:
    """Return the answers by confidence, in NUM_BINS ranges of equal width; empty ones are left out."""
    place_N = np.clip(np.ceil(np.asarray(confidence_N) * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    found = []
    for place in np.unique(place_N):
        inside_N = place_N == place
        found.append(
            Bin(
                place / NUM_BINS,
                (place + 1) / NUM_BINS,
                int(inside_N.sum()),
                float(confidence_N[inside_N].mean()),
                float(right_N[inside_N].mean()),
            )
        )
    return found


def calibration_error(listed: list[Bin]) -> float:
    """Return the expected calibration error: how far confidence and accuracy of the bins are apart, 0 to 1."""
    total = sum(one.utterances for one in listed)
    return sum(one.utterances * abs(one.confidence - one.accuracy) for one in listed) / total


# ---- beside the model


class Fitted(parsing.Schema):
    """The file of a Temperature."""

    temperature: float
    utterances: int
    data: str
    split: str
    model: str


def temperature_file(checkpoint: Path) -> Path:
    """Return where the temperature of a model lies: in its folder, or beside its .pt file."""
    return checkpoint / "temperature.json" if checkpoint.is_dir() else checkpoint.with_suffix(".temperature.json")


def write_temperature(checkpoint: Path, fitted: Temperature) -> Path:
    """Write the temperature beside the model and return the file. Raises OSError."""
    path = temperature_file(checkpoint)
    files.write_text(path, json.dumps(asdict(fitted), indent=1, ensure_ascii=False) + "\n")
    return path


def read_temperature(checkpoint: Path, model: str) -> Temperature | None:
    """Return the temperature that was fitted for a model, None where there is none.

    Raises ValueError when the file is of another model, or is no such file.
    """
    path, remedy = temperature_file(checkpoint), "evaluate again with +benchmark=lid, or delete it"
    if not path.is_file():
        return None
    try:
        found = Temperature(**dict(parsing.read_json(Fitted, path)))
    except ValueError as error:
        said = str(error).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: not a temperature as evaluate writes it ({said}); {remedy}") from None
    sensible = COLDEST / 2 <= found.temperature <= HOTTEST * 2
    if not sensible:
        raise ValueError(f"{path}: temperature {found.temperature:g}, expected {COLDEST:g} to {HOTTEST:g}; {remedy}")
    if found.model != model:
        raise ValueError(f"{path}: was fitted for another model than the one that lies there now; {remedy}")
    return found
