"""Every config composes, and a mistake in one stops at compose time with its name in the message."""

import getpass
import re
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from mms_recipes import config, runner
from mms_recipes.evaluation import benchmarks

NUM_FILES = 53
GROUPS = ("task", "model", "criterion", "optimizer", "lr_scheduler")
FILES = sorted(config.CONFIGS.rglob("*.yaml"))
EXPERIMENTS = sorted(path.stem for path in FILES if path.parent.name == "experiment")
SEARCHES = ("greedy", "lm", "word_lm", "letter_lm")
BENCHMARKS = ("fleurs_asr", "fleurs_asr_lm")
GROUP_FILES = [path for path in FILES if path.parent.name in GROUPS]


def composed(*overrides: str, folder: Path = config.CONFIGS, root: str = "train") -> DictConfig:
    config.register()
    with initialize_config_dir(version_base="1.3", config_dir=str(folder)):
        return compose(root, overrides=list(overrides))


def message(*overrides: str, folder: Path = config.CONFIGS) -> str:
    """What a user is told of overrides that do not compose."""
    with pytest.raises(Exception) as raised:
        composed(*overrides, folder=folder)
    return runner.explain(raised.value)


@pytest.fixture
def changed_configs(tmp_path: Path) -> Path:
    """A copy of configs/ to put mistakes into."""
    return Path(shutil.copytree(config.CONFIGS, tmp_path / "configs"))


def missing_keys(section: object, prefix: str = "") -> list[str]:
    """The keys that are ???: the user must give them."""
    if isinstance(section, DictConfig):
        section = OmegaConf.to_container(section)
    if isinstance(section, dict):
        return [found for key, value in section.items() for found in missing_keys(value, f"{prefix}.{key}")]
    return [prefix.lstrip(".")] if section == "???" else []


def test_all_files_are_known() -> None:
    """A new file is counted here, and so covered: an experiment, a group file, a preset (test_presets.py) or a root."""
    assert len(FILES) == NUM_FILES
    roots = {config.CONFIGS / "train.yaml", config.CONFIGS / "evaluate.yaml", config.CONFIGS / "tune.yaml"}
    experiments = {config.CONFIGS / "experiment" / f"{name}.yaml" for name in EXPERIMENTS}
    presets = {path for path in FILES if path.parent.name == "preset"}
    searches = {config.CONFIGS / "decoding" / f"{name}.yaml" for name in SEARCHES}
    others = {path for path in FILES if path.parent.name in ("benchmark", "launcher")}
    assert {*GROUP_FILES, *roots, *experiments, *presets, *searches, *others} == set(FILES)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_composes_and_resolves(experiment: str) -> None:
    cfg = composed(f"+experiment={experiment}")
    missing = missing_keys(cfg)
    assert set(missing) <= set(runner.MANDATORY)  # so that a run says what is not given, before anything else
    if missing:
        with pytest.raises(ValueError, match=f"not given: {', '.join(sorted(missing, key=runner.MANDATORY.index))}"):
            config.require(cfg, runner.MANDATORY, "train")
    cfg = composed(f"+experiment={experiment}", *(f"{key}=given" for key in missing))
    config.require(cfg, runner.MANDATORY, "train")
    config.refuse_unknown_keys(cfg)
    for section in (*GROUPS, "optimization", "dataset", "checkpoint", "distributed_training"):
        resolved = OmegaConf.to_container(cfg[section], resolve=True)
        assert resolved, f"{section} is empty"
    assert cfg.name == experiment  # two experiments never share a run folder
    assert cfg.task.seed == cfg.common.seed and cfg.optimization.max_update > 0


@pytest.mark.parametrize("path", GROUP_FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_group_file_extends_a_registered_dataclass(path: Path) -> None:
    group = path.parent.name
    registered = ConfigStore.instance().repo[group]
    parent, last = OmegaConf.load(path).defaults
    assert last == "_self_" and parent != path.stem
    while (path.parent / f"{parent}.yaml").is_file():  # a family's first
        parent = OmegaConf.load(path.parent / f"{parent}.yaml").defaults[0]
    node = composed(f"{group}={path.stem}")[group]
    assert OmegaConf.get_type(node) is OmegaConf.get_type(registered[f"{parent}.yaml"].node)
    assert node._name == registered[f"{parent}.yaml"].node._name


def test_evaluate_composes() -> None:
    cfg = composed("checkpoint=a", "data=b", "out=c", root="evaluate")
    config.require(cfg, ["checkpoint", "data", "out"], "evaluate")
    assert OmegaConf.to_container(cfg, resolve=True)["split"] == "test"  # type: ignore[index]
    assert cfg.decoding.search == "greedy"


@pytest.mark.parametrize("search", SEARCHES)
def test_search_composes_from_its_dataclass(search: str) -> None:
    cfg = composed("checkpoint=a", "data=b", "out=c", f"decoding={search}", root="evaluate")
    config.refuse_unknown_keys(cfg)
    assert cfg.decoding.search == search
    beam = search != "greedy"
    assert OmegaConf.get_type(cfg.decoding) is (config.BeamConfig if beam else config.DecodingConfig)
    assert missing_keys(cfg.decoding) == (["lm"] if beam else [])
    if beam:  # as in the released recipe, and weights from tuning
        assert (cfg.decoding.beam_size, cfg.decoding.beam_size_token) == (500, 50)
        assert cfg.decoding.lm_weight is cfg.decoding.word_score is cfg.decoding.sil_score is None
    with pytest.raises(Exception, match="lm_wait") as raised:
        composed(f"decoding={search}", "decoding.lm_wait=2", root="evaluate")
    nearest = "nearest: decoding.lm_weight" if beam else "there are: decoding.search"
    assert runner.explain(raised.value).endswith(f"decoding.lm_wait: no such key; {nearest}")


@pytest.mark.parametrize("benchmark", BENCHMARKS)
@pytest.mark.parametrize("protocol", [None, *benchmarks.PROTOCOLS])
def test_benchmark_composes(benchmark: str, protocol: str | None) -> None:
    chosen = [f"protocol={protocol}"] if protocol else []
    given = ("checkpoint=a", "data=b", "out=c", *(["decoding.lm=d"] if benchmark.endswith("lm") else []))
    cfg = composed(f"+benchmark={benchmark}", *chosen, *given, root="evaluate")
    config.refuse_unknown_keys(cfg)
    assert missing_keys(cfg) == []
    assert benchmarks.find(cfg.protocol).name == protocol or cfg.protocol == "fleurs102"
    assert cfg.decoding.search == ("lm" if benchmark.endswith("lm") else "greedy")
    assert cfg.split == "test" and cfg.langs == []


def test_a_benchmark_leaves_the_rest_to_the_command() -> None:
    given = ("checkpoint=a", "data=b", "out=c", "decoding.lm=d", "split=dev", "langs=[eng]", "decoding.beam_size=9")
    cfg = composed("+benchmark=fleurs_asr_lm", *given, root="evaluate")
    assert (cfg.split, cfg.langs, cfg.decoding.beam_size) == ("dev", ["eng"], 9)
    assert composed("+benchmark=fleurs_asr", "decoding=letter_lm", root="evaluate").decoding.search == "letter_lm"
    assert composed("checkpoint=a", root="evaluate").protocol is None


# ---- the paper's numbers


def test_the_papers_numbers() -> None:
    dense = {name: composed(f"+experiment={name}") for name in ("ctc_fl102", "ctc_1107")}
    assert [cfg.optimization.max_update for cfg in dense.values()] == [300_000, 50_000]
    for cfg in dense.values():
        assert cfg.task.hours_per_update == 0.8 == cfg.dataset.max_tokens * 16 / 16_000 / 3_600
        assert list(cfg.lr_scheduler.phase_ratio) == [0.1, 0.4, 0.5]
        assert list(cfg.optimizer.adam_betas) == [0.9, 0.98]
        assert cfg.common.bf16 and missing_keys(cfg.model) == ["base"]
    lsah = {name: composed(f"+experiment={name}") for name in ("lsah_fl102", "lsah_1107")}
    for cfg in lsah.values():
        assert cfg.optimization.max_update == 2_000 and list(cfg.optimization.lr) == [0.001]
        assert (cfg.model.adapter_dim, cfg.model.adapter_init, cfg.model.head_init) == (16, "kaiming", "random")
        assert cfg.task.update_seconds * 16_000 == cfg.dataset.max_tokens == 2_880_000
        assert cfg.model.base_dtype == "bfloat16" and missing_keys(cfg.model) == ["base"]
    for name, gpus, hours in (("pretrain_300m", 48, 2.3), ("pretrain_1b", 64, 3.5)):
        cfg = composed(f"+experiment={name}")
        assert cfg.task.hours_per_update == hours == round(cfg.dataset.max_tokens * gpus / 16_000 / 3_600, 1)
        assert (cfg.task.beta_lang, cfg.task.beta_corpus, cfg.task.max_seconds) == (0.5, 0.5, 20.0)
        assert (cfg.optimization.max_update, cfg.lr_scheduler.warmup_updates) == (1_000_000, 32_000)
        assert cfg.model.num_negatives == 100 and cfg.model.mask_length == 10 and cfg.model.checkpoint_activations
        assert cfg.common.bf16
    assert dense["ctc_1107"].task.langs == lsah["lsah_1107"].task.langs == ["asr_l1107"]
    assert dense["ctc_fl102"].task.langs == lsah["lsah_fl102"].task.langs == ["asr_fl102"]


# ---- mistakes


def test_misspelt_experiment_lists_those_there_are() -> None:
    told = message("+experiment=lsah_1017")
    assert "lsah_1017" in told and all(name in told for name in EXPERIMENTS)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("task.langz=[eng]", "task.langz: no such key; nearest: task.langs"),
        ("optimization.max_updates=5", "optimization.max_updates: no such key; nearest: optimization.max_update"),
        ("optimisation.lr=[1]", "optimisation: no such key; nearest: optimization"),
        ("model.adapter_dmi=16", "model.adapter_dmi: no such key; nearest: model.adapter_dim"),
        ("optimization.max_update=many", "'many' of type 'str' could not be converted to Integer"),
        ("model.adapter_dim=0.5", "'0.5' of type 'float' could not be converted to Integer"),
        ("distributed_training.ddp_backend=ddp", r"'ddp', expected one of [c10d,"),
        ("model.base_dtype=bf16", "'bf16', expected one of [float32, bfloat16]"),
        ("model.adapter_init=zeros", "'zeros', expected one of [kaiming, zero]"),
        ("model=lsha", "Could not find 'model/lsha'"),
    ],
)
def test_mistake_on_the_command_line(override: str, told: str) -> None:
    found = message("+experiment=lsah_fl102", override)
    assert told in found and "To append" not in found


@pytest.mark.parametrize("override", ["+task.langz=[eng]", "++optimization.max_updates=5", "+langs=[eng]"])
def test_key_that_nothing_reads_is_refused_even_when_it_is_added(override: str) -> None:
    key = override.lstrip("+").partition("=")[0]
    with pytest.raises(ValueError, match=rf"^{re.escape(key)}: no such key; "):
        config.refuse_unknown_keys(composed("+experiment=lsah_fl102", override))


@pytest.mark.parametrize(
    ("file", "line", "told"),
    [
        ("model/lsah.yaml", "adapter_dmi: 16", ("model/lsah", "adapter_dmi", "adapter_dim")),
        ("experiment/lsah_fl102.yaml", "optimisation: {lr: [1.0]}", ("optimisation", "optimization")),
        ("train.yaml", "chekpoint: {patience: 1}", ("chekpoint", "checkpoint")),
        ("optimizer/language_adam.yaml", "adam_epsilon: 1.0", ("adam_epsilon", "adam_eps")),
        ("model/lsah.yaml", "mask_length: long", ("model/lsah", "'long'", "Integer")),
        ("lr_scheduler/three_stages.yaml", "max_update: many", ("lr_scheduler/three_stages", "'many'", "Float")),
        ("model/wav2vec2_tiny.yaml", "layer_type: recurrent", ("wav2vec2_tiny", "'recurrent'", "trf_adp")),
    ],
)
def test_mistake_in_a_file(changed_configs: Path, file: str, line: str, told: tuple[str, ...]) -> None:
    with (changed_configs / file).open("a") as opened:
        opened.write(f"\n{line}\n")
    override = "model=wav2vec2_tiny" if "tiny" in file else "+experiment=lsah_fl102"
    found = message(override, folder=changed_configs)
    assert all(part in found for part in told), found


# ---- what a file may hold


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(config.CONFIGS)))
def test_no_absolute_path_and_no_user_name(path: Path) -> None:
    text = path.read_text()
    text = re.sub(r"override /\w+(/\w+)*:", "", text)  # Hydra's name of a group
    assert not re.search(r"""(^|[\s"'=:\[,])(/|~|[A-Za-z]:\\)[\w.]""", text, re.MULTILINE), "an absolute path"
    assert not re.search(r"/(home|Users|checkpoint|private|scratch|fsx)/", text)
    user = getpass.getuser()
    assert user == "root" or not re.search(rf"\b{re.escape(user)}\b", text)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_has_its_header(experiment: str) -> None:
    lines = (config.CONFIGS / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    header = lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]
    assert header[0] == "# @package _global_"
    told = [line.split(":")[0].removeprefix("# ") for line in header[1:] if re.match(r"# [A-Z]\w+:", line)]
    assert told[:3] == ["What", "Command", "Needs"]
    if experiment.startswith(("ctc", "lsah", "pretrain", "lid")):  # the paper's
        assert told == ["What", "Command", "Needs", "Costs", "Reached"]
    assert any(f"+experiment={experiment}" in line for line in header)
