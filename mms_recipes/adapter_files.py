"""Adapters on disk: one small file per language, and the one-file form of the released checkpoints."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import pydantic
import safetensors
import torch
from fairseq.data import Dictionary

from mms_recipes import __version__, files, licences, parsing
from mms_recipes.checkpoints import Base, base_of, load_checkpoint
from mms_recipes.formats import stock_checkpoints
from mms_recipes.formats.checkpoint_contents import UNITS
from mms_recipes.formats.huggingface import weights
from mms_recipes.formats.huggingface.reading import is_huggingface
from mms_recipes.formats.portable import Kind, LanguagePart, OnDemand, Portable, Setting
from mms_recipes.formats.tensors import require_sound
from mms_recipes.models.adapters import require_language_state
from mms_recipes.units import LETTERS, Units

ADAPTER_FORMAT = "mms_recipes.adapter/1"


@dataclass(frozen=True)
class Adapter:
    """One language's adapter and head, and what they belong to."""

    lang: str
    base_hash: str
    letters: list[str]  # the head's rows (letters or pieces of words), the four specials first
    num_updates: int
    dev_cer: float | None
    tensors: dict[str, torch.Tensor]
    base_path: str = ""  # where its base was
    base_settings: dict[str, Setting] = field(default_factory=dict)  # portable.settings; none in files before 0.2
    base_beside: str = ""  # the same from the folder of the adapter's file, for folders that are moved together
    code_version: str = __version__
    path: str = ""
    units: Units = LETTERS  # how words are spelt with them
    licence: str = licences.UNKNOWN  # its base's, as an adapter is made of it
    provenance: list[str] = field(default_factory=list)

    def require_base(self, base_hash: str, settings: Mapping[str, Setting] | None = None) -> None:
        """Raise ValueError unless this adapter was trained on the base with this hash, in these settings."""
        if self.base_hash != base_hash:
            raise ValueError(
                f"{self.path or 'adapter'}: {self.lang!r} was trained on base {self.base_hash}, but the loaded base is "
                f"{base_hash}; load the checkpoint it was trained on ({self.base_path})"
            )
        require_settings(self.base_settings, settings or {}, f"{self.path or 'adapter'}: {self.lang!r}", self.base_path)

    @property
    def origin(self) -> licences.Origin:
        """Licence and provenance of the weights."""
        return licences.Origin(self.licence, tuple(self.provenance))

    def dictionary(self) -> Dictionary:
        """The head's letters as fairseq's Dictionary."""
        return stock_checkpoints.dictionary(self.letters, Kind.lsah)

    def part(self) -> LanguagePart:
        """What of it travels between layouts of files."""
        return LanguagePart(self.tensors, self.letters, self.units.to_text())


def require_settings(trained: Mapping[str, Setting], found: Mapping[str, Setting], what: str, base_path: str) -> None:
    """Raise ValueError where two bases of the same weights differ in a setting that both state."""
    wrong = next((name for name, value in trained.items() if found.get(name, value) != value), None)
    if wrong is not None:
        raise ValueError(
            f"{what} was trained on a base with {wrong}={trained[wrong]}, but the loaded base has the same weights and "
            f"{wrong}={found[wrong]}, which changes its output; load the checkpoint it was trained on ({base_path})"
        )


def write_adapter(folder: str | Path, adapter: Adapter, final: Path | None = None) -> Path:
    """Write folder/<lang>.safetensors in one step, so that a reader sees the old file or the new one.

    `final`: the folder that `folder` will be moved to.
    """
    described = {name: getattr(adapter, name) for name in ("lang", "base_hash", "num_updates", "dev_cer")}
    described |= {"base_settings": adapter.base_settings} if adapter.base_settings else {}
    described |= _places(adapter.base_path, Path(final or folder))
    described |= {"licence": adapter.licence, "provenance": adapter.provenance}
    described |= {"letters": adapter.letters, "code_version": adapter.code_version, "format": ADAPTER_FORMAT}
    if adapter.units.model:
        described["units"] = adapter.units.to_text()
    metadata = {name: json.dumps(value, ensure_ascii=False) for name, value in described.items()}
    path = files.inside(Path(folder), f"{adapter.lang}.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        weights.write_tensors(path, adapter.tensors, metadata)
    except OSError as error:
        raise OSError(
            f"{path}: the adapter could not be written ({error}); the one before, if any, is untouched. "
            "Free some space and start the same command again: it resumes"
        ) from error
    return path


def _places(base_path: str, folder: Path) -> dict[str, str]:
    """Where a base is, for a header: from its adapter's folder, and by itself, without the name of a home folder."""
    if not base_path:
        return {}
    base, home = Path(base_path).resolve(), Path.home().resolve()
    in_home = base.is_relative_to(home) and home != Path(home.anchor)
    found = {"base_path": str(Path("~") / base.relative_to(home) if in_home else base)}
    if not in_home or folder.resolve().is_relative_to(home):  # the way from elsewhere would name it
        found["base_beside"] = os.path.relpath(base, folder.resolve())
    return found


Text = Annotated[str, pydantic.Field(max_length=10_000, pattern=r"^[^\x00-\x1f\x7f]*$")]
Hash = Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{16}$")]


class _Header(parsing.Schema):
    """What is read of an adapter's header; each value is JSON."""

    lang: str
    base_hash: Hash
    letters: Annotated[list[str], pydantic.Field(max_length=1_000_000)]
    num_updates: Annotated[int, pydantic.Field(ge=0)] = 0
    dev_cer: float | None = None
    base_path: Text = ""
    base_beside: Text = ""
    base_settings: dict[Text, bool | Text] = pydantic.Field(default={})
    code_version: Text = ""
    units: str = ""
    licence: Text = licences.UNKNOWN
    provenance: list[Text] = pydantic.Field(default=[])


def read_adapter(path: str | Path, mapped: bool = False) -> Adapter:
    """Read one language's file. Raises FileNotFoundError, or ValueError: key or tensor, found, expected.

    The tensors are copied, as a mapped file may be written over or cut; `mapped` leaves them in it, for a conversion,
    which holds all languages at once.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such adapter; train it with experiment=lsah_* or give another folder")
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            if not mapped:
                tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path}: not an adapter file, or cut off ({error})") from error
    if metadata.pop("format", None) != json.dumps(ADAPTER_FORMAT):
        raise ValueError(f"{path}: not an adapter of mms_recipes; expected format {ADAPTER_FORMAT!r} in its header")
    header = parsing.parse(_Header, {name: _value(value, f"{path}: {name}") for name, value in metadata.items()}, path)
    files.plain_name(header.lang, f"{path}: lang")
    stock_checkpoints.require_letters(header.letters, f"{path}: letters")
    require_sound(tensors, str(path))
    require_language_state(tensors, len(header.letters), str(path))
    try:
        units = Units.from_text(header.units)  # nothing for letters
    except ValueError as error:
        raise ValueError(f"{path}: units: no model of sentencepiece ({error})") from None
    return Adapter(**(header.model_dump() | {"tensors": tensors, "path": str(path), "units": units}))


def _value(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=lambda constant: None)  # the rate of a run that diverged is no number
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: no JSON ({error}); get the file again") from None


# ---- the base of a folder of adapters


class Hashed(Protocol):
    """What a base is read as: something that knows which base it is."""

    @property
    def hash(self) -> str: ...

    @property
    def settings(self) -> dict[str, Setting]: ...


Found = TypeVar("Found", bound=Hashed)


def find_base(
    adapters: Mapping[str, Adapter], read: Callable[[Path], Found], given: str | Path | None, option: str
) -> Found:
    """Read the base of adapters: what is `given`, else the first of the right hash among the places where it may be.

    Those are beside the adapters' folder, then where the base was at training. Raises FileNotFoundError or ValueError
    that name all places, and `option`, which gives another.
    """
    adapter = next(iter(adapters.values()))
    if given is not None:
        if not Path(given).exists():
            raise FileNotFoundError(f"{given}: not there; give the base of the adapters with {option}")
        found = read(Path(given))
        if not adapter.base_settings:
            _require_recorded(adapter, found, read, Path(given))
        return found
    looked = []
    for path in _candidates(adapter):
        if not path.exists():
            looked.append(f"{path} (not there)")
            continue
        try:
            found = read(path)
        except (ValueError, OSError) as error:
            looked.append(f"{path} ({error})")
            continue
        if found.hash == adapter.base_hash:
            return found
        looked.append(f"{path} (holds base {found.hash})")
    raise FileNotFoundError(
        f"{Path(adapter.path).parent}: the base of these adapters, {adapter.base_hash}, is in none of "
        f"{', '.join(looked) or 'the places that they name'}; if it was moved, give it with {option}"
    )


def _require_recorded(adapter: Adapter, found: Found, read: Callable[[Path], Found], given: Path) -> None:
    """Compare with the base that an adapter of before 0.2 records, where it is there still: it states no settings."""
    for path in _candidates(adapter):
        if not path.exists() or path.samefile(given):
            continue
        try:
            recorded = read(path)
        except (ValueError, OSError):  # what is there now is no base any more, so it says nothing
            continue
        if recorded.hash == adapter.base_hash:
            require_settings(recorded.settings, found.settings, f"{adapter.path}: {adapter.lang!r}", str(path))
            return


def _candidates(adapter: Adapter) -> list[Path]:
    """Where the base of an adapter may be, the nearest place first."""
    folder, recorded = Path(adapter.path).parent, Path(adapter.base_path)
    if recorded.parts[:1] == ("~",):
        recorded = recorded.expanduser()
    found = [folder / adapter.base_beside] if adapter.base_beside else []
    if adapter.base_path:
        found += [folder / recorded.name, folder.absolute().parent / recorded.name, recorded]
    return list(dict.fromkeys(Path(os.path.normpath(path)) for path in found))


# ---- the one-file form of the released checkpoints


def write_one_file(path: str | Path, base: Base, adapters: Sequence[Adapter]) -> None:
    """Write base and adapters as mms1b_l1107.pt and its like are laid out: top-level adapter[lang] (facts: infer.py).

    Only names of stock fairseq are inside, so its `infer.py` reads the file without this package. Raises ValueError for
    no adapters or one of another base, OSError.
    """
    if not adapters:
        raise ValueError(f"{path}: no adapters to write")
    for adapter in adapters:
        adapter.require_base(base.hash, base.settings)
    model = Portable(
        str(path),
        Kind.lsah,
        base.cfg,
        base.normalize,
        base.encoder_state,
        adapters={adapter.lang: adapter.part() for adapter in adapters},
        origin=base.origin.known_else(adapter.origin for adapter in adapters),
    )
    stock_checkpoints.write(Path(path), model)


def spelling(task_state: Mapping[str, Any], lang: str) -> Units:
    """Return how a language's words are spelt, from the task's state in a checkpoint; letters when it does not say.

    Raises ValueError when it says so of other languages alone.
    """
    models = task_state.get(UNITS)
    if models is None:
        return LETTERS
    if lang not in models:
        raise ValueError(f"no units of {lang!r}; there are those of {', '.join(sorted(models))}")
    return Units.from_text(models[lang])


def is_folder_of_adapters(path: str | Path) -> bool:
    """Whether this is a folder, and none of Hugging Face's."""
    return Path(path).is_dir() and not is_huggingface(path)


def read_adapters(path: str | Path, mapped: bool = False) -> Mapping[str, Adapter]:
    """Adapters by language, each read when asked for: a folder of adapter files, a one-file checkpoint, or a folder of
    Hugging Face's. `mapped`: as in `read_adapter`.
    """
    if is_folder_of_adapters(path):
        found = {file.stem: file for file in sorted(Path(path).glob("*.safetensors"))}
        if not found:
            below = Path(path, "adapters")
            meant = f"; did you mean {below}?" if below.is_dir() else ""
            raise FileNotFoundError(f"{path}: no adapters (*.safetensors) in this folder{meant}")
        return OnDemand(list(found), lambda lang: _of_file(found[lang], mapped))
    checkpoint = load_checkpoint(path)
    if "adapter" not in checkpoint:
        raise ValueError(f"{path}: no adapters inside; found {sorted(checkpoint)}")
    return adapters_of(checkpoint, path, base_of(checkpoint, path).hash)


def _of_file(path: Path, mapped: bool) -> Adapter:
    adapter = read_adapter(path, mapped)
    if adapter.lang != path.stem:
        raise ValueError(f"{path}: the adapter of {adapter.lang!r} under another name; give it its own")
    return adapter


def adapters_of(checkpoint: Mapping[str, Any], path: str | Path, base_hash: str) -> Mapping[str, Adapter]:
    """Adapters by language of a one-file checkpoint that is read already. Raises ValueError for a name that is none."""
    for lang in checkpoint["adapter"]:
        files.plain_name(lang, f"{path}: adapter")
    return OnDemand(list(checkpoint["adapter"]), lambda lang: _adapter(checkpoint, lang, str(path), base_hash))


def _adapter(checkpoint: Mapping[str, Any], lang: str, path: str, base_hash: str) -> Adapter:
    part = checkpoint["adapter"][lang]
    letters = list(part["task_state"]["target_dictionary"].symbols)
    require_sound(part["model"], f"{path}: {lang}")
    require_language_state(part["model"], len(letters), f"{path}: {lang}")
    origin = stock_checkpoints.origin_of(checkpoint, path)
    return Adapter(
        lang=lang,
        base_hash=base_hash,
        letters=letters,
        num_updates=0,
        dev_cer=None,
        tensors=part["model"],
        base_path=path,
        path=path,
        units=spelling(part["task_state"], lang),
        licence=origin.licence,
        provenance=list(origin.provenance),
    )
