"""Watch wav2vec 2.0 pretraining for the ways in which it fails without stopping.

The numbers are those that fairseq's `wav2vec` criterion logs, under its names and in its units:

    loss_0           contrastive loss, bits per masked frame; guessing among K costs log2(K + 1): 6.658 for 100
    accuracy         share of masked frames whose own code scores best, 0 to 1
    code_perplexity  codes in use, summed over groups: from `groups` (one code in each) to groups * vars
    prob_perplexity  the same of the quantizer's mean softmax, before the choice of a code
    gnorm            norm of the gradient before clipping

What they are in runs, and who says so (# is an issue of facebookresearch/fairseq, HF one of huggingface/transformers):

    accuracy         at the end about 0.62 for Base on Librispeech and 0.70 for Large on Librivox (an author, #2949)
    code_perplexity  105 of 640 after 200 updates (#3687); 17.8 and 25.8 of 640 where people ask if that is right
                     (#2981, #3391); 60, then 102 to 119 of 128 in demo_pretrain; 2 where all is lost (HF 14387, and
                     demo_pretrain with a learning rate of 0.1 or on silence: within 40 updates accuracy is 1, loss_0 0)
    loss_0           6.658 for good in runs that died; their gradient is 0, and their accuracy wanders between 0.2 and
                     0.8, since equal scores are ranked by chance (#3109, #3661, #3718, #3744)
    gnorm            0.5 to 2 (HF: README of speech-pretraining), 1.4 (#3391), 0.1 to 0.7 (demo_pretrain)
"""

import math
import statistics
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

METRICS = ("loss_0", "accuracy", "code_perplexity", "prob_perplexity", "gnorm")
OTHER_LOSSES = ("loss", "loss_1", "loss_2")

MIN_CODES = 0.10  # share of all codes
ONE_CODE = 1.1  # perplexity of a group in which one code has all frames
EASY_ACCURACY, EASY_UPDATES = 0.95, 5_000
AT_CHANCE, LEARNED = 0.99, 0.95  # shares of what guessing costs
EXPLODED, MIN_EXPLODED = 10.0, 5.0  # times the usual gradient norm; and above what runs that work report
VANISHED = 1e-4  # gradient norm; the log prints 0
WORSE = 2.0  # an alarm comes again when it is this many times as bad

SMALLER_STEPS = (
    "lower optimization.lr (3 to 10 times), raise optimization.update_freq (wav2vec 2.0 Base takes 1.6 h of audio per "
    "update) or lr_scheduler.warmup_updates"
)
GO_BACK = "go on from a checkpoint of before, for this seldom mends itself"


@dataclass(frozen=True)
class Alarm:
    """A failure that the numbers show; the message says what was seen and expected, why, and what to change."""

    kind: str
    num_updates: int
    message: str

    def __str__(self) -> str:
        return f"update {self.num_updates:,}: {self.message}"


@dataclass(frozen=True)
class _Finding:
    kind: str
    seen: str
    expected: str
    cause: str
    change: str
    badness: float = 1.0  # at the limit, growing beyond it; compared within a kind


class Watchdog:
    """Takes the numbers of every update and returns alarms. What is judged is the median of `window` updates, so that a
    bad batch does not alarm.

    kind               | alarms when                                                        | from
    -------------------|--------------------------------------------------------------------|------------------------
    code collapse      | code_perplexity < 10 % of the codes after the warm-up, or at any   | #3735, #4530, #2981,
                       | time one code per group                                            | HF 14387
    prob collapse      | the same of prob_perplexity, which the diversity loss keeps up     | wav2vec 2.0, section 3.2
    too easy           | accuracy > 0.95 before update 5,000                                | #3687, #2949
    chance             | loss_0 is within 1 % of guessing, after it had been 5 % below it,  | #3661, #3718, #3744,
                       | or later than a tenth of the run (1,000 to 10,000 updates) after   | #3109, #4948
                       | the warm-up                                                        |
    vanished gradient  | gnorm < 0.0001                                                     | #3109, HF 14387
    exploded gradient  | gnorm > 5 and > 10 times its median over the last 50 windows       | ours
    not finite         | any of the numbers is nan or inf (at once: fairseq itself skips    | fairseq's trainer.py
                       | the updates that overflow in fp16, they are not fed)               |

    The chance rule does not ask for an accuracy of 1 / (K + 1): dead runs show 0.2 to 0.8. In the warm-up 10 % of the
    codes are not asked for: perplexity falls then in runs that recover, too. Where one code per group is left, the
    accuracy, loss and gradient follow from that, and only the code collapse is told.

    An alarm of a kind comes once, again when it is twice as bad, and after `remind` updates if it still holds.

    groups, num_vars: model.latent_groups and latent_vars. num_negatives: model.num_negatives + cross_sample_negatives.
    max_update, warmup_updates, window, remind: updates. Raises ValueError for numbers that cannot be.
    """

    def __init__(
        self,
        *,
        groups: int,
        num_vars: int,
        num_negatives: int,
        max_update: int,
        warmup_updates: int,
        window: int | None = None,
        remind: int | None = None,
    ) -> None:
        self.window = min(200, max(10, max_update // 100)) if window is None else window
        self.remind = max(1_000, max_update // 20) if remind is None else remind
        _require_at_least(1, groups=groups, num_negatives=num_negatives, max_update=max_update, window=self.window)
        _require_at_least(2, num_vars=num_vars)
        _require_at_least(0, warmup_updates=warmup_updates, remind=self.remind)
        self.groups, self.codes = groups, groups * num_vars
        self.num_negatives, self.chance = num_negatives, math.log2(num_negatives + 1)
        self.warmup_updates = warmup_updates
        self.patience = min(10_000, max(1_000, max_update // 10))
        self._values: dict[str, list[float]] = {name: [] for name in METRICS}  # of this window
        self._fed = self._not_finite_updates = 0
        self._has_learned = False
        self._most_codes = 0.0  # the highest median so far
        self._usual_gnorms: deque[float] = deque(maxlen=50)  # medians of past windows
        self._raised: dict[str, tuple[int, float]] = {}  # kind: update and badness of its last alarm

    def feed(self, num_updates: int, metrics: Mapping[str, float]) -> list[Alarm]:
        """Take what there is of METRICS and OTHER_LOSSES of one update, pass over the rest, and return new alarms.

        Where the criterion has no loss_weights it logs no loss_0; then `loss` is the contrastive loss.
        """
        values = {name: float(metrics[name]) for name in (*METRICS, *OTHER_LOSSES) if name in metrics}
        if "loss" in values:
            values.setdefault("loss_0", values["loss"])
        findings = list(self._not_finite(values))
        for name in METRICS:
            if math.isfinite(value := values.get(name, math.nan)):
                self._values[name].append(value)
        self._fed += 1
        if self._fed == self.window:
            findings += self._judge(num_updates)
        return [self._raise(num_updates, finding) for finding in findings if self._is_news(num_updates, finding)]

    def _judge(self, num_updates: int) -> list[_Finding]:
        """Judge the window that is full, and begin another."""
        medians = {name: statistics.median(values) if values else math.nan for name, values in self._values.items()}
        rules = [self._code_collapse, self._prob_collapse, self._too_easy, self._chance, self._gradient]
        if medians["code_perplexity"] < ONE_CODE * self.groups:
            rules = [self._code_collapse]
        findings = [finding for rule in rules for finding in rule(num_updates, medians)]
        self._has_learned = self._has_learned or medians["loss_0"] < LEARNED * self.chance
        self._most_codes = max(self._most_codes, medians["code_perplexity"])  # the first, when the second is nan
        if math.isfinite(medians["gnorm"]):
            self._usual_gnorms.append(medians["gnorm"])
        self._values, self._fed = {name: [] for name in METRICS}, 0
        return findings

    def _is_news(self, num_updates: int, finding: _Finding) -> bool:
        if finding.kind not in self._raised:
            return True
        last, badness = self._raised[finding.kind]
        return finding.badness >= WORSE * badness or num_updates - last >= self.remind

    def _raise(self, num_updates: int, finding: _Finding) -> Alarm:
        self._raised[finding.kind] = (num_updates, finding.badness)
        message = (
            f"{finding.kind}: {finding.seen}; expected {finding.expected}. Likely cause: {finding.cause}. "
            f"What to do: {finding.change}"
        )
        return Alarm(finding.kind, num_updates, message)

    # ---- the rules: each yields a finding or none. What was not fed is nan, which is never beyond a limit.

    def _not_finite(self, values: Mapping[str, float]) -> Iterator[_Finding]:
        wrong = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
        if not wrong:
            return
        self._not_finite_updates += 1
        yield _Finding(
            "not finite",
            seen=f"{', '.join(wrong)} (in {self._not_finite_updates} updates so far)",
            expected="finite numbers",
            cause="an overflow in 16 bits, nan in the audio, or steps that are too large",
            change=f"train in common.bf16 or 32 bits, look for nan in the audio, {SMALLER_STEPS}; {GO_BACK}",
            badness=self._not_finite_updates,
        )

    def _least_perplexity(self, num_updates: int) -> float:
        """The perplexity below which codes have collapsed; in the warm-up only what cannot be mended."""
        one_code = ONE_CODE * self.groups
        return max(MIN_CODES * self.codes, one_code) if num_updates > self.warmup_updates else one_code

    def _code_collapse(self, num_updates: int, medians: Mapping[str, float]) -> Iterator[_Finding]:
        value, prob = medians["code_perplexity"], medians["prob_perplexity"]
        least = self._least_perplexity(num_updates)
        if not value < least:
            return
        cause = "steps too large for this batch drove most frames to the same codes, or there is too little audio"
        change = f"{SMALLER_STEPS}, or start from a pretrained model (checkpoint.finetune_from_model); {GO_BACK}"
        if prob > 0.5 * self.codes:  # #3330, #3109
            cause = "the quantizer scores all codes alike, so what reaches it hardly differs from frame to frame"
            change = f"make sure that the audio is neither silent nor constant; {SMALLER_STEPS}; {GO_BACK}"
        elif max(value, self._most_codes) < ONE_CODE * self.groups:
            cause = (
                "silent or constant audio, since it has been so from the first update seen; or a checkpoint like that"
            )
            change = "listen to some of the audio, and begin from another checkpoint or from none"
        yield _Finding(
            "code collapse",
            seen=f"code_perplexity {value:.1f} of {self.codes} {self._span}, prob_perplexity {prob:.1f}, "
            f"accuracy {medians['accuracy']:.3f}, loss_0 {medians['loss_0']:.3f}",
            expected=f"a code_perplexity above {least:.1f}",
            cause=cause,
            change=change,
            badness=least / max(value, 1e-9),
        )

    def _prob_collapse(self, num_updates: int, medians: Mapping[str, float]) -> Iterator[_Finding]:
        value, least = medians["prob_perplexity"], self._least_perplexity(num_updates)
        if value < least:
            yield _Finding(
                "prob collapse",
                seen=f"prob_perplexity {value:.1f} of {self.codes} {self._span}",
                expected=f"above {least:.1f}",
                cause="the diversity loss (loss_1) does not hold against the contrastive loss",
                change=f"the first of criterion.loss_weights should be 0.1, not 0; {SMALLER_STEPS}; {GO_BACK}",
                badness=least / max(value, 1e-9),
            )

    def _too_easy(self, num_updates: int, medians: Mapping[str, float]) -> Iterator[_Finding]:
        accuracy, codes = medians["accuracy"], medians["code_perplexity"]
        if num_updates >= EASY_UPDATES or not accuracy > EASY_ACCURACY:
            return
        cause = "too little is masked, or audio that repeats itself (one tone, one noise)"
        change = "model.mask_prob should be about 0.65, model.mask_length 10 frames; listen to some of the audio"
        if codes < MIN_CODES * self.codes:
            # fairseq's compute_preds sets negatives that equal the positive to -inf
            cause = "most frames share a code; negatives equal to the positive are left out, and so few compete with it"
            change = f"{SMALLER_STEPS}; listen to some of the audio; {GO_BACK}"
        yield _Finding(
            "too easy",
            seen=f"accuracy {accuracy:.3f} {self._span}, loss_0 {medians['loss_0']:.3f}, "
            f"code_perplexity {codes:.1f} of {self.codes}",
            expected=f"at most {EASY_ACCURACY} before update {EASY_UPDATES:,}; trained models end at 0.6 to 0.7",
            cause=cause,
            change=change,
        )

    def _chance(self, num_updates: int, medians: Mapping[str, float]) -> Iterator[_Finding]:
        late = num_updates >= self.warmup_updates + self.patience
        if not medians["loss_0"] >= AT_CHANCE * self.chance or not (late or self._has_learned):
            return
        cause = "steps too large or too small, or audio in which there is nothing to predict"
        change = f"{SMALLER_STEPS}; with a small and steady gradient norm raise optimization.lr; listen to some audio"
        if self._has_learned:
            cause, change = "training diverged: steps too large for this batch", f"{SMALLER_STEPS}; {GO_BACK}"
        yield _Finding(
            "chance",
            seen=f"loss_0 is {'back' if self._has_learned else 'still'} at {medians['loss_0']:.3f} {self._span}",
            expected=f"less than the {self.chance:.3f} bits of guessing among {self.num_negatives} negatives "
            f"(the accuracy, {medians['accuracy']:.3f}, says little here: equal scores are ranked by chance)",
            cause=cause,
            change=change,
        )

    def _gradient(self, num_updates: int, medians: Mapping[str, float]) -> Iterator[_Finding]:
        gnorm = medians["gnorm"]
        if gnorm < VANISHED:
            yield _Finding(
                "vanished gradient",
                seen=f"gradient norm {gnorm:.2g} {self._span}",
                expected="0.1 to 5",
                cause="the model gives every frame the same output, and nothing is learned any more",
                change=f"{SMALLER_STEPS}; {GO_BACK}",
            )
        usual = statistics.median(self._usual_gnorms) if len(self._usual_gnorms) >= 3 else math.nan
        if gnorm > MIN_EXPLODED and gnorm > EXPLODED * usual:
            yield _Finding(
                "exploded gradient",
                seen=f"gradient norm {gnorm:.3g} {self._span}",
                expected=f"about {usual:.3g}, its median so far",
                cause="steps too large, or audio unlike the rest (its level, its rate, noise)",
                change=f"{SMALLER_STEPS}, or set optimization.clip_norm to a few times {usual:.2g}",
                badness=gnorm / (EXPLODED * max(usual, 1e-9)),
            )

    @property
    def _span(self) -> str:
        return f"(median of {self.window} updates)"


def _require_at_least(least: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"watchdog: {name}={number}; expected at least {least}")
