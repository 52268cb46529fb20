"""`distributed_training.ddp_backend=fully_sharded` with torch's own FSDP: every rank keeps a share of weights and Adam.

fairseq asks fairscale for this. Its last release imports on torch 2.13 but needs CUDA even to start, and fairseq
refuses bfloat16 with it; `torch.distributed.fsdp.fully_shard` runs on CPU ranks too (tests/fairseq/test_ranks.py).
Each block of the transformer is a unit, the rest of the model another. A checkpoint holds the whole tensors, so it
loads with any backend and on any number of devices.
"""

import functools
from typing import Any

import torch
from torch import nn


class ShardedModel(nn.Module):
    """A model whose parameters are split over the ranks of `process_group`; its state is the whole model's.

    `compute_dtype`: what it computes in, None for that of its parameters; gradients are summed in float32.
    """

    def __init__(self, model: Any, process_group: Any, device: torch.device, compute_dtype: torch.dtype | None):
        from torch.distributed.device_mesh import DeviceMesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        super().__init__()
        if not torch.distributed.is_initialized():  # one device: the same arithmetic and checkpoints, nothing to split
            backend = "nccl" if device.type == "cuda" else "gloo"
            store = torch.distributed.HashStore()  # type: ignore[attr-defined]
            torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
        group: Any = process_group or torch.distributed.group.WORLD
        mesh = DeviceMesh.from_group(group, device.type)
        policy = MixedPrecisionPolicy(param_dtype=compute_dtype, reduce_dtype=torch.float32)
        model = model.to(device)
        for block in model.encoder.layers:
            fully_shard(block, mesh=mesh, mp_policy=policy)
        fully_shard(model, mesh=mesh, mp_policy=policy)
        self.module = model

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The whole tensors on the first rank, None on others; all ranks must call it."""
        return dict(_whole(dict(self.module.state_dict()), keep=torch.distributed.get_rank() == 0))

    def load_state_dict(  # type: ignore[override]
        self, state_dict: dict[str, Any], strict: bool = True, model_cfg: Any = None
    ) -> None:
        """Take this rank's share of the whole tensors; raises RuntimeError when they are not this model's."""
        own = self.module.state_dict()
        if own.keys() != state_dict.keys():
            raise RuntimeError(f"not the tensors of this model: {sorted(own.keys() ^ state_dict.keys())[:5]}")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(_share(state_dict[name].to(tensor.device), tensor))


def shard_with_torch() -> None:
    """Make fairseq's fully_sharded backend torch's: its trainer asks fairscale's class for names that torch has not."""
    import fairseq.models
    import fairseq.utils
    from fairseq.optim import FairseqOptimizer
    from fairseq.trainer import Trainer

    if hasattr(Trainer.__init__, "__wrapped__"):
        return
    start, state_dict, wrap = Trainer.__init__, Trainer.state_dict, fairseq.models.DistributedFairseqModel
    save, is_wrapped = Trainer.save_checkpoint, Trainer.use_distributed_wrapper
    clip, load = fairseq.utils.clip_grad_norm_, FairseqOptimizer.load_state_dict

    @functools.wraps(start)
    def init(self: Any, cfg: Any, task: Any, model: nn.Module, *args: Any, **kwargs: Any) -> None:
        if _is_sharded(cfg) and cfg.common.bf16:  # FSDP computes in bfloat16 and keeps float32; fairseq would cast both
            cfg.common.bf16 = False
            model.compute_dtype = torch.bfloat16  # type: ignore[assignment]
        start(self, cfg, task, model, *args, **kwargs)

    @functools.wraps(wrap)
    def distributed_model(args: Any, model: nn.Module, process_group: Any, device: torch.device) -> nn.Module:
        if args.ddp_backend != "fully_sharded":
            return wrap(args, model, process_group, device)  # type: ignore[no-any-return]
        return ShardedModel(model, process_group, device, getattr(model, "compute_dtype", None))

    @functools.wraps(state_dict)
    def whole_state_dict(self: Any) -> dict[str, Any]:
        state: dict[str, Any] = state_dict(self)
        if _is_sharded(self.cfg) and "last_optimizer_state" in state:
            state["last_optimizer_state"] = _whole(state["last_optimizer_state"], keep=self.data_parallel_rank == 0)
        return state

    @functools.wraps(save)
    def save_together(self: Any, filename: str, extra_state: dict[str, Any]) -> Any:
        if _is_sharded(self.cfg) and filename.endswith("crash.pt"):
            return None  # only the first rank would come here, and wait for the shares of the others for ever
        return save(self, filename, extra_state)

    @functools.wraps(load)
    def load_shares(self: Any, state_dict: dict[str, Any], optimizer_overrides: Any = None) -> None:
        load(self, state_dict, optimizer_overrides)
        for parameter, values in self.optimizer.state.items():
            for name, value in values.items():
                values[name] = _share(value, parameter)

    @functools.wraps(clip)
    def clip_grad_norm(params: Any, max_norm: float, aggregate_norm_fn: Any = None) -> torch.Tensor:
        params = [params] if isinstance(params, torch.Tensor) else list(params)
        if not any(hasattr(parameter, "full_tensor") for parameter in params):
            return clip(params, max_norm, aggregate_norm_fn)  # type: ignore[no-any-return]
        bound = max_norm if max_norm > 0 else float("inf")
        return nn.utils.clip_grad_norm_(params, bound).full_tensor()  # type: ignore[attr-defined, no-any-return]

    Trainer.__init__, Trainer.state_dict, Trainer.save_checkpoint = init, whole_state_dict, save_together
    Trainer.use_distributed_wrapper = property(lambda self: _is_sharded(self.cfg) or is_wrapped.fget(self))
    Trainer.is_fsdp = False  # that is: fairscale's
    Trainer.always_call_state_dict_during_save_checkpoint = property(lambda self: _is_sharded(self.cfg))
    fairseq.models.DistributedFairseqModel = distributed_model
    fairseq.utils.clip_grad_norm_ = clip_grad_norm
    FairseqOptimizer.load_state_dict = load_shares


def _is_sharded(cfg: Any) -> bool:
    return bool(cfg.distributed_training.ddp_backend == "fully_sharded")


def _whole(state: Any, keep: bool) -> Any:
    """A state with each split tensor put together on the CPU, one after the other; None where nothing is kept."""
    if isinstance(state, dict):
        return {name: _whole(value, keep) for name, value in state.items()}
    if isinstance(state, list):
        return [_whole(value, keep) for value in state]
    if hasattr(state, "full_tensor"):
        whole = state.full_tensor()
        return whole.cpu() if keep else None
    return state


def _share(value: Any, parameter: Any) -> Any:
    """This rank's share of a tensor that belongs to a split parameter."""
    from torch.distributed.tensor import distribute_tensor

    if not hasattr(parameter, "full_tensor") or getattr(value, "shape", None) != parameter.shape:
        return value
    if hasattr(value, "full_tensor"):
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
