"""A calibration is fitted, kept beside its model and applied; parts of a recording add up to the whole."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from mms_recipes.decoding import confidence, word_times
from mms_recipes.decoding.confidence import Calibration, Evidence, Regression, fit
from mms_recipes.metrics import ranking

SYMBOLS = ["<s>", "<pad>", "</s>", "<unk>", "|", "a", "b"]
LINE = Regression(mean=[0.0] * 5, scale=[1.0] * 5, weights=[1.0, 0.0, 0.0, 0.0, 0.0], bias=1.0)
OF_WORDS = Regression(mean=[0.0] * 4, scale=[1.0] * 4, weights=[1.0, 0.0, 0.0, 0.0], bias=0.0)


def calibration(**changes: object) -> Calibration:
    fields = {"search": "greedy", "data": "d", "split": "dev", "utterances": 3, "heads": {"ita": "abc"}, "empty": 0.25}
    return Calibration(**(fields | {"utterance": LINE, "items": {"word": OF_WORDS}} | changes))  # type: ignore[arg-type]


def test_a_regression_finds_the_probabilities_that_made_the_answers() -> None:
    generator = np.random.default_rng(1)
    features_NF = generator.normal(size=(20_000, 3)) * [1, 5, 0.1] + [0, 3, -2]
    p_N = 1 / (1 + np.exp(-(features_NF @ [1.0, -0.4, 6.0] + 12)))
    fitted = fit(features_NF, (generator.random(len(p_N)) < p_N).astype(float))
    assert np.abs(fitted(features_NF) - p_N).max() < 0.05
    assert fitted(features_NF[0]) == pytest.approx(fitted(features_NF)[0])


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_answers_that_are_all_alike_give_finite_weights(right: float) -> None:
    fitted = fit(np.array([[1.0], [2.0]]), np.array([right, right]))
    assert abs(float(fitted(np.array([1.5]))) - right) < 0.1
    with pytest.raises(ValueError, match="no example"):
        fit(np.zeros((0, 2)), np.zeros(0))


def test_ranking_is_the_share_of_pairs_in_the_right_order() -> None:
    generator = np.random.default_rng(2)
    sure, bad = generator.integers(0, 6, 60) / 6, generator.random(60) < 0.4
    pairs = [
        (sure[g] > sure[b]) + 0.5 * (sure[g] == sure[b]) for g in np.flatnonzero(~bad) for b in np.flatnonzero(bad)
    ]
    assert ranking(sure, bad) == pytest.approx(np.mean(pairs))
    assert ranking(sure, np.ones(60, bool)) is None


def test_evidence_of_parts_adds_up() -> None:
    generator = np.random.default_rng(3)
    path = np.array([0, 5, 5, 0, 4, 0, 6, 0, 0, 5, 6, 4, 0])
    scores = np.log(generator.uniform(0.3, 1, len(path)))
    whole = word_times.time_path(path, scores, SYMBOLS, 0.02).evidence
    one, other = (
        word_times.time_path(path[part], scores[part], SYMBOLS, 0.02).evidence for part in (slice(5), slice(5, 13))
    )
    assert whole and one and other
    assert (one + other) == pytest.approx(whole)
    assert whole.letters == 4 and whole.letter_frames == 5
    assert whole.blank_score == pytest.approx(scores[path == 0].sum())


def test_confidence_is_there_where_a_calibration_is() -> None:
    path, scores = np.array([0, 5, 6, 4, 0]), np.log([0.9, 0.8, 0.6, 0.9, 0.9])
    timing = word_times.time_path(path, scores, SYMBOLS, 0.02)
    assert timing.confidence is None and timing.words[0].confidence is None
    assert timing.words[0].weakest == pytest.approx(0.6)
    found = word_times.calibrated(timing, calibration(), by_unit=False)
    assert found.confidence == pytest.approx(1 / (1 + math.exp(-(np.log([0.8, 0.6]).mean() + 1))))
    score = math.exp(np.log([0.8, 0.6]).mean())
    assert found.words[0].confidence == pytest.approx(score / (1 + score))
    assert word_times.calibrated(timing, None, by_unit=False) == timing
    letters = word_times.calibrated(timing, calibration(), by_unit=True)
    assert letters.confidence and letters.words[0].confidence is None


def test_nothing_recognised_has_the_confidence_of_nothing() -> None:
    timing = word_times.time_path(np.array([0, 0]), np.log([0.9, 0.9]), SYMBOLS, 0.02)
    assert word_times.calibrated(timing, calibration(), by_unit=False).confidence == 0.25
    assert Evidence(0.0, 0, 0.0, 0.0, 0, 0, 0.0, 0).features() is None


def test_it_lies_beside_its_model(tmp_path: Path) -> None:
    for model in (tmp_path, tmp_path / "m.pt"):
        assert confidence.read(model) == {}
        confidence.write(model, calibration())
        confidence.write(model, calibration(search="lm"))
        assert confidence.read(model) == {"greedy": calibration(), "lm": calibration(search="lm")}
    assert {path.name for path in tmp_path.iterdir()} == {"confidence.json", "m.confidence.json"}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"format": "x"}, "format: found 'x'"),
        ({"searches": {"greedy": {}}}, "searches.greedy"),
        ({"searches": []}, "searches: found []"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, change: dict[str, object], part: str) -> None:
    path = confidence.write(tmp_path, calibration())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError) as caught:
        confidence.read(tmp_path)
    assert part in str(caught.value) and "calibrate=dev" in str(caught.value)


def test_a_regression_whose_parts_do_not_fit_is_refused() -> None:
    for change in ({"mean": [0.0]}, {"scale": [0.0] * 5}, {"bias": math.inf}):
        with pytest.raises(ValueError):
            Regression(**(LINE.model_dump() | change))
