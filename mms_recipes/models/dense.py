"""The dense model is fairseq's wav2vec_ctc as it is; its configuration names the base as other fine-tunings do."""

from dataclasses import dataclass, field

from fairseq.models import MODEL_DATACLASS_REGISTRY
from fairseq.models.wav2vec.wav2vec2_asr import Wav2Vec2CtcConfig
from omegaconf import II, MISSING


@dataclass
class DenseConfig(Wav2Vec2CtcConfig):
    """fairseq's own, and `base`."""

    base: str = field(default=MISSING, metadata={"help": "checkpoint or Hugging Face folder to start from"})
    w2v_path: str = II("model.base")


MODEL_DATACLASS_REGISTRY["wav2vec_ctc"] = DenseConfig  # what a configuration is checked against
