"""Convert a model from one layout of files to another, prove that it says the same, and only then leave it there."""

import logging
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

import mms_recipes.plugins  # noqa: F401  (before fairseq is imported: it sets the root logger to DEBUG)
from mms_recipes import adapter_files, checkpoints, files, languages
from mms_recipes.conversion import proof
from mms_recipes.formats import stock_checkpoints
from mms_recipes.formats.huggingface import reading, writing
from mms_recipes.formats.portable import Kind, OnDemand, Portable
from mms_recipes.transcription import routing
from mms_recipes.units import Units

logger = logging.getLogger(__name__)

CLASSES_FILE = "dict.lang.txt"
Teller = Callable[[str | None], list[proof.Outputs]]
TOLERANCE = 1e-4  # of log-probabilities and projections; what rounding alone makes is about 1e-5
SHOWN = 5  # languages in warnings
PROVED_LANGS = 4  # whose emissions are compared; the tensors of all are


def read(path: Path, base: Path | None = None, trust: bool = False, classes: Sequence[str] | None = None) -> Portable:
    """Read a model in whatever layout it is. Raises FileNotFoundError or ValueError.

    `classes` are those of an LID model whose file does not name them; `base` goes with a folder of adapters, when it is
    not where it was at training. `trust` reads Python objects of a .pt file too, which runs code from the file.
    """
    if reading.is_huggingface(path):
        return reading.read(path, mapped=True)
    if path.is_dir():
        adapters = adapter_files.read_adapters(path, mapped=True)
        found = adapter_files.find_base(adapters, lambda file: read(file, trust=trust), base, "--base FILE")
        return _of_adapters(path, adapters, found)
    return stock_checkpoints.of_checkpoint(_load(path, trust), path, classes)


def _load(path: Path, trust: bool) -> Mapping[str, object]:
    if not trust:
        try:
            return checkpoints.load_checkpoint(path)
        except ValueError as error:
            if not isinstance(error.__cause__, pickle.UnpicklingError):
                raise
            raise ValueError(f"{error}; or, if you made this file yourself, add --trust-checkpoint") from error
    logger.warning("%s: read WITHOUT protection (--trust-checkpoint): code inside it runs now", path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # it may be anything, the file's own code included
        raise ValueError(f"{path}: cannot be read even unprotected ({type(error).__name__}: {error})") from error
    return checkpoints.checked(state, path)


def _of_adapters(folder: Path, adapters: Mapping[str, adapter_files.Adapter], found: Portable) -> Portable:
    base_hash, origins = found.hash, []
    for adapter in adapters.values():
        adapter.require_base(base_hash, found.settings)
        origins.append(adapter.origin)
    return Portable(
        str(folder),
        Kind.lsah,
        found.cfg,
        found.normalize,
        found.frozen,
        adapters=OnDemand(list(adapters), lambda lang: adapters[lang].part()),
        origin=found.origin.known_else(origins),
    )


# ---- writing


def write(target: Path, model: Portable, to: str, final: Path | None = None) -> None:
    """Write a model where nothing is: a .pt file, a folder of Hugging Face's, or a folder of adapters.

    `final` is where the target will be moved to.
    `require_expressible` must have passed. Raises OSError, on a full disk above all.
    """
    if to == "huggingface":
        target.mkdir()
        writing.write(target, model)
    elif to == "fairseq":
        stock_checkpoints.write(target, model)
        if model.kind == Kind.lid:  # stock fairseq's task does not start without it, whatever the checkpoint holds
            lines = "".join(f"{name} 1\n" for name in model.symbols)
            files.write_text(target.with_name(CLASSES_FILE), lines)
    else:
        target.mkdir()
        _write_adapters(target, model, final or target)


def _write_adapters(folder: Path, model: Portable, final: Path) -> None:
    base_hash = model.hash
    for lang, part in model.adapters.items():
        adapter = adapter_files.Adapter(
            lang=lang,
            base_hash=base_hash,
            base_settings=model.settings,
            letters=part.symbols,
            num_updates=0,
            dev_cer=None,
            tensors=part.tensors,
            base_path=str(Path(model.where).resolve()),
            units=Units.from_text(part.units),
            licence=model.origin.licence,
            provenance=list(model.origin.provenance),
        )
        adapter_files.write_adapter(folder, adapter, final)


def require_expressible(model: Portable, to: str) -> None:
    """Raise ValueError when the layout cannot hold the model."""
    if to == "huggingface":
        writing.require_expressible(model)
    if to == "adapters" and model.kind != Kind.lsah:
        raise ValueError(f"{model.where}: a {model.kind} model, which has no adapters; convert it --to fairseq")


def choose(model: Portable, langs: list[str] | None) -> None:
    """Keep the adapters of some languages. Raises ValueError for one that is not there, with the nearest that are."""
    if langs is None:
        return
    routing.require(langs, model.adapters, model.where)
    model.adapters = OnDemand(langs, model.adapters.__getitem__)


def choose_default(model: Portable, lang: str | None, to: str) -> None:
    """Make a language the one that pipelines take where none is asked for. ValueError when it cannot be."""
    if lang is None:
        return
    if model.kind != Kind.lsah or to != "huggingface":
        raise ValueError(
            f"{model.where}: a default language is for models with adapters, converted --to huggingface; this is a "
            f"{model.kind} model, --to {to}"
        )
    routing.require([lang], model.adapters, model.where)
    model.default_lang = lang


# ---- the whole


def convert(
    source: Path,
    target: Path,
    to: str,
    base: Path | None = None,
    langs: list[str] | None = None,
    default_lang: str | None = None,
    licence: str | None = None,
    trust: bool = False,
    classes: Sequence[str] | None = None,
) -> Portable:
    """Convert `source` into `target`, which must not be there (or be an empty folder); on any error nothing is left.

    Raises ValueError or OSError.
    """
    target = target if target.name else target.resolve()
    with _prepared(target) as unproved:
        model = read(source, base, trust, classes)
        model.origin = model.origin.licensed(licence, str(source)).then(f"{to} form of {source.name or source}")
        choose(model, langs)
        choose_default(model, default_lang, to)
        require_expressible(model, to)
        _require_free(target, model, to)
        _name_strangers(model)
        logger.info("%s: %s; %s", source, _describe(model), model.origin.describe())
        write(unproved, model, to, target)
        _require_same(model, unproved, source, to)
    logger.info("%s: written", target)
    return model


def _name_strangers(model: Portable) -> None:
    """Warn of adapters under names that are no ids of languages here (zh, pt-BR): nothing asks for them by those."""
    strange = [lang for lang in model.adapters if lang not in languages.table()]
    for lang in strange[:SHOWN]:
        try:
            languages.language(lang)
        except ValueError as error:
            logger.warning("%s: adapter %s: %s", model.where, lang, error)
    if len(strange) > SHOWN:
        logger.warning("%s: and %d more adapters like this", model.where, len(strange) - SHOWN)


def _describe(model: Portable) -> str:
    size = f"{sum(tensor.numel() for tensor in model.frozen.values()) / 1e6:.1f} million parameters"
    what = {
        Kind.encoder: "encoder",
        Kind.pretraining: "pretraining with quantizer",
        Kind.ctc: f"dense CTC, {len(model.symbols)} letters",
        Kind.lsah: f"LSAH, {len(model.adapters)} languages",
        Kind.lid: f"LID, {len(model.symbols)} classes",
    }
    return f"{what[model.kind]}, encoder of {size}"


@contextmanager
def _prepared(target: Path) -> Iterator[Path]:
    """Give a place beside the target to write to; move it there at the end, or remove it on any error."""
    if target.is_dir() and any(target.iterdir()):
        raise FileExistsError(f"{target}: not empty; give a new place (nothing is ever overwritten)")
    if os.path.lexists(target) and not target.is_dir():  # a link that leads nowhere is somebody's too
        raise FileExistsError(f"{target}: is already there; give a new place (nothing is ever overwritten)")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise OSError(f"{target}: cannot be written ({error.strerror}); give a place that can") from error
    try:
        yield folder / target.name
        if target.is_dir():
            target.rmdir()
        for written in sorted(folder.iterdir()):
            if os.path.lexists(place := target.with_name(written.name)):
                raise FileExistsError(
                    f"{place}: was put there meanwhile; give a new place (nothing is ever overwritten)"
                )
            os.replace(written, place)
    finally:
        shutil.rmtree(folder)


def _require_free(target: Path, model: Portable, to: str) -> None:
    """Raise FileExistsError when the class list of another model lies where this one's must go."""
    beside = target.with_name(CLASSES_FILE)
    if model.kind == Kind.lid and to == "fairseq" and beside.exists():
        raise FileExistsError(
            f"{beside}: there already; the class list must lie beside {target.name}: give a folder of its own"
        )


# ---- the proof


def _require_same(model: Portable, written: Path, source: Path, to: str) -> None:
    """Raise ValueError unless what was written holds the same tensors and says the same to the test signal."""
    back, after, teller_after = _read_back(model, written, to)
    _require_equal(model, back)
    before, teller = _teller(model, source, to)
    langs = _spread(list(model.adapters)) or [None]
    largest = max(proof.difference(before(lang), after(lang)) for lang in langs)
    of = f"of {len(langs)} of {len(model.adapters)} languages " if model.adapters else ""
    said = f"largest difference {of}on the test signal: {largest:.2g} ({teller} against {teller_after})"
    if not largest <= TOLERANCE:
        raise ValueError(f"{source}: not converted: {said}, allowed is {TOLERANCE:g}; nothing was written")
    logger.info("all tensors equal; %s", said)


def _read_back(model: Portable, written: Path, to: str) -> tuple[Portable, Teller, str]:
    """What was written, how to run it, and who runs it; adapters on the base of the source, which they belong to."""
    if to == "fairseq":
        state = checkpoints.load_checkpoint(written, mapped=True)
        back = stock_checkpoints.of_checkpoint(state, written)
        return back, lambda lang: proof.by_fairseq(state, back, lang, str(written.parent)), "stock fairseq"
    if to == "adapters":
        back = _of_adapters(written, adapter_files.read_adapters(written), model)
        return back, lambda lang: proof.by_us(back, lang), "this package"
    back = reading.read(written, mapped=True)
    return back, *_teller(back, written, to)


def _teller(model: Portable, path: Path, to: str) -> tuple[Teller, str]:
    """How to run a source, or a folder of Hugging Face's, and who runs it: where possible not who runs the other."""
    if reading.is_huggingface(path):
        if proof.has_transformers():
            return proof.Transformers(path, model).outputs, "transformers"
        return lambda lang: proof.by_us(model, lang), "this package, as transformers is not installed"
    if to == "adapters":
        state = stock_checkpoints.to_checkpoint(model)
        return lambda lang: proof.by_fairseq(state, model, lang, str(path.parent)), "stock fairseq"
    name = "fairseq's classes" if model.kind in (Kind.encoder, Kind.pretraining) else "this package"
    return lambda lang: proof.by_us(model, lang), name


def _spread(langs: list[str]) -> list[str | None]:
    """PROVED_LANGS languages of all, the first and the last among them."""
    last = len(langs) - 1
    return list(dict.fromkeys(langs[last * i // (PROVED_LANGS - 1)] for i in range(PROVED_LANGS) if langs))


def _require_equal(model: Portable, back: Portable) -> None:
    """Raise ValueError unless two models hold the same tensors, bit by bit, and the same symbols."""
    _compare("encoder", model.encoder, back.encoder)
    _compare("head", model.head, back.head)
    if (model.symbols, model.units, set(model.adapters)) != (back.symbols, back.units, set(back.adapters)):
        raise ValueError(f"{model.where}: not converted: letters, classes or languages differ when read back")
    for lang, part in model.adapters.items():
        again = back.adapters[lang]
        _compare(lang, part.tensors, again.tensors)
        if (part.symbols, part.units) != (again.symbols, again.units):
            raise ValueError(f"{model.where}: not converted: the letters of {lang} differ when read back")


def _compare(what: str, ours: Mapping[str, torch.Tensor], back: Mapping[str, torch.Tensor]) -> None:
    wrong = sorted(ours.keys() ^ back.keys()) or [name for name in ours if not torch.equal(ours[name], back[name])]
    if wrong:
        raise ValueError(f"{what}: not converted: {wrong[0]} is not the same when read back")
