"""`identify` and the scoring of language identification on small models: order, batches, windows, bad files, scores."""

import io
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from mms_recipes import config, identify, manifest, recordings
from mms_recipes.lid import answers, calibration, evaluator, file_languages
from mms_recipes.lid.calibration import Temperature
from mms_recipes.lid.file_languages import FileLanguage, Options
from mms_recipes.lid.identifier import Identifier, load_identifier
from mms_recipes.manifest import Utterance
from mms_recipes.sound import levels
from tests.fairseq import lid_models
from tests.fairseq.lid_models import CLASSES

CPU = torch.device("cpu")
SECOND = 16_000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    stock = lid_models.stock()
    stock.pooling_layer.projection.weight.data *= 10  # answers that differ
    return lid_models.write_stock(tmp_path / "lid.pt", stock)


def sound(seed: int, seconds: float) -> np.ndarray:
    """Buzzing of a pitch of its own, and noise."""
    generator = np.random.default_rng(seed)
    at = np.arange(int(seconds * SECOND)) / SECOND
    pitch = generator.uniform(60, 2000)
    tones = sum(np.sin(2 * np.pi * pitch * k * at) / k for k in range(1, 4))
    return (0.1 * tones + generator.uniform(0, 0.1) * generator.standard_normal(len(at))).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = SECOND, **settings: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **settings)
    return path


def files(folder: Path) -> list[Path]:
    lengths = (0.5, 3.0, 1.0, 0.6, 2.2, 0.7, 3.0, 1.4)
    return [write(folder / f"{number}.wav", sound(number, length)) for number, length in enumerate(lengths)]


def heard(model: Path, paths: list[Path], **options: Any) -> list[FileLanguage | ValueError]:
    identifier = load_identifier(model, CPU)
    choice = answers.open_choice(identifier, model)
    return list(file_languages.identify(identifier, choice, paths, Options(**options)))


def test_a_file_is_answered_as_if_it_were_alone(model: Path, tmp_path: Path) -> None:
    """Batches by length give each file what the model says of it, in the order asked for."""
    paths = files(tmp_path)
    identifier = load_identifier(model, CPU)
    found = heard(model, paths, window=5.0, batch=7.0, top=5)
    for path, said in zip(paths, found, strict=True):
        assert isinstance(said, FileLanguage) and said.path == path
        source = torch.from_numpy(levels.standardized(recordings.read(path)[0]))
        expected = identifier.logits(source[None], torch.tensor([len(source)]))[0].softmax(-1)
        assert dict(said.best) == pytest.approx(dict(zip(CLASSES, expected.tolist(), strict=True)), abs=1e-4)
        assert [share for _, share in said.best] == sorted(dict(said.best).values(), reverse=True)
        assert said.seconds == pytest.approx(len(source) / SECOND)
    assert (
        len({(said.lang, round(said.best[0][1], 3)) for said in found if isinstance(said, FileLanguage)}) > 3
    )  # answers differ


def test_long_recordings(model: Path, tmp_path: Path) -> None:
    """Windows are answered like files of their own; a recording's answer is their mean; other rates and channels."""
    pieces = [sound(seed, 4.0) for seed in (1, 2, 3)]
    whole = write(tmp_path / "whole.flac", np.concatenate(pieces))
    parts = [write(tmp_path / f"part{number}.flac", piece) for number, piece in enumerate(pieces)]
    (said,) = heard(model, [whole], window=4.0, batch=9.0, top=5)
    alone = heard(model, parts, top=5)
    assert isinstance(said, FileLanguage)
    expected = np.mean([[dict(one.best)[name] for name in CLASSES] for one in alone], axis=0)  # type: ignore[union-attr]
    assert [dict(said.best)[name] for name in CLASSES] == pytest.approx(expected.tolist(), abs=1e-3)
    assert said.spans[0].begin == 0 and said.spans[-1].end == 12
    assert [one.end for one in said.spans[:-1]] == [one.begin for one in said.spans[1:]]
    stereo = write(tmp_path / "stereo.ogg", np.stack([pieces[0]] * 2, axis=1), SECOND)
    fast = write(tmp_path / "44.wav", np.repeat(pieces[0], 3), 48_000)
    for other in heard(model, [stereo, fast], top=5):
        assert isinstance(other, FileLanguage) and other.seconds == pytest.approx(4.0, abs=0.01)


def test_und(model: Path, tmp_path: Path) -> None:
    silent = write(tmp_path / "silent.wav", np.zeros(SECOND))
    loud = write(tmp_path / "loud.wav", sound(1, 1.0))
    half = write(tmp_path / "half.wav", np.concatenate([np.zeros(2 * SECOND), sound(1, 2.0)]))
    first, second, third = heard(model, [silent, loud, half], window=2.0)
    assert isinstance(first, FileLanguage) and isinstance(second, FileLanguage) and isinstance(third, FileLanguage)
    assert (first.lang, first.best, [span.lang for span in first.spans]) == ("und", [], ["und"])
    assert second.lang == second.best[0][0] != "und"
    assert [span.lang for span in third.spans] == ["und", third.lang]
    softer = Temperature(4.0, 1, "", "dev", answers.fingerprint(load_identifier(model, CPU)))
    calibration.write_temperature(model, softer)
    (calm,) = heard(model, [loud])
    assert isinstance(calm, FileLanguage) and calm.lang == second.lang and calm.best[0][1] < second.best[0][1]
    for more, lang in ((-1e-3, second.lang), (1e-3, "und")):  # the threshold is of the calibrated probability
        (doubted,) = heard(model, [loud], threshold=calm.best[0][1] + more)
        assert isinstance(doubted, FileLanguage) and doubted.lang == lang and doubted.best[0][0] == second.lang


def test_silence_does_not_count(model: Path, tmp_path: Path) -> None:
    """Sound within silence is answered as with 0.1 s of it at both ends; in the mean a window counts by its sound."""
    edge, silence = np.zeros(SECOND // 10, np.float32), np.zeros(9 * SECOND, np.float32)
    alone = write(tmp_path / "alone.wav", np.concatenate([edge, sound(1, 2.0), edge]))
    within = write(tmp_path / "within.wav", np.concatenate([silence, sound(1, 2.0), silence]))
    long = write(tmp_path / "long.wav", np.concatenate([silence, sound(1, 2.0), silence, sound(3, 19.8), edge, edge]))
    other = write(tmp_path / "other.wav", np.concatenate([sound(3, 19.8), edge, edge]))
    found = heard(model, [alone, within, long, other], top=5)
    assert all(isinstance(said, FileLanguage) for said in found)
    first, again, both, second = (dict(said.best) for said in found if isinstance(said, FileLanguage))
    assert again == pytest.approx(first, abs=1e-4) and first != pytest.approx(second, abs=1e-2)
    assert both == pytest.approx({name: (2.2 * first[name] + 20 * second[name]) / 22.2 for name in CLASSES}, abs=1e-3)


class ShortOfMemory(Identifier):
    """Needs more memory than any machine has for more than five seconds of audio."""

    def logits(self, source_BS: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        torch.empty(1 << 55 if source_BS.numel() > 5 * SECOND else 1, dtype=torch.uint8)
        return super().logits(source_BS, lengths_B)


def same_answers(found: Iterable[Any], expected: Iterable[Any]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.path, one.lang) == (other.path, other.lang) and len(one.spans) == len(other.spans)
        assert dict(one.best) == pytest.approx(dict(other.best), abs=1e-4)


def test_out_of_memory(model: Path, tmp_path: Path, caplog: Any) -> None:
    """A batch that does not fit is heard by halves, the next ones are smaller; a window that does not fit is named."""
    paths = [write(tmp_path / f"{number}.wav", sound(number, 2.0)) for number in range(12)]
    identifier = load_identifier(model, CPU)
    short = ShortOfMemory(**vars(identifier))
    choice = answers.open_choice(identifier, model)
    expected = list(file_languages.identify(identifier, choice, paths, Options(batch=20)))
    same_answers(file_languages.identify(short, choice, paths, Options(batch=20)), expected)
    assert [line for line in caplog.messages if "out of memory" in line] == [
        "out of memory: batches of 10 s from here on",
        "out of memory: batches of 5 s from here on",
        "out of memory: batches of 3 s from here on",
    ]
    long = write(tmp_path / "long.wav", sound(1, 30.0))
    found = list(file_languages.identify(short, choice, [paths[0], long, paths[1]], Options(window=6)))
    same_answers([found[0], found[2]], expected[:2])
    told = r"long.wav: 6 s of audio need more memory than there is \(.*\); take a smaller --window-seconds \(now 6\)"
    assert re.search(told, str(found[1]))


# ---- the command


def run(capsys: Any, *arguments: object) -> tuple[int, list[str], str]:
    code = identify.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def test_bad_files_do_not_stop_the_others(model: Path, tmp_path: Path, capsys: Any) -> None:
    good = [write(tmp_path / "a b é.wav", sound(1, 1.0)), write(tmp_path / "c\nd.wav", sound(2, 1.0))]
    late = sound(3, 30.0)
    late[-5] = np.nan
    bad = {
        write(tmp_path / "short.wav", sound(1, 0.0125)): r"0\.013 s, shorter than what the model looks at at a time",
        write(tmp_path / "nan.wav", late, subtype="FLOAT"): "not finite numbers",
        write(tmp_path / "empty.wav", np.zeros(0)): "holds no samples",
        tmp_path / "none.wav": "no such file",
        tmp_path / "text.mp4": "not readable as audio",
    }
    (tmp_path / "text.mp4").write_text("x")
    code, out, err = run(capsys, good[0], *bad, good[1], "--checkpoint", model, "--window-seconds", 5)
    assert code == 1 and [line.split("\t")[0] for line in out] == [str(good[0]), f'"{tmp_path}/c\\nd.wav"']
    assert "5 of 7 files could not be used:" in err
    said = {line.partition(": ")[0]: line for line in err.splitlines()}
    for path, message in bad.items():
        assert re.search(message, said[str(path)])
    silent = write(tmp_path / "silent.wav", np.zeros(SECOND))
    code, out, _ = run(capsys, good[0], silent, "--checkpoint", model)
    assert code == 0 and out[1] == f"{silent}\tund\tless than 0.5 s of sound"


def test_json_folder_and_list(model: Path, tmp_path: Path, capsys: Any, caplog: Any, monkeypatch: Any) -> None:
    paths = files(tmp_path / "audio")
    code, out, _ = run(
        capsys, tmp_path / "audio", "--checkpoint", model, "--json", "--top", 2, "--langs", "eng,fra,rus"
    )
    found = [json.loads(line) for line in out]
    assert code == 0 and [one["path"] for one in found] == [str(path) for path in paths]
    assert all(len(one["best"]) == 2 and one["lang"] in ("eng", "fra", "rus") for one in found)
    assert found[0].keys() == {"path", "seconds", "lang", "probability", "best", "spans"}
    assert found[0]["spans"][0]["end"] == pytest.approx(0.5)
    assert "probabilities are not calibrated" in caplog.text
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{paths[2]}\n{paths[0]}\n".encode())))
    code, out, _ = run(capsys, "-", "--checkpoint", model)
    assert [line.split("\t")[0] for line in out] == [str(paths[2]), str(paths[0])]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--threshold", "2"], "--threshold is 2, expected a probability"),
        (["--top", "0"], "--top is 0, expected 1 or more"),
        (["--window-seconds", "30", "--batch-seconds", "20"], "a batch that holds a window"),
        (["--langs", "eng"], "1 of the model's 5 classes are among these; expected at least two"),
        (["--langs", "eng,englsh"], "unknown language or set 'englsh'"),
    ],
)
def test_wrong_options(model: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    path = write(tmp_path / "a.wav", sound(1, 1.0))
    with pytest.raises(ValueError, match=said):
        identify.main([str(path), "--checkpoint", str(model), *arguments])


# ---- scores


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Test and dev of English, French and Xhosa, of which the model has no class; eng's are of 0.5 to 2.5 s."""
    folder = tmp_path / "data"
    for lang, count in (("eng", 5), ("fra", 3), ("xho", 2)):
        for split in ("dev", "test"):
            rows = []
            for number in range(count):
                samples = sound(number + 10 * count + (100 if split == "dev" else 0), 0.5 * (number + 1))
                write(folder / lang / f"{split}{number}.wav", samples, subtype="FLOAT")
                rows.append(Utterance(f"{split}{number}.wav", len(samples), "a |", "a", f"{lang}{number}"))
            manifest.write_split(folder / lang, split, folder / lang, rows)
    return folder


def settings(*overrides: str) -> DictConfig:
    config.register()
    with initialize_config_dir(version_base="1.3", config_dir=str(config.CONFIGS)):
        return compose("evaluate", overrides=["+benchmark=lid", "device=cpu", *overrides])


def scores(model: Path, data: Path, *overrides: str) -> dict[str, Any]:
    out = data.parent / "scores"
    cfg = settings(f"checkpoint={model}", f"data={data}", f"out={out}", "lid.lengths=[1,2]", *overrides)
    return dict(json.loads((evaluator.evaluate(cfg) / "scores.json").read_text()))


def test_scores(model: Path, data: Path, capsys: Any, caplog: Any) -> None:
    """All utterances count, those of a language without a class as wrong; the answers are those of identify."""
    document = scores(model, data)
    assert {lang: row["utterances"] for lang, row in document["languages"].items()} == {"eng": 5, "fra": 3, "xho": 2}
    assert not document["languages"]["xho"]["known"] and document["languages"]["xho"]["top5"] == 0
    assert f"xho ({data / 'xho' / 'test.tsv'}:2): no class to choose from; all their 2 utterances count" in caplog.text
    assert [(row["seconds"], row["utterances"], row["languages"]) for row in document["lengths"]] == [
        (1, 7, 3),
        (2, 2, 1),
    ]
    fitted = document["calibration"]["temperature"]
    assert (fitted["utterances"], fitted["split"]) == (8, "dev")
    lines = [line.split("\t") for line in (data.parent / "scores" / "predictions.tsv").read_text().splitlines()[1:]]
    assert len(lines) == 10
    paths = [data / lang / uid for lang, uid, *_ in lines]
    code, out, _ = run(capsys, *paths, "--checkpoint", model, "--json", "--top", 5)
    assert code == 0 and "no temperature" not in caplog.text
    for line, told in zip(lines, out, strict=True):
        evaluated, identified = json.loads(line[-1]), json.loads(told)["best"]
        assert [name for name, _ in evaluated] == [name for name, _ in identified]
        assert [p for _, p in evaluated] == pytest.approx([p for _, p in identified], abs=1e-4)
        assert line[4] == ("" if line[0] == "xho" else str([name for name, _ in evaluated].index(line[2]) + 1))


def test_restricted_classes(model: Path, data: Path) -> None:
    document = scores(model, data, "lid.classes=[eng,fra]", "langs=[eng,fra]")
    assert set().union(*document["answers"].values()) <= {"eng", "fra"}
    assert document["settings"]["classes"] == 2 and not list(model.parent.glob("*.temperature.json"))


def test_without_another_split(model: Path, data: Path, caplog: Any) -> None:
    assert scores(model, data, "split=dev")["calibration"]["temperature"] is None
    assert "no other split to fit a temperature on; it is 1: none was fitted" in caplog.text
    kept = scores(model, data)["calibration"]["temperature"]
    assert scores(model, data, "split=dev")["calibration"]["temperature"] == kept


def test_nothing_is_lost_in_batches(model: Path, data: Path) -> None:
    one, other = (scores(model, data, f"batch_seconds={seconds}") for seconds in (0.1, 100))
    for key in ("languages", "lengths", "answers"):
        assert one[key] == other[key]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["+benchmark=fleurs_lid"],
            r"has no test.tsv of 99 of the 102 languages to score: afr, .* langs=.eng,fra,xho.",
        ),
        (["protocol=fleurs54"], "protocol=fleurs54 is of speech recognition"),
        (["decoding=lm", "decoding.lm=x"], "of speech recognition; leave them out with a LID model"),
        (["langs=[xho]"], "none of xho is among the 5 classes to choose from"),
    ],
)
def test_what_does_not_fit(model: Path, data: Path, overrides: list[str], said: str) -> None:
    if overrides[0].startswith("+"):
        config.register()
        with initialize_config_dir(version_base="1.3", config_dir=str(config.CONFIGS)):
            given = ["device=cpu", f"checkpoint={model}", f"data={data}", f"out={data}/o", *overrides]
            cfg = compose("evaluate", overrides=given)
        with pytest.raises(ValueError, match=said):
            evaluator.evaluate(cfg)
        return
    with pytest.raises(ValueError, match=said):
        scores(model, data, *overrides)


def test_bad_audio_of_a_manifest(model: Path, data: Path) -> None:
    samples = sound(1, 0.5)
    samples[7] = np.nan
    write(data / "fra" / "test0.wav", samples, subtype="FLOAT")
    with pytest.raises(ValueError, match="whole: no finite answer for fra row 2 of the manifest: samples that are not"):
        scores(model, data)
    write(data / "fra" / "test0.wav", samples[:100], subtype="FLOAT")
    text = (data / "fra" / "test.tsv").read_text().replace("test0.wav\t8000", "test0.wav\t100")
    (data / "fra" / "test.tsv").write_text(text)
    with pytest.raises(ValueError, match=r"1 utterance\(s\) of fewer than \d+ samples .*fra/test.tsv:2; take them out"):
        scores(model, data)


def test_another_kind_of_model(data: Path, pretrained: Any) -> None:
    cfg = settings(f"checkpoint={pretrained.path}", f"data={data}", f"out={data}/o")
    with pytest.raises(ValueError, match="expected one for language identification"):
        evaluator.evaluate(cfg)
