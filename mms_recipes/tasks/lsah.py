"""LSAH training: many languages in one job, each as if it were alone (MMS paper section 5.1)."""

import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from fairseq.data import Dictionary
from fairseq.distributed import utils as distributed_utils
from fairseq.tasks import register_task
from fairseq.utils import move_to_cuda
from omegaconf import II

from mms_recipes import adapter_files
from mms_recipes.cluster import progress
from mms_recipes.criterions.ctc import SUMMED
from mms_recipes.data.mixture import MixtureDataset
from mms_recipes.data.rounds import RoundIterator, Rounds
from mms_recipes.tasks.finetuning import FinetuningConfig, FinetuningTask

logger = logging.getLogger(__name__)

# in a checkpoint's task_state: the letters of every language's head, and the base that the adapters are for
HEADS, BASE_HASH = "heads", "base_hash"


@dataclass
class LSAHTaskConfig(FinetuningConfig):
    update_seconds: float = field(default=180.0, metadata={"help": "audio per language and update, seconds"})
    adapters: str = field(default="adapters", metadata={"help": "folder of the adapter files"})
    base: str = II("model.base")


@register_task("mms_lsah", dataclass=LSAHTaskConfig)
class LSAHTask(FinetuningTask):
    """Every update of the job is one update of each language, from its own batch, with its own normalisation.

    A language's loss is the mean over the utterances of its batch; the sum over languages is what is differentiated,
    and since languages share no trained parameter each gets exactly its own gradient. Learning rate and Adam are
    functions of the number of updates, which all languages share; clipping is per language (optimizers.py), masks are
    seeded by (seed, update, language, utterance). So a language ends where it would have ended alone.
    """

    def __init__(self, cfg: LSAHTaskConfig) -> None:
        super().__init__(cfg)
        self.best_dev_cer: dict[str, float] = {}
        self.rounds: Rounds | None = None

    @cached_property
    def dictionaries(self) -> list[Dictionary]:
        """Each language's own letters (pieces)."""
        return [Dictionary.load(str(Path(self.cfg.data) / lang / self.kind.dictionary)) for lang in self.langs]

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Build the model, and note for the checkpoint what its rows mean and which base it is for."""
        model = super().build_model(cfg, from_checkpoint)
        heads = {lang: list(dictionary.symbols) for lang, dictionary in zip(self.langs, self.dictionaries, strict=True)}
        self.state.merge_state_dict({HEADS: heads, BASE_HASH: model.base_hash})
        self.model = model
        return model

    def get_batch_iterator(self, dataset: MixtureDataset, max_tokens: int | None = None, **kwargs: Any) -> Any:
        if dataset.weights is None:
            return super().get_batch_iterator(dataset, max_tokens=max_tokens, **kwargs)
        assert max_tokens is not None
        self.rounds = Rounds(dataset, self.cfg.update_seconds, max_tokens)
        ranks = {key: kwargs.get(key, default) for key, default in (("num_shards", 1), ("shard_id", 0))}
        workers = kwargs.get("num_workers", 0)
        return RoundIterator(self.rounds, self.cfg.max_update, num_workers=workers, timed=self.waiting.timed, **ranks)

    # ---- training

    def train_step(
        self, sample: Any, model: Any, criterion: Any, optimizer: Any, update_num: int, ignore_grad: bool = False
    ) -> tuple[float, float, dict[str, Any]]:
        """Forward and backward over the micro-batches of one round; sample size 1 over all ranks together."""
        model.train()
        loss, seconds = 0.0, 0.0
        log: dict[str, Any] = dict.fromkeys(SUMMED, 0)  # a rank without a micro-batch too: ranks sum them in this order
        for batch in sample:
            part, _, counts = criterion(model, self._prepare(batch, model, update_num))
            optimizer.backward(part)
            loss += float(part.detach())
            seconds += batch["seconds"]
            log = {key: log[key] + counts[key] for key in SUMMED}
        self.log_pace(update_num, seconds)
        size = 1.0 / distributed_utils.get_data_parallel_world_size()
        return loss, size, log | {"sample_size": size}

    def valid_step(self, sample: Any, model: Any, criterion: Any) -> Any:
        return super().valid_step(self._prepare(sample, model, update=None), model, criterion)

    def _prepare(self, batch: dict[str, Any], model: Any, update: int | None) -> dict[str, Any]:
        """Add to a batch what LSAH needs: the languages, the audio's names, mask seeds and weights (training)."""
        device = next(p for p in model.parameters() if p.requires_grad).device
        if device.type == "cuda":
            batch = move_to_cuda(batch)
        langs = batch["langs"]
        dataset = self.datasets["train" if update is not None else self._dev_split()]
        located = [dataset.locate(int(index)) for index in batch["id"]]
        keys = [str(dataset.corpora[lang].utterances.path(row)) for lang, row in located]
        net_input = batch["net_input"] | {"langs": langs, "keys": keys}
        if update is None:
            return batch | {"net_input": net_input}
        assert self.rounds is not None
        net_input["mask_seeds"] = [(self.cfg.seed, update, dataset.corpora[lang].key, row) for lang, row in located]
        weights = torch.tensor([1.0 / self.rounds.per_update[lang] for lang, _ in located])
        return batch | {"net_input": net_input, "weights": weights}

    def _dev_split(self) -> str:
        return next(split for split in self.datasets if split != "train")

    # ---- dev: keep each language's best

    def post_validate(self, model: Any, stats: dict[str, Any], agg: Any) -> None:
        """Write the adapter of every language whose dev CER improved."""
        super().post_validate(model, stats, agg)
        best = self.best_dev_cer
        improved = []
        for lang, counts in zip(self.langs, self.characters, strict=True):
            if counts.reference_length and counts.rate < best.get(lang, float("inf")):
                best[lang] = counts.rate
                improved.append(lang)
        progress.tell(now=True, dev_cer=dict(best))
        if distributed_utils.get_global_rank() == 0:
            for lang in improved:
                self._write(model, lang, int(stats["num_updates"]))
        logger.info("adapters written for %d of %d languages: %s", len(improved), len(self.langs), self.cfg.adapters)

    def post_save(self, checkpoint: str, num_updates: int) -> None:
        """Without validation no adapter is the best: write all of them with every checkpoint."""
        if all(split == "train" for split in self.datasets):
            for lang in self.langs:
                self._write(self.model, lang, num_updates)
            logger.info("adapters written for %d languages: %s", len(self.langs), self.cfg.adapters)

    def get_checkpoint_dict(self) -> dict[str, Any]:
        """What a resumed run must know beyond the parameters (fairseq asks for it under the class's name)."""
        return {type(self).__name__: {"best_dev_cer": dict(self.best_dev_cer)}}

    def set_checkpoint_dict(self, state: dict[str, Any]) -> None:
        self.best_dev_cer = dict(state["best_dev_cer"])

    def _write(self, model: Any, lang: str, num_updates: int) -> None:
        index = self.langs.index(lang)
        adapter = adapter_files.Adapter(
            lang=lang,
            base_hash=model.base_hash,
            base_settings=model.base_settings,
            letters=list(self.dictionaries[index].symbols),
            num_updates=num_updates,
            dev_cer=self.best_dev_cer.get(lang),
            tensors=model.adapters.language_state(lang),
            base_path=str(Path(self.cfg.base).resolve()),
            units=self.units[index],
            licence=model.origin.licence,
            provenance=[*model.origin.provenance, f"adapter trained on {Path(self.cfg.base).name}"],
        )
        adapter_files.write_adapter(self.cfg.adapters, adapter)
