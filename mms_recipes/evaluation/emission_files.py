"""Emissions of a split on disk: computed once, mapped into memory and shared by any number of searches.

FOLDER/emissions.f32 holds the frames of all utterances one after the other, float32; emissions.json says of which
utterances they are and what they were made of.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pydantic

from mms_recipes import __version__, files, parsing
from mms_recipes.evaluation import emissions
from mms_recipes.evaluation.emissions import Split
from mms_recipes.formats import portable
from mms_recipes.recognizer import Recognizer

logger = logging.getLogger(__name__)

EMISSIONS, CONTENTS = "emissions.f32", "emissions.json"

Kept = tuple[list[int], list[npt.NDArray[np.float32]]]  # rows, longest first, and their emissions (T, V)


def source_hash(recognizer: Recognizer, lang: str, split: Split) -> str:
    """Return a hash of what the emissions of a language depend on: the whole model, and which audio it hears."""
    if recognizer.adapters is not None:
        head = portable.state_hash(recognizer.adapters.language_state(lang))
    else:
        assert recognizer.head is not None
        head = portable.state_hash(dict(zip(("weight", "bias"), recognizer.head, strict=True)))
    symbols = list(recognizer.dictionary(lang).symbols)
    parts = [
        __version__,
        recognizer.base_hash,
        recognizer.normalize,
        head,
        symbols,
        files.sha256(split.utterances.rows.file),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def keep(folder: Path, recognizer: Recognizer, lang: str, split: Split, max_samples: int) -> Kept:
    """Return the emissions of a split, those in `folder` if they are of the same model and manifest; else make them.

    Each file appears whole or not at all. Raises ValueError when an utterance has none.
    """
    source = source_hash(recognizer, lang, split)
    contents = _read_contents(folder, source)
    if contents is None:
        contents = _write(folder, recognizer, lang, split, max_samples, source)
    else:
        logger.info("%s: emissions of %d utterances from %s", lang, len(contents["rows"]), folder)
    if sorted(contents["rows"]) != list(range(len(split.utterances))):
        raise ValueError(
            f"{folder / CONTENTS}: {len(set(contents['rows']))} of {len(split.utterances)} utterances; delete the file"
        )
    frames, units = contents["num_frames"], contents["units"]
    whole = np.memmap(folder / EMISSIONS, np.float32, "r", shape=(sum(frames), units))
    ends = np.cumsum(frames).tolist()
    return contents["rows"], [whole[end - count : end] for end, count in zip(ends, frames, strict=True)]


class _Contents(parsing.Schema):
    source: str
    units: int = pydantic.Field(gt=0)
    rows: list[int]
    num_frames: list[Annotated[int, pydantic.Field(ge=0)]]


def _read_contents(folder: Path, source: str) -> dict[str, Any] | None:
    """Return emissions.json if it is of this source and its emissions are all there."""
    try:
        contents = parsing.read_json(dict[str, Any], folder / CONTENTS)
        read = parsing.parse(_Contents, contents, folder / CONTENTS)
        size = (folder / EMISSIONS).stat().st_size
    except (FileNotFoundError, ValueError):
        return None
    whole = read.source == source and size == sum(read.num_frames) * read.units * 4
    return contents if whole and len(read.rows) == len(read.num_frames) else None


def _write(
    folder: Path, recognizer: Recognizer, lang: str, split: Split, max_samples: int, source: str
) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONTENTS).unlink(missing_ok=True)  # never beside emissions of something else
    contents: dict[str, Any] = {
        "source": source,
        "units": len(recognizer.dictionary(lang)),
        "rows": [],
        "num_frames": [],
    }
    with files.replaced(folder / EMISSIONS) as temporary, temporary.open("wb") as file:
        for rows, emissions_TV in emissions.blocks(recognizer, lang, split, max_samples):
            contents["rows"] += rows
            for one in emissions_TV:
                contents["num_frames"].append(len(one))
                file.write(np.ascontiguousarray(one, np.float32).data)
    files.write_text(folder / CONTENTS, json.dumps(contents) + "\n")
    return contents
