"""Import fairseq without what comes with it: its logging, libraries that our jobs never call, a slow Hydra.

Part of fairseq_compat, which calls it; the tests are in the same place.
"""

import contextlib
import importlib
import logging
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

# What tasks and criterions for written text, and audio_classification's error rate, take from big libraries
LATER = {
    "sklearn.metrics": ("f1_score", "matthews_corrcoef", "roc_curve"),
    "scipy.stats": ("pearsonr", "spearmanr"),
}


def import_fairseq() -> None:
    """Import all that fairseq registers, quietly and in half the time."""
    with keep_logging(), import_when_called():
        import fairseq.models.wav2vec  # noqa: F401
    share_config_store()


@contextlib.contextmanager
def keep_logging() -> Iterator[None]:
    """Leave the root logger as it is: importing fairseq sets it to DEBUG and gives it a handler."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    # "Please install tensorboardX" and the like are for fairseq's developers, not for our users
    logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


@contextlib.contextmanager
def import_when_called() -> Iterator[None]:
    """Give fairseq functions that import scikit-learn and scipy.stats when they are called.

    It imports both, 0.7 s of every command's start, for five functions that none of our jobs calls. Modules of the same
    names stand in for them while fairseq is imported, and only then.
    """
    stand_ins = {name: types.ModuleType(name) for name in LATER if name not in sys.modules}
    for name, module in stand_ins.items():
        for function in LATER[name]:
            setattr(module, function, _when_called(name, function))
    if "sklearn.metrics" in stand_ins and "sklearn" not in sys.modules:
        stand_ins["sklearn"] = types.ModuleType("sklearn")
        vars(stand_ins["sklearn"])["metrics"] = stand_ins["sklearn.metrics"]
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


def _when_called(module: str, name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*args, **kwargs)

    return call


def share_config_store() -> None:
    """Let Hydra's copies of a search path share the one store of dataclasses, instead of copying it.

    fairseq puts more than 100 dataclasses there, and Hydra copies all for each group that `--help` lists (9 s) and once
    for a run; what is loaded from the store is a copy in any case.
    """
    from fairseq.dataclass.initialize import ConfigStore  # Hydra's

    ConfigStore.__deepcopy__ = lambda self, memo: self
