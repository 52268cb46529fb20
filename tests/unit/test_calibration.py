"""Temperatures that are fitted make a model as sure as it is right; the file beside a model belongs to that model."""

import json
from pathlib import Path

import numpy as np
import pytest

from mms_recipes.lid import calibration
from mms_recipes.lid.calibration import Temperature

FITTED = Temperature(1.7, 12, "manifests/demo", "dev", "abc")


def drawn(temperature: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and targets drawn from their probabilities at a temperature."""
    generator = np.random.default_rng(0)
    logits_NL = (3 * generator.standard_normal((count, 5))).astype(np.float32)
    chances_NL = calibration.probabilities(logits_NL, temperature).cumsum(axis=1)
    return logits_NL, (generator.random((count, 1)) > chances_NL).sum(axis=1).clip(0, 4)


def error(logits_NL: np.ndarray, target_N: np.ndarray, temperature: float) -> float:
    sure_NL = calibration.probabilities(logits_NL, temperature)
    return calibration.calibration_error(calibration.bins(sure_NL.max(axis=1), sure_NL.argmax(axis=1) == target_N))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_is_found_again(temperature: float) -> None:
    logits_NL, target_N = drawn(temperature)
    fitted = calibration.fit_temperature(logits_NL, target_N)
    assert fitted == pytest.approx(temperature, rel=0.05)
    assert error(logits_NL, target_N, fitted) < 0.012
    for other in (0.5, 2.0):
        assert error(logits_NL, target_N, fitted * other) > 0.03


def test_a_dev_set_without_an_error_ends_at_the_coldest() -> None:
    logits_NL = np.eye(4, dtype=np.float32)
    assert calibration.fit_temperature(logits_NL, np.arange(4)) == pytest.approx(calibration.COLDEST)
    assert calibration.fit_temperature(logits_NL, np.array([1, 2, 3, 0])) == pytest.approx(calibration.HOTTEST)
    with pytest.raises(ValueError, match="no utterance of a known class"):
        calibration.fit_temperature(logits_NL[:0], np.zeros(0, np.int64))


def test_bins_by_hand() -> None:
    confidence_N = np.array([0.95, 0.99, 1.0, 0.5, 0.5, 0.0])
    listed = calibration.bins(confidence_N, np.array([True, True, False, True, False, False]))
    assert [(one.utterances, one.accuracy) for one in listed] == [(1, 0), (2, 0.5), (3, pytest.approx(2 / 3))]
    assert listed[-1].high == 1 and listed[-1].confidence == pytest.approx(0.98)
    assert calibration.calibration_error(listed) == pytest.approx((0 + 0 + 3 * (0.98 - 2 / 3)) / 6)


def test_a_probability_on_the_edge_of_a_bin_is_counted_once() -> None:
    edges = np.arange(calibration.NUM_BINS + 1) / calibration.NUM_BINS
    assert sum(one.utterances for one in calibration.bins(edges, edges > 0.5)) == len(edges)


def test_probabilities_of_large_logits() -> None:
    assert calibration.probabilities(np.array([1e4, 0, 0], np.float32)).tolist() == [1, 0, 0]


@pytest.mark.parametrize("name", ["checkpoint_best.pt", "folder"])
def test_a_temperature_lies_beside_its_model(tmp_path: Path, name: str) -> None:
    model = tmp_path / name
    if name == "folder":
        model.mkdir()
    assert calibration.read_temperature(model, "abc") is None
    path = calibration.write_temperature(model, FITTED)
    assert path.parent == (model if name == "folder" else tmp_path)
    assert calibration.read_temperature(model, "abc") == FITTED
    with pytest.raises(ValueError, match=r"temperature.json: was fitted for another model .* evaluate again"):
        calibration.read_temperature(model, "other")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a temperature as evaluate writes it"),
        ('{"temperature": 2}', "not a temperature as evaluate writes it"),
        (json.dumps(FITTED.__dict__ | {"temperature": 0}), "temperature 0, expected 0.1 to 10"),
        (json.dumps(FITTED.__dict__ | {"temperature": "warm"}), "not a temperature as evaluate writes it"),
    ],
)
def test_a_broken_file(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "lid.temperature.json").write_text(text)
    with pytest.raises(ValueError, match=rf"lid.temperature.json: {said}"):
        calibration.read_temperature(tmp_path / "lid.pt", "abc")
