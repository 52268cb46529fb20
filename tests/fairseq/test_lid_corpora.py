"""Several corpora in one evaluation of identification: every utterance once, each as if it were alone; in shards."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from mms_recipes import config, evaluate, manifest
from mms_recipes.lid import calibration, evaluator, shards
from mms_recipes.manifest import Utterance
from mms_recipes.report import __main__ as command
from mms_recipes.report import lid_files
from tests.fairseq import lid_models
from tools import merge_scores

COUNTS = {"one": {"eng": 5, "fra": 3}, "two": {"eng": 2, "rus": 4}}  # of test; the names of its files are the same


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lid_models.write_stock(tmp_path_factory.mktemp("model") / "lid.pt", lid_models.stock())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two corpora with test, the first also with dev; and a folder that is none."""
    data = tmp_path_factory.mktemp("data")
    (data / "notes").mkdir()
    generator = np.random.default_rng(1)
    for corpus, counts in COUNTS.items():
        for lang, count in counts.items():
            folder = data / corpus / lang
            folder.mkdir(parents=True)
            for split in ("dev", "test") if corpus == "one" else ("test",):
                rows = []
                for number in range(count):
                    sound = 0.2 * generator.standard_normal(8_000 * (number + 1))
                    soundfile.write(folder / f"{split}{number}.wav", sound, 16_000)
                    rows.append(Utterance(f"{split}{number}.wav", len(sound), "a |", "a", f"{lang}{number}"))
                manifest.write_split(folder, split, folder, rows)
    return data


def settings(*overrides: str) -> DictConfig:
    config.register()
    with initialize_config_dir(version_base="1.3", config_dir=str(config.CONFIGS)):
        return compose("evaluate", overrides=["device=cpu", *overrides])


def lid(model: Path, data: Path, out: Path, *overrides: str) -> DictConfig:
    given = (f"checkpoint={model}", f"data={data}", f"out={out}", "lid.lengths=[1]", "lid.keep_temperature=false")
    return settings("+benchmark=lid", *given, *overrides)


def scores(model: Path, data: Path, out: Path, *overrides: str) -> dict[str, Any]:
    return dict(json.loads((evaluator.evaluate(lid(model, data, out, *overrides)) / "scores.json").read_text()))


def test_each_corpus_is_scored_as_if_alone(model: Path, data: Path, tmp_path: Path) -> None:
    both = scores(model, data, tmp_path / "both", "corpora=[one,two]")
    assert {lang: row["utterances"] for lang, row in both["languages"].items()} == {"eng": 7, "fra": 3, "rus": 4}
    fitted = both["calibration"]["temperature"]
    assert (fitted["utterances"], fitted["data"]) == (8, str(data / "one"))
    assert both["settings"]["corpora"] == ["one", "two"] and both["lengths"][0]["utterances"] == 4 + 2 + 1 + 3
    lines = [line.split("\t") for line in (tmp_path / "both" / "predictions.tsv").read_text().splitlines()]
    assert lines[0][:3] == ["corpus", "lang", "uid"]
    assert Counter((line[0], line[1]) for line in lines[1:]) == {
        (c, lang): n for c in COUNTS for lang, n in COUNTS[c].items()
    }
    table = [line.split("\t") for line in (tmp_path / "both" / "scores.tsv").read_text().splitlines()]
    assert [line[:2] for line in table[1:]] == [
        [corpus, lang]
        for corpus, langs in (("", ["eng", "fra", "rus"]), *COUNTS.items())
        for lang in (*langs, "macro", "micro")
    ]
    said = lid_files.table(both)
    assert "top-1 one  top-1 two" in said and "two: 6 utterances of 2 languages; calibration error" in said
    for corpus, counts in COUNTS.items():
        alone = scores(model, data / corpus, tmp_path / corpus)
        assert "corpora" not in alone and alone["settings"]["corpora"] == []
        for key in ("languages", "macro", "micro"):
            assert both["corpora"][corpus][key] == alone[key]
        errors = [scored["calibration"]["raw_error"] for scored in (both["corpora"][corpus], alone)]
        assert errors[0] == pytest.approx(errors[1], abs=1e-3)
        assert sum(sum(alone["answers"][lang].values()) for lang in counts) == sum(counts.values())


def test_all_corpora_and_some_languages(model: Path, data: Path, tmp_path: Path, capsys: Any) -> None:
    every = scores(model, data, tmp_path / "every")
    named = scores(model, data, tmp_path / "named", "corpora=[one,two,one]")
    assert list(every["corpora"]) == ["one", "two"] and every["languages"] == named["languages"]
    some = scores(model, data, tmp_path / "some", "langs=[rus,fra]")
    assert {name: list(scored["languages"]) for name, scored in some["corpora"].items()} == {
        "one": ["fra"],
        "two": ["rus"],
    }
    out = tmp_path / "page.html"
    assert command.main([str(tmp_path / "every"), str(tmp_path / "named"), "--out", str(out)]) == 0
    assert "By corpus" in out.read_text() and "named (" not in out.read_text()
    capsys.readouterr()
    assert command.main([str(tmp_path / "every"), str(tmp_path / "some"), "--out", str(out)]) == 1
    assert "eng: model" in (said := capsys.readouterr().err) and "scored 7 utterances" in said


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["corpora=[one,three]"], r"corpora: three: no <lang>/test.tsv in .*three; corpora that have one: one, two"),
        (["corpora=[two]", "split=dev"], r"corpora: two: no <lang>/dev.tsv in .*two; corpora that have one: one"),
        (["corpora=[two]", "langs=[rus,fra]"], r"langs: fra: no test.tsv in any of two"),
        (
            ["corpora=[one,two]", "protocol=fleurs_lid"],
            "protocol=fleurs_lid is of one corpus: give its folder as data=",
        ),
        (["langs=[jpn]"], "langs: jpn: no test.tsv in any of one, two"),
    ],
)
def test_what_does_not_fit(model: Path, data: Path, tmp_path: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        scores(model, data, tmp_path / "out", *overrides)
    assert not (tmp_path / "out").exists()


FILES = ("predictions.tsv", "scores.tsv", "scores.json", "report.html", "confusion.png")


def reports(out: Path) -> dict[str, bytes]:
    """All that a report says, without the minute at which its page was made."""
    return {name: re.sub(rb"20\d\d-\d\d-\d\d( \d\d:\d\d)?", b"", (out / name).read_bytes()) for name in FILES}


def merge(out: Path) -> int:
    return merge_scores.main([str(out)])


@pytest.mark.parametrize(
    ("corpus", "num_shards", "overrides"),
    [
        ("", 2, ["corpora=[one,two]"]),
        ("", 3, ["lid.classes=[eng,fra]"]),  # the last has no dev and no class
        ("two", 2, []),  # without dev
        ("one", 2, ["protocol=fleurs_lid", "langs=[eng,fra]", "lid.keep_temperature=true"]),
        ("", 3, ["lid.fit_split=''"]),  # after the one that keeps it: what lies beside the model
    ],
)
def test_shards_together_are_the_whole(
    model: Path, data: Path, tmp_path: Path, capsys: Any, corpus: str, num_shards: int, overrides: list[str]
) -> None:
    out, beside = tmp_path / "out", calibration.temperature_file(model)
    if not corpus:  # dev of more languages than shards
        data = shutil.copytree(data, tmp_path / "data")
        for lang in COUNTS["two"]:
            shutil.copy(data / "two" / lang / "test.tsv", data / "two" / lang / "dev.tsv")
    scores(model, data / corpus, out, *overrides)
    expected, kept = reports(out), beside.exists() and beside.read_text()
    shutil.rmtree(out)
    if "lid.keep_temperature=true" in overrides:
        beside.unlink()
    for shard in reversed(range(num_shards)):
        cfg = lid(model, data / corpus, out, *overrides, f"num_shards={num_shards}", f"shard={shard}")
        evaluate.main.__wrapped__(cfg)  # type: ignore[attr-defined]
        assert not (out / "scores.json").exists()
    capsys.readouterr()
    assert merge(out) == 0
    assert "calibration error" in capsys.readouterr().out
    assert reports(out) == expected
    whole = shards.read(out)
    assert whole.fit.folder_N.tolist() == sorted(whole.fit.folder_N.tolist())  # more rows would add up otherwise
    assert (beside.exists() and beside.read_text()) == kept


def spoil(out: Path, shard: int, **changed: Any) -> None:
    path = out / f"shards/{shard}.npz"
    with np.load(path) as arrays:
        kept = dict(arrays)
    np.savez(path, **kept | {name: change(kept[name]) for name, change in changed.items()})


def test_nothing_is_told_of_shards_that_do_not_fit(model: Path, data: Path, tmp_path: Path, capsys: Any) -> None:
    out, other = tmp_path / "out", lid_models.write_stock(tmp_path / "lid.pt", lid_models.stock(latent_dim=8))
    used = shutil.copy(model, tmp_path / "used.pt")

    def hear(shard: int, *overrides: str) -> None:
        evaluator.evaluate(lid(used, data, out, "num_shards=2", f"shard={shard}", *overrides))

    def refusal() -> str:
        assert merge(out) == 1 and not (out / "scores.json").exists()
        return str(capsys.readouterr().err)

    with pytest.raises(ValueError, match="shard is 2, expected 0 to 1"):
        hear(2)
    hear(0)
    assert "1 of 2 shards missing: 1; run the same command with shard=... of each first" in refusal()
    hear(1, "lid.top=3")
    assert "1.json: lid is {" in refusal()
    shutil.copy(other, used)
    hear(1)
    assert "1.json: model is " in refusal()
    shutil.copy(model, used)
    hear(1)
    spoil(out, 1, logits=lambda rows: rows[:-1])
    again = "not the answers of a shard (logits of (2, 5), expected (3, 5)); evaluate it again"
    assert f"{out}/shards/1.json, 1.npz: {again}" in refusal()
    (out / "shards/1.npz").write_bytes((out / "shards/1.npz").read_bytes()[:100])
    assert "1.npz: not the answers of a shard (File is not a zip file" in refusal()
    hear(1)
    spoil(out, 1, **dict.fromkeys(("logits_NK", "target_N", "folder_N"), lambda rows: rows[1:]))
    assert "one/fra: 2 utterances of dev to fit the temperature on, expected 3 as in its manifest" in refusal()
    hear(1)
    path = out / "shards/1.json"
    fields = json.loads(path.read_text())
    fields["answers"].pop()
    path.write_text(json.dumps(fields))
    spoil(out, 1, logits=lambda rows: rows[:-1])
    assert "one/fra: scored 2 utterances, expected 3 as in its manifest" in refusal()
    hear(1)
    assert merge(out) == 0
    (out / "scores.json").unlink()


def test_what_a_shard_found_before_is_forgotten_when_it_starts(
    model: Path, data: Path, tmp_path: Path, capsys: Any
) -> None:
    out, copy = tmp_path / "out", Path(shutil.copytree(data, tmp_path / "data"))
    for table in copy.rglob("*.tsv"):
        table.write_text(table.read_text().replace(str(data), str(copy)))

    def hear(shard: int) -> None:
        evaluator.evaluate(lid(model, copy, out, "num_shards=2", f"shard={shard}"))

    for shard in range(2):
        hear(shard)
    sound = copy / "one" / "fra" / "test0.wav"
    samples, rate = soundfile.read(sound, dtype="int16")
    sound.unlink()
    with pytest.raises((OSError, ValueError), match=r"test0\.wav"):
        hear(1)
    assert (out / "shards/1.json").exists()  # nothing was started
    soundfile.write(sound, samples, rate, format="FLAC")
    content = bytearray(sound.read_bytes())
    quarter = len(content) // 4
    content[quarter : quarter + 99] = bytes(99)  # its header and its last sample are as they were
    sound.write_bytes(content)
    with pytest.raises((OSError, ValueError), match=r"test0\.wav"):
        hear(1)
    assert merge(out) == 1 and not (out / "scores.json").exists()
    assert "1 of 2 shards missing: 1" in capsys.readouterr().err


def test_speech_recognition_takes_one_corpus(data: Path, tmp_path: Path, caplog: Any) -> None:
    cfg = settings("checkpoint=x.pt", f"data={data}", f"out={tmp_path}", "corpora=[one]")
    with pytest.raises(SystemExit):
        evaluate.main.__wrapped__(cfg)  # type: ignore[attr-defined]
    assert "corpora=... is of language identification (+benchmark=lid)" in caplog.text
