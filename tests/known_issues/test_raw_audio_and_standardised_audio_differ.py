"""Raw audio instead of standardised gave other emissions without a word, by up to 19."""

from pathlib import Path

import pytest
import soundfile
import torch

from mms_recipes.data import audio
from mms_recipes.lid.identifier import load_identifier
from mms_recipes.recognizer import load_recognizer
from mms_recipes.transcriber import Transcriber
from tests.known_issues.lab import Lab

CPU = torch.device("cpu")


def test_both_give_the_same(tiny: Lab) -> None:
    paths = [tiny.wav, tiny.wav.with_name("test_1.wav")]
    raws = [torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in paths]
    ready = [audio.read_utterance(path, len(raw), True) for path, raw in zip(paths, raws, strict=True)]
    recognizer, identifier = load_recognizer(tiny.adapters, CPU, ["eng"]), load_identifier(tiny.lid, CPU)
    for change in (1.0, 0.05, 3.0):
        raw, padding = audio.pad([change * samples + 0.01 for samples in raws])
        standardised, _ = audio.pad(ready)
        lengths = (~padding).sum(1)
        expected, frames = recognizer.emissions(standardised, lengths, ["eng", "eng"], ready=True)
        assert torch.equal(recognizer.emissions(standardised, lengths, ["eng", "eng"])[0], expected)
        found, _ = recognizer.emissions(raw, lengths, ["eng", "eng"])
        for row, count in enumerate(frames.tolist()):
            torch.testing.assert_close(found[row, :count], expected[row, :count], atol=0.02, rtol=0.02)
        torch.testing.assert_close(
            identifier.logits(raw, lengths), identifier.logits(standardised, lengths), atol=0.02, rtol=0.02
        )
        texts = recognizer.transcribe(raw, lengths, ["eng", "eng"])
        assert texts[0] == Transcriber(tiny.adapters).transcribe(tiny.wav, "eng")[0].text


def test_a_model_of_raw_audio_warns_of_standardised(tiny: Lab, caplog: pytest.LogCaptureFixture) -> None:
    recognizer = load_recognizer(tiny.adapters, CPU, ["eng"])
    recognizer.normalize = False
    samples = audio.read_utterance(tiny.wav, soundfile.info(Path(tiny.wav)).frames, True)[None]
    recognizer.emissions(samples, torch.tensor([samples.shape[1]]), ["eng"])
    assert "standardised" in caplog.text and "raw audio" in caplog.text
