"""wav2vec 2.0 pretraining on the audio of many languages (MMS paper section 4.1); no labels are read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairseq.tasks import register_task

from mms_recipes.data import audio
from mms_recipes.data.mixture import MixtureDataset, read_corpus
from mms_recipes.tasks.finetuning import FinetuningConfig, FinetuningTask


@dataclass
class PretrainingConfig(FinetuningConfig):
    max_seconds: float = field(default=20.0, metadata={"help": "longer utterances are cropped at random, seconds"})


@register_task("mms_pretraining", dataclass=PretrainingConfig)
class PretrainingTask(FinetuningTask):
    """The manifests of many languages, cropped at random, for fairseq's wav2vec2 model and criterion."""

    source_dictionary = target_dictionary = None

    def load_dataset(self, split: str, combine: bool = False, **kwargs: Any) -> None:
        self.datasets[split] = MixtureDataset(
            [read_corpus(Path(self.cfg.data), lang, split, None) for lang in self.langs],
            beta=self.cfg.beta if split == "train" else None,
            seed=self.cfg.seed,
            normalize=self.cfg.normalize,
            max_samples=int(self.cfg.max_seconds * audio.SAMPLE_RATE),
        )

    def begin_valid_epoch(self, epoch: int, model: Any) -> None:
        """There are no error rates to count."""

    def post_validate(self, model: Any, stats: dict[str, Any], agg: Any) -> None:
        """There are no error rates to show."""
