"""The watchdog says nothing of runs that are well, and names what is wrong with those that are not."""

import random
from collections.abc import Iterator

import pytest

from mms_recipes.watchdog import Alarm, Watchdog

Numbers = dict[str, float]

# wav2vec 2.0 Base on Librispeech, as in fairseq's examples
BASE = {"groups": 2, "num_vars": 320, "num_negatives": 100, "max_update": 400_000, "warmup_updates": 32_000}
# configs/experiment/demo_pretrain.yaml
DEMO = {"groups": 2, "num_vars": 64, "num_negatives": 50, "max_update": 200, "warmup_updates": 40}

# What demo_pretrain logged on 2026-11-21 every 20 updates.
DEMO_LOG = """
    loss_0 accuracy prob_perplexity code_perplexity gnorm
    5.715  0.04835   61.638  60.022 0.670
    5.674  0.03805  104.738 102.277 0.196
    5.670  0.03854  117.607 114.754 0.174
    5.670  0.03900  120.067 117.099 0.150
    5.670  0.04823  121.770 119.397 0.107
    5.642  0.05768  119.830 117.494 0.207
    5.531  0.05869  108.445 106.483 0.433
    5.450  0.07016  106.395 104.444 0.404
    5.356  0.09090  105.834 103.769 0.482
    5.365  0.07462  105.044 102.732 0.424
"""

# The same with optimization.lr=0.1, optimization.clip_norm=0 and half the batch, by 5 updates: all is lost before 40.
HIGH_RATE_LOG = """
    loss_0 accuracy prob_perplexity code_perplexity gnorm
    5.820  0.05706  32.559  31.133  1.464
    5.612  0.05106  12.874  12.178  0.109
    5.613  0.04719  13.744  12.184  0.066
    5.558  0.03886   9.766   7.817  0.055
    5.532  0.07195   8.387   6.928  0.041
    5.396  0.07929   6.373   5.575  0.048
    2.617  0.48927   3.070   2.799  0.155
    0      1         2       2      0
    0      1         2       2      0
    0      1         2       2      0
    0      1         2       2      0
    0      1         2       2      0
"""
# The same on files of zeros with a third of the batch, by 5 updates; its beginning.
SILENCE_LOG = """
    loss_0 accuracy prob_perplexity code_perplexity gnorm
    4.783  0.25027   3.074   2      8.177
    3.073  0.60696   2.595   2      6.726
    1.014  0.83627   2.119   2      1.768
    0      1         2       2      0
    0      1         2       2      0
"""

# What users' runs logged (3330: in validation): fairseq issues, and the last one is from huggingface/transformers.
ISSUE_LOG = """
    issue  loss_0 accuracy prob_perplexity code_perplexity gnorm
    3109   6.658  0.42083  639.979         353.274         0
    3391   3.296  0.48972   25.864          25.847         1.383
    3330   4.594  0.68451  602.726          23.827         -
    14387  0      1          2               2             8e-19
"""
HEALTHY = {"loss_0": 2.2, "accuracy": 0.6, "code_perplexity": 400.0, "prob_perplexity": 410.0, "gnorm": 0.8}


def rows(table: str) -> list[Numbers]:
    header, *lines = (line.split() for line in table.strip().splitlines())
    return [{name: float(cell) for name, cell in zip(header, line, strict=True) if cell != "-"} for line in lines]


ISSUES = {int(row.pop("issue")): row for row in rows(ISSUE_LOG)}


def watch(watchdog: Watchdog, numbers: Numbers, first: int, updates: int | None = None) -> list[Alarm]:
    """Feed the same numbers to updates from `first` on, one window if not said otherwise."""
    last = first + (watchdog.window if updates is None else updates)
    return [alarm for update in range(first, last) for alarm in watchdog.feed(update, numbers)]


def kinds(alarms: list[Alarm]) -> list[str]:
    return [alarm.kind for alarm in alarms]


def between(x: float, x0: float, x1: float, y0: float, y1: float) -> float:
    return y0 + (y1 - y0) * min(1.0, max(0.0, (x - x0) / (x1 - x0)))


def base_run(updates: range, bad_batches: int) -> Iterator[tuple[int, Numbers]]:
    """A run like Base: it guesses for 1,000 updates, uses few codes in the warm-up, then more; noise; bad batches."""
    rng = random.Random(1)
    for update in updates:
        learned = between(update, 1_000, 60_000, 0, 1)
        codes = between(update, 0, 2_000, 105, 20) + between(update, 2_000, 32_000, 0, 180)
        numbers = {
            "loss_0": (6.658 - 4.5 * learned) * rng.gauss(1, 0.02),
            "accuracy": 0.01 + 0.61 * learned + rng.gauss(0, 0.01),
            "code_perplexity": codes * rng.gauss(1, 0.1),
            "prob_perplexity": 1.05 * codes * rng.gauss(1, 0.1),
            "gnorm": rng.lognormvariate(0, 0.5),
        }
        if update % 3_000 < bad_batches:
            numbers = {"loss_0": 40.0, "accuracy": 1.0, "code_perplexity": 2.0, "prob_perplexity": 2.0, "gnorm": 1e4}
        yield update, numbers


def replay(log: str, interval: int, watchdog: Watchdog) -> list[Alarm]:
    """Feed a log of a line per `interval` updates, each line as often as it has updates."""
    numbers = [row for row in rows(log) for _ in range(interval)]
    return [alarm for update, row in enumerate(numbers, 1) for alarm in watchdog.feed(update, row)]


@pytest.mark.parametrize("window", [1, 10, 30])
def test_the_demo_is_well(window: int) -> None:
    """It guesses for half of its 200 updates, and comes out of it."""
    assert replay(DEMO_LOG, 20, Watchdog(**DEMO, window=window)) == []


def test_a_learning_rate_that_is_too_high_is_named() -> None:
    (alarm,) = replay(HIGH_RATE_LOG, 5, Watchdog(**DEMO))
    assert (alarm.kind, alarm.num_updates) == ("code collapse", 50)
    assert "code_perplexity 2.0 of 128 (median of 10 updates), prob_perplexity 2.0, accuracy 1.000" in alarm.message
    assert "steps too large" in alarm.message
    assert "optimization.lr" in alarm.message


def test_silence_is_named() -> None:
    (alarm,) = replay(SILENCE_LOG, 5, Watchdog(**DEMO))
    assert (alarm.kind, alarm.num_updates) == ("code collapse", 10)
    assert "silent or constant audio" in alarm.message
    assert "optimization.lr" not in alarm.message


@pytest.mark.parametrize("bad_batches", [0, 1, 60])
@pytest.mark.parametrize("updates", [range(1, 12_000), range(28_000, 50_000)])
def test_a_run_like_base_is_well(updates: range, bad_batches: int) -> None:
    watchdog = Watchdog(**BASE)
    run = base_run(updates, bad_batches)
    assert [alarm for update, numbers in run for alarm in watchdog.feed(update, numbers)] == []


def test_a_trained_model_may_be_accurate() -> None:
    assert watch(Watchdog(**BASE), HEALTHY | {"accuracy": 0.97}, 5_000, 1_000) == []


@pytest.mark.parametrize(
    ("numbers", "first", "expected"),
    [
        (ISSUES[3391], 40_000, ["code collapse", "prob collapse"]),
        (ISSUES[3330], 40_000, ["code collapse"]),
        (ISSUES[3109], 250_000, ["chance", "vanished gradient"]),
        (ISSUES[14387], 1_100, ["code collapse"]),  # in the middle of the warm-up, but this is no dip
        (HEALTHY | {"accuracy": 0.96, "code_perplexity": 20.0, "prob_perplexity": 20.0}, 1_000, ["too easy"]),
        (HEALTHY | {"accuracy": 0.99, "loss_0": 0.1}, 1_000, ["too easy"]),
        (HEALTHY | {"prob_perplexity": 63.0, "code_perplexity": 65.0}, 33_000, ["prob collapse"]),
        ({"loss_0": 6.658}, 42_000, ["chance"]),
        ({"code_perplexity": 63.0}, 33_000, ["code collapse"]),
    ],
)
def test_what_users_met_is_named(numbers: Numbers, first: int, expected: list[str]) -> None:
    alarms = watch(Watchdog(**BASE), numbers, first)
    assert kinds(alarms) == expected
    for alarm in alarms:
        assert alarm.num_updates == first + 199
        assert str(alarm).startswith(f"update {first + 199:,}: {alarm.kind}: ")
        assert all(part in alarm.message for part in ("; expected ", ". Likely cause: ", ". What to do: "))


@pytest.mark.parametrize(
    ("numbers", "first"),
    [
        (ISSUES[3391], 20_000),  # in the warm-up
        (HEALTHY | {"code_perplexity": 65.0, "prob_perplexity": 65.0}, 33_000),  # just above 10 %
        ({"loss_0": 6.658}, 41_000),  # a tenth of the run, at most 10,000 updates, after the warm-up is not over
        ({"loss_0": 6.5}, 100_000),  # 2 % below guessing
        (HEALTHY | {"accuracy": 0.94}, 1_000),
        ({}, 100_000),
        ({"wps": 3.0}, 100_000),
    ],
)
def test_what_is_within_the_limits_is_not(numbers: Numbers, first: int) -> None:
    assert watch(Watchdog(**BASE), numbers, first) == []


def test_messages_say_what_was_seen_and_what_to_change() -> None:
    flat, easy = (watch(Watchdog(**BASE), numbers, 40_000)[0].message for numbers in (ISSUES[3330], ISSUES[3391]))
    assert "code_perplexity 23.8 of 640 (median of 200 updates), prob_perplexity 602.7" in flat
    assert "a code_perplexity above 64.0" in flat
    assert "neither silent nor constant" in flat
    assert "neither silent nor constant" not in easy
    assert "optimization.lr" in easy
    (lost,) = watch(Watchdog(**BASE), HEALTHY | {"accuracy": 0.96, "code_perplexity": 20.0}, 1_000)
    assert "share a code" in lost.message
    assert "optimization.lr" in lost.message
    (unmasked,) = watch(Watchdog(**BASE), HEALTHY | {"accuracy": 0.99}, 1_000)
    assert "too little is masked" in unmasked.message
    assert "model.mask_prob" in unmasked.message
    assert "optimization.lr" not in unmasked.message
    (dead, _) = watch(Watchdog(**BASE), ISSUES[3109], 250_000)
    assert "loss_0 is still at 6.658" in dead.message
    assert "less than the 6.658 bits of guessing among 100 negatives (the accuracy, 0.421, says little" in dead.message


def test_a_run_that_falls_back_to_guessing_is_named_at_once() -> None:
    """Even in the warm-up, when it had been better."""
    watchdog = Watchdog(**BASE)
    assert watch(watchdog, HEALTHY | {"loss_0": 5.8, "accuracy": 0.2}, 1_000) == []
    (alarm,) = watch(watchdog, HEALTHY | {"loss_0": 6.658, "accuracy": 0.5}, 1_200)
    assert "loss_0 is back at 6.658" in alarm.message
    assert "diverged" in alarm.message


def test_a_run_that_never_learns_is_named_after_a_tenth_of_it() -> None:
    watchdog = Watchdog(**BASE | {"max_update": 20_000, "warmup_updates": 500})
    alarms = watch(watchdog, HEALTHY | {"loss_0": 6.66, "accuracy": 0.011}, 1, 4_000)
    assert kinds(alarms[:1]) == ["chance"]
    assert alarms[0].num_updates == 2_600  # the first whole window after 500 + 2,000


def test_gradients_explode() -> None:
    watchdog = Watchdog(**BASE)
    rng = random.Random(2)
    for update in range(40_000, 42_000):
        assert watchdog.feed(update, {"gnorm": rng.lognormvariate(0, 0.5)}) == []
    assert watch(watchdog, {"gnorm": 4.9}, 42_000) == []
    (alarm,) = watch(watchdog, {"gnorm": 30.0}, 42_200)
    assert alarm.kind == "exploded gradient"
    assert "gradient norm 30" in alarm.message


def test_a_gradient_that_grows_from_next_to_nothing_has_not_exploded() -> None:
    """Where a run leaves the plateau of guessing, its gradient grows many times over."""
    watchdog = Watchdog(**BASE)
    assert watch(watchdog, {"gnorm": 0.01}, 1, 2_000) == []
    assert watch(watchdog, {"gnorm": 2.0}, 2_001, 2_000) == []


@pytest.mark.parametrize("name", ["loss", "loss_1", *HEALTHY])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_named_at_once(name: str, value: float) -> None:
    watchdog = Watchdog(**BASE)
    (alarm,) = watchdog.feed(7, HEALTHY | {name: value})
    assert (alarm.kind, alarm.num_updates) == ("not finite", 7)
    assert f"{name} is {value}" in alarm.message


def test_numbers_that_are_not_finite_do_not_spoil_the_medians() -> None:
    watchdog = Watchdog(**BASE)
    assert watch(watchdog, HEALTHY, 40_000, 800) == []
    both = (HEALTHY, dict.fromkeys(HEALTHY, float("inf")))
    alarms = [alarm for update in range(40_800, 41_000) for alarm in watchdog.feed(update, both[update % 4 > 0])]
    assert set(kinds(alarms)) == {"not finite"}
    assert len(alarms) == 8  # at 1, 2, 4, ... 128 of 150 bad updates: each time it is twice as bad


def test_an_alarm_comes_once_again_when_worse_and_as_a_reminder() -> None:
    watchdog = Watchdog(**BASE, window=10, remind=1_000)
    assert kinds(watch(watchdog, {"code_perplexity": 60.0}, 40_000)) == ["code collapse"]
    assert watch(watchdog, {"code_perplexity": 50.0}, 40_010, 500) == []
    (worse,) = watch(watchdog, {"code_perplexity": 29.0}, 40_510, 500)
    assert (worse.num_updates, "code_perplexity 29.0" in worse.message) == (40_519, True)
    alarms = watch(watchdog, {"code_perplexity": 29.0}, 41_010, 2_000)
    assert [alarm.num_updates for alarm in alarms] == [41_519, 42_519]


def test_a_run_that_mends_itself_is_not_reported_again() -> None:
    watchdog = Watchdog(**BASE, window=10, remind=1_000)
    assert kinds(watch(watchdog, {"code_perplexity": 60.0}, 40_000)) == ["code collapse"]
    assert watch(watchdog, HEALTHY, 40_010, 5_000) == []
    assert kinds(watch(watchdog, {"code_perplexity": 60.0}, 45_010)) == ["code collapse"]


def test_a_small_quantizer_may_use_few_codes() -> None:
    """10 % of 2 x 4 codes are less than one per group: the limit is then that of one code per group."""
    watchdog = Watchdog(**BASE | {"num_vars": 4})
    assert watch(watchdog, {"code_perplexity": 2.5}, 40_000) == []
    assert kinds(watch(watchdog, {"code_perplexity": 2.1}, 40_200)) == ["code collapse"]


def test_without_extra_losses_the_loss_is_the_contrastive_loss() -> None:
    assert kinds(watch(Watchdog(**BASE), {"loss": 6.66}, 250_000)) == ["chance"]
    assert watch(Watchdog(**BASE), {"loss": 6.66, "loss_0": 2.0}, 250_000) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"groups": 0}, "groups=0; expected at least 1"),
        ({"num_vars": 1}, "num_vars=1; expected at least 2"),
        ({"num_negatives": 0}, "num_negatives=0; expected at least 1"),
        ({"max_update": 0}, "max_update=0; expected at least 1"),
        ({"warmup_updates": -1}, "warmup_updates=-1; expected at least 0"),
        ({"window": 0}, "window=0; expected at least 1"),
        ({"remind": -5}, "remind=-5; expected at least 0"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Watchdog(**BASE | wrong)
