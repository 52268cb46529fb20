"""Every quarrel with fairseq on today's Python and torch, one small function each.

`apply()` runs once, before any fairseq model is imported or checkpoint is read. Each function says what breaks
without it; tests/fairseq/test_compat.py shows the fault in stock fairseq, so a test fails once upstream is mended.
"""

import argparse
import collections
import contextlib
import functools
import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mms_recipes import sharding
from mms_recipes.sampling import span_mask

if importlib.util.find_spec("fairseq") is None:
    raise ModuleNotFoundError(
        "fairseq is not installed. After torch, setuptools, wheel and cython: "
        "pip install --no-build-isolation --no-deps fairseq-fixed==0.12.3.1 (or make install, which does all of it)",
        name="fairseq",
    )

_applied = False


def apply() -> None:
    """Apply all of this module's changes to fairseq, once per process."""
    global _applied
    if _applied:
        return
    _applied = True
    keep_logging_level()
    allow_checkpoint_objects()
    save_atomically()
    seed_masks()
    mask_freely_in_finetuning()
    gather_logs_on_cpu()
    keep_float32_weights()
    sharding.shard_with_torch()


def keep_logging_level() -> None:
    """Import fairseq without its side effects: it sets the root logger to DEBUG and gives it a handler."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    # "Please install tensorboardX" and the like are for fairseq's developers, not for our users
    logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.ERROR)
    import fairseq.models.wav2vec  # noqa: F401

    root.setLevel(level)
    root.handlers[:] = handlers


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

    `init_bert_params` copies every weight to the CPU and back, which a meta tensor refuses.
    """
    from fairseq.models.wav2vec import wav2vec2

    initialise = wav2vec2.init_bert_params
    wav2vec2.init_bert_params = lambda module: None
    try:
        with torch.device("meta"):
            yield
    finally:
        wav2vec2.init_bert_params = initialise


def save_atomically() -> None:
    """Write checkpoints so that a kill or a full disk at any moment leaves the old one whole.

    fairseq retries a failed save into the same half-written file, leaves the rest lying, never syncs, and copies
    checkpoint_best.pt over checkpoint_last.pt in place: a SIGKILL in the middle of that copy ends the run for good.
    """
    from fairseq import checkpoint_utils

    checkpoint_utils.torch_persistent_save = _save
    checkpoint_utils.PathManager.copy = staticmethod(_copy)


def _save(state: Any, filename: str, async_write: bool = False) -> None:
    """Replace `filename` by `state` in one step; on a full disk say so and keep the old file."""
    target = Path(filename)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except (OSError, RuntimeError) as error:
        os.unlink(temporary)
        raise OSError(
            f"{target}: the checkpoint could not be written ({error}); "
            f"{'those before are untouched' if any(target.parent.glob('*.pt')) else 'there was none before'}. "
            "Free some space and start the same command again: it resumes"
        ) from error


def _copy(source: str, target: str, overwrite: bool = False) -> bool:
    """Give a checkpoint a second name: a hard link put in place in one step (fairseq: PathManager.copy)."""
    if os.path.exists(target) and not overwrite:
        return False
    with tempfile.TemporaryDirectory(dir=os.path.dirname(target) or ".", prefix=".link.") as folder:
        temporary = os.path.join(folder, "checkpoint")
        try:
            os.link(source, temporary)
        except OSError:  # some network and FAT file systems have no hard links
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    return True


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
        # fairseq seeds all ranks alike: without the rank they would all mask the same frames
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        seed = int(np.random.SeedSequence((int(torch.randint(2**31, ())), rank)).generate_state(1)[0])
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
