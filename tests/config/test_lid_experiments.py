"""The experiments of language identification hold the paper's numbers (section 6), and what it tried where it chose."""

import pytest

from mms_recipes.lid import classes as lid_classes
from tests.config.test_compose import composed, missing_keys

SIZES = {126: "lid126", 256: "lid256"} | {size: f"lid{size}_ours" for size in (512, 1024, 2048, 4017)}


@pytest.mark.parametrize(("size", "classes"), SIZES.items())
def test_the_papers_numbers(size: int, classes: str) -> None:
    cfg = composed(f"+experiment=lid_{size}")
    assert cfg.name == f"lid_{size}" and cfg.task.classes == classes and len(lid_classes.class_list(classes)) == size
    assert list(cfg.optimizer.adam_betas) == [0.9, 0.98] and list(cfg.lr_scheduler.phase_ratio) == [0.1, 0.4, 0.5]
    assert cfg.optimization.lr[0] in (1e-5, 3e-5, 3e-6, 5e-6, 7e-6)
    assert 10_000 <= cfg.optimization.max_update <= 50_000
    assert cfg.task.beta_lang in (0, 0.3, 0.5, 0.7, 1) and cfg.task.beta_corpus in (0, 0.3, 0.5, 0.7, 1)
    assert cfg.dataset.max_tokens / 16_000 / 60 in (1.5, 3, 6)  # minutes per GPU
    assert cfg.task.hours_per_update == cfg.dataset.max_tokens * 16 / 16_000 / 3_600
    assert cfg.checkpoint.best_checkpoint_metric == "macro_accuracy" and cfg.checkpoint.maximize_best_checkpoint_metric
    assert missing_keys(cfg.model) == ["base"] and not cfg.model.freeze_encoder
