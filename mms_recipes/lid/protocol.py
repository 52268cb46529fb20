"""The paper's benchmark of language identification, and its numbers beside ours.

Paper: https://arxiv.org/abs/2305.13516, version 1, section 6.3 and table 7.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mms_recipes.evaluation import benchmarks
from mms_recipes.evaluation.benchmarks import Protocol

NAME = "fleurs_lid"
FLEURS = Protocol(
    NAME, "FLEURS, language identification", "asr_fl102", ("test",), None, False, False, "section 6.3, table 7",
    (
        "whether the paper's accuracy is over utterances or the mean over languages",
        "whether its models chose among all their classes (ours do unless lid.classes is given)",
        "whether it took utterances whole",
    ),
)  # fmt: skip
# Percent of FLEURS's 102 languages, by the number of classes of the model
MMS = {126: 97.5, 256: 97.2, 512: 96.8, 1024: 97.0, 2048: 97.3, 4017: 97.2}
OTHERS = {
    "MMS 1B, trained on FLEURS alone": 96.2,
    "MMS 1B, trained on FLEURS and VoxLingua (126 classes)": 97.4,
    "ASR-LID": 95.9,
    "mSLAM": 77.7,
    "Whisper": 64.5,
}


def require(name: str | None) -> Protocol | None:
    """Return the protocol that `protocol=` names, None without. Raises ValueError for another."""
    if name not in (None, NAME):
        raise ValueError(f"protocol={name} is of speech recognition; language identification has protocol={NAME}")
    return FLEURS if name else None


def document(data: Path, split: str, langs: Sequence[str], num_classes: int, restricted: bool) -> dict[str, Any]:
    """Return what scores.json says of the benchmark: what is otherwise than in the paper, and the paper's numbers."""
    differs = benchmarks.differences(FLEURS, data, split, langs, count_space=False)
    if restricted:
        differs.append("the answers were restricted (lid.classes)")
    return benchmarks.described(FLEURS, langs, differs) | {
        "paper": [
            *(
                {"system": f"MMS 1B, {size:,} classes", "accuracy": rate, "alike": size == num_classes}
                for size, rate in MMS.items()
            ),
            *({"system": system, "accuracy": rate, "alike": False} for system, rate in OTHERS.items()),
        ],
    }
