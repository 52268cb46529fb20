"""Every quarrel with fairseq on today's Python and torch, one small function each.

`apply()` runs once, before any fairseq model is imported (fairseq_import.py) or checkpoint is read. Each function says
what breaks without it; tests/fairseq/test_compat.py shows the fault in stock fairseq, so a test fails once upstream is
mended.
"""

import argparse
import collections
import contextlib
import datetime
import functools
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from mms_recipes import checkpoint_files, fairseq_import, sharding
from mms_recipes.sampling import span_mask

if importlib.util.find_spec("fairseq") is None:
    raise ModuleNotFoundError(
        "fairseq is not installed. After torch, setuptools, wheel and cython: "
        "pip install --no-build-isolation --no-deps fairseq-fixed==0.12.3.1 (or make install, which does all of it)",
        name="fairseq",
    )

RANK_TIMEOUT_SECONDS = 600.0

_applied = False


def apply() -> None:
    """Apply all of this module's changes to fairseq, once per process."""
    global _applied
    if _applied:
        return
    _applied = True
    warnings.filterwarnings("ignore", message=".*weight_norm.*", category=FutureWarning)  # of fairseq's positions
    fairseq_import.import_fairseq()
    allow_checkpoint_objects()
    save_atomically()
    seed_masks()
    mask_freely_in_finetuning()
    gather_logs_on_cpu()
    keep_float32_weights()
    bound_waiting()
    sharding.shard_with_torch()


def allow_checkpoint_objects() -> None:
    """List the classes that fairseq checkpoints hold, so that torch's restricted loader reads them.

    torch >= 2.6 loads with weights_only=True and refuses a CTC checkpoint, whose task_state pickles a Dictionary.
    Older files also hold Namespaces, omegaconf nodes and numpy scalars. Nothing else is allowed in; a file with other
    classes is refused by name in checkpoints.load_checkpoint.
    """
    import omegaconf
    import omegaconf.base
    import omegaconf.nodes
    from fairseq.data.dictionary import Dictionary
    from fairseq.distributed import utils as distributed_utils
    from fairseq.meters import AverageMeter, MetersDict, StopwatchMeter, TimeMeter

    torch.serialization.add_safe_globals(
        [
            Dictionary,
            AverageMeter,
            MetersDict,
            StopwatchMeter,
            TimeMeter,
            argparse.Namespace,
            collections.OrderedDict,
            collections.defaultdict,
            dict,
            list,
            int,
            omegaconf.DictConfig,
            omegaconf.ListConfig,
            omegaconf.base.ContainerMetadata,
            omegaconf.base.Metadata,
            omegaconf.nodes.AnyNode,
            Any,
            np.dtype,
            np.ndarray,
            np.dtypes.Float64DType,
            np.dtypes.Float32DType,
            np.dtypes.Int64DType,
            np._core.multiarray.scalar,
            np._core.multiarray._reconstruct,
            distributed_utils._TensorPlaceholder,  # in what ranks send one another when a run is resumed
        ]
    )


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Build a wav2vec 2.0 model on the meta device: no memory, no time spent on weights that a file will replace.

    `init_bert_params` copies every weight to the CPU and back, which a meta tensor refuses. Random values for meta
    tensors, and their norms, would make torch import its compiler, which takes most of a second.
    """
    from fairseq.models.wav2vec import wav2vec2

    initialise = wav2vec2.init_bert_params
    wav2vec2.init_bert_params = lambda module: None
    try:
        with torch.device("meta"), _Uninitialised():
            yield
    finally:
        wav2vec2.init_bert_params = initialise


class _Uninitialised(torch.overrides.TorchFunctionMode):
    """Leaves tensors as they are where they would get random values, or weights from weight_norm."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name.endswith(("normal_", "uniform_")):
            return args[0] if args else kwargs["tensor"]
        if name == "_weight_norm":
            return args[0].detach()
        if name == "norm_except_dim":
            tensor, _, dim = args
            return tensor.new_empty(
                [size if axis == dim % tensor.dim() else 1 for axis, size in enumerate(tensor.shape)]
            )
        return func(*args, **(kwargs or {}))


def save_atomically() -> None:
    """Write checkpoints so that a kill or a full disk at any moment leaves the old one whole.

    fairseq retries a failed save into the same half-written file, leaves the rest lying, never syncs, and copies
    checkpoint_best.pt over checkpoint_last.pt in place: a SIGKILL in the middle of that copy ends the run for good.
    """
    from fairseq import checkpoint_utils

    checkpoint_utils.torch_persistent_save = checkpoint_files.save
    checkpoint_utils.PathManager.copy = staticmethod(checkpoint_files.copy)


def rank_timeout() -> float:
    """Seconds after which a rank or a data worker that has not answered is given up.

    Raises ValueError for an MMS_RECIPES_RANK_TIMEOUT that is no time.
    """
    given = os.environ.get("MMS_RECIPES_RANK_TIMEOUT", str(RANK_TIMEOUT_SECONDS))
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= datetime.timedelta.max.total_seconds():
        raise ValueError(f"MMS_RECIPES_RANK_TIMEOUT is {given!r}, expected seconds above 0, as in 600")
    return seconds


def bound_waiting() -> None:
    """Give up on a rank that has not answered for ten minutes; gloo waits for 30, and a vanished node never answers.

    MMS_RECIPES_RANK_TIMEOUT sets the seconds: more than the first rank takes to write a checkpoint.
    """
    from torch.distributed import distributed_c10d

    limit = datetime.timedelta(seconds=rank_timeout())
    distributed_c10d.default_pg_timeout = distributed_c10d.default_pg_nccl_timeout = limit


def seed_masks() -> None:
    """Draw time and channel masks from torch's seeded generator.

    `compute_mask_indices` makes an unseeded generator per utterance: two runs with one `common.seed` differ and a
    resumed run differs from an uninterrupted one. fairseq seeds torch with seed + num_updates before each update.
    """
    from fairseq.models.wav2vec import wav2vec2

    if not hasattr(wav2vec2.compute_mask_indices, "__wrapped__"):
        wav2vec2.compute_mask_indices = _seeded(wav2vec2.compute_mask_indices)


def _seeded(compute: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    @functools.wraps(compute)
    def compute_mask_indices(
        shape: tuple[int, int],
        padding_mask: Any,
        mask_prob: float,
        mask_length: int,
        mask_type: str = "static",
        mask_other: float = 0.0,
        **kwargs: Any,
    ) -> np.ndarray:
        seed = int(torch.randint(2**31, ()))
        rectangle = kwargs.get("require_same_masks", False)  # pretraining gathers what was masked into one
        if rectangle or mask_type != "static" or kwargs.get("no_overlap"):
            fields = kwargs | {"seed": seed, "epoch": 0, "indices": torch.arange(shape[0])}
            return compute(shape, padding_mask, mask_prob, mask_length, mask_type, mask_other, **fields)
        # the same spans, but what is too short for them stays whole; there fairseq stops the run
        masks = np.zeros(shape, dtype=bool)
        for row in range(shape[0]):
            size = shape[1] if padding_mask is None else shape[1] - int(padding_mask[row].sum())
            generator = np.random.default_rng((seed, row))
            masks[row, :size] = span_mask(size, mask_prob, mask_length, generator, kwargs.get("min_masks", 0))
        return masks

    return compute_mask_indices


def mask_freely_in_finetuning() -> None:
    """Let utterances of one fine-tuning batch have masks of different size (require_same_masks=false).

    Wav2Vec2Model.forward gathers what was masked into a rectangle, which only pretraining uses: with masks of different
    size it stops, and with equal ones the shortest utterance of a batch decides how little all the others are masked.
    """
    from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Model

    apply_mask = Wav2Vec2Model.apply_mask
    if hasattr(apply_mask, "__wrapped__"):
        return

    @functools.wraps(apply_mask)
    def without_rectangle(self: Any, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, Any]:
        x, mask_indices = apply_mask(self, *args, **kwargs)
        return x, mask_indices if self.final_proj is not None else None

    Wav2Vec2Model.apply_mask = without_rectangle


def gather_logs_on_cpu() -> None:
    """Let ranks on CPU exchange what they log (gloo).

    `all_gather_list` pickles into a torch.cuda.ByteTensor, so the pretraining criterion, whose logs are not summed,
    stops after the first update. With CUDA it is fairseq's own.
    """
    from fairseq.distributed import utils as distributed_utils

    stock = distributed_utils.all_gather_list
    if hasattr(stock, "__wrapped__"):
        return

    @functools.wraps(stock)
    def all_gather_list(data: Any, group: Any = None, max_size: int = 16384) -> list[Any]:
        if torch.cuda.is_available():
            return stock(data, group, max_size)  # type: ignore[no-any-return]
        gathered: list[Any] = [None] * torch.distributed.get_world_size(group)
        torch.distributed.all_gather_object(gathered, data, group=group)
        return gathered

    distributed_utils.all_gather_list = all_gather_list


def keep_float32_weights() -> None:
    """Save the float32 weights of a run in bf16 or fp16, and take them up again.

    fairseq saves the 16-bit copy alone: a resumed run has lost what was between two 16-bit numbers, and differs from
    one that was not stopped.
    """
    from fairseq.optim.fp16_optimizer import _FP16OptimizerMixin

    state_dict, load = _FP16OptimizerMixin.state_dict, _FP16OptimizerMixin.load_state_dict
    if hasattr(load, "__wrapped__"):
        return

    @functools.wraps(state_dict)
    def with_weights(self: Any) -> dict[str, Any]:
        weights = [parameter.detach() for parameter in _float32(self)]
        return {**state_dict(self), "float32_weights": weights}

    @functools.wraps(load)
    def load_with_weights(self: Any, state: dict[str, Any], optimizer_overrides: Any = None) -> None:
        weights = state.get("float32_weights")
        load(self, {key: value for key, value in state.items() if key != "float32_weights"}, optimizer_overrides)
        if weights is not None:
            with torch.no_grad():
                for parameter, saved in zip(_float32(self), weights, strict=True):
                    parameter.copy_(saved)
            self._sync_fp32_params_to_fp16()

    _FP16OptimizerMixin.state_dict, _FP16OptimizerMixin.load_state_dict = with_weights, load_with_weights


def _float32(optimizer: Any) -> list[torch.Tensor]:
    params = optimizer.fp32_params
    return [params[device] for device in sorted(params)] if isinstance(params, dict) else list(params)
