"""Pieces of words in place of letters: trained dense and LSAH, carried in checkpoints, searched with a lexicon."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import build_units
import pytest
import torch
from omegaconf import OmegaConf

from mms_recipes import adapter_files, checkpoints, config, manifest, runner
from mms_recipes.decoding import beam
from mms_recipes.evaluation import evaluator
from mms_recipes.models.adapters import AdapterStack
from mms_recipes.recognizer import read_spelling
from mms_recipes.unit_kinds import UnitKind
from mms_recipes.units import LETTERS, Units, read_units
from tests.fairseq import tones
from tests.fairseq.test_decoding import write_arpa

pytest.importorskip("sentencepiece", reason="sentencepiece (extra [decoding]) is missing: this test did NOT run")

LANGS = ("eng", "fra")
PIECES = "task.units=sentencepiece"
SHORT = ("optimization.max_update=2", "dataset.validate_interval_updates=1")


def build(data: Path) -> Path:
    assert build_units.main([str(data), "--vocab-size", "10"]) == 0
    return data


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, and runs that have done a few updates: letters, dense and lsah."""
    folder = tmp_path_factory.mktemp("units")
    data = build(tones.write_corpus(folder / "data", LANGS, train=12, dev=4))
    runs = folder / "runs"
    tones.train("smoke_pretrain", data, runs, "optimization.max_update=1")
    tones.train("smoke_ctc", data, runs, *SHORT, "name=letters")
    tones.train("smoke_ctc", data, runs, *SHORT, PIECES, "name=dense")
    base = f"model.base={runs / 'dense/checkpoints/checkpoint_last.pt'}"
    tones.train("smoke_lsah", data, runs, *SHORT, PIECES, base, "name=lsah", "task.update_seconds=3")
    return folder


def evaluate(folder: Path, checkpoint: Path, name: str, **decoding: object) -> dict:
    node = OmegaConf.structured(config.BeamConfig if decoding else config.DecodingConfig)
    cfg = OmegaConf.structured(config.EvaluateConfig)
    cfg.decoding = OmegaConf.merge(node, decoding)
    given = {"checkpoint": str(checkpoint), "data": str(folder / "data"), "out": str(folder / name)}
    return json.loads((evaluator.evaluate(OmegaConf.merge(cfg, given)) / "scores.json").read_text())  # type: ignore[arg-type]


# ---- training


@pytest.mark.slow
def test_models_of_pieces_learn(tmp_path: Path) -> None:
    data, runs = build(tones.write_corpus(tmp_path / "data", LANGS)), tmp_path / "runs"
    for experiment in ("smoke_pretrain", "smoke_ctc", "smoke_lsah"):
        tones.train(experiment, data, runs, *([] if experiment == "smoke_pretrain" else [PIECES]))
    dense = evaluate(tmp_path, runs / "smoke_ctc/checkpoints/checkpoint_best.pt", "dense")
    lsah = evaluate(tmp_path, runs / "smoke_lsah/adapters", "lsah")
    assert dense["macro"]["cer"] < 40
    assert lsah["macro"]["cer"] < 40  # from heads that knew nothing
    lm = tmp_path / "lm"
    for lang in LANGS:
        sentences = [line.split() for line in (data / lang / "test.wrd").read_text().splitlines()]
        write_arpa(lm / lang / "lm.bin", sentences)
        _, units = read_spelling(runs / "smoke_lsah/adapters", lang)
        words = sorted({word for sentence in sentences for word in sentence})
        (lm / lang / "lexicon.txt").write_text("".join(f"{word}\t{' '.join(units.encode(word))}\n" for word in words))
    searched = evaluate(tmp_path, runs / "smoke_lsah/adapters", "lm", search="word_lm", lm=str(lm), word_score=0.0)
    assert searched["macro"]["wer"] <= lsah["macro"]["wer"]
    assert searched["macro"]["cer"] < 10  # who knows the sentences hears them


def test_heads_are_of_pieces(chain: Path) -> None:
    dense = checkpoints.read_base(chain / "runs/dense/checkpoints/checkpoint_last.pt")
    assert dense.dictionary is not None and dense.head is not None
    union = manifest.read_dictionary(chain / "data/dict.units.txt")
    assert dense.dictionary.symbols == [*manifest.SPECIAL_TOKENS, *union] and len(dense.head[1]) == len(union) + 4
    own = manifest.read_dictionary(chain / "data/eng/dict.units.txt")
    assert adapter_files.read_adapters(chain / "runs/lsah/adapters")["eng"].letters[4:] == own
    assert any(len(unit) > 1 for unit in own)


def test_the_run_says_of_which_labels_it_is(chain: Path) -> None:
    for name, kind in (("letters", UnitKind.letters), ("lsah", UnitKind.sentencepiece)):
        known = json.loads((chain / "runs" / name / "run.json").read_text())["manifests"]
        files = {kind.dictionary, *(f"{lang}/{file}" for lang in LANGS for file in kind.files)}
        files |= {f"{lang}/{split}.{s}" for lang in LANGS for split in ("train", "dev") for s in ("tsv", kind.suffix)}
        assert known.keys() == files


def test_letters_are_trained_as_if_there_were_no_pieces(chain: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(chain / "data", tmp_path / "data"))
    for path in [*data.rglob("*.units"), *data.rglob("dict.units.txt"), *data.rglob("units.*")]:
        path.unlink()
    base = f"model.base={chain / 'runs/smoke_pretrain/checkpoints/checkpoint_last.pt'}"
    run = tones.train("smoke_ctc", data, tmp_path / "runs", *SHORT, base)
    ours, theirs = (
        checkpoints.load_checkpoint(folder / "checkpoints/checkpoint_last.pt")
        for folder in (run, chain / "runs/letters")
    )
    assert ours["model"].keys() == theirs["model"].keys()
    assert all(torch.equal(tensor, theirs["model"][name]) for name, tensor in ours["model"].items())
    assert adapter_files.UNITS not in ours["task_state"]


# ---- what travels with a model


def test_units_travel_with_every_kind_of_model(chain: Path, tmp_path: Path) -> None:
    adapters, dense = chain / "runs/lsah/adapters", chain / "runs/dense/checkpoints/checkpoint_last.pt"
    base = checkpoints.read_base(dense)
    adapter_files.write_one_file(tmp_path / "one.pt", base, list(adapter_files.read_adapters(adapters).values()))
    for lang in LANGS:
        units = read_units(chain / "data" / lang / "units.model")
        words = (chain / "data" / lang / "test.wrd").read_text().split("\n")[0]
        for checkpoint in (adapters, tmp_path / "one.pt", dense):
            symbols, found = read_spelling(checkpoint, lang)
            assert found == units and set(found.encode(words)) <= set(symbols)
    assert adapter_files.read_adapters(tmp_path / "one.pt")["eng"].units == read_units(chain / "data/eng/units.model")
    one = checkpoints.load_checkpoint(tmp_path / "one.pt")
    assert one["cfg"]["task"]["labels"] == "units"  # what stock fairseq's infer.py then reads as reference
    assert read_spelling(chain / "runs/letters/checkpoints/checkpoint_last.pt", "eng")[1] == LETTERS


def small_adapter(units: Units) -> adapter_files.Adapter:
    letters = ["<s>", "<pad>", "</s>", "<unk>", "|", "a"]
    stack = AdapterStack(["eng"], [len(letters)], 1, 8, 2)
    stack.reset(1, "kaiming")
    tensors = stack.language_state("eng")
    return adapter_files.Adapter("eng", "0" * 16, letters, 1, 2.0, tensors, units=units)


def test_an_adapter_without_the_field_is_of_letters(tmp_path: Path) -> None:
    """As written before there were pieces; letters are still written so."""
    import safetensors

    adapter = small_adapter(LETTERS)
    path = adapter_files.write_adapter(tmp_path, adapter)
    with safetensors.safe_open(path, "pt") as file:
        assert "units" not in file.metadata()
    assert adapter_files.read_adapter(path).units == LETTERS


def test_damaged_units_in_an_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = small_adapter(Units(b"model"))
    path = adapter_files.write_adapter(tmp_path, adapter)
    assert adapter_files.read_adapter(path).units == Units(b"model")
    monkeypatch.setattr(Units, "to_text", lambda self: "no base64!")
    with pytest.raises(ValueError, match=r"eng\.safetensors: units: no model of sentencepiece"):
        adapter_files.read_adapter(adapter_files.write_adapter(tmp_path, adapter))


def test_a_model_that_is_not_of_the_language(chain: Path) -> None:
    with pytest.raises(ValueError, match=r"checkpoint_last\.pt: no units of 'rus'; there are those of eng, fra"):
        read_spelling(chain / "runs/dense/checkpoints/checkpoint_last.pt", "rus")
    with pytest.raises(FileNotFoundError, match=r"rus\.safetensors: no such adapter"):
        read_spelling(chain / "runs/lsah/adapters", "rus")
    with pytest.raises(ValueError, match="has no CTC head with a dictionary; give a dense CTC checkpoint or adapters"):
        read_spelling(chain / "runs/smoke_pretrain/checkpoints/checkpoint_last.pt", "eng")


# ---- a search


def test_a_lexicon_of_letters_is_refused_before_any_search(chain: Path, tmp_path: Path) -> None:
    for lang in LANGS:
        write_arpa(tmp_path / lang / "lm.bin", [["abe", "cab"]])
        (tmp_path / lang / "lexicon.txt").write_text("abe a b e |\ncab c a b |\n")
    with pytest.raises(ValueError, match=r"eng/lexicon\.txt: spells .*, but the model writes pieces"):
        evaluate(chain, chain / "runs/lsah/adapters", "refused", search="word_lm", lm=str(tmp_path))
    symbols, _ = read_spelling(chain / "runs/letters/checkpoints/checkpoint_last.pt", "eng")
    assert beam.check_files(tmp_path / "eng", symbols, words=True)


# ---- what stops a run


@pytest.fixture
def train(chain: Path, tmp_path: Path) -> Callable[..., Path]:
    """Train shortly on a copy of the corpus, after something was done to it."""

    def start(spoil: Callable[[Path], object], *overrides: str, experiment: str = "smoke_lsah") -> Path:
        data = Path(shutil.copytree(chain / "data", tmp_path / "data", dirs_exist_ok=True))
        spoil(data)
        base = f"model.base={chain / 'runs/smoke_pretrain/checkpoints/checkpoint_last.pt'}"
        return tones.train(experiment, data, tmp_path / "runs", *SHORT, base, *overrides)

    return start


@pytest.mark.parametrize("experiment", ["smoke_ctc", "smoke_lsah"])
def test_units_that_were_never_built(train: Callable[..., Path], experiment: str) -> None:
    def forget(data: Path) -> None:
        for path in data.rglob("*units*"):
            path.unlink()

    with pytest.raises(ValueError, match=r"eng/train\.units: no such file; rebuild it with tools/build_units\.py"):
        train(forget, PIECES, experiment=experiment)


@pytest.mark.parametrize("experiment", ["smoke_ctc", "smoke_lsah"])
def test_units_of_another_language(train: Callable[..., Path], experiment: str) -> None:
    def swap(data: Path) -> None:
        shutil.copyfile(data / "fra/units.model", data / "eng/units.model")

    with pytest.raises(ValueError, match=r"eng/(dict|train)\.units.*; build the units again with tools/build"):
        train(swap, PIECES, experiment=experiment)


def test_a_run_does_not_go_on_in_other_units(chain: Path, train: Callable[..., Path]) -> None:
    train(lambda data: None, PIECES)
    more = "optimization.max_update=3"
    with pytest.raises(ValueError, match=r"began with task\.units=sentencepiece, now it is task\.units=letters"):
        train(lambda data: None, more, "accept_changes=true")

    def learn_more(data: Path) -> None:
        (data / "fra/train.wrd").write_text((data / "fra/train.wrd").read_text().replace("a", "b"))
        build(data)

    with pytest.raises(ValueError, match=r"fra/units\.model: not the pieces that this run began with .*built again"):
        train(learn_more, PIECES, more)


def test_a_kind_that_there_is_not(chain: Path) -> None:
    with pytest.raises(Exception, match="sentencepeice") as error:
        tones.composed("smoke_ctc", f"task.data={chain / 'data'}", "task.units=sentencepeice")
    assert "sentencepiece" in runner.explain(error.value)  # what there is instead
