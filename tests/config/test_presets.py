"""Presets by hours of speech: they fit every LSAH experiment, grow with the data, and change nothing else."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from mms_recipes import config, runner

FOLDER = config.CONFIGS / "preset"
PRESETS = ("10min", "1h", "10h")  # from little speech to much
EXPERIMENTS = sorted(path.stem for path in (config.CONFIGS / "experiment").glob("*lsah*.yaml"))
# what hours of speech decide; the base's size, memory and places are no matter of a preset
MAY_SET = {
    "task.update_seconds",
    "optimization.max_update",
    "optimization.lr",
    "model.mask_prob",
    "model.mask_channel_prob",
    "model.head_init",
    "model.adapter_init",
    "dataset.validate_interval_updates",
    "checkpoint.save_interval_updates",
}


def composed(*overrides: str) -> DictConfig:
    config.register()
    with initialize_config_dir(version_base="1.3", config_dir=str(config.CONFIGS)):
        return compose("train", overrides=list(overrides))


def settings(preset: str) -> dict[str, object]:
    """The keys of a preset's file, dotted, and their values."""
    sections = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{preset}.yaml"))
    assert isinstance(sections, dict)
    return {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}


def test_all_presets_are_known() -> None:
    assert {path.stem for path in FOLDER.glob("*")} == set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_preset_changes_what_it_says_and_nothing_else(experiment: str, preset: str) -> None:
    before, after = composed(f"+experiment={experiment}"), composed(f"+experiment={experiment}", f"+preset={preset}")
    config.refuse_unknown_keys(after)
    for key, value in settings(preset).items():
        assert OmegaConf.select(after, key) == value, key
        OmegaConf.update(before, key, value)
    assert before == after


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_sets_only_what_hours_of_speech_decide(preset: str) -> None:
    assert set(settings(preset)) == MAY_SET


def test_more_speech_is_more_training_with_fewer_repetitions() -> None:
    hours = dict(zip(PRESETS, (1 / 6, 1.0, 10.0), strict=True))
    seen, rates, masks, epochs = [], [], [], []
    for preset in PRESETS:
        values = composed("+experiment=lsah_fl102", f"+preset={preset}")
        audio = values.task.update_seconds * values.optimization.max_update / 3600
        # a language takes at most all that it has in one update
        assert values.task.update_seconds < hours[preset] * 3600
        assert values.optimization.max_update % values.dataset.validate_interval_updates == 0  # the last one is scored
        assert values.dataset.validate_interval_updates % values.checkpoint.save_interval_updates == 0
        seen.append(audio)
        epochs.append(audio / hours[preset])
        masks.append(values.model.mask_prob)
        rates.append(values.optimization.lr[0])
    assert seen == sorted(seen) and len(set(seen)) == len(PRESETS)
    assert epochs == sorted(epochs, reverse=True) and rates == sorted(rates, reverse=True)
    assert masks == sorted(masks, reverse=True)


def test_ten_hours_is_the_papers_recipe_with_a_head_from_the_base() -> None:
    paper, preset = composed("+experiment=lsah_fl102"), composed("+experiment=lsah_fl102", "+preset=10h")
    for key in ("task.update_seconds", "optimization.max_update", "optimization.lr", "model.mask_prob"):
        assert OmegaConf.select(preset, key) == OmegaConf.select(paper, key), key


@pytest.mark.parametrize("preset", PRESETS)
def test_every_number_is_marked_as_ours_with_why(preset: str) -> None:
    lines = (FOLDER / f"{preset}.yaml").read_text().splitlines()
    header = lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]
    assert header[0] == "# @package _global_"
    told = [line.split(":")[0].removeprefix("# ") for line in header if re.match(r"# [A-Z]\w+:", line)]
    assert told == ["What", "Command", "Needs"]
    assert any(f"+preset={preset}" in line for line in header)
    values = [line for line in lines[len(header) :] if re.match(r" +\w+:", line)]
    assert len(values) == len(MAY_SET)
    for line in values:
        assert re.search(r"# ours: \w+|# leaked", line), line


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("+experiment=lsah_fl102", "+preset=20min"), ("preset/20min", *PRESETS)),
        (("+experiment=ctc_fl102", "+preset=10min"), ("preset/10min", "task.update_seconds: no such key")),
    ],
)
def test_mistake_with_a_preset(overrides: tuple[str, ...], told: tuple[str, ...]) -> None:
    with pytest.raises(Exception) as raised:
        composed(*overrides)
    found = runner.explain(raised.value)
    assert all(part in found for part in told), found


def test_presets_are_in_the_recipes_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
    assert all(f"+preset={preset}" in page for preset in PRESETS)


def test_a_preset_before_its_experiment_is_refused() -> None:
    config.refuse_early_preset(["+experiment=lsah_fl102", "+preset=1h", "task.data=x"])
    with pytest.raises(ValueError, match=r"\+preset=... stands before \+experiment=..., which would undo it"):
        config.refuse_early_preset(["+preset=1h", "+experiment=lsah_fl102"])
