"""Cross entropy over language classes, and accuracy from the same forward pass.

Shapes: B batch, L languages.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics as fairseq_metrics
from torch.nn import functional as F

logger = logging.getLogger(__name__)

SUMMED = ("loss", "nsentences", "correct", "skipped")


@dataclass
class LIDCriterionConfig(FairseqDataclass):
    label_smoothing: float = field(default=0.0, metadata={"help": "share of the target given to all classes, 0 to 1"})


@register_criterion("mms_lid", dataclass=LIDCriterionConfig)
class LIDCriterion(FairseqCriterion):
    """Sum over utterances of their cross entropies."""

    def __init__(self, task: Any, label_smoothing: float) -> None:
        super().__init__(task)
        self.label_smoothing = label_smoothing

    def forward(self, model: Any, sample: dict[str, Any], reduce: bool = True) -> tuple[torch.Tensor, int, dict]:
        """Return loss, sample size and counts to log. Utterances without a finite loss are named and left out."""
        logits_BL, target_B = model(**sample["net_input"]), sample["target"]
        # on dev without smoothing, so that losses of different settings compare
        smoothing = self.label_smoothing if model.training else 0.0
        losses_B = F.cross_entropy(logits_BL, target_B, reduction="none", label_smoothing=smoothing)
        finite_B = torch.isfinite(losses_B.detach())
        if not bool(finite_B.all()):
            return self._without(~finite_B, model, sample)
        log = self._log(model, float(losses_B.detach().sum()), logits_BL.detach().argmax(1) == target_B, target_B)
        return losses_B.sum(), len(target_B), log

    def _log(self, model: Any, loss: float, hits_B: torch.Tensor, target_B: torch.Tensor) -> dict[str, Any]:
        """What fairseq adds up over batches and ranks, on dev hits and utterances of each class (L,) too.

        The same keys in the same order on every rank: what is sent are the values alone.
        """
        size = len(target_B)
        log: dict[str, Any] = {"loss": loss, "correct": int(hits_B.sum()), "skipped": 0}
        log |= {"ntokens": size, "nsentences": size, "sample_size": size}
        if not model.training:
            classes = len(self.task.classes)
            log["class_correct"] = torch.bincount(target_B[hits_B], minlength=classes)
            log["class_total"] = torch.bincount(target_B, minlength=classes)
        return log

    def _without(self, bad_B: torch.Tensor, model: Any, sample: dict[str, Any]) -> tuple[torch.Tensor, int, dict]:
        """Name the utterances in bad_B and compute the rest again without them."""
        names = [self.task.name(int(index), model.training) for index in sample["id"][bad_B.to(sample["id"].device)]]
        for name in names:
            logger.warning(
                "loss is not finite for %s; it is skipped. Usual causes: its samples hold NaN (check with "
                "tools/validate_manifests.py), or the learning rate is too high",
                name,
            )
        if bool(bad_B.all()):
            zero = sum(p.sum() for p in model.parameters() if p.requires_grad) * 0.0
            nothing = self._log(model, 0.0, bad_B[:0], sample["target"][:0])
            return zero, 0, nothing | {"skipped": len(names)}
        good_B = ~bad_B
        rest: dict[str, Any] = {k: v[good_B.to(v.device)] for k, v in sample.items() if isinstance(v, torch.Tensor)}
        rest["net_input"] = {key: value[good_B] for key, value in sample["net_input"].items()}
        loss, sample_size, log = self.forward(model, rest)
        return loss, sample_size, log | {"skipped": log["skipped"] + len(names)}

    @staticmethod
    def reduce_metrics(logging_outputs: Sequence[Mapping[str, Any]]) -> None:
        """Log the loss in bits per utterance and accuracy in percent, on dev also the mean over languages."""
        total = {key: sum(log.get(key, 0) for log in logging_outputs) for key in SUMMED}
        utterances = total["nsentences"]  # with none this counts for nothing, and is infinite where that is all
        loss, accuracy = (
            (total["loss"] / utterances / math.log(2), 100 * total["correct"] / utterances)
            if utterances
            else (math.inf, -math.inf)
        )
        fairseq_metrics.log_scalar("loss", loss, utterances, round=3)
        fairseq_metrics.log_scalar("accuracy", accuracy, utterances, round=2)
        if total["skipped"]:
            fairseq_metrics.log_scalar_sum("skipped", total["skipped"])
        by_class = [log for log in logging_outputs if "class_total" in log]
        if by_class:
            for key in ("class_correct", "class_total"):
                fairseq_metrics.log_scalar_sum(f"_{key}", sum(log[key].double().cpu() for log in by_class))
            fairseq_metrics.log_derived("macro_accuracy", macro_accuracy)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def macro_accuracy(meters: Mapping[str, Any]) -> float:
    """Percent of utterances recognised, the mean over the languages that have any; -inf where none has."""
    correct_L, total_L = (meters[f"_class_{key}"].sum for key in ("correct", "total"))
    there = total_L > 0
    return round(float(100 * (correct_L[there] / total_L[there]).mean()), 3) if bool(there.any()) else -math.inf
