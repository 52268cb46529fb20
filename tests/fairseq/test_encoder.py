"""The frozen encoder gives what stock fairseq gives, and its batches give what single utterances give."""

import pytest
import torch
from fairseq.models.wav2vec.wav2vec2 import TransformerSentenceEncoderWithAdapterLayer, Wav2Vec2Model

from mms_recipes import checkpoints
from mms_recipes.data import audio
from mms_recipes.models import onednn
from mms_recipes.models.adapters import AdapterStack, StackedAdapters
from mms_recipes.models.encoder import FrozenEncoder
from tests.fairseq.small import Pretrained, small_config

LENGTHS = [9_000, 16_000, 12_345]


def utterances() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(length, generator=generator) for length in LENGTHS]


def frozen(model: Wav2Vec2Model, deep_front: bool = False) -> FrozenEncoder:
    encoder = FrozenEncoder(model.cfg, deep_front=deep_front)
    encoder.load(model.state_dict())
    return encoder


@pytest.mark.parametrize("changes", [{}, {"layer_norm_first": False}])
@pytest.mark.parametrize("deep_front", [False, True])
@pytest.mark.parametrize("by_onednn", [False, True])
def test_batch_equals_stock_fairseq(
    changes: dict, deep_front: bool, by_onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onednn, "AVAILABLE", by_onednn and onednn.AVAILABLE)
    torch.manual_seed(1)
    model = Wav2Vec2Model(small_config(**changes)).eval()
    source, padding = audio.pad(utterances())
    encoder = frozen(model, deep_front)
    features, frames = encoder.features(source, (~padding).sum(1))
    ours = encoder.context(features, frames)
    with torch.no_grad():
        stock = model.extract_features(source, padding)
    assert frames.tolist() == (~stock["padding_mask"]).sum(1).tolist()
    for row, count in enumerate(frames.tolist()):
        torch.testing.assert_close(ours[row, :count], stock["x"][row, :count], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", ["layer_norm", "default"])
def test_batch_equals_single_also_under_group_norm(mode: str) -> None:
    torch.manual_seed(1)
    encoder = frozen(Wav2Vec2Model(small_config(extractor_mode=mode)))
    source, padding = audio.pad(utterances())
    features, frames = encoder.features(source, (~padding).sum(1))
    batch = encoder.context(features, frames)
    for row, utterance in enumerate(utterances()):
        features, count = encoder.features(utterance[None], torch.tensor([len(utterance)]))
        single = encoder.context(features, count)
        torch.testing.assert_close(batch[row, : int(count)], single[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("deep_front", [False, True])
def test_the_front_depends_on_the_audio_alone_to_the_bit(pretrained: Pretrained, deep_front: bool) -> None:
    encoder = frozen(pretrained.model, deep_front)
    source, padding = audio.pad(utterances())
    batch, frames = encoder.features(source, (~padding).sum(1))
    for row, utterance in enumerate(utterances()):
        single, count = encoder.features(utterance[None], torch.tensor([len(utterance)]))
        assert int(count) == int(frames[row]) and torch.equal(batch[row, : int(count)], single[0])


def test_frozen_linear_equals_torch_and_keeps_its_weight_alone() -> None:
    torch.manual_seed(3)
    layer = torch.nn.Linear(6, 5).requires_grad_(False)
    x = torch.randn(4, 7, 6).transpose(0, 1).requires_grad_()
    weights = torch.randn(4, 7, 5).transpose(0, 1)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        ours = onednn.linear(layer, x)
    assert all(tensor.untyped_storage().data_ptr() == layer.weight.data_ptr() for tensor in kept)
    torch.testing.assert_close(ours, layer(x))
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (ours, layer(x))]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("deep_front", [False, True])
def test_autograd_keeps_nothing_from_before_the_first_adapter(pretrained: Pretrained, deep_front: bool) -> None:
    encoder = frozen(pretrained.model, deep_front)
    stack = AdapterStack(["eng"], [6], len(encoder.layers), encoder.dim, 5)
    stack.reset(seed=1, init="kaiming")
    source, padding = audio.pad(utterances())
    langs = torch.zeros(3, dtype=torch.int64)
    kept: list[torch.Tensor] = []

    def after_block(number: int, x_BTC: torch.Tensor) -> torch.Tensor:
        if number == 0:
            assert not kept and not x_BTC.requires_grad
        return stack.blocks[number](x_BTC, langs)

    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        features, frames = encoder.features(source, (~padding).sum(1))
        encoder.context(features, frames, after_block).sum()
    # of the other blocks' feed-forward layers only what goes into GELU, not what goes into either frozen linear layer
    wide = [tensor for tensor in kept if tensor.dim() == 3 and tensor.shape[2] == encoder.cfg.encoder_ffn_embed_dim]
    assert len(wide) == len(encoder.layers) - 1


def test_adapters_equal_fairseq_adapter_layer() -> None:
    torch.manual_seed(2)
    stock = TransformerSentenceEncoderWithAdapterLayer(32, 64, 4, 0, 0, 0, "gelu", True, adapter_num=3, adapter_dim=5)
    ours = StackedAdapters(3, 32, 5)
    torch.nn.init.normal_(stock.adapter_layer.ln_W)
    torch.nn.init.normal_(stock.adapter_layer.ln_b)
    ours.load_state_dict(stock.adapter_layer.state_dict())
    x_TBC = torch.randn(7, 4, 32)
    langs = [2, 0, 1, 2]
    mixed = ours(x_TBC.transpose(0, 1), torch.tensor(langs))
    for row, lang in enumerate(langs):
        alone = x_TBC[:, row] + stock.adapter_layer(x_TBC[:, row], lang)
        torch.testing.assert_close(mixed[row], alone, atol=1e-5, rtol=1e-4)


def test_only_the_batch_languages_get_gradients_and_the_base_none(pretrained: Pretrained) -> None:
    encoder = frozen(pretrained.model)
    stack = AdapterStack(["eng", "fra", "rus"], [6, 9, 7], len(encoder.layers), encoder.dim, 5)
    stack.reset(seed=1, init="kaiming")
    source, padding = audio.pad(utterances())
    langs = torch.tensor([0, 2, 0])
    features, frames = encoder.features(source, (~padding).sum(1))
    x = encoder.context(features, frames, lambda number, x_BTC: stack.blocks[number](x_BTC, langs))
    logits = stack.heads(x, langs)
    assert logits.shape[2] == 7 and (logits[0, :, 6:] == -1e4).all() and (logits[1, :, 6] > -1e3).all()
    logits.log_softmax(-1)[:, :, 0].sum().backward()
    for parameter in stack.parameters():
        touched = parameter.grad.flatten(1).abs().sum(1) if parameter.dim() > 1 else parameter.grad.abs()
        by_language = torch.zeros(3).index_add(0, parameter.language_of_row, touched)
        assert by_language[0] > 0 and by_language[2] > 0 and by_language[1] == 0
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_recomputing_blocks_gives_the_same_gradients(pretrained: Pretrained) -> None:
    encoder = frozen(pretrained.model)
    source, padding = audio.pad(utterances())
    langs = torch.tensor([0, 1, 1])
    gradients = []
    for recompute in (False, True):
        stack = AdapterStack(["eng", "fra"], [6, 9], len(encoder.layers), encoder.dim, 5)
        stack.reset(seed=1, init="kaiming")
        features, frames = encoder.features(source, (~padding).sum(1))
        x = encoder.context(features, frames, lambda n, x, s=stack: s.blocks[n](x, langs), recompute=recompute)
        stack.heads(x, langs).square().mean().backward()
        gradients.append([parameter.grad for parameter in stack.parameters()])
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, recomputed)


def test_cache_keeps_the_front_within_its_bound(pretrained: Pretrained) -> None:
    base = checkpoints.read_base(pretrained.path)
    source, padding = audio.pad(utterances())
    lengths, keys = (~padding).sum(1), ["a", "b", "c"]
    plain = FrozenEncoder(base.cfg)
    plain.load(base.encoder_state)
    expected, _ = plain.features(source, lengths)
    one_utterance = 32 * 4 * 30  # bytes: 30 frames of 32 channels
    encoder = FrozenEncoder(base.cfg, cache_bytes=one_utterance)
    encoder.load(base.encoder_state)
    for _ in range(2):
        features, _ = encoder.features(source, lengths, keys)
        torch.testing.assert_close(features, expected, atol=0, rtol=0)
    assert list(encoder.cache.features) == ["a"] and encoder.cache.size <= one_utterance
    kept, _ = encoder.features(torch.zeros_like(source), lengths, keys)  # what is kept is not computed again
    torch.testing.assert_close(kept[0], expected[0], atol=0, rtol=0)
    assert not torch.equal(kept[1], expected[1])


def test_base_of_another_architecture_is_refused(pretrained: Pretrained) -> None:
    encoder = FrozenEncoder(small_config(encoder_embed_dim=48))
    with pytest.raises(ValueError, match=r"expected \(.*another architecture"):
        encoder.load(pretrained.model.state_dict())
