"""The convolutions in front of a frozen wav2vec 2.0 (fairseq: ConvFeatureExtractionModel).

On the CPU they are computed time first: the samples that a frame looks at then lie side by side, so a convolution is
one matrix product, and LayerNorm over channels needs no transposing. By oneDNN that is 1.5 to 1.9 times as fast.

Shapes: S samples, T frames, C channels of a layer, K samples that a frame looks at times their channels.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mms_recipes.models import onednn

PIECE_FRAMES = 500  # 10 s; the convolutions of so much take about 0.2 GB at MMS's size


class Convolutions:
    """The layers of an extractor of fairseq; `layer_norm` tells that each normalises over channels, as in MMS."""

    def __init__(self, extractor: Any, layer_norm: bool) -> None:
        self.extractor, self.layer_norm = extractor, layer_norm
        self.matrices_CK: list[torch.Tensor] = []
        size, stride = 1, 1
        for layer in extractor.modules():
            if isinstance(layer, nn.Conv1d):
                size += (layer.kernel_size[0] - 1) * stride
                stride *= layer.stride[0]
        self.receptive_field = size, stride

    def __call__(self, source_S: torch.Tensor) -> torch.Tensor:
        """The features (T, C) of one utterance; of a long one piece by piece, which bounds memory.

        Frames are the same, because a frame sees its receptive field alone; not so under group norm, over all time.
        """
        size, stride = self.receptive_field
        frames = (len(source_S) - size) // stride + 1
        if frames <= PIECE_FRAMES or not self.layer_norm:
            return self._features(source_S)
        begins = range(0, frames, PIECE_FRAMES)
        ends = [min(begin + PIECE_FRAMES, frames) for begin in begins]
        pieces = [source_S[begin * stride : (end - 1) * stride + size] for begin, end in zip(begins, ends, strict=True)]
        return torch.cat([self._features(piece_S) for piece_S in pieces])

    def _features(self, source_S: torch.Tensor) -> torch.Tensor:
        if self.layer_norm and onednn.takes(source_S):
            return self._time_first(source_S)
        return self.extractor(source_S.unsqueeze(0))[0].T

    def _time_first(self, source_S: torch.Tensor) -> torch.Tensor:
        if not self.matrices_CK:  # kept: turning the weights takes as long as a second of audio
            weights = [block[0].weight.detach() for block in self.extractor.conv_layers]
            self.matrices_CK = [weight.transpose(1, 2).flatten(1).contiguous() for weight in weights]
        x_TC = source_S.unsqueeze(1).contiguous()
        for block, matrix_CK in zip(self.extractor.conv_layers, self.matrices_CK, strict=True):
            convolution, norm = block[0], block[2][1]  # block[2]: transposed, normalised, transposed back
            channels, stride = x_TC.shape[1], convolution.stride[0]
            frames = (len(x_TC) - convolution.kernel_size[0]) // stride + 1
            windows_TK = x_TC.as_strided((frames, matrix_CK.shape[1]), (stride * channels, 1))
            x_TC = onednn.product(windows_TK, matrix_CK, convolution.bias)
            x_TC = F.gelu(F.layer_norm(x_TC, norm.normalized_shape, norm.weight, norm.bias, norm.eps))
        return x_TC
