"""A trained LID model ready to listen: logits of utterances over its own class list.

Our checkpoints, stock fairseq's (`wav2vec_classification`) and Hugging Face folders look the same from here.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from mms_recipes.data import audio
from mms_recipes.lid import checkpoints as lid_checkpoints
from mms_recipes.models.adapters import of_one_language
from mms_recipes.models.encoder import AfterBlock, FrozenEncoder
from mms_recipes.models.lid import LIDHead


@dataclass
class Identifier:
    """An encoder, a head, and the head's classes in order; `after_block` runs adapters that a model has in its blocks.

    `normalize`: whether audio must have zero mean and unit variance.
    """

    encoder: FrozenEncoder
    head: LIDHead
    classes: list[str]
    normalize: bool
    after_block: AfterBlock | None = None

    @property
    def min_samples(self) -> int:
        """The shortest audio that gives one frame: the receptive field of the convolutions, 400 samples in MMS."""
        return self.encoder.receptive_field[0]

    @torch.inference_mode()
    def logits(self, source_BS: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        """Logits (B, L) in float32, on the model's device, of padded utterances of lengths_B samples (16 kHz).

        Audio is raw (-1 to 1) or standardised, as in `Recognizer.emissions`.
        An utterance's logits do not depend on the others of the batch. Raises ValueError when one is too short.
        """
        shortest = int(lengths_B.min())
        if shortest < self.min_samples:
            raise ValueError(
                f"{shortest} samples, shorter than what the model looks at at a time ({self.min_samples} samples, "
                f"{self.min_samples / 16:g} ms); leave it out, or give more audio"
            )
        source_BS = audio.as_expected(source_BS, lengths_B, self.normalize)
        features_BTC, frames_B = self.encoder.features(source_BS, lengths_B)
        x_BTC = self.encoder.context(features_BTC, frames_B, self.after_block)
        padded_BT = torch.arange(x_BTC.shape[1], device=x_BTC.device) >= frames_B.unsqueeze(1)
        logits_BL: torch.Tensor = self.head(x_BTC, padded_BT)
        return logits_BL


def load_identifier(path: str | Path, device: torch.device, classes: str | Path | None = None) -> Identifier:
    """Load a LID checkpoint (.pt, ours or stock fairseq's) or a Hugging Face folder.

    `classes` (dict.lang.txt, config.json) is for a file without its class list. Raises FileNotFoundError or ValueError:
    nothing there, another kind of model, a class list that is missing or of another length.
    """
    found = lid_checkpoints.read_lid(path, classes)
    encoder = FrozenEncoder(found.base.cfg)
    encoder.load(found.base.encoder_state)
    head = LIDHead(encoder.dim, found.latent_dim, len(found.classes), found.activation)
    head.load_state_dict({name: tensor.float() for name, tensor in found.head.items()})
    head.requires_grad_(False).eval()
    after_block = of_one_language(found.adapters, len(encoder.layers), device) if found.adapters else None
    return Identifier(encoder.to(device), head.to(device), found.classes, found.base.normalize, after_block)
