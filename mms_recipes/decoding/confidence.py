"""How likely a transcript is right: a calibration that is fitted on speech whose text is known.

What a CTC model says of its own path is a score, not a probability: noise words get 0.8 as well as clear speech. How
sure single letters are and how many letters a second has say more. A logistic regression over them, fitted on a dev
split and on noisy copies of it, gives the share of letters that is probably right; a second one gives the probability
that a word is right. Both belong to one model, one kind of search and the languages that they were fitted on.

Shapes: N utterances or words, F features.
"""

import json
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pydantic

from mms_recipes import files, parsing

FORMAT = "mms_recipes.confidence/1"
DOUBTFUL = 0.9  # a letter is doubtful when none of its frames is more probable
PENALTY = 1.0  # of the regression's squared weights, features in units of their standard deviation
SURE = 1e-4  # confidences lie between this and 1 - this before they become a feature of their words

Floats = npt.NDArray[np.float64]


class Evidence(NamedTuple):
    """What a path says of an utterance, as sums, so that parts of a recording add up. Scores are log-probabilities."""

    seconds: float
    frames: int
    score: float  # of all frames
    blank_score: float  # of the blanks among them
    letters: int
    letter_frames: int
    letter_score: float  # of the letters' frames
    doubtful: int  # letters

    def __add__(self, other: tuple[object, ...]) -> Self:
        """The evidence of two parts together."""
        return type(self)(*(one + more for one, more in zip(self, other, strict=True)))  # type: ignore[operator]

    def features(self) -> Floats | None:
        """The features (F,) of the utterance; None where nothing was recognised."""
        if not self.letters:
            return None
        of_frames = (self.score / self.frames, self.blank_score / self.frames)
        of_letters = (self.letter_score / self.letter_frames, self.doubtful / self.letters)
        return np.array([*of_letters, *of_frames, np.log(self.letters / self.seconds)])


def word_features(score: float, weakest: float, letters: int, confidence: float) -> Floats:
    """The features (F,) of a word: its score, its least probable letter's, its length, its utterance's confidence."""
    sure = min(max(confidence, SURE), 1 - SURE)
    return np.array([np.log(max(score, SURE)), np.log(max(weakest, SURE)), np.log(letters), np.log(sure / (1 - sure))])


class Regression(parsing.Schema):
    """Probability = 1 / (1 + exp(-(bias + weights (features - mean) / scale)))."""

    mean: list[float]
    scale: list[float]
    weights: list[float]
    bias: float

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not len(self.mean) == len(self.scale) == len(self.weights) > 0 or min(self.scale) <= 0:
            raise ValueError("mean, scale (above 0) and weights of the same length")
        return self

    def __call__(self, features: Floats) -> Floats:
        """Return the probability (N,) or () of features (N, F) or (F,)."""
        standard = (features - np.array(self.mean)) / np.array(self.scale)
        return _sigmoid(standard @ np.array(self.weights) + self.bias)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def fit(features_NF: Floats, right_N: Floats) -> Regression:
    """Fit a regression to shares that are right, 0 to 1, by Newton's method. Raises ValueError without an example."""
    if not len(right_N):
        raise ValueError("no example to fit a calibration on")
    mean_F, scale_F = features_NF.mean(0), np.maximum(features_NF.std(0), 1e-6)
    x_NF = np.column_stack([(features_NF - mean_F) / scale_F, np.ones(len(features_NF))])
    penalty_F = np.append(np.full(features_NF.shape[1], PENALTY), 1e-3)  # the bias's keeps it finite
    weights_F = np.zeros(x_NF.shape[1])
    for _ in range(100):
        p_N = _sigmoid(x_NF @ weights_F)
        slope_F = x_NF.T @ (right_N - p_N) - penalty_F * weights_F
        curve_FF = (x_NF * (p_N * (1 - p_N))[:, None]).T @ x_NF + np.diag(penalty_F)
        step_F = np.linalg.solve(curve_FF, slope_F)
        weights_F += step_F * min(1.0, 5.0 / max(float(np.abs(step_F).max()), 1e-12))
        if np.abs(step_F).max() < 1e-9:
            break
    return Regression(
        mean=mean_F.tolist(),
        scale=scale_F.tolist(),
        weights=weights_F[:-1].tolist(),
        bias=float(weights_F[-1]),
    )


Share = Annotated[float, pydantic.Field(ge=0, le=1)]
WORD, LETTER = "word", "letter"


class Calibration(parsing.Schema):
    """What makes probabilities of the scores of one model and one kind of search.

    `heads`: fingerprints of the heads, by language, whose transcripts it was fitted on ("" for a dense model's).
    `items`: of words, and of letters in scripts without spaces. `empty`: how much is right where nothing was recognised
    in speech.
    """

    search: str
    data: str
    split: str
    utterances: Annotated[int, pydantic.Field(gt=0)]
    heads: dict[str, str]
    utterance: Regression
    items: dict[str, Regression]
    empty: Share

    def of_utterance(self, evidence: Evidence) -> float:
        """Return the share of the letters that is probably right, 0 to 1."""
        features = evidence.features()
        return self.empty if features is None else float(self.utterance(features))


# ---- beside the model


class _File(parsing.Schema):
    format: Literal["mms_recipes.confidence/1"]
    searches: dict[str, Calibration]


def calibration_file(checkpoint: Path) -> Path:
    """Return where the calibrations of a model lie: in its folder, or beside its .pt file."""
    return checkpoint / "confidence.json" if checkpoint.is_dir() else checkpoint.with_suffix(".confidence.json")


def read(checkpoint: Path) -> dict[str, Calibration]:
    """Return the calibrations of a model by kind of search; none where there is no file.

    Raises ValueError for a file that is no such file.
    """
    path = calibration_file(checkpoint)
    if not path.is_file():
        return {}
    try:
        return parsing.read_json(_File, path).searches
    except ValueError as error:
        raise ValueError(f"{error}; evaluate again with calibrate=dev, or delete the file") from None


def write(checkpoint: Path, fitted: Calibration) -> Path:
    """Keep a calibration beside the model, with those of other kinds of search; return the file. Raises OSError."""
    path = calibration_file(checkpoint)
    searches = read(checkpoint) | {fitted.search: fitted}
    document = _File(format=FORMAT, searches=searches).model_dump(mode="json")
    files.write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return path
