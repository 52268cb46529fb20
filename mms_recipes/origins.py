"""Keep in what fairseq's trainer saves the licence of the weights that a run started from, and what they were."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairseq import checkpoint_utils

from mms_recipes import checkpoints, licences
from mms_recipes.formats import fairseq_configs, stock_checkpoints


def keep() -> None:
    """Let fairseq write `licence` and `provenance` beside the weights, where stock fairseq does not look."""
    save = checkpoint_utils.torch_persistent_save
    if not hasattr(save, "__wrapped__"):
        checkpoint_utils.torch_persistent_save = _with_origin(save)


def _with_origin(save: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(save)
    def save_with_origin(state: Any, *args: Any, **kwargs: Any) -> None:
        cfg = state.get("cfg") if isinstance(state, dict) else None
        base = fairseq_configs.started_from(fairseq_configs.as_config(cfg)) if cfg else None
        if base is not None:
            origin = of_base(base)
            state = state | {"licence": origin.licence, "provenance": list(origin.provenance)}
        save(state, *args, **kwargs)

    return save_with_origin


@functools.cache
def of_base(path: str) -> licences.Origin:
    """Licence and provenance of what is trained from this file or folder; by its name alone once it is gone."""
    if Path(path).exists():
        origin = stock_checkpoints.origin_of(checkpoints.load_checkpoint(path, weights=False), path)
    else:
        origin = licences.Origin(licences.of_name(path))
    return origin.then(f"trained from {Path(path).name}")
