"""From the logits of a LID model to answers: which classes it may choose from, and how sure it may be.

Shapes: B batch, L classes of the model, K classes to choose from.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mms_recipes import languages
from mms_recipes.lid import calibration
from mms_recipes.lid import classes as lid_classes
from mms_recipes.lid.identifier import Identifier

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """The classes to choose from, their columns among the model's, and the temperature; None: none was fitted."""

    classes: Sequence[str]
    columns: Sequence[int]
    temperature: float | None

    def probabilities(self, logits_BL: torch.Tensor) -> npt.NDArray[np.float64]:
        """Return the probabilities (B, K) of the classes to choose from, rows that sum to 1."""
        return calibration.probabilities(logits_BL.cpu().numpy()[:, self.columns], self.temperature or 1.0)


def open_choice(identifier: Identifier, checkpoint: Path, asked: Sequence[str] = ()) -> Choice:
    """Return the classes that `asked` names (ids, sets; none: all) and the temperature that lies beside the model.

    Raises ValueError for a name that is neither, or a temperature of another model.
    """
    columns = choose_classes(asked, identifier.classes)
    found = calibration.read_temperature(checkpoint, fingerprint(identifier))
    return Choice(
        [identifier.classes[column] for column in columns], columns, found.temperature if found is not None else None
    )


def choose_classes(asked: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Return which of a model's classes may be answered: those of the ids, sets and class names asked for, else all.

    Raises ValueError when fewer than two are left, or for a name that is neither.
    """
    if not asked:
        return list(range(len(classes)))
    ids = {name: number for number, name in enumerate(classes)}
    wanted: set[str] = set()
    for name in asked:
        wanted |= {name} if name in ids else {lid_classes.class_of(lang, ids) for lang in languages.resolve([name])}
    chosen = [number for name, number in ids.items() if name in wanted]
    if absent := sorted(wanted.difference(ids)):
        logger.warning("%d languages asked for are no classes of this model: %s", len(absent), ", ".join(absent[:20]))
    if len(chosen) < 2:
        raise ValueError(
            f"{', '.join(asked)}: {len(chosen)} of the model's {len(classes)} classes are among these; expected at "
            "least two to choose from"
        )
    return chosen


def fingerprint(identifier: Identifier) -> str:
    """Return what tells a trained head from every other: a hash of its weights and classes."""
    digest = hashlib.sha256("\n".join(identifier.classes).encode())
    for tensor in identifier.head.state_dict().values():
        digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
