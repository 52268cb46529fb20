"""Files of tensors in a folder of Hugging Face's: safetensors, or pytorch_model.bin by torch's restricted loader.

All are copied into memory of our own: a mapped file may be written over or cut while a model is in use. `mapped` leaves
them in the file, for one that only this process can change.
"""

import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
import torch

from mms_recipes import files, parsing

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


class _Index(parsing.Schema):
    """Which file of weights holds which tensor."""

    weight_map: dict[str, str]


def read_weights(folder: Path, mapped: bool = False) -> dict[str, torch.Tensor]:
    """All weights of a model's folder."""
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise FileNotFoundError(f"{folder}: no weights; expected one of {', '.join(WEIGHTS)}")
    if not file.name.endswith(".index.json"):
        return read_tensors(file, mapped)
    shards = parsing.read_json(_Index, file).weight_map
    tensors: dict[str, torch.Tensor] = {}
    for shard in sorted(set(shards.values())):
        path = folder / files.plain_name(shard, f"{file}: weight_map", "file")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: not there, but {file.name} names it; download the whole folder")
        tensors |= read_tensors(path, mapped)
    missing = sorted(set(shards) - set(tensors))
    if missing:
        raise ValueError(f"{file}: {missing[0]!r} is in none of the files that it names")
    return tensors


def read_tensors(path: Path, mapped: bool = False) -> dict[str, torch.Tensor]:
    """Tensors by name from a .safetensors file or, restricted to tensors, from a .bin file."""
    with whole(path):
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
                return tensors if mapped else {name: tensor.clone() for name, tensor in tensors.items()}
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and zipfile.is_zipfile(path))
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    ):
        raise ValueError(f"{path}: expected tensors by name")
    return dict(content)


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Say of a file that cannot be read what is wrong with it."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: refused: it holds Python objects beside tensors, which would run code when read "
            f"({str(error).splitlines()[0]}); take the .safetensors file of the model"
        ) from error
    except (safetensors.SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: cut off, or no file of tensors ({error}); download it again") from error


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file in one step. Raises OSError, on a full disk above all."""
    try:
        with files.replaced(path) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode  # what the umask allows, which safetensors does not ask
            safetensors.torch.save_file(tensors, temporary, metadata)
            temporary.chmod(mode)
    except safetensors.SafetensorError as error:  # a full disk comes as one of these
        raise OSError(str(error)) from error
