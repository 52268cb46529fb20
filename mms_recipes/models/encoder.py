"""The frozen base: fairseq's wav2vec 2.0, run without anything that training it would need.

The front (convolutions, LayerNorm, projection; without masking also all else that comes before the first adapter) is
computed one utterance at a time and unpadded, so its output depends on the audio alone, also under group norm, and may
be kept. Nothing here requires gradients: autograd keeps only what lies between an adapter and the loss.

Shapes: B batch, T frames, C channels, H heads, D channels per head.
"""

from collections.abc import Callable, Mapping

import torch
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mms_recipes import fairseq_compat
from mms_recipes.formats.portable import fitting
from mms_recipes.models.convolutions import Convolutions
from mms_recipes.models.onednn import linear

AfterBlock = Callable[[int, torch.Tensor], torch.Tensor]


class FeatureCache:
    """The front's output per audio file, kept in memory until `limit` bytes are full (then it keeps what it has)."""

    def __init__(self, limit: int) -> None:
        self.limit, self.size = limit, 0
        self.features: dict[str, torch.Tensor] = {}

    def get(self, key: str) -> torch.Tensor | None:
        return self.features.get(key)

    def put(self, key: str, features_TC: torch.Tensor) -> None:
        size = features_TC.numel() * features_TC.element_size()
        if self.size + size <= self.limit:
            self.size += size
            self.features[key] = features_TC.cpu()

    def clear(self) -> None:
        self.features.clear()
        self.size = 0


class FrozenEncoder(nn.Module):
    """A wav2vec 2.0 model of fairseq with its parameters frozen and in evaluation mode for good.

    Until `load` gives it weights it has shapes only (torch's meta device). With `deep_front` the front includes
    positions and the first block, which are as fixed as the convolutions as long as nothing is masked in between.
    """

    def __init__(self, cfg: Wav2Vec2Config, cache_bytes: int = 0, deep_front: bool = False) -> None:
        super().__init__()
        self.cfg = cfg
        self.deep_front = deep_front
        # the two ways that blocks differ from fairseq's plain one are not frozen bases
        assert cfg.layer_type == "transformer" and not cfg.checkpoint_activations
        with fairseq_compat.shapes_only():
            model = Wav2Vec2Model(cfg)
        model.remove_pretraining_modules()
        self.w2v = model.requires_grad_(False).eval()
        self.convolutions = self._convolutions()
        self.layers = list(model.encoder.layers)
        self.dim = cfg.encoder_embed_dim
        self.num_heads = cfg.encoder_attention_heads
        self.cache = FeatureCache(cache_bytes)

    def train(self, mode: bool = True) -> "FrozenEncoder":
        """Stay in evaluation mode: no dropout and no layer drop in what is not trained."""
        return super().train(False)

    def load(self, state: Mapping[str, torch.Tensor], dtype: torch.dtype = torch.float32) -> None:
        """Take over the weights (names of Wav2Vec2Model); ValueError when they do not fit."""
        taken = fitting(self.w2v.state_dict(), state, "base")
        # not the model's own method, which does not know `assign`: it takes the tensors over without a copy
        nn.Module.load_state_dict(self.w2v, {name: tensor.to(dtype) for name, tensor in taken.items()}, assign=True)
        self.w2v.requires_grad_(False)
        self.convolutions = self._convolutions()
        self.cache.clear()

    # ---- front

    @torch.no_grad()
    def front(self, source_S: torch.Tensor) -> torch.Tensor:
        """Features (T, C) of one utterance of S samples, as they enter masking; a deep front's, the first adapter."""
        features_1TC = self.w2v.layer_norm(self.convolutions(source_S.to(self.dtype)).unsqueeze(0))
        if self.w2v.post_extract_proj is not None:
            features_1TC = linear(self.w2v.post_extract_proj, features_1TC)
        if self.deep_front:
            features_1TC = self._block(self.layers[0], self._positioned(features_1TC), None)
        return features_1TC[0]

    @property
    def dtype(self) -> torch.dtype:
        return next(self.w2v.parameters()).dtype

    @property
    def receptive_field(self) -> tuple[int, int]:
        """How many samples a frame of the convolutions looks at, and how far frames lie apart: 400 and 320 in MMS."""
        return self.convolutions.receptive_field

    def _convolutions(self) -> Convolutions:
        return Convolutions(self.w2v.feature_extractor, self.cfg.extractor_mode == "layer_norm")

    def features(
        self, source_BS: torch.Tensor, lengths_B: torch.Tensor, keys: list[str] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (B, T, C) of a padded batch and the number of frames (B,); `keys` name the audio for the cache."""
        device = next(self.w2v.parameters()).device
        features = []
        for row, length in enumerate(lengths_B.tolist()):
            kept = self.cache.get(keys[row]) if keys else None
            if kept is None:
                kept = self.front(source_BS[row, :length].to(device))
                if keys:
                    self.cache.put(keys[row], kept)
            features.append(kept.to(device, non_blocking=True))
        frames = torch.tensor([len(feature) for feature in features], device=device)
        return nn.utils.rnn.pad_sequence(features, batch_first=True), frames

    # ---- context

    def context(
        self,
        x_BTC: torch.Tensor,
        frames_B: torch.Tensor,
        after_block: AfterBlock | None = None,
        recompute: bool = False,
    ) -> torch.Tensor:
        """The transformer over masked features (fairseq: TransformerEncoder.extract_features).

        `after_block` takes a block's number and output and returns what the next block gets. `recompute`
        keeps only the blocks' inputs and computes the blocks again in the backward pass.
        """
        padded_BT = torch.arange(x_BTC.shape[1], device=x_BTC.device) >= frames_B.unsqueeze(1)
        attended = None if not bool(padded_BT.any()) else ~padded_BT[:, None, None, :]
        if not self.deep_front:
            with torch.no_grad():
                x_BTC = self._positioned(x_BTC.masked_fill(padded_BT.unsqueeze(2), 0))

        def step(number: int, x_BTC: torch.Tensor) -> torch.Tensor:
            if number > 0 or not self.deep_front:
                x_BTC = self._block(self.layers[number], x_BTC, attended)
            return x_BTC if after_block is None else after_block(number, x_BTC)

        for number in range(len(self.layers)):
            x_BTC = checkpoint(step, number, x_BTC, use_reentrant=False) if recompute else step(number, x_BTC)
        encoder = self.w2v.encoder
        return encoder.layer_norm(x_BTC) if encoder.layer_norm_first else x_BTC

    def _positioned(self, x_BTC: torch.Tensor) -> torch.Tensor:
        """What the first block gets, from features that are zero where padded."""
        encoder = self.w2v.encoder
        x_BTC = x_BTC + encoder.pos_conv(x_BTC.transpose(1, 2)).transpose(1, 2)
        return x_BTC if encoder.layer_norm_first else encoder.layer_norm(x_BTC)

    def _block(self, layer: nn.Module, x_BTC: torch.Tensor, attended: torch.Tensor | None) -> torch.Tensor:
        """One transformer block (fairseq: TransformerSentenceEncoderLayer.forward)."""
        if layer.layer_norm_first:
            x_BTC = x_BTC + self._attention(layer.self_attn, layer.self_attn_layer_norm(x_BTC), attended)
            return x_BTC + self._feed_forward(layer, layer.final_layer_norm(x_BTC))
        x_BTC = layer.self_attn_layer_norm(x_BTC + self._attention(layer.self_attn, x_BTC, attended))
        return layer.final_layer_norm(x_BTC + self._feed_forward(layer, x_BTC))

    def _feed_forward(self, layer: nn.Module, x_BTC: torch.Tensor) -> torch.Tensor:
        return linear(layer.fc2, layer.activation_fn(linear(layer.fc1, x_BTC)))

    def _attention(self, attention: nn.Module, x_BTC: torch.Tensor, attended: torch.Tensor | None) -> torch.Tensor:
        batch, frames, dim = x_BTC.shape
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        q, k, v = (linear(p, x_BTC).view(batch, frames, self.num_heads, -1).transpose(1, 2) for p in projections)
        out_BHTD = F.scaled_dot_product_attention(q, k, v, attn_mask=attended)
        return linear(attention.out_proj, out_BHTD.transpose(1, 2).reshape(batch, frames, dim))
