"""Hugging Face's folders: the real transformers reads what we write, and we read what it writes (random weights)."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Model

from mms_recipes.conversion import converter
from mms_recipes.decoding.greedy import greedy
from mms_recipes.formats import stock_checkpoints
from mms_recipes.formats.huggingface import configs, reading
from mms_recipes.formats.portable import Kind
from mms_recipes.lid.identifier import load_identifier
from mms_recipes.recognizer import load_recognizer
from tests.fairseq import lid_models
from tests.fairseq.travelling import (
    BASE_STYLE,
    LETTERS,
    huggingface_config,
    shake,
    signal,
    write_adapters,
    write_dense,
    write_huggingface,
    write_old,
    write_pretrained,
    write_tokenizer,
)

VALID = (49, 29)  # frames of signal()'s utterances


def assert_same(ours_BTX: torch.Tensor, theirs_BTX: torch.Tensor) -> None:
    """Compare the frames that are not padding."""
    for row, frames in enumerate(VALID):
        torch.testing.assert_close(ours_BTX[row, :frames], theirs_BTX[row, :frames], atol=1e-5, rtol=1e-5)


def load(kind: Any, folder: Path, **how: Any) -> Any:
    model, loading = kind.from_pretrained(folder, output_loading_info=True, local_files_only=True, **how)
    assert not loading["missing_keys"] and not loading["unexpected_keys"] and not loading["mismatched_keys"]
    return model.eval()


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    with torch.inference_mode():
        yield


# ---- what we write


@pytest.mark.parametrize("changes", [{}, {"encoder_embed_dim": 24, "encoder_attention_heads": 3}])
def test_pretraining_with_quantizer(tmp_path: Path, changes: dict[str, Any]) -> None:
    ours = write_pretrained(tmp_path / "base.pt", **changes)
    converter.convert(tmp_path / "base.pt", tmp_path / "hf", "huggingface")
    theirs = load(transformers.Wav2Vec2ForPreTraining, tmp_path / "hf")
    source, padding = signal()
    out, found = theirs(source, (~padding).long()), ours.extract_features(source, padding)
    assert_same(ours.final_proj(found["x"]), out.projected_states)
    assert_same(ours.project_q(ours.quantizer(found["features"])["x"]), out.projected_quantized_states)
    assert theirs.config.num_negatives == 10 and theirs.config.mask_time_prob == pytest.approx(0.65)


@pytest.mark.parametrize("changes", [{}, BASE_STYLE, {"encoder_embed_dim": 24, "encoder_attention_heads": 3}])
def test_dense_ctc(tmp_path: Path, changes: dict[str, Any]) -> None:
    ours = write_dense(tmp_path / "dense.pt", **changes)
    converter.convert(tmp_path / "dense.pt", tmp_path / "hf", "huggingface")
    theirs = load(transformers.Wav2Vec2ForCTC, tmp_path / "hf")
    source, padding = signal()
    grouped = "extractor_mode" in changes
    if grouped:  # its group norm hears the padding in both libraries: one utterance, unpadded
        source, padding = source[:1], padding[:1]
    logits = theirs(source, None if grouped else (~padding).long()).logits
    stock = ours(source=source, padding_mask=padding)["encoder_out"].transpose(0, 1)
    for row in range(len(source)):
        torch.testing.assert_close(stock[row, : VALID[row]], logits[row, : VALID[row]], atol=1e-5, rtol=1e-5)
    tokenizer = transformers.Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "hf")
    symbols = converter.read(tmp_path / "dense.pt").symbols
    assert tokenizer.convert_ids_to_tokens(range(len(symbols))) == ["<pad>", "<s>", "</s>", "<unk>", *symbols[4:]]
    assert tokenizer.decode([5, 0, 5, 5, 6, 4, 7]) == "aab c"
    extract = transformers.Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "hf")
    assert extract.do_normalize and extract.return_attention_mask is not grouped


def test_adapters_of_three_languages(tmp_path: Path) -> None:
    write_dense(tmp_path / "dense.pt")
    write_adapters(tmp_path / "adapters", tmp_path / "dense.pt")
    converter.convert(tmp_path / "adapters", tmp_path / "hf", "huggingface")
    ours = load_recognizer(tmp_path / "adapters", torch.device("cpu"), list(LETTERS))
    source, padding = signal()
    lengths = (~padding).sum(1)
    switched = load(transformers.Wav2Vec2ForCTC, tmp_path / "hf")
    tokenizer = transformers.Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "hf")
    assert switched.config.vocab_size == len(LETTERS["eng"]) + 4 and tokenizer.target_lang == "eng"
    for lang, letters in LETTERS.items():
        emissions, _ = ours.emissions(source, lengths, [lang, lang])
        asked = load(transformers.Wav2Vec2ForCTC, tmp_path / "hf", target_lang=lang)
        switched.load_adapter(lang)
        tokenizer.set_target_lang(lang)
        for theirs in (asked, switched):
            logits = theirs(source, (~padding).long()).logits
            assert logits.shape[2] == len(letters) + 4
            assert_same(emissions, logits.log_softmax(-1))
        logits[..., 1:4] = -1e4  # random weights would write specials, whose names differ
        (units,) = greedy(logits[:1], torch.tensor(VALID[:1]))
        assert " ".join(tokenizer.batch_decode(logits.argmax(-1)[:1])[0].split()) == ours.words(units, lang)
    stated = json.loads((tmp_path / "hf" / "vocab.json").read_text(encoding="utf-8"))
    assert stated["jpn"]["あ"] == 5 and list(stated) == sorted(LETTERS)


def test_language_identification(tmp_path: Path) -> None:
    ours = lid_models.stock(activation="linear")
    lid_models.write_stock(tmp_path / "lid.pt", ours)
    converter.convert(tmp_path / "lid.pt", tmp_path / "hf", "huggingface")
    theirs = load(transformers.Wav2Vec2ForSequenceClassification, tmp_path / "hf")
    source, padding = signal()
    logits = theirs(source, (~padding).long()).logits
    torch.testing.assert_close(ours(source=source, padding_mask=padding), logits, atol=1e-5, rtol=1e-5)
    assert [theirs.config.id2label[number] for number in range(5)] == lid_models.CLASSES
    assert theirs.config.label2id["jpn"] == 3
    with pytest.raises(ValueError, match="activation_fn=gelu between mean and classes"):
        lid_models.write_stock(tmp_path / "gelu.pt", lid_models.stock(activation="gelu"))
        converter.convert(tmp_path / "gelu.pt", tmp_path / "no", "huggingface")


def test_bare_encoder(tmp_path: Path) -> None:
    theirs = shake(transformers.Wav2Vec2Model(huggingface_config()))
    write_huggingface(tmp_path / "hf", theirs)
    converter.convert(tmp_path / "hf", tmp_path / "again", "huggingface")
    again = load(transformers.Wav2Vec2Model, tmp_path / "again")
    source, padding = signal()
    assert_same(*(model(source, (~padding).long()).last_hidden_state for model in (theirs, again)))


def test_adapters_need_a_base_with_the_norm_first(tmp_path: Path) -> None:
    write_dense(tmp_path / "dense.pt", **BASE_STYLE)
    write_adapters(tmp_path / "adapters", tmp_path / "dense.pt")
    with pytest.raises(ValueError, match="layer_norm_first=false: Hugging Face has adapters only in models"):
        converter.convert(tmp_path / "adapters", tmp_path / "hf", "huggingface")
    converter.convert(tmp_path / "adapters", tmp_path / "one.pt", "fairseq")
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"activation_fn": "gelu_accurate"}, "activation_fn='gelu_accurate' has no counterpart"),
        ({"quantizer_depth": 2}, "quantizer_depth=2 has no counterpart"),
        ({"crop_seq_to_multiple": 2}, "crop_seq_to_multiple=2 has no counterpart"),
    ],
)
def test_what_huggingface_cannot_compute_is_refused(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    write_pretrained(tmp_path / "base.pt", **changes)
    with pytest.raises(ValueError, match=fault):
        converter.convert(tmp_path / "base.pt", tmp_path / "hf", "huggingface")


# ---- what transformers writes


@pytest.mark.parametrize("how", [{}, {"max_shard_size": "20KB"}])
def test_their_pretraining_becomes_ours(tmp_path: Path, how: dict[str, Any]) -> None:
    theirs = write_huggingface(tmp_path / "hf", shake(transformers.Wav2Vec2ForPreTraining(huggingface_config())), **how)
    assert (tmp_path / "hf" / "model.safetensors.index.json").exists() == bool(how)
    converter.convert(tmp_path / "hf", tmp_path / "base.pt", "fairseq")
    found = converter.read(tmp_path / "base.pt")
    assert found.kind == Kind.pretraining and found.normalize
    ours = Wav2Vec2Model(found.cfg)
    ours.load_state_dict(found.encoder)
    ours.eval()
    source, padding = signal()
    out, context = theirs(source, (~padding).long()), ours.extract_features(source, padding)
    assert_same(ours.final_proj(context["x"]), out.projected_states)
    assert_same(ours.project_q(ours.quantizer(context["features"])["x"]), out.projected_quantized_states)


@pytest.mark.parametrize("spelling", [".parametrizations.weight.original{}", ".weight_{}"])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_both_spellings_of_weight_norm_and_both_files(tmp_path: Path, spelling: str, file: str) -> None:
    theirs = shake(transformers.Wav2Vec2ForPreTraining(huggingface_config()))
    write_huggingface(tmp_path, theirs)
    (tmp_path / "model.safetensors").unlink()
    state = {}
    for name, tensor in theirs.state_dict().items():
        for number, letter in enumerate("gv"):
            name = name.replace(f".parametrizations.weight.original{number}", f".weight_{letter}")
            if "original" in spelling:
                name = name.replace(f".weight_{letter}", spelling.format(number))
        state[name] = tensor.clone()
    save = safetensors.torch.save_file if file.endswith("safetensors") else torch.save
    save(state, tmp_path / file)
    found = reading.read(tmp_path)
    expected = theirs.state_dict()["wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original0"]
    assert torch.equal(found.encoder["encoder.pos_conv.0.weight_g"], expected)


def test_a_head_whose_blank_is_last_becomes_ours(tmp_path: Path) -> None:
    """Models that users fine-tune with Hugging Face's recipe have [UNK] and [PAD] behind the letters, and no <s>."""
    vocabulary = {"b": 0, "a": 1, "|": 2, "[UNK]": 3, "[PAD]": 4}
    theirs = shake(transformers.Wav2Vec2ForCTC(huggingface_config(vocab_size=7, pad_token_id=4)))
    write_huggingface(tmp_path / "hf", theirs)
    write_tokenizer(
        tmp_path / "hf", vocabulary, pad_token="[PAD]", unk_token="[UNK]"
    )  # it adds <s> and </s> as 5 and 6
    found = reading.read(tmp_path / "hf")
    assert found.symbols == ["<s>", "<pad>", "</s>", "<unk>", "b", "a", "|"]
    rows = [4, 5, 6, 3, 0, 1, 2]
    assert torch.equal(found.head["proj.weight"], theirs.lm_head.weight[rows])
    bare = shake(transformers.Wav2Vec2ForCTC(huggingface_config(vocab_size=5, pad_token_id=4)))
    write_huggingface(tmp_path / "hf", bare)
    found = reading.read(tmp_path / "hf")
    assert found.symbols == ["<s>", "<pad>", "</s>", "<unk>", "b", "a", "|"]
    assert found.head["proj.bias"][1] == found.head["proj.bias"][2] == -200 and not found.head["proj.weight"][1].any()


def test_an_adapter_trained_with_huggingface_becomes_ours(tmp_path: Path) -> None:
    """Its recipe leaves one language inside model.safetensors, its name in a nested vocabulary alone."""
    vocabulary = {"tur": {"|": 0, "a": 1, "ğ": 2, "[UNK]": 3, "[PAD]": 4}}
    config = huggingface_config(vocab_size=5, adapter_attn_dim=6, pad_token_id=4)
    theirs = write_huggingface(tmp_path / "hf", shake(transformers.Wav2Vec2ForCTC(config)))
    write_tokenizer(tmp_path / "hf", vocabulary, pad_token="[PAD]", unk_token="[UNK]")
    converter.convert(tmp_path / "hf", tmp_path / "one.pt", "fairseq")
    found = converter.read(tmp_path / "one.pt")
    assert list(found.adapters) == ["tur"] and found.adapters["tur"].symbols[4:] == ["|", "a", "ğ"]
    expected = theirs.wav2vec2.encoder.layers[2].adapter_layer.linear_1.weight
    name = "w2v_encoder.w2v_model.encoder.layers.2.adapter_layer.W_a"
    assert torch.equal(found.adapters["tur"].tensors[name][0], expected)
    write_tokenizer(tmp_path / "hf", {"abi": vocabulary["tur"]} | vocabulary, pad_token="[PAD]", unk_token="[UNK]")
    settings = json.loads((tmp_path / "hf" / "tokenizer_config.json").read_text())
    (tmp_path / "hf" / "tokenizer_config.json").write_text(json.dumps(settings | {"target_lang": None}))
    with pytest.raises(ValueError, match="one adapter, inside the model, and nothing says of which language"):
        reading.read(tmp_path / "hf")


def test_their_identification_becomes_ours_with_adapters_inside(tmp_path: Path) -> None:
    theirs = lid_models.huggingface(adapter_attn_dim=6)
    write_huggingface(tmp_path / "hf", theirs)
    converter.convert(tmp_path / "hf", tmp_path / "lid.pt", "fairseq")
    identifier = load_identifier(tmp_path / "lid.pt", torch.device("cpu"))
    source, padding = signal()
    expected = theirs(source, (~padding).long()).logits
    torch.testing.assert_close(identifier.logits(source, (~padding).sum(1)), expected, atol=1e-5, rtol=1e-5)
    assert identifier.classes == lid_models.CLASSES
    converter.convert(tmp_path / "lid.pt", tmp_path / "again", "huggingface")
    again = load(transformers.Wav2Vec2ForSequenceClassification, tmp_path / "again")
    torch.testing.assert_close(again(source, (~padding).long()).logits, expected)


def test_equal_widths_need_a_projection_that_does_nothing(tmp_path: Path) -> None:
    config = huggingface_config(hidden_size=24, num_attention_heads=3)
    write_huggingface(tmp_path, shake(transformers.Wav2Vec2ForPreTraining(config)))
    with pytest.raises(ValueError, match=r"joins equal widths \(24\) and is not the identity"):
        reading.read(tmp_path)


# ---- both ways


def test_round_trips_change_no_bit(tmp_path: Path) -> None:
    write_pretrained(tmp_path / "base.pt")
    write_dense(tmp_path / "dense.pt", encoder_embed_dim=24, encoder_attention_heads=3)
    write_adapters(tmp_path / "adapters", tmp_path / "dense.pt")
    lid_models.write_stock(tmp_path / "lid.pt", lid_models.stock())
    for name in ("base.pt", "dense.pt", "adapters", "lid.pt"):
        converter.convert(tmp_path / name, tmp_path / f"{name}.hf", "huggingface")
        converter.convert(tmp_path / f"{name}.hf", tmp_path / f"{name}.pt", "fairseq")
        before, after = converter.read(tmp_path / name), converter.read(tmp_path / f"{name}.pt")
        first, last = stock_checkpoints.to_checkpoint(before), stock_checkpoints.to_checkpoint(after)
        assert first["model"].keys() == last["model"].keys()
        assert all(torch.equal(first["model"][key], last["model"][key]) for key in first["model"])
        for lang, part in before.adapters.items():
            again = after.adapters[lang]
            assert part.symbols == again.symbols and part.tensors.keys() == again.tensors.keys()
            assert all(torch.equal(part.tensors[key], again.tensors[key]) for key in part.tensors)
        assert (before.symbols, before.normalize) == (after.symbols, after.normalize)


def test_a_file_of_2020_converts(tmp_path: Path) -> None:
    write_old(tmp_path / "xlsr.pt")
    found = converter.convert(tmp_path / "xlsr.pt", tmp_path / "hf", "huggingface")
    assert found.kind == Kind.pretraining and found.normalize
    load(transformers.Wav2Vec2ForPreTraining, tmp_path / "hf")


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("[(512, 10, 5)] + [(512, 3, 2)] * 2 + [(512,2,2)]", [(512, 10, 5), (512, 3, 2), (512, 3, 2), (512, 2, 2)]),
        ("[(8, 10, 5)]", [(8, 10, 5)]),
    ],
)
def test_convolutions_are_read_without_running_them(text: str, layers: list[tuple[int, int, int]]) -> None:
    assert configs.conv_layers(text) == layers


@pytest.mark.parametrize("text", ["__import__('os').getcwd()", "[(1, 2)]", "512", "[(1, 2, 3)"])
def test_convolutions_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected a list of"):
        configs.conv_layers(text)
