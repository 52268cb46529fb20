"""Conversion as a whole: it proves itself, leaves nothing behind on an error, and stock fairseq reads the result."""

import dataclasses
import json
import os
import pickle
import resource
import signal as signals
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from mms_recipes import adapter_files, checkpoints, licences
from mms_recipes.conversion import converter
from mms_recipes.formats import stock_checkpoints
from mms_recipes.formats.huggingface import configs
from mms_recipes.formats.portable import LanguagePart, OnDemand
from mms_recipes.recognizer import load_recognizer
from mms_recipes.units import LETTERS as LETTERS_AS_UNITS
from mms_recipes.units import Units
from tests.fairseq import lid_models
from tests.fairseq.small import dictionary
from tests.fairseq.travelling import (
    LETTERS,
    huggingface_config,
    shake,
    signal,
    write_adapters,
    write_dense,
    write_huggingface,
    write_pretrained,
    write_tokenizer,
)

REPOSITORY = Path(__file__).resolve().parents[2]

# What a user of stock fairseq does: its own loader, and a language put in as its infer.py does
STOCK = """
import json, sys
import torch
from fairseq.data.dictionary import Dictionary
torch.serialization.add_safe_globals([Dictionary])
from fairseq import checkpoint_utils
path, data, out = sys.argv[1:]
given = torch.load(f"{out}.in")
models, cfg, task = checkpoint_utils.load_model_ensemble_and_task([path], arg_overrides={"data": data})
model = models[0].eval()
adapters = torch.load(path).get("adapter") or {None: None}
said = {}
with torch.inference_mode():
    for lang, part in adapters.items():
        corpus = {}
        if part is not None:
            rows, columns = part["model"]["w2v_encoder.proj.weight"].shape
            model.w2v_encoder.proj = torch.nn.Linear(columns, rows)
            parameters = dict(model.named_parameters())
            for name, tensor in part["model"].items():
                parameters[name].copy_(tensor)
            corpus = {"corpus_key": [0, 0]}
        if cfg.model._name == "wav2vec2":
            said[lang] = model.extract_features(given["source"], given["padding_mask"])["x"]
        elif cfg.model._name == "wav2vec_ctc":
            said[lang] = model(**given, **corpus)["encoder_out"].transpose(0, 1).log_softmax(-1)
        else:
            said[lang] = model(**given)
            assert list(task.target_dictionary.symbols) == ["eng", "fra", "rus", "jpn", "swh"]
assert not [name for name in sys.modules if name.startswith("mms_recipes")]
torch.save(said, out)
"""


def stock(path: Path, data: Path) -> dict[str | None, torch.Tensor]:
    """Run a checkpoint in a process that cannot import this package."""
    source, padding = signal()
    out = path.with_suffix(".said")
    torch.save({"source": source, "padding_mask": padding}, f"{out}.in")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-W", "ignore", "-c", STOCK, str(path), str(data), str(out)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=data, env=environment)
    assert ran.returncode == 0, ran.stderr
    return torch.load(out, weights_only=True)  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pretraining", "dense", "lsah", "lid"])
def test_stock_fairseq_reads_the_result_without_us(tmp_path: Path, kind: str) -> None:
    source, padding = signal()
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "model.pt"
    with torch.inference_mode():
        if kind == "pretraining":
            model = write_pretrained(tmp_path / "in.pt")
            expected = {None: model.extract_features(source, padding)["x"]}
        elif kind == "dense":
            dense = write_dense(tmp_path / "in.pt")
            logits = dense(source=source, padding_mask=padding)["encoder_out"]
            expected = {None: logits.transpose(0, 1).log_softmax(-1)}
        elif kind == "lid":
            lid = lid_models.stock()
            lid_models.write_stock(tmp_path / "in.pt", lid)
            expected = {None: lid(source=source, padding_mask=padding)}
        else:
            write_dense(tmp_path / "dense.pt")
            write_adapters(tmp_path / "in.pt", tmp_path / "dense.pt")
            ours = load_recognizer(tmp_path / "in.pt", torch.device("cpu"), list(LETTERS))
            lengths = (~padding).sum(1)
            expected = {
                lang: ours.emissions(source, lengths, [lang, lang])[0][..., : len(letters) + 4]
                for lang, letters in LETTERS.items()
            }
    converter.convert(tmp_path / "in.pt", target, "fairseq")
    said = stock(target, tmp_path / "out")
    assert said.keys() == expected.keys()
    for lang, found in said.items():
        if kind == "lid":
            torch.testing.assert_close(found, expected[lang], atol=1e-5, rtol=1e-5)
            continue
        for row, frames in enumerate((49, 29)):
            torch.testing.assert_close(found[row, :frames], expected[lang][row, :frames], atol=1e-5, rtol=1e-5)


def test_adapters_taken_out_of_one_file_say_the_same(tmp_path: Path) -> None:
    write_dense(tmp_path / "dense.pt")
    write_adapters(tmp_path / "adapters", tmp_path / "dense.pt")
    converter.convert(tmp_path / "adapters", tmp_path / "one.pt", "fairseq")
    converter.convert(tmp_path / "one.pt", tmp_path / "taken", "adapters", langs=["jpn", "eng"])
    assert sorted(path.name for path in (tmp_path / "taken").iterdir()) == ["eng.safetensors", "jpn.safetensors"]
    source, padding = signal()
    ours, taken = (
        load_recognizer(tmp_path / name, torch.device("cpu"), ["eng", "jpn"]) for name in ("adapters", "taken")
    )
    given = (source, (~padding).sum(1), ["eng", "jpn"])
    assert torch.equal(ours.emissions(*given)[0], taken.emissions(*given)[0])


def test_pieces_of_words_travel_with_their_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_dense(tmp_path / "dense.pt")
    adapters = write_adapters(tmp_path / "adapters", tmp_path / "dense.pt")
    spelt = dataclasses.replace(adapters["fra"], units=Units(b"a model of pieces"))
    adapter_files.write_adapter(tmp_path / "adapters", spelt)
    converter.convert(tmp_path / "adapters", tmp_path / "one.pt", "fairseq")
    converter.convert(tmp_path / "one.pt", tmp_path / "hf", "huggingface")
    assert "replace '|' by a space" in caplog.text
    converter.convert(tmp_path / "hf", tmp_path / "taken", "adapters")
    found = {lang: adapter_files.read_adapter(tmp_path / "taken" / f"{lang}.safetensors").units for lang in LETTERS}
    assert found == {"eng": LETTERS_AS_UNITS, "fra": spelt.units, "jpn": LETTERS_AS_UNITS}


# ---- the proof


def test_a_wrong_conversion_is_found_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dense(tmp_path / "dense.pt")
    monkeypatch.setitem(configs.ACTIVATIONS, "gelu", "relu")  # all tensors are right, the model is not
    with pytest.raises(ValueError, match=r"not converted: largest difference on the test signal: .*allowed is 0.0001"):
        converter.convert(tmp_path / "dense.pt", tmp_path / "out" / "hf", "huggingface")
    assert not list((tmp_path / "out").iterdir())


def test_a_wrong_tensor_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dense(tmp_path / "dense.pt")
    to_checkpoint = stock_checkpoints.to_checkpoint

    def wrong(model: Any) -> dict[str, Any]:
        state = to_checkpoint(model)
        state["model"]["w2v_encoder.proj.bias"] = state["model"]["w2v_encoder.proj.bias"] + 1e-6
        return state

    monkeypatch.setattr(stock_checkpoints, "to_checkpoint", wrong)
    with pytest.raises(ValueError, match=r"head: not converted: proj.bias is not the same when read back"):
        converter.convert(tmp_path / "dense.pt", tmp_path / "out" / "x.pt", "fairseq")
    assert not list((tmp_path / "out").iterdir())


def test_the_largest_difference_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    write_dense(tmp_path / "dense.pt")
    converter.convert(tmp_path / "dense.pt", tmp_path / "hf", "huggingface")
    assert "all tensors equal; largest difference on the test signal: " in caplog.text
    assert "(this package against transformers)" in caplog.text


def test_without_transformers_it_says_who_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setitem(sys.modules, "transformers", None)
    write_dense(tmp_path / "dense.pt")
    converter.convert(tmp_path / "dense.pt", tmp_path / "hf", "huggingface")
    assert "against this package, as transformers is not installed" in caplog.text


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    write_dense(tmp_path / "mms1b_mine.pt")
    command = [sys.executable, "-m", "mms_recipes.convert", "mms1b_mine.pt", "hf", "--to"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    ran = subprocess.run([*command, "huggingface"], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert "licence: cc-by-nc-4.0, no commercial use" in ran.stderr and "largest difference" in ran.stderr
    assert "Warning" not in ran.stderr and "tensorboard" not in ran.stderr
    again = subprocess.run([*command, "fairseq"], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert again.returncode == 1 and "hf: not empty; give a new place" in again.stderr
    assert "Traceback" not in again.stderr


# ---- where it goes


def test_what_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    (tmp_path / "file.pt").write_text("x")
    for name, fault in (("full", "not empty"), ("file.pt", "is already there")):
        with pytest.raises(FileExistsError, match=fault):  # before the source is looked at, which is not there
            converter.convert(tmp_path / "none.pt", tmp_path / name, "fairseq")
    with pytest.raises(OSError, match=r"cannot be written .*; give a place that can"):
        converter.convert(tmp_path / "none.pt", tmp_path / "file.pt" / "x", "fairseq")
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        converter.convert(tmp_path / "none.pt", tmp_path / "new" / "x.pt", "fairseq")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.pt", "full", "new"]


def test_class_lists_of_two_models_do_not_mix(tmp_path: Path) -> None:
    lid_models.write_stock(tmp_path / "in.pt", lid_models.stock())
    converter.convert(tmp_path / "in.pt", tmp_path / "out" / "a.pt", "fairseq")
    assert (tmp_path / "out" / "dict.lang.txt").read_text() == "eng 1\nfra 1\nrus 1\njpn 1\nswh 1\n"
    with pytest.raises(FileExistsError, match=r"dict.lang.txt: there already; the class list must lie beside b.pt"):
        converter.convert(tmp_path / "in.pt", tmp_path / "out" / "b.pt", "fairseq")


@pytest.mark.parametrize("to", ["huggingface", "fairseq"])
def test_a_full_disk(tmp_path: Path, to: str) -> None:
    write_dense(tmp_path / "dense.pt")
    model = converter.read(tmp_path / "dense.pt")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signals.signal(signals.SIGXFSZ, signals.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # as a full disk: writing fails in the middle
    try:
        with pytest.raises(OSError, match="could not be written"):
            converter.write(tmp_path / "out", model, to)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signals.signal(signals.SIGXFSZ, before)


def test_a_fault_of_the_program_is_not_told_as_a_full_disk(tmp_path: Path) -> None:
    def broken(lang: str) -> LanguagePart:
        raise RuntimeError("mat1 and mat2")

    write_dense(tmp_path / "dense.pt")
    write_adapters(tmp_path / "adapters", tmp_path / "dense.pt")
    model = dataclasses.replace(converter.read(tmp_path / "adapters"), adapters=OnDemand(["eng"], broken))
    for to in ("huggingface", "fairseq", "adapters"):
        with pytest.raises(RuntimeError, match=r"^mat1 and mat2$"):
            converter.write(tmp_path / f"to {to}", model, to)


def test_files_are_readable_for_all_whom_the_umask_allows(tmp_path: Path) -> None:
    write_dense(tmp_path / "dense.pt")
    before = os.umask(0o022)
    try:
        model = converter.read(tmp_path / "dense.pt")
        converter.write(tmp_path / "hf", model, "huggingface")
        converter.write(tmp_path / "x.pt", model, "fairseq")
    finally:
        os.umask(before)
    written = [tmp_path / "x.pt", *(tmp_path / "hf").iterdir()]
    assert {path.stat().st_mode & 0o777 for path in written} == {0o644}


def test_a_base_is_the_same_with_a_deep_quantizer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """fairseq names the layers of a quantizer by its depth (quantizer.weight_proj.0.0.weight)."""
    write_pretrained(tmp_path / "deep.pt", quantizer_depth=2)
    found = converter.read(tmp_path / "deep.pt")
    assert "quantizer.weight_proj.0.0.weight" in found.encoder
    assert found.hash == checkpoints.read_base(tmp_path / "deep.pt").hash
    caplog.set_level("INFO")
    converter.convert(tmp_path / "deep.pt", tmp_path / "again.pt", "fairseq")
    assert "all tensors equal; largest difference" in caplog.text
    assert checkpoints.read_base(tmp_path / "again.pt").hash == found.hash
    state = torch.load(tmp_path / "deep.pt", weights_only=True)
    del state["model"]["quantizer.vars"]  # what is left of pretraining is no encoder's
    torch.save(state, tmp_path / "rest.pt")
    assert converter.read(tmp_path / "rest.pt").hash == found.hash
    assert not [name for name in converter.read(tmp_path / "rest.pt").encoder if name.startswith("quantizer.")]


def test_an_empty_folder_is_a_new_place(tmp_path: Path) -> None:
    write_dense(tmp_path / "dense.pt")
    (tmp_path / "hf").mkdir()
    converter.convert(tmp_path / "dense.pt", tmp_path / "hf", "huggingface")
    assert (tmp_path / "hf" / "config.json").is_file()


# ---- bad input


def test_vocabulary_and_head_of_different_sizes(tmp_path: Path) -> None:
    write_dense(tmp_path / "dense.pt")
    state = torch.load(tmp_path / "dense.pt", weights_only=False)
    state["task_state"]["target_dictionary"] = dictionary("|ab")
    torch.save(state, tmp_path / "wrong.pt")
    with pytest.raises(ValueError, match=r"wrong.pt: 7 letters, but the head has 10 rows"):
        converter.read(tmp_path / "wrong.pt")
    write_adapters(tmp_path / "adapters", tmp_path / "dense.pt")
    converter.convert(tmp_path / "adapters", tmp_path / "hf", "huggingface")
    vocabulary = json.loads((tmp_path / "hf" / "vocab.json").read_text(encoding="utf-8"))
    del vocabulary["fra"]["é"]
    (tmp_path / "hf" / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    with pytest.raises(ValueError, match=r"vocab.json: \d+ tokens of 'fra', but the head has \d+ rows"):
        converter.read(tmp_path / "hf").adapters["fra"]
    del vocabulary["fra"]
    (tmp_path / "hf" / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    with pytest.raises(ValueError, match=r"adapter.fra.safetensors: no vocabulary for 'fra'"):
        converter.read(tmp_path / "hf")


def test_a_folder_that_is_not_whole(tmp_path: Path) -> None:
    model = shake(transformers.Wav2Vec2ForCTC(huggingface_config(vocab_size=6)))
    write_huggingface(tmp_path, model)
    with pytest.raises(FileNotFoundError, match=r"vocab.json: not there; without the tokenizer's files"):
        converter.read(tmp_path)
    write_tokenizer(tmp_path, {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "a": 5})
    assert converter.read(tmp_path).symbols[4:] == ["|", "a"]
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"preprocessor_config.json: not there, nor processor_config.json; download the whole"
    ):
        converter.read(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"model.safetensors: cut off, or no file of tensors"):
        converter.read(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no weights; expected one of model\.safetensors"):
        converter.read(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"x": "model-1.safetensors"}}')
    with pytest.raises(FileNotFoundError, match=r"model-1.safetensors: not there, but model.safetensors.index.json"):
        converter.read(tmp_path)


def test_tensors_that_are_not_those_of_the_config(tmp_path: Path) -> None:
    write_huggingface(tmp_path, shake(transformers.Wav2Vec2ForPreTraining(huggingface_config())))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(ValueError, match=r"'encoder.layers.3.attention.k_proj.weight' is missing \(and 15 more"):
        converter.read(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "hubert"}))
    with pytest.raises(ValueError, match=r"config.json: model_type: found 'hubert', expected 'wav2vec2'"):
        converter.read(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json:1: no JSON"):
        converter.read(tmp_path)


def test_an_adapter_of_another_base(tmp_path: Path) -> None:
    write_dense(tmp_path / "dense.pt")
    write_adapters(tmp_path / "adapters", tmp_path / "dense.pt")
    state = torch.load(tmp_path / "dense.pt", weights_only=False)
    state["model"]["w2v_encoder.w2v_model.mask_emb"] += 1
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"was trained on base \w+, but the loaded base is"):
        converter.convert(tmp_path / "adapters", tmp_path / "x", "huggingface", base=tmp_path / "other.pt")
    with pytest.raises(FileNotFoundError, match=r"gone\.pt: not there; give the base of the adapters with --base"):
        converter.read(tmp_path / "adapters", base=tmp_path / "gone.pt")
    for name in ("dense", "other"):
        write_adapters(tmp_path / f"{name}_adapters", tmp_path / f"{name}.pt")
        converter.convert(tmp_path / f"{name}_adapters", tmp_path / f"{name}_hf", "huggingface")
    file = "adapter.fra.safetensors"
    (tmp_path / "dense_hf" / file).write_bytes((tmp_path / "other_hf" / file).read_bytes())
    with pytest.raises(ValueError, match=r"fra.safetensors: was trained on base '\w+', but dense_hf holds base"):
        converter.read(tmp_path / "dense_hf").adapters["fra"]
    write_dense(tmp_path / "wide.pt", encoder_embed_dim=24, encoder_attention_heads=3)
    write_adapters(tmp_path / "wide_adapters", tmp_path / "wide.pt")
    converter.convert(tmp_path / "wide_adapters", tmp_path / "wide_hf", "huggingface")
    wide = {name: tensor for name, tensor in torch_file(tmp_path / "wide_hf" / file).items()}
    (tmp_path / "dense_hf" / file).unlink()
    torch.save(wide, tmp_path / "dense_hf" / "adapter.fra.bin")
    with pytest.raises(ValueError, match=r"fra.bin: of another base: .*found \(1, 4, 24\), expected \(1, 4, 32\)"):
        converter.read(tmp_path / "dense_hf").adapters["fra"]


def torch_file(path: Path) -> dict[str, torch.Tensor]:
    import safetensors.torch

    return safetensors.torch.load_file(path)


def test_a_language_that_is_not_there(tmp_path: Path) -> None:
    write_dense(tmp_path / "dense.pt")
    write_adapters(tmp_path / "adapters", tmp_path / "dense.pt")
    with pytest.raises(ValueError, match=r"no adapter for frc \(nearest: fra\); there are 3: eng, fra, jpn"):
        converter.convert(tmp_path / "adapters", tmp_path / "x", "huggingface", langs=["frc", "eng"])
    with pytest.raises(ValueError, match=r"dense.pt: no adapter for eng \(nearest: none\); there are 0"):
        converter.convert(tmp_path / "dense.pt", tmp_path / "x", "huggingface", langs=["eng"])
    with pytest.raises(ValueError, match="a ctc model, which has no adapters"):
        converter.convert(tmp_path / "dense.pt", tmp_path / "x", "adapters")


def test_a_language_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    write_dense(tmp_path / "dense.pt")
    adapters = write_adapters(tmp_path / "adapters", tmp_path / "dense.pt")
    base = checkpoints.read_base(tmp_path / "dense.pt")
    adapter_files.write_one_file(tmp_path / "one.pt", base, list(adapters.values()))
    state = torch.load(tmp_path / "one.pt", weights_only=False)
    state["adapter"]["../../evil"] = state["adapter"].pop("eng")
    torch.save(state, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"language '../../evil' cannot be the name of a file"):
        converter.convert(tmp_path / "evil.pt", tmp_path / "x", "huggingface")


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple:
        return (open, ("evil_ran", "w"))


def test_objects_are_read_only_when_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_dense(tmp_path / "dense.pt")
    state = torch.load(tmp_path / "dense.pt", weights_only=False)
    torch.save(state | {"extra_state": {"mine": Evil()}}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"refused: it holds Python objects .*add --trust-checkpoint"):
        converter.convert(tmp_path / "evil.pt", tmp_path / "x.pt", "fairseq")
    write_huggingface(tmp_path / "hf", transformers.Wav2Vec2ForPreTraining(huggingface_config()))
    (tmp_path / "hf" / "model.safetensors").unlink()
    (tmp_path / "hf" / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Evil()}, protocol=2))
    with pytest.raises(ValueError, match=r"pytorch_model.bin: refused: it holds Python objects"):
        converter.read(tmp_path / "hf")
    assert not (tmp_path / "evil_ran").exists()
    converter.convert(tmp_path / "evil.pt", tmp_path / "x.pt", "fairseq", trust=True)
    assert (tmp_path / "evil_ran").exists()
    assert checkpoints.load_checkpoint(tmp_path / "x.pt")["extra_state"] == {}


def test_other_models_are_named(tmp_path: Path) -> None:
    for name, fault in (("hubert", "a 'hubert' model, expected"), ("mms_lsah", "give the folder of its adapters")):
        torch.save({"model": {}, "cfg": {"model": {"_name": name}, "task": {}}}, tmp_path / "x.pt")
        with pytest.raises(ValueError, match=fault):
            converter.read(tmp_path / "x.pt")


def test_classes_may_be_given(tmp_path: Path) -> None:
    lid_models.write_stock(tmp_path / "lid.pt", lid_models.stock(), classes=None)
    with pytest.raises(ValueError, match="no dictionary inside"):
        converter.read(tmp_path / "lid.pt")
    assert converter.read(tmp_path / "lid.pt", classes=list("abcde")).symbols == list("abcde")
    with pytest.raises(ValueError, match="3 classes, but the head has 5 rows"):
        converter.read(tmp_path / "lid.pt", classes=list("abc"))


# ---- licence


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("mms1b_all.pt", "cc-by-nc-4.0"),
        ("base_1b.pt", "cc-by-nc-4.0"),
        ("facebook/mms-1b-all", "cc-by-nc-4.0"),
        ("/cache/models--facebook--mms-lid-126/snapshots/3f", "cc-by-nc-4.0"),
        ("xlsr_53_56k.pt", "unknown"),
        ("checkpoint_best.pt", "unknown"),
        ("facebook/wav2vec2-base", "unknown"),
    ],
)
def test_licences_of_known_names(name: str, licence: str) -> None:
    assert licences.of_name(name) == licence


def test_the_licence_goes_with_the_weights(tmp_path: Path) -> None:
    write_dense(tmp_path / "mms1b_x.pt")
    converter.convert(tmp_path / "mms1b_x.pt", tmp_path / "a", "huggingface")
    assert (tmp_path / "a" / "README.md").read_text().startswith("---\nlicense: cc-by-nc-4.0\n")
    converter.convert(tmp_path / "a", tmp_path / "b.pt", "fairseq")
    found = converter.read(tmp_path / "b.pt").origin
    assert found.licence == "cc-by-nc-4.0"
    assert found.provenance == ("huggingface form of mms1b_x.pt", "fairseq form of a")
    with pytest.raises(ValueError, match=r"b.pt: is under 'cc-by-nc-4.0', .* cannot change that to 'mit'"):
        converter.convert(tmp_path / "b.pt", tmp_path / "c", "huggingface", licence="mit")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    del config["licence"]
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    assert converter.read(tmp_path / "a").origin.licence == "cc-by-nc-4.0"  # from the model card


def test_what_was_trained_from_a_known_base_has_its_licence(tmp_path: Path) -> None:
    write_dense(tmp_path / "dense.pt")
    state = torch.load(tmp_path / "dense.pt", weights_only=False)
    state["cfg"]["model"]["w2v_path"] = "/data/base_1b.pt"
    torch.save(state, tmp_path / "dense.pt")
    found = converter.read(tmp_path / "dense.pt").origin
    assert found.licence == "cc-by-nc-4.0" and found.provenance == ("trained from base_1b.pt",)


def test_an_unknown_licence_is_said_to_be_unknown(tmp_path: Path) -> None:
    write_dense(tmp_path / "x.pt")
    found = converter.convert(tmp_path / "x.pt", tmp_path / "a", "huggingface")
    assert "licence: unknown" in found.origin.describe()
    assert "license: other" in (tmp_path / "a" / "README.md").read_text()
    assert converter.read(tmp_path / "a").origin.licence == "unknown"
    converter.convert(tmp_path / "a", tmp_path / "b.pt", "fairseq", licence="Apache-2.0")
    assert converter.read(tmp_path / "b.pt").origin.licence == "apache-2.0"
