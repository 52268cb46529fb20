"""The simulator of an array against what can be calculated."""

import dataclasses
import math
import re
import shlex
import statistics
from pathlib import Path

import pytest

from tests.fairseq import tones
from tools import simulate_array
from tools.simulate_array import Array, simulate

CALM = Array(gpus=4, startup=0.0, interval=600.0, write=0.0)


def expected_seconds(intervals: int, array: Array) -> float:
    """Mean time of a shard on one GPU with preemptions without warning: a Poisson process, which hits startup too.

    An attempt at the first interval needs startup + interval + write without a preemption, which costs
    (1/rate + requeue) * (exp(rate * needed) - 1) on average; so does a later one once it has failed.
    """
    segment = array.interval + array.write
    anew = (1 / array.rate + array.requeue) * math.expm1(array.rate * (array.startup + segment))
    fails = -math.expm1(-array.rate * segment)
    later = fails / array.rate + fails * (array.requeue + anew)
    return anew + (intervals - 1) * later


def test_without_preemption_it_is_the_sum_of_the_work() -> None:
    found = simulate([100.0, 200.0, 300.0, 400.0], dataclasses.replace(CALM, gpus=1))
    assert (found.wall, found.work, found.gpu_seconds, found.waste) == (1000.0, 1000.0, 1000.0, 0.0)
    assert simulate([100.0, 200.0, 300.0, 400.0], CALM).wall == 400.0
    assert simulate([300.0] * 8, CALM).wall == 600.0


def test_startup_and_checkpoints_are_paid_by_every_shard() -> None:
    found = simulate([1500.0] * 2, Array(gpus=1, startup=60.0, interval=600.0, write=10.0))
    assert found.wall == found.gpu_seconds == 2 * (60 + 1500 + 3 * 10)
    assert (found.startup, found.writing, found.lost, found.preemptions) == (120.0, 60.0, 0.0, 0)


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_preemption_costs_what_is_calculated(rate: float) -> None:
    array = Array(gpus=1, startup=120.0, interval=600.0, write=20.0, rate=rate / 3600, requeue=90.0)
    mean = statistics.mean(simulate([6000.0], array, seed).wall for seed in range(4000))
    assert mean == pytest.approx(expected_seconds(10, array), rel=0.02)


def test_time_for_a_checkpoint_loses_nothing() -> None:
    array = Array(gpus=3, startup=100.0, interval=600.0, write=20.0, rate=3 / 3600, graceful=1.0)
    found = simulate([5000.0] * 6, array)
    assert found.preemptions > 5 and found.lost == 0.0
    assert simulate([5000.0] * 6, dataclasses.replace(array, graceful=0.0)).lost > 0


@pytest.mark.parametrize("graceful", [0.0, 0.5, 1.0])
def test_every_second_of_a_gpu_is_accounted_for(graceful: float) -> None:
    array = Array(gpus=1, startup=70.0, interval=500.0, write=30.0, rate=4 / 3600, graceful=graceful)
    found = simulate([3333.0, 1000.0, 77.0], array)  # one GPU that is never idle
    assert found.wall == pytest.approx(found.gpu_seconds)


def test_the_best_interval_is_the_best_of_those_tried() -> None:
    array = Array(gpus=1, startup=60.0, interval=0.0, write=30.0, rate=1 / 3600)
    best = simulate_array.best_interval(array.write, array.rate)
    assert best == pytest.approx(464.8, rel=1e-3)
    costs = [expected_seconds(10, dataclasses.replace(array, interval=one)) / one for one in (best / 2, best, best * 2)]
    assert costs[1] == min(costs)


def test_sizes_come_from_manifests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tones.write_corpus(tmp_path, train=4, dev=2)
    args = ["--speed", "100", "--gpus", "1", "--shards", "1,2", "--startup-seconds", "0", "--write-seconds", "0"]
    assert simulate_array.main([*args, "--manifests", str(data)]) == 0
    told = capsys.readouterr().out
    assert "4 languages" in told and "| 1 | 2 | 2 |" in told
    few = simulate_array.language_work(simulate_array.parse([*args, "--manifests", str(data)]))
    assert all(0 < seconds < 2000 * 180 / 100 for seconds in few)


def test_more_shards_than_languages_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate_array.main(["--speed", "100", "--langs", "2", "--shards", "3"]) == 1
    assert "3 shards for 2 languages" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--speed=0", "0, expected more than 0"),
        ("--preemptions=-1", "-1, expected 0 or more"),
        ("--graceful=2", "2, expected 0 to 1"),
        ("--gpus=0", "expected numbers of 1 and more"),
    ],
)
def test_wrong_numbers_are_told(option: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        simulate_array.main(["--speed=1", option])
    assert told in capsys.readouterr().err


# ---- docs/scaling.md


def printed(command: str, capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """Run a command of the page; return the cells of its table, without head and rule."""
    words = shlex.split(command)
    assert words[:2] == ["python", "tools/simulate_array.py"]
    assert simulate_array.main(words[2:]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    return [line.strip("| ").split(" | ") for line in lines[2:]]


def test_the_page_tells_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs/scaling.md").read_text(encoding="utf-8")
    calm, hourly, together = re.findall(r"^    (python tools/simulate_array.py .*)$", page, re.MULTILINE)
    table = [line.strip("| ").split(" | ") for line in re.findall(r"^\| \d+ \| [\d,]+ \| .*$", page, re.MULTILINE)]
    both = zip(printed(calm, capsys), printed(hourly, capsys), strict=True)
    assert table == [[*one[:4], one[6], other[3], other[6]] for one, other in both]
    (whole,) = printed(together, capsys)
    assert f"{float(whole[-1].rstrip('%')):.0f} % of the time goes into writing, repeating and starting up" in page
    for options, told in (("--interval-minutes 2", "9.6 % in place of 12.5 %"), ("--graceful 1", "5.1 % in place of")):
        assert f"`{options}`" in page and told in page
        shares = {row[-1] for row in printed(f"{hourly} --shards 64 {options}", capsys)}
        assert shares == {told.partition(" in place")[0].replace(" ", "")}
