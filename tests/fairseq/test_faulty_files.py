"""Files of models that are faulty or of a kind that is not known: each is refused with what was found in it."""

import dataclasses
import json
import pickle
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers

from mms_recipes import adapter_files, checkpoints
from mms_recipes.conversion import converter, proof
from mms_recipes.formats.huggingface import vocabularies
from tests.fairseq import lid_models
from tests.fairseq.travelling import (
    huggingface_config,
    shake,
    write_adapters,
    write_dense,
    write_huggingface,
    write_tokenizer,
)

TOKENS = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "a": 5}
State = dict[str, Any]

# ---- checkpoints


def without_config(state: State) -> None:
    del state["cfg"]


def without_head(state: State) -> None:
    for leaf in ("weight", "bias"):
        del state["model"][f"w2v_encoder.proj.{leaf}"]


def with_blank_weight(state: State) -> None:
    state["cfg"]["model"]["blank_weight"] = 2.0


def with_one_adapter(state: State) -> None:
    state["model"]["w2v_encoder.w2v_model.encoder.layers.0.adapter_layer.W_a"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (without_config, "no 'cfg' or 'args' inside: what architecture it has is not known"),
        (without_head, r"no CTC head inside \(w2v_encoder.proj\)"),
        (with_blank_weight, r"blank_weight=2.0 is added to its blank; expected 0"),
        (with_one_adapter, r"adapters inside the model, but no table of languages \('adapter'\); expected the form"),
    ],
)
def test_a_dense_checkpoint(tmp_path: Path, spoil: Callable[[State], None], told: str) -> None:
    write_dense(tmp_path / "x.pt")
    state = torch.load(tmp_path / "x.pt", weights_only=False)
    spoil(state)
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=f"x.pt: {told}"):
        converter.read(tmp_path / "x.pt")


def test_another_pooling(tmp_path: Path) -> None:
    lid_models.write_stock(tmp_path / "lid.pt", lid_models.stock())
    state = torch.load(tmp_path / "lid.pt", weights_only=False)
    state["cfg"]["model"]["pooling"] = "max"
    torch.save(state, tmp_path / "lid.pt")
    with pytest.raises(ValueError, match=r"lid.pt: pooling='max', expected 'mean', the only one that fairseq builds"):
        converter.read(tmp_path / "lid.pt")


def test_trust_does_not_make_a_checkpoint_of_it(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    torch.save({"weights": 1}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"text.pt: cannot be read even unprotected \(UnpicklingError: "):
        converter.read(tmp_path / "text.pt", trust=True)
    with pytest.raises(ValueError, match=r"other.pt: not a fairseq checkpoint: no 'model' inside"):
        converter.read(tmp_path / "other.pt", trust=True)


# ---- adapters


def test_folders_and_files_of_adapters(tmp_path: Path) -> None:
    write_dense(tmp_path / "dense.pt")
    write_adapters(tmp_path / "adapters", tmp_path / "dense.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty: no adapters \(\*.safetensors\) in this folder"):
        adapter_files.read_adapters(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"dense.pt: no adapters inside; found \['cfg', 'extra_state', 'model'"):
        adapter_files.read_adapters(tmp_path / "dense.pt")
    with pytest.raises(ValueError, match=r"x.pt: no adapters to write"):
        adapter_files.write_one_file(tmp_path / "x.pt", checkpoints.read_base(tmp_path / "dense.pt"), [])
    (tmp_path / "adapters" / "fra.safetensors").rename(tmp_path / "adapters" / "ita.safetensors")
    with pytest.raises(ValueError, match=r"ita.safetensors: the adapter of 'fra' under another name; give it its own"):
        adapter_files.read_adapters(tmp_path / "adapters")["ita"]


def test_a_full_disk_leaves_the_adapter_before(tmp_path: Path) -> None:
    write_dense(tmp_path / "dense.pt")
    adapter = write_adapters(tmp_path / "adapters", tmp_path / "dense.pt")["fra"]
    file = tmp_path / "adapters" / "fra.safetensors"
    before = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match=r"fra.safetensors: the adapter could not be written \(.*\); the one before,"):
            adapter_files.write_adapter(tmp_path / "adapters", adapter)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert file.read_bytes() == before and len(list(file.parent.iterdir())) == 3


# ---- what was written, and is read back


def test_what_reads_back_otherwise_is_refused(tmp_path: Path) -> None:
    write_dense(tmp_path / "dense.pt")
    write_adapters(tmp_path / "adapters", tmp_path / "dense.pt")
    model = converter.read(tmp_path / "adapters")
    without = dataclasses.replace(model, adapters={lang: model.adapters[lang] for lang in ("eng", "fra")})
    with pytest.raises(ValueError, match="not converted: letters, classes or languages differ when read back"):
        converter._require_equal(model, without)
    parts = dict(model.adapters)
    parts["fra"] = parts["fra"]._replace(symbols=[*parts["fra"].symbols[:-1], "x"])
    with pytest.raises(ValueError, match="not converted: the letters of fra differ when read back"):
        converter._require_equal(model, dataclasses.replace(model, adapters=parts))


def test_tensors_that_transformers_does_not_find(tmp_path: Path) -> None:
    write_dense(tmp_path / "dense.pt")
    converter.convert(tmp_path / "dense.pt", tmp_path / "hf", "huggingface")
    tensors = safetensors.torch.load_file(tmp_path / "hf" / "model.safetensors")
    del tensors["lm_head.bias"]
    safetensors.torch.save_file(tensors, tmp_path / "hf" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"hf: transformers does not find its tensors in it: lm_head.bias"):
        proof.Transformers(tmp_path / "hf", converter.read(tmp_path / "dense.pt"))


# ---- folders of Hugging Face's


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dense CTC model of six letters, as transformers writes it."""
    write_huggingface(tmp_path / "hf", shake(transformers.Wav2Vec2ForCTC(huggingface_config(vocab_size=6))))
    write_tokenizer(tmp_path / "hf", TOKENS)
    return tmp_path / "hf"


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | fields), encoding="utf-8")


def test_the_sampling_rate(folder: Path) -> None:
    change(folder / "preprocessor_config.json", sampling_rate=8000)
    with pytest.raises(ValueError, match=r"preprocessor_config.json: sampling_rate: found 8000, expected 16000"):
        converter.read(folder)


def test_convolutions_of_different_number(folder: Path) -> None:
    change(folder / "config.json", conv_stride=[5, 2])
    with pytest.raises(ValueError, match=r"config.json: conv_dim, conv_kernel and conv_stride are of different length"):
        converter.read(folder)


def test_another_kind_of_model(tmp_path: Path) -> None:
    model = shake(transformers.Wav2Vec2ForAudioFrameClassification(huggingface_config()))
    write_huggingface(tmp_path, model)
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"a Wav2Vec2ForAudioFrameClassification; expected Wav2Vec2ForPreTraining, "):
        converter.read(tmp_path)


def test_classes_and_rows_of_different_number(tmp_path: Path) -> None:
    config = huggingface_config(num_labels=3, classifier_proj_size=8)
    write_huggingface(tmp_path, shake(transformers.Wav2Vec2ForSequenceClassification(config)))
    change(tmp_path / "config.json", id2label={"0": "eng", "1": "fra"})
    with pytest.raises(ValueError, match=r"config.json: 2 classes in id2label, but the head has 3 rows"):
        converter.read(tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"eng": TOKENS, "a": 5}, r"expected {token: id} or {language: {token: id}}"),
        ({"eng": TOKENS, "fra": TOKENS}, r"no vocabulary for None; there are eng, fra"),
        (dict(zip("bcde|a", range(6), strict=True)), r"no '<pad>' among the tokens, which is the CTC blank"),
        ([1], r"all of it: found \[1\], expected a valid dictionary"),
        (TOKENS | {"b": 4}, r"'\|' and 'b' have one id, 4"),
        (TOKENS | {"a": -5}, r"a: found -5, expected greater than or equal to 0"),
        (TOKENS | {"a": 5.0}, r"a: found 5.0, expected a valid integer"),
    ],
)
def test_vocabularies(folder: Path, content: object, told: str) -> None:
    (folder / "vocab.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=f"vocab.json: {told}"):
        converter.read(folder)


def test_dictionaries_that_have_no_vocabulary() -> None:
    with pytest.raises(ValueError, match=r"here: the dictionary begins with \['a', 'b'\], expected \['<s>', '<pad>'"):
        vocabularies.to_vocabulary(["a", "b"], "here")
    with pytest.raises(ValueError, match="here: the dictionary has 'a' twice"):
        vocabularies.to_vocabulary([*vocabularies.SPECIALS, "a", "a"], "here")


def test_files_of_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    shutil.move(weights, folder / "model-1.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text("{}")
    with pytest.raises(ValueError, match=r"index.json: weight_map: not there"):
        converter.read(folder)
    index.write_text('{"weight_map": {"other": "model-1.safetensors"}}')
    with pytest.raises(ValueError, match=r"index.json: 'other' is in none of the files that it names"):
        converter.read(folder)
    index.unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps([1, 2], protocol=2))
    with pytest.raises(ValueError, match=r"pytorch_model.bin: (expected tensors by name|cut off, or no file)"):
        converter.read(folder)
    torch.save({"step": 3}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model.bin: expected tensors by name"):
        converter.read(folder)
