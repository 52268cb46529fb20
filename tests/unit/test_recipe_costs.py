"""The calculation of GPU hours: what it counts against formulas by hand, and the numbers of the recipes' page."""

from pathlib import Path

import pytest
import recipe_costs
import torch
from torch import nn

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
FRAMES_PER_SECOND = 50  # 20 ms


def by_hand(parameters: int, frames: int, passes: int) -> int:
    """A multiplication and an addition for each weight and frame, in so many passes over the weights."""
    return 2 * parameters * frames * passes


@pytest.mark.parametrize(("frozen", "passes"), [(False, 3), (True, 2)])
def test_linear_layers_cost_two_operations_a_weight_and_pass(frozen: bool, passes: int) -> None:
    """Trained: forward, gradient of activations, gradient of weights; frozen: all but the last."""
    layers = nn.Sequential(nn.Linear(24, 64, device="meta"), nn.Linear(64, 24, device="meta"))
    layers.requires_grad_(not frozen)
    x_TC = torch.empty(7, 24, device="meta", requires_grad=True)
    assert recipe_costs.operations(lambda: layers(x_TC)) == by_hand(2 * 24 * 64, 7, passes)
    with torch.no_grad():
        assert recipe_costs.operations(lambda: layers(x_TC)) == by_hand(2 * 24 * 64, 7, 1)


@pytest.mark.parametrize("groups", [1, 4])
def test_grouped_convolutions_cost_as_much_backward_as_forward_for_each_gradient(groups: int) -> None:
    layer = nn.Conv1d(8, 16, kernel_size=5, groups=groups, device="meta")
    x_BCT = torch.empty(1, 8, 24, device="meta", requires_grad=True)
    weights, frames = 16 * (8 // groups) * 5, 24 - 5 + 1
    assert recipe_costs.operations(lambda: layer(x_BCT)) == by_hand(weights, frames, 3)
    assert recipe_costs.operations(lambda: layer(x_BCT.detach())) == by_hand(weights, frames, 2)


def blocks(dim: int, ffn: int, num: int) -> int:
    """Weights of the linear layers of `num` transformer blocks."""
    return num * (4 * dim * dim + 2 * dim * ffn)


def convolutions(passes: int) -> int:
    """MMS's stack on a second of audio: one layer of 10 samples, four of 3 frames, two of 2 (paper 4.1)."""
    first = by_hand(512 * 10, 3_200, passes)
    threes = sum(by_hand(512 * 512 * 3, frames, passes) for frames in (1_600, 800, 400, 200))
    return first + threes + sum(by_hand(512 * 512 * 2, frames, passes) for frames in (100, 50))


def test_pretraining_is_four_passes_over_the_blocks_because_activations_are_recomputed() -> None:
    cost = recipe_costs.cost("pretrain_300m", seconds=2.0)
    assert cost.trained == 317_390_592  # fairseq's Large model
    expected = by_hand(blocks(1024, 4096, 24), FRAMES_PER_SECOND, 4) + convolutions(3)
    assert 1.0 < cost.flops / expected < 1.05  # the rest: positions, attention, quantizer
    assert cost.audio_hours == pytest.approx(2.3e6)


@pytest.mark.slow
def test_dense_fine_tuning_runs_the_encoder_only_until_it_is_freed() -> None:
    cost = recipe_costs.cost("ctc_1107", seconds=2.0)
    assert round(cost.trained / 1e6, 1) == 962.5  # the released checkpoint
    frozen = 10_000 / 50_000  # freeze_finetune_updates
    passes = frozen * 1 + (1 - frozen) * 4  # with activations recomputed
    expected = passes * by_hand(blocks(1280, 5120, 48), FRAMES_PER_SECOND, 1) + convolutions(1)
    assert 1.0 < cost.flops / expected < 1.05
    assert cost.audio_hours == pytest.approx(40_000)


def test_lsah_has_no_gradients_of_the_base_weights() -> None:
    cost = recipe_costs.cost("lsah_fl102", seconds=2.0)
    expected = by_hand(blocks(1280, 5120, 48), FRAMES_PER_SECOND, 2) + convolutions(1)
    assert 1.0 < cost.flops / expected < 1.05  # the rest: positions, attention, adapters
    assert cost.trained == 102 * 2_151_168  # the paper's about 2 M per language
    assert cost.audio_hours == pytest.approx(102 * 100)
    assert cost.checkpoint_bytes() == 12 * cost.trained


def test_longer_utterances_cost_more_attention() -> None:
    short, long = (recipe_costs.cost("demo_pretrain", seconds) for seconds in (2.0, 30.0))
    assert long.flops > 1.2 * short.flops


def test_gpu_hours_by_assumed_utilisation_and_by_measured_throughput(capsys: pytest.CaptureFixture[str]) -> None:
    cost = recipe_costs.Cost("a", 1_000_000, 10, audio_hours=100.0, flops=2e12)
    assert cost.gpu_hours(1e12) == 200.0
    assert recipe_costs.main(["smoke_lsah"]) == 0
    assert "40%, which is assumed, not measured" in capsys.readouterr().out
    assert recipe_costs.main(["smoke_lsah", "--audio-seconds-per-second", "0.25"]) == 0
    told = capsys.readouterr().out
    assert "as you measured" in told and "assumed" not in told
    (row,) = [line for line in told.splitlines() if line.startswith("| smoke_lsah")]
    assert [cell.strip() for cell in row.split("|")][4:7:2] == ["0.5", "2"]  # 60 x 10 s x 3 languages, at a quarter


def test_demo_and_smoke_languages_are_counted() -> None:
    assert recipe_costs.num_languages(recipe_costs.composed("demo_lsah"), "demo_lsah") == 8
    assert recipe_costs.num_languages(recipe_costs.composed("lsah_1107"), "lsah_1107") == 1_143


def test_unknown_experiment_lists_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe_costs.main(["pretrain_2b"]) == 1
    told = capsys.readouterr().err
    assert "pretrain_2b: no such experiment" in told and "pretrain_1b" in told
    with pytest.raises(SystemExit):
        recipe_costs.main(["--utilisation", "0"])
    assert "expected more than 0" in capsys.readouterr().err


# ---- the page


def page_rows() -> list[list[str]]:
    """The rows of the page's tables that begin with an experiment."""
    rows = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    there = recipe_costs.chosen([])
    return [[cell.strip() for cell in cells] for cells in rows if cells[0].strip() in there]


def test_every_experiment_has_a_row_in_the_page() -> None:
    there = {path.stem for path in (recipe_costs.config.CONFIGS / "experiment").glob("*.yaml")}
    assert there == {row[0] for row in page_rows()}


@pytest.mark.slow
def test_gpu_hours_of_the_page_are_those_of_the_tool() -> None:
    rate = recipe_costs.PEAK_TFLOPS * 1e12 * recipe_costs.UTILISATION
    shown = [row for row in page_rows() if recipe_costs.family(row[0]) not in ("demo", "smoke")]
    assert len(shown) == 24  # twelve experiments in two tables
    printed = recipe_costs.table([recipe_costs.cost(name) for name in sorted({row[0] for row in shown})], rate)
    costs = {cells[0].strip(): [cell.strip() for cell in cells] for cells in map(cells_of, printed.splitlines())}
    for name, *cells in shown:
        _, trained, num_updates, audio, flops, gpu_hours, disk = costs[name]
        assert gpu_hours in cells, f"{name}: expected {gpu_hours} GPU hours in {PAGE}"
        if trained in cells:  # the table that the tool prints
            assert cells == [trained, num_updates, audio, flops, gpu_hours, disk], name
    assert sum(costs[name][1] in cells for name, *cells in shown) == 12


def cells_of(line: str) -> list[str]:
    return line.split("|")[1:-1]
