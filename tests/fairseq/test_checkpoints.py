"""Checkpoints: read safely, adapters round-trip, the wrong base is refused, stock fairseq reads the one-file form."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from fairseq.data import Dictionary

from mms_recipes import adapter_files, checkpoint_files, checkpoints
from mms_recipes.models.adapters import AdapterStack
from tests.fairseq.small import Pretrained, dictionary


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple:
        return (open, ("evil_ran", "w"))


def stack_for(base: checkpoints.Base, letters: dict[str, Dictionary]) -> AdapterStack:
    sizes = [len(dictionary) for dictionary in letters.values()]
    stack = AdapterStack(list(letters), sizes, base.cfg.encoder_layers, base.cfg.encoder_embed_dim, 4)
    stack.reset(seed=1, init="kaiming")
    return stack


def adapter_of(stack: AdapterStack, lang: str, letters: Dictionary, base: checkpoints.Base) -> adapter_files.Adapter:
    state = stack.language_state(lang)
    return adapter_files.Adapter(lang, base.hash, list(letters.symbols), 5, 12.5, state, base_path=str(base.path))


def test_malicious_pickle_is_refused_by_name_and_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {}, "cfg": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"model": {}, "cfg": Evil()}, protocol=2))
    for name in ("evil.pt", "plain.pt"):
        with pytest.raises(ValueError, match=r"refused: it holds Python objects .*open"):
            checkpoints.load_checkpoint(tmp_path / name)
    assert not (tmp_path / "evil_ran").exists()


def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path: Path, pretrained: Pretrained) -> None:
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        checkpoints.load_checkpoint(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.pt: (not a torch checkpoint|refused)"):
        checkpoints.load_checkpoint(tmp_path / "text.pt")
    whole = pretrained.path.read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.pt: (not a torch checkpoint, or cut off|refused)"):
        checkpoints.load_checkpoint(tmp_path / "cut.pt")
    torch.save({"weights": 1}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="not a fairseq checkpoint: no 'model' inside"):
        checkpoints.load_checkpoint(tmp_path / "other.pt")
    torch.save({"model": {}, "cfg": {"model": {"_name": "hubert"}, "task": {}}}, tmp_path / "hubert.pt")
    with pytest.raises(ValueError, match="a 'hubert' model, expected wav2vec2"):
        checkpoints.read_base(tmp_path / "hubert.pt")


def test_base_hash_is_of_the_encoder_alone(tmp_path: Path, pretrained: Pretrained) -> None:
    base = checkpoints.read_base(pretrained.path)
    state = torch.load(pretrained.path, weights_only=True)
    state["model"]["quantizer.vars"] += 1
    torch.save(state, tmp_path / "same.pt")
    assert checkpoints.read_base(tmp_path / "same.pt").hash == base.hash
    state["model"]["encoder.layers.0.fc1.bias"] += 1e-3
    torch.save(state, tmp_path / "other.pt")
    assert checkpoints.read_base(tmp_path / "other.pt").hash != base.hash


def test_adapter_file_round_trip(tmp_path: Path, pretrained: Pretrained) -> None:
    base, letters = checkpoints.read_base(pretrained.path), {"eng": dictionary("|ab"), "jpn": dictionary("|あいう")}
    stack = stack_for(base, letters)
    for lang, symbols in letters.items():
        written = adapter_of(stack, lang, symbols, base)
        read = adapter_files.read_adapter(adapter_files.write_adapter(tmp_path, written))
        assert (read.lang, read.base_hash, read.letters, read.num_updates, read.dev_cer) == (
            lang,
            base.hash,
            list(symbols.symbols),
            5,
            12.5,
        )
        assert read.dictionary() == symbols
        other = stack_for(base, letters)
        other.load_language_state(lang, read.tensors)
        for name, tensor in other.language_state(lang).items():
            assert torch.equal(tensor, written.tensors[name])
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == ["eng.safetensors", "jpn.safetensors"]


def test_adapter_of_another_base_is_refused_with_both_hashes(pretrained: Pretrained) -> None:
    base, letters = checkpoints.read_base(pretrained.path), {"eng": dictionary("|ab")}
    adapter = adapter_of(stack_for(base, letters), "eng", letters["eng"], base)
    adapter.require_base(base.hash)
    with pytest.raises(ValueError, match=f"trained on base {base.hash}, but the loaded base is 0123"):
        adapter.require_base("0123")


def test_broken_adapter_files(tmp_path: Path) -> None:
    import safetensors.torch

    with pytest.raises(FileNotFoundError, match="no such adapter"):
        adapter_files.read_adapter(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(ValueError, match="not an adapter file, or cut off"):
        adapter_files.read_adapter(tmp_path / "cut.safetensors")
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not an adapter of mms_recipes"):
        adapter_files.read_adapter(tmp_path / "other.safetensors")


def test_checkpoints_and_adapters_are_readable_for_all_whom_the_umask_allows(
    tmp_path: Path, pretrained: Pretrained
) -> None:
    base, letters = checkpoints.read_base(pretrained.path), {"eng": dictionary("|ab")}
    before = os.umask(0o022)
    try:
        checkpoint_files.save({"number": 1}, str(tmp_path / "x.pt"))
        adapter = adapter_of(stack_for(base, letters), "eng", letters["eng"], base)
        adapter_files.write_adapter(tmp_path, adapter)
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("x.pt", "eng.safetensors")] == [0o644, 0o644]


def test_one_file_form_gives_the_same_emissions_in_stock_fairseq(tmp_path: Path, pretrained: Pretrained) -> None:
    """As fairseq's infer.py does it: load the model, swap the head by shape, copy what has the same name."""
    from fairseq import checkpoint_utils, tasks

    from mms_recipes.recognizer import load_recognizer

    base = checkpoints.read_base(pretrained.path)
    letters = {"eng": dictionary("|ab"), "jpn": dictionary("|あいうえ")}
    stack = stack_for(base, letters)
    adapters = [adapter_of(stack, lang, symbols, base) for lang, symbols in letters.items()]
    path = tmp_path / "onefile.pt"
    adapter_files.write_one_file(path, base, adapters)

    source = torch.randn(1, 12_000)
    ours = load_recognizer(path, torch.device("cpu"), list(letters))
    state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
    task = tasks.setup_task(state["cfg"].task)
    models, saved = checkpoint_utils.load_model_ensemble([str(path)], task=task)
    assert saved.task.multi_corpus_keys == "mms"
    model = models[0].eval()
    for lang, symbols in letters.items():
        found = state["adapter"][lang]
        rows, columns = found["model"]["w2v_encoder.proj.weight"].shape
        model.w2v_encoder.proj = torch.nn.Linear(columns, rows)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in found["model"]:
                    parameter.copy_(found["model"][name])
            out = model(source=source, padding_mask=torch.zeros(1, 12_000, dtype=torch.bool), corpus_key=[0])
        assert found["task_state"]["target_dictionary"] == symbols
        stock = model.get_normalized_probs(out, log_probs=True).transpose(0, 1)
        emissions, _ = ours.emissions(source, torch.tensor([12_000]), [lang])
        torch.testing.assert_close(emissions, stock, atol=1e-4, rtol=1e-4)
