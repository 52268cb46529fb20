"""CTC for dense and LSAH models: per-utterance losses, a guard that names what is not finite, error counts on dev.

Shapes: B batch, T frames, V letters, U target letters.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics as fairseq_metrics
from torch.nn import functional as F

from mms_recipes import metrics, text
from mms_recipes.decoding import greedy

logger = logging.getLogger(__name__)

SUMMED = ("loss", "ntokens", "nsentences", "sample_size", "frames", "blank_frames", "skipped")
DEV_SUMMED = ("char_errors", "chars", "word_errors", "words")


@register_criterion("mms_ctc", dataclass=FairseqDataclass)
class CTCCriterion(FairseqCriterion):
    """Sum over utterances of their CTC losses, each times its weight (1, or the task's share of a language's batch)."""

    def forward(self, model: Any, sample: dict[str, Any], reduce: bool = True) -> tuple[torch.Tensor, float, dict]:
        """Return loss, sample size and counts to log. Utterances without a finite loss are named and left out."""
        emissions_TBV, frames_B = self._emissions(model, sample)
        losses_B = self._losses(emissions_TBV, frames_B, sample)
        finite_B = torch.isfinite(losses_B.detach())
        if not bool(finite_B.all()):
            return self._without(~finite_B, model, sample, reduce)
        weights_B = sample.get("weights")
        loss = losses_B.sum() if weights_B is None else (losses_B * weights_B.to(losses_B)).sum()
        sample_size = sample.get("sample_size", len(sample["id"]))
        log = self._count(emissions_TBV.detach(), frames_B, sample)
        log |= {"loss": float(losses_B.detach().sum()), "sample_size": sample_size, "skipped": 0}
        if not model.training:
            log |= self._score(emissions_TBV.detach(), frames_B, sample)
        return loss, sample_size, _in_order(log, model.training)

    def _emissions(self, model: Any, sample: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        net_output = model(**sample["net_input"])
        emissions_TBV = model.get_normalized_probs(net_output, log_probs=True).float().contiguous()
        time, batch, _ = emissions_TBV.shape
        padding = net_output["padding_mask"]
        if padding is None:
            return emissions_TBV, torch.full((batch,), time, device=emissions_TBV.device)
        return emissions_TBV, (~padding).sum(1)

    def _losses(self, emissions_TBV: torch.Tensor, frames_B: torch.Tensor, sample: Mapping[str, Any]) -> torch.Tensor:
        with torch.backends.cudnn.flags(enabled=False):
            return F.ctc_loss(
                emissions_TBV,
                sample["target"],
                frames_B,
                sample["target_lengths"],
                blank=greedy.BLANK,
                reduction="none",
            )

    def _without(
        self, bad_B: torch.Tensor, model: Any, sample: dict[str, Any], reduce: bool
    ) -> tuple[torch.Tensor, float, dict]:
        """Name the utterances in bad_B and compute the rest again without them."""
        names = [self.task.name(int(index), model.training) for index in sample["id"][bad_B.cpu()]]
        for name in names:
            logger.warning(
                "loss is not finite for %s; it is skipped. Usual causes: its text needs more frames than it has, "
                "or its samples hold NaN: check with tools/validate_manifests.py",
                name,
            )
        keep = (~bad_B).nonzero().flatten()
        if len(keep) == 0:
            zero = sum(p.sum() for p in model.parameters() if p.requires_grad) * 0.0
            return zero, sample.get("sample_size", 0), _in_order({"skipped": len(names)}, model.training)
        loss, sample_size, log = self.forward(model, _select(sample, keep, len(bad_B)), reduce)
        return loss, sample_size, log | {"skipped": log["skipped"] + len(names)}

    def _count(self, emissions_TBV: torch.Tensor, frames_B: torch.Tensor, sample: Mapping[str, Any]) -> dict[str, Any]:
        valid_TB = torch.arange(len(emissions_TBV), device=frames_B.device)[:, None] < frames_B
        blanks = (emissions_TBV.argmax(-1) == greedy.BLANK) & valid_TB
        return {
            "ntokens": int(sample["target_lengths"].sum()),
            "nsentences": len(sample["id"]),
            "frames": int(frames_B.sum()),
            "blank_frames": int(blanks.sum()),
        }

    def _score(self, emissions_TBV: torch.Tensor, frames_B: torch.Tensor, sample: Mapping[str, Any]) -> dict[str, int]:
        """Greedy decoding of dev utterances; counts go to the task, by language, and their sums to the log."""
        hypotheses = greedy.greedy(emissions_TBV.transpose(0, 1), frames_B)
        sums = dict.fromkeys(DEV_SUMMED, 0)
        for row, units in enumerate(hypotheses):
            lang = int(sample["langs"][row])
            dictionary = self.task.dictionaries[lang]
            target = sample["target"][row, : sample["target_lengths"][row]].tolist()
            reference, hypothesis = (
                text.to_words(" ".join(dictionary.symbols[unit] for unit in ids)) for ids in (target, units)
            )
            characters = metrics.character_errors(reference, hypothesis)
            words = metrics.word_errors(reference, hypothesis)
            self.task.record(lang, characters, words, reference, hypothesis)
            sums["char_errors"] += characters.errors
            sums["chars"] += characters.reference_length
            sums["word_errors"] += words.errors
            sums["words"] += words.reference_length
        return sums

    @staticmethod
    def reduce_metrics(logging_outputs: Sequence[Mapping[str, Any]]) -> None:
        """Log loss in bits per utterance and per letter, blank share in percent, and on dev WER and CER in percent.

        What nothing was measured of counts for nothing, and is infinite where that is all.
        """
        total = {key: sum(log.get(key, 0) for log in logging_outputs) for key in (*SUMMED, *DEV_SUMMED)}
        bits = total["loss"] / math.log(2)
        fairseq_metrics.log_scalar("loss", *_mean(bits, total["nsentences"]), round=3)
        fairseq_metrics.log_scalar("letter_loss", *_mean(bits, total["ntokens"]), round=3)
        fairseq_metrics.log_scalar("blank_percent", *_mean(100 * total["blank_frames"], total["frames"]), round=1)
        fairseq_metrics.log_scalar("nsentences", total["nsentences"])
        if total["skipped"]:
            fairseq_metrics.log_scalar_sum("skipped", total["skipped"])
        if any("chars" in log for log in logging_outputs):
            fairseq_metrics.log_scalar("cer", *_mean(100 * total["char_errors"], total["chars"]), round=2)
            fairseq_metrics.log_scalar("wer", *_mean(100 * total["word_errors"], total["words"]), round=2)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def _mean(total: float, count: int) -> tuple[float, int]:
    """Return what log_scalar takes: a mean and its weight."""
    return (total / count if count else math.inf), count


def _in_order(log: Mapping[str, Any], training: bool) -> dict[str, Any]:
    """Return a log with the same keys in the same order whatever happened: ranks send one another the values alone."""
    return {key: log.get(key, 0) for key in (*SUMMED, *(() if training else DEV_SUMMED))}


def _select(sample: Mapping[str, Any], keep: torch.Tensor, size: int) -> dict[str, Any]:
    """The utterances `keep` of a batch."""
    selected: dict[str, Any] = {}
    for key, value in sample.items():
        if isinstance(value, dict):
            selected[key] = _select(value, keep, size)
        elif isinstance(value, torch.Tensor) and value.dim() and len(value) == size:
            selected[key] = value[keep.to(value.device)]
        elif isinstance(value, list) and len(value) == size:
            selected[key] = [value[index] for index in keep.tolist()]
        else:
            selected[key] = value
    return selected
