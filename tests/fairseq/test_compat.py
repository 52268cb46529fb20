"""Each item of fairseq_compat.py: stock fairseq shows the fault, and with ours it is gone.

A test of the first kind fails once fairseq is mended: then take the item out.
"""

import argparse
import copy
import json
import logging
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.data import Dictionary
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.meters import AverageMeter, StopwatchMeter
from fairseq.models.wav2vec import wav2vec2
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Model
from fairseq.optim.fp16_optimizer import FP16Optimizer
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from mms_recipes import config, fairseq_compat, fairseq_import
from tests.fairseq.small import small_config

# What a process finds that knows nothing of our package: it prints one line of JSON.
STOCK = """
import json, logging, os, sys, time
from pathlib import Path
folder, found = Path(sys.argv[1]), {}

import fairseq.models.wav2vec
found["level"], found["handlers"] = logging.getLogger().level, len(logging.getLogger().handlers)
found["imported"] = sorted({"sklearn.metrics", "scipy.stats"} & set(sys.modules))
import copy
from hydra.core.config_store import ConfigStore
found["store_copied"] = copy.deepcopy(ConfigStore.instance()) is not ConfigStore.instance()

import torch
from fairseq import checkpoint_utils
from fairseq.data import Dictionary
from fairseq.file_io import PathManager
torch.save({"task_state": {"target_dictionary": Dictionary()}}, folder / "ctc.pt")
try:
    checkpoint_utils.load_checkpoint_to_cpu(str(folder / "ctc.pt"))
except Exception as error:
    found["load"] = str(error)

class Full:
    def __reduce__(self):
        raise OSError(28, "No space left on device")

time.sleep = lambda seconds: None  # it waits between its three attempts
try:
    checkpoint_utils.torch_persistent_save({"tensor": torch.zeros(9), "full": Full()}, str(folder / "new.pt"))
except OSError as error:
    found["save"] = str(error)
found["left"] = sorted(path.name for path in folder.glob("new.pt*"))

(folder / "best.pt").write_text("new"), (folder / "last.pt").write_text("old")
before = os.stat(folder / "last.pt").st_ino
PathManager.copy(str(folder / "best.pt"), str(folder / "last.pt"), overwrite=True)
found["in_place"] = os.stat(folder / "last.pt").st_ino == before
from torch.distributed import distributed_c10d
found["waits"] = distributed_c10d._get_default_timeout("gloo").total_seconds()
found["ours"] = any(name.startswith("mms_recipes") for name in sys.modules)
print(json.dumps(found))
"""


class Full:
    """Cannot be pickled, as if the disk were full."""

    def __reduce__(self) -> tuple:
        raise OSError(28, "No space left on device")


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(config.PACKAGE.parent)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What stock fairseq does, in a process of its own."""
    result = python(STOCK, tmp_path_factory.mktemp("stock"))
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert not found["ours"]
    return found


# ---- no fairseq at all


@pytest.mark.parametrize("module", ["train", "evaluate"])
def test_without_fairseq_the_command_that_installs_it_is_shown(module: str) -> None:
    result = python(f"import runpy, sys; sys.modules['fairseq'] = None; runpy.run_module('mms_recipes.{module}')")
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: fairseq is not installed. After torch, ")
    assert "pip install --no-build-isolation --no-deps fairseq-fixed==0.12.3.1 " in last


def test_the_command_is_the_one_of_the_makefile() -> None:
    makefile = config.PACKAGE.parent / "Makefile"
    if not makefile.is_file():
        pytest.skip("not a checkout")
    pinned = next(line for line in makefile.read_text().splitlines() if line.startswith("FAIRSEQ "))
    assert pinned.partition("=")[2].strip() in (config.PACKAGE / "fairseq_compat.py").read_text()


# ---- fairseq_import.keep_logging


def test_importing_fairseq_changes_the_root_logger(stock: dict) -> None:
    assert stock["level"] == logging.DEBUG and stock["handlers"] > 0


def test_importing_ours_does_not_and_says_nothing() -> None:
    code = "import logging, mms_recipes.config; root = logging.getLogger(); print(root.level, len(root.handlers))"
    result = python(code)
    assert result.stdout == f"{logging.WARNING} 0\n"
    assert "tensorboard" not in result.stderr


# ---- fairseq_import.import_when_called

CALLS = """
import json, sys
import mms_recipes.plugins
found = {"before": sorted({"sklearn", "sklearn.metrics", "scipy.stats"} & set(sys.modules))}
import numpy as np
from fairseq.criterions import sentence_prediction
from fairseq.tasks import audio_classification
labels, said = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
found["f1"] = float(sentence_prediction.acc_and_f1(said, labels)["f1"])
found["matthews"] = float(sentence_prediction.matthews_corrcoef(said, labels))
found["pearson"] = float(sentence_prediction.pearson_and_spearman(said, labels)["corr"])
found["roc"] = audio_classification.sklearn_metrics.roc_curve(labels, said)[0].tolist()
import sklearn, scipy.stats
found["after"] = [hasattr(sklearn, "__file__"), hasattr(sklearn.metrics, "auc"), hasattr(scipy.stats, "norm")]
print(json.dumps(found))
"""


def test_stock_imports_big_libraries_for_functions_that_nobody_calls(stock: dict) -> None:
    assert stock["imported"] == ["scipy.stats", "sklearn.metrics"]


def test_ours_imports_them_when_the_functions_are_called() -> None:
    result = python(CALLS)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["before"] == []
    assert found["f1"] == pytest.approx(2 / 3) and found["matthews"] == pytest.approx(3**-0.5)
    assert found["pearson"] == pytest.approx(3**-0.5) and found["roc"] == [0, 0, 1]
    assert found["after"] == [True, True, True]  # the libraries themselves, not what stood in for them


def test_what_is_imported_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    there = types.ModuleType("scipy.stats")
    monkeypatch.setitem(sys.modules, "scipy.stats", there)
    with fairseq_import.import_when_called():
        assert sys.modules["scipy.stats"] is there
    assert sys.modules["scipy.stats"] is there


# ---- fairseq_import.share_config_store


def test_hydra_copies_its_store_of_dataclasses(stock: dict) -> None:
    assert stock["store_copied"]


def test_ours_is_shared_and_what_is_loaded_is_a_copy() -> None:
    store = ConfigStore.instance()
    assert copy.deepcopy(store) is store
    loaded = store.load("task/mms_finetuning.yaml").node
    loaded.beta = 0.25
    assert store.load("task/mms_finetuning.yaml").node.beta == 1


# ---- allow_checkpoint_objects


def test_stock_fairseq_cannot_load_its_own_ctc_checkpoint(stock: dict) -> None:
    assert "weights_only" in stock["load"].lower() and "Dictionary" in stock["load"]


def test_what_checkpoints_hold_is_loaded(tmp_path: Path) -> None:
    held = {
        "dictionary": Dictionary(),
        "args": argparse.Namespace(arch="wav2vec2"),
        "cfg": OmegaConf.create({"model": {"layers": [1, 2], "name": None}}),
        "meters": {"train": AverageMeter(), "wall": StopwatchMeter()},
        "numpy": [np.float64(1.5), np.float32(2.5), np.int64(3), np.arange(3)],
    }
    torch.save(held, tmp_path / "all.pt")
    loaded = torch.load(tmp_path / "all.pt", weights_only=True)
    assert loaded["dictionary"] == held["dictionary"] and loaded["args"] == held["args"]
    assert loaded["cfg"] == held["cfg"] and loaded["numpy"][0] == 1.5
    state = {
        "task_state": {"target_dictionary": Dictionary()},
        "cfg": {"model": {"_name": "x"}},
        "model": {},
        "args": None,
    }
    history = {"optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0, "criterion_name": ""}
    torch.save(state | {"optimizer_history": [history], "extra_state": {}}, tmp_path / "ctc.pt")
    read = checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "ctc.pt"))
    assert isinstance(read["task_state"]["target_dictionary"], Dictionary)


# ---- shapes_only


def test_stock_model_cannot_be_built_on_the_meta_device() -> None:
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"), torch.device("meta"):
        Wav2Vec2Model(small_config())


def test_shapes_only_builds_it_and_leaves_fairseq_as_it_was() -> None:
    initialise = wav2vec2.init_bert_params
    with fairseq_compat.shapes_only():
        model = Wav2Vec2Model(small_config())
    assert model.encoder.layers[0].fc1.weight.is_meta
    assert wav2vec2.init_bert_params is initialise
    assert not Wav2Vec2Model(small_config()).encoder.layers[0].fc1.weight.is_meta


# ---- save_atomically


def test_stock_save_leaves_half_a_file(stock: dict) -> None:
    assert "No space left" in stock["save"] and stock["left"] == ["new.pt.tmp"]


def test_stock_copy_overwrites_in_place(stock: dict) -> None:
    """A kill in the middle of the copy leaves a checkpoint_last.pt that is neither the old nor the new one."""
    assert stock["in_place"]


def test_our_save_keeps_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint_last.pt"
    checkpoint_utils.torch_persistent_save({"number": 1}, str(target))
    told = r"checkpoint_last\.pt: the checkpoint could not be written \(.*No space left.*\); those before are untouched"
    with pytest.raises(OSError, match=told):
        checkpoint_utils.torch_persistent_save({"tensor": torch.zeros(9), "full": Full()}, str(target))
    assert torch.load(target, weights_only=True) == {"number": 1}
    (tmp_path / "none").mkdir()
    with pytest.raises(OSError, match="there was none before"):
        checkpoint_utils.torch_persistent_save(Full(), str(tmp_path / "none" / "x.pt"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["checkpoint_last.pt", "none"]


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_our_copy_is_put_in_place_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def refuse(*paths: object) -> None:
        raise OSError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    best, last = tmp_path / "best.pt", tmp_path / "last.pt"
    best.write_text("new")
    last.write_text("old")
    before = last.stat().st_ino
    assert not PathManager.copy(str(best), str(last)) and last.read_text() == "old"
    assert PathManager.copy(str(best), str(last), overwrite=True)
    assert last.read_text() == "new" and last.stat().st_ino != before
    assert (last.stat().st_ino == best.stat().st_ino) == links
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt"]


# ---- rank_timeout


def test_a_rank_is_waited_for_as_long_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MMS_RECIPES_RANK_TIMEOUT", raising=False)
    assert fairseq_compat.rank_timeout() == fairseq_compat.RANK_TIMEOUT_SECONDS
    monkeypatch.setenv("MMS_RECIPES_RANK_TIMEOUT", "2.5")
    assert fairseq_compat.rank_timeout() == 2.5


@pytest.mark.parametrize("given", ["ten", "", "0", "-1", "nan", "inf", "1e300"])
def test_what_is_no_time_to_wait_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("MMS_RECIPES_RANK_TIMEOUT", given)
    with pytest.raises(ValueError, match=rf"MMS_RECIPES_RANK_TIMEOUT is '{given}', expected seconds above 0"):
        fairseq_compat.rank_timeout()


# ---- bound_waiting


def test_stock_waits_for_half_an_hour(stock: dict) -> None:
    assert stock["waits"] == 1800


def test_ours_waits_for_ten_minutes() -> None:
    from torch.distributed import distributed_c10d

    for backend in ("gloo", "nccl"):
        assert distributed_c10d._get_default_timeout(backend).total_seconds() == fairseq_compat.RANK_TIMEOUT_SECONDS


def test_one_before_the_last_is_kept(tmp_path: Path) -> None:
    last = tmp_path / "checkpoint_last.pt"
    for number in range(3):
        checkpoint_utils.torch_persistent_save({"number": number}, str(last))
    assert torch.load(last.with_name("checkpoint_before.pt"), weights_only=True) == {"number": 1}
    torch.save({"number": 3}, tmp_path / "checkpoint_best.pt")
    assert PathManager.copy(str(tmp_path / "checkpoint_best.pt"), str(last), overwrite=True)
    assert torch.load(last.with_name("checkpoint_before.pt"), weights_only=True) == {"number": 2}
    assert torch.load(last, weights_only=True) == {"number": 3}


# ---- seed_masks

SHAPE, MASKS = (3, 200), {"mask_prob": 0.5, "mask_length": 10, "min_masks": 2}


def test_stock_masks_do_not_follow_the_seed() -> None:
    stock_masks = wav2vec2.compute_mask_indices.__wrapped__
    torch.manual_seed(1)
    np.random.seed(1)
    first = stock_masks(SHAPE, None, **MASKS)
    torch.manual_seed(1)
    np.random.seed(1)
    assert not np.array_equal(first, stock_masks(SHAPE, None, **MASKS))


@pytest.mark.parametrize("same", [True, False], ids=["same size", "free"])
def test_our_masks_follow_torchs_seed(same: bool) -> None:
    def masks(seed: int) -> np.ndarray:
        torch.manual_seed(seed)
        return wav2vec2.compute_mask_indices(SHAPE, None, **MASKS, require_same_masks=same)

    assert np.array_equal(masks(1), masks(1)) and not np.array_equal(masks(1), masks(2))
    first, second, third = masks(1)
    assert not np.array_equal(first, second) and not np.array_equal(second, third)
    share = np.mean([masks(seed).mean() for seed in range(50)])
    assert 0.3 < share < 0.5  # spans overlap: a little less than mask_prob


def test_a_short_utterance_stops_stock_masking_and_not_ours() -> None:
    padding = torch.zeros(2, 200, dtype=torch.bool)
    padding[1, 15:] = True
    masking = {"mask_prob": 3.0, "mask_length": 10, "min_masks": 2, "require_same_masks": False}
    with pytest.raises(ValueError, match="the entire sequence is masked"):
        for _ in range(20):
            wav2vec2.compute_mask_indices.__wrapped__((2, 200), padding, **masking)
    for seed in range(20):
        torch.manual_seed(seed)
        masks = wav2vec2.compute_mask_indices((2, 200), padding, **masking)
        assert not masks[1].any() and masks[0].any()


# ---- mask_freely_in_finetuning


def finetuned() -> tuple[Wav2Vec2Model, torch.Tensor, torch.Tensor]:
    """A model as wav2vec_ctc has it, and utterances of different length."""
    model = Wav2Vec2Model(small_config(require_same_masks=False, mask_prob=0.5))
    model.remove_pretraining_modules()
    padding = torch.zeros(3, 32_000, dtype=torch.bool)
    padding[1, 20_000:] = padding[2, 12_345:] = True
    return model.train(), torch.randn(3, 32_000), padding


def test_stock_finetuning_stops_at_masks_of_different_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wav2Vec2Model, "apply_mask", Wav2Vec2Model.apply_mask.__wrapped__)
    model, source, padding = finetuned()
    with pytest.raises(RuntimeError, match="shape"):
        for _ in range(5):
            model.extract_features(source, padding, mask=True)


def test_ours_masks_each_utterance_freely() -> None:
    model, source, padding = finetuned()
    features, frames = torch.zeros(3, 99, 32), torch.tensor([99, 62, 38])
    masked, indices = model.apply_mask(features.clone(), torch.arange(99) >= frames[:, None])
    assert indices is None
    sizes = (masked != 0).any(2).sum(1)
    assert len(set(sizes.tolist())) > 1 and (sizes > 0).all()
    assert torch.isfinite(model.extract_features(source, padding, mask=True)["x"]).all()


def test_pretraining_still_knows_what_was_masked() -> None:
    model = Wav2Vec2Model(small_config(mask_prob=0.5)).train()
    _, indices = model.apply_mask(torch.zeros(2, 99, 32), None)
    assert indices is not None and indices.sum(1).unique().numel() == 1
    assert model(torch.randn(2, 16_000))["x"].shape[0] == 11  # the true one and ten negatives


# ---- apply


def test_apply_twice_changes_nothing_more() -> None:
    before = (wav2vec2.compute_mask_indices, Wav2Vec2Model.apply_mask, checkpoint_utils.torch_persistent_save)
    fairseq_compat.apply()
    fairseq_compat.seed_masks()
    fairseq_compat.mask_freely_in_finetuning()
    assert before == (wav2vec2.compute_mask_indices, Wav2Vec2Model.apply_mask, checkpoint_utils.torch_persistent_save)


# ---- gather_logs_on_cpu


def test_logs_are_gathered_without_cuda() -> None:
    """Runs with two ranks are in test_ranks.py."""
    stock = distributed_utils.all_gather_list.__wrapped__
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        with pytest.raises((TypeError, RuntimeError, AssertionError)):
            stock({"loss": 1.0})
        assert distributed_utils.all_gather_list({"loss": 1.0}) == [{"loss": 1.0}]
    finally:
        torch.distributed.destroy_process_group()


# ---- keep_float32_weights


def half_optimizer(weights: torch.Tensor) -> FP16Optimizer:
    cfg = OmegaConf.create(
        {
            "common": {"bf16": True, "fp16_no_flatten_grads": False, "tpu": False, "fp16_scale_window": 1},
            "optimization": {"lr": [1e-4], "update_freq": [1]},
            "optimizer": {"_name": "adam", "adam_betas": [0.9, 0.98], "adam_eps": 1e-8, "weight_decay": 0.0}
            | {"lr": [1e-4], "fp16_adam_stats": False, "use_old_adam": True},
        }
    )
    return FP16Optimizer.build_optimizer(cfg, [torch.nn.Parameter(weights.bfloat16())])


def test_16_bit_runs_resume_from_their_float32_weights() -> None:
    first = half_optimizer(torch.randn(5, generator=torch.Generator().manual_seed(0)))
    for _ in range(3):
        first.backward((first.fp16_params[0] ** 2).sum())
        first.step()
    state = first.state_dict()
    for load, equal in ((FP16Optimizer.load_state_dict, True), (FP16Optimizer.load_state_dict.__wrapped__, False)):
        resumed = half_optimizer(first.fp16_params[0].detach().float())
        load(resumed, dict(state))
        kept = [fairseq_compat._float32(optimizer)[0] for optimizer in (first, resumed)]
        assert torch.equal(*kept) == equal


def test_every_item_has_a_test_here() -> None:
    source = Path(__file__).read_text()
    own = [name for name, item in vars(fairseq_compat).items() if _is_of(item, fairseq_compat) and name[0] != "_"]
    own += [
        f"fairseq_import.{name}"
        for name, item in vars(fairseq_import).items()
        if _is_of(item, fairseq_import) and name[0] != "_" and name != "import_fairseq"  # which only calls the others
    ]
    missing = [name for name in own if f"# ---- {name}\n" not in source]
    assert own and not missing, f"without a test: {missing}"


def _is_of(item: object, module: types.ModuleType) -> bool:
    return callable(item) and getattr(item, "__module__", "") == module.__name__
