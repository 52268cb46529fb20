"""Whether a run can start from a checkpoint: its own last one, or one of another run that the configuration names.

fairseq loads whatever has tensors of the right sizes. What the rows of a head mean (letters, pieces of words, classes)
and which base adapters belong to is compared here, before anything starts; no setting accepts a difference.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mms_recipes import (
    adapter_files,
    checkpoints,
    files,
    manifest,
    model_shapes,
    parsing,
    run_folder,
    run_record,
    units,
)
from mms_recipes.formats import fairseq_configs
from mms_recipes.formats.checkpoint_contents import UNITS
from mms_recipes.formats.stock_checkpoints import LID_MODELS
from mms_recipes.tasks import lid
from mms_recipes.tasks.finetuning import job_languages
from mms_recipes.tasks.lsah import BASE_HASH, HEADS
from mms_recipes.unit_kinds import PIECES_MODEL, UnitKind

logger = logging.getLogger(__name__)

LABELLED = ("mms_finetuning", "mms_lsah")
NEVER = "which accept_changes=true does not change"
SHOWN = 6  # letters, languages or tensors in a message

Heads = dict[str, list[str]]  # what the rows of each head mean, in order; by language for LSAH, else of ""


@dataclass(frozen=True)
class Start:
    """The checkpoint that fairseq will load, and why: it is the run's `own`, or a key of the configuration names it."""

    path: Path
    key: str = ""
    state: Mapping[str, Any] = field(default_factory=dict, repr=False)  # what is in it

    @property
    def is_own(self) -> bool:
        return not self.key

    @property
    def kind(self) -> str:
        """The name of its model in fairseq's registry."""
        return fairseq_configs.model_name(fairseq_configs.of_checkpoint(self.state, self.path))

    @property
    def task_state(self) -> Mapping[str, Any]:
        return self.state.get("task_state") or {}


@dataclass(frozen=True)
class Found:
    """What a run is made of now, and what of it was otherwise before, each time with the update until which."""

    data: run_record.Data
    earlier: list[dict[str, Any]] = field(default_factory=list)


def compare(asked: DictConfig, cfg: DictConfig, folder: Path, last: Path, first: bool) -> Found:
    """Compare the run in `folder`, whose checkpoint is `last`, with what was `asked` and is filled in in `cfg`.

    Only the `first` rank looks into audio. Raises FileNotFoundError or ValueError: for what no setting accepts
    (`check`), and for other changes unless accept_changes=true.
    """
    check(cfg, folder, last)
    now = run_record.data_of(cfg, audio=first)
    if not last.exists():
        return Found(now)
    before = run_record.recorded(folder)
    changes = run_record.changes(before, now)
    config = run_folder.differences(folder / "config.yaml", asked)
    if before.langs == now.langs:  # then what says so in the configuration is written in another way
        config = {key: pair for key, pair in config.items() if key not in run_folder.PLACES}
    run_folder.refuse(asked, folder, config, changes)
    if not config and not changes:
        return Found(now, before.earlier)
    for change in changes:
        logger.warning("accept_changes=true: %s", change)
    old = {
        "until_update": checkpoints.num_updates(last),
        "config": {key: value for key, (value, _) in config.items()},
        **before.model_dump(include={"manifests", "splits"}),
    }
    return Found(now, [*before.earlier, old])


def starting_point(cfg: DictConfig, last: Path) -> Start | None:
    """What fairseq will load, None for nothing; `last` is the run's own checkpoint.

    Raises FileNotFoundError where a named file is not there: fairseq would begin with random weights without a word
    (fairseq:checkpoint_utils.py load_checkpoint).
    """
    settings = cfg.checkpoint
    if settings.restore_file != fairseq_configs.LAST:
        key = "restore_file"
    elif last.exists():
        return Start(last)
    else:
        key = "continue_once" if settings.get("continue_once") else "finetune_from_model"
    path = settings.get(key)
    if path is None:
        return None
    if not Path(path).exists():
        raise FileNotFoundError(f"checkpoint.{key}={path}: no such file; give the checkpoint (.pt) of a run")
    return Start(Path(path), f"checkpoint.{key}={path}")


def check(cfg: DictConfig, folder: Path, last: Path) -> None:
    """Compare the checkpoint that fairseq will load with model and data of `cfg`; `last` is of the run in `folder`.

    Raises FileNotFoundError or ValueError: what differs first, and the way that works.
    """
    start = starting_point(cfg, last)
    if start is None:
        return
    if start.path.is_dir():
        raise ValueError(f"{start.key}: a folder, expected the checkpoint (.pt) of a run. {_other_way(cfg, start)}")
    start = replace(start, state=checkpoints.load_checkpoint(start.path, weights=False))
    _check_kind(cfg, start)
    if cfg.task._name in LABELLED and start.is_own:
        _check_pieces(cfg, start)
    if now := heads(cfg):
        before = _stored_heads(start) or _heads_before(cfg, folder, now, start)
        _check_languages(cfg, list(before), list(now), start)
        for lang in now:
            _check_rows(cfg, lang, before[lang], now[lang], start)
    base = model_shapes.read_base(cfg)
    if cfg.task._name == "mms_lsah" and base is not None:
        _check_base(cfg, base, start)
    _check_shapes(cfg, base, now, start)


def _check_kind(cfg: DictConfig, start: Start) -> None:
    found, asked = start.kind, cfg.model._name
    if found != asked and not {found, asked} <= {*LID_MODELS}:
        raise ValueError(
            f"{start.key or start.path}: holds a {found!r} model, this run trains {asked!r}. {_other_way(cfg, start)}"
        )


def _other_way(cfg: DictConfig, start: Start) -> str:
    """The way that works where a checkpoint cannot be loaded as it is."""
    asked = cfg.model._name
    if asked == "wav2vec2":
        return "Choose the model that it was made with (model=wav2vec2_300m, wav2vec2_1b, ... and model.*)"
    if adapter_files.is_folder_of_adapters(start.path):
        return "Adapters are no start for another training: give model.base= the dense checkpoint that they are for"
    if start.state and start.kind == "mms_lsah":  # it holds no encoder to start from
        key = start.key.partition("=")[0]
        return "Give another name=..." if start.is_own else f"Leave {key} away: the adapters are for other training"
    takes = {
        "mms_lsah": "trains new adapters on its encoder",
        "mms_lid": "takes its encoder, and of a model for languages the weights of the classes that both have",
    }.get(asked, "takes its encoder and begins a new head")
    given = f"model.base={start.path} {takes}"
    return f"Give another name=..., where {given}" if start.is_own else f"Use model.base instead: {given}"


# ---- what the rows of the heads mean


def heads(cfg: DictConfig) -> Heads:
    """What the rows of the heads of this configuration mean; empty for pretraining.

    Raises FileNotFoundError or ValueError.
    """
    if cfg.task._name == "mms_lid":
        return {"": lid.class_names(cfg.task)}
    if cfg.task._name not in LABELLED:
        return {}
    langs = job_languages(cfg.task) if cfg.task._name == "mms_lsah" else [""]
    return {lang: [*manifest.SPECIAL_TOKENS, *manifest.read_dictionary(_dictionary(cfg, lang))] for lang in langs}


def _dictionary(cfg: DictConfig, lang: str) -> Path:
    """The dictionary of a head."""
    return Path(cfg.task.data) / lang / UnitKind(cfg.task.units).dictionary


def _stored_heads(start: Start) -> Heads | None:
    """What a checkpoint says of its heads; None for LSAH's of before 0.2, which name the letters of one language."""
    task_state = start.task_state
    if HEADS in task_state:
        return parsing.parse(dict[str, list[str]], task_state[HEADS], f"{start.path}: task_state.{HEADS}")
    if start.kind == "mms_lsah":
        return None
    dictionary = task_state.get("target_dictionary")
    symbols = parsing.parse(list[str], getattr(dictionary, "symbols", None), f"{start.path}: target_dictionary")
    return {"": list(symbols)}


def _heads_before(cfg: DictConfig, folder: Path, now: Heads, start: Start) -> Heads:
    """The heads of an LSAH checkpoint that does not name them, from what else the run's folder says.

    run.json has the checksums of the dictionaries that it began with, its adapters have their letters. Raises
    ValueError for a dictionary that changed and whose letters nothing says.
    """
    known = run_record.recorded(folder).manifests if start.is_own else {}
    name = UnitKind(cfg.task.units).dictionary
    langs = [key.removesuffix(f"/{name}") for key in known if key.endswith(f"/{name}")] or list(now)
    return {lang: _letters_before(cfg, lang, now.get(lang, []), known.get(f"{lang}/{name}"), start) for lang in langs}


def _letters_before(cfg: DictConfig, lang: str, now: list[str], checksum: str | None, start: Start) -> list[str]:
    path = _dictionary(cfg, lang)
    if not now or checksum is None or files.sha256(path) == checksum:
        return now
    adapter = Path(cfg.task.adapters) / f"{lang}.safetensors"
    if adapter.exists():
        return adapter_files.read_adapter(adapter).letters
    raise ValueError(
        f"{path}: changed since this run began (run.json has its SHA-256 {checksum[:12]}...), and {start.path} does "
        "not say which letters its rows are; restore the file, or give another name=..."
    )


def _check_languages(cfg: DictConfig, before: list[str], now: list[str], start: Start) -> None:
    """Refuse other languages than the adapters of an LSAH checkpoint are of, or another order of them."""
    if before == now:
        return
    told = _differences(before, now) or f"another order: {_some(before)} there, {_some(now)} here"
    ways = [f"to go on as before give task.langs=[{','.join(before)}]"] if len(before) <= SHOWN else []
    if added := [lang for lang in now if lang not in before]:
        langs = ",".join(added) if len(added) <= SHOWN else "..."
        ways.append(
            f"train what is new in a run of its own (name=... task.langs=[{langs}]) and copy its files into "
            f"{cfg.task.adapters}: evaluate, transcribe and merge take the folder as one set"
        )
    raise ValueError(
        f"{start.path}: its adapters are of other languages than this run ({told}). A checkpoint keeps its languages, "
        f"{NEVER}: {'; or '.join(ways) or 'give another name=...'}"
    )


def _check_rows(cfg: DictConfig, lang: str, before: list[str], now: list[str], start: Start) -> None:
    """Refuse a head whose rows mean something else now; the first such row is named."""
    if before == now:
        return
    row = next((n for n, (old, new) in enumerate(zip(before, now, strict=False)) if old != new), -1)
    row = row if row >= 0 else min(len(before), len(now))
    there, here = (repr(symbols[row]) if row < len(symbols) else "nothing" for symbols in (before, now))
    if cfg.task._name == "mms_lid":
        what, where = "classes", f"task.classes={cfg.task.classes or '(the folders found)'}"
        keep = "Set task.classes, task.langs and the folders back"
    else:
        path = _dictionary(cfg, lang)
        what, keep = "letters" if UnitKind(cfg.task.units) is UnitKind.letters else "pieces", f"Restore {path}"
        where = f"{path}:{max(1, row - len(manifest.SPECIAL_TOKENS) + 1)}"
    raise ValueError(
        f"{where}: row {row} of the head is {here}, but {start.path} has {there} ({len(before)} {what} there, "
        f"{len(now)} here; {_differences(before, now) or 'the same in another order'}). Its weights are of its own "
        f"{what}, {NEVER}. {f'{keep}. Or: g' if start.is_own else ''}"
        + _other_way(cfg, start)[1 if start.is_own else 0 :]
    )


def _differences(before: list[str], now: list[str]) -> str:
    """What is in only one of two lists; '' where none is."""
    added, gone = (
        [name for name in names if name not in others] for names, others in ((now, {*before}), (before, {*now}))
    )
    return "; ".join(f"{what}: {_some(names)}" for what, names in (("new", added), ("gone", gone)) if names)


def _some(names: list[str]) -> str:
    """The first of a list for a message."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _check_pieces(cfg: DictConfig, start: Start) -> None:
    """Refuse to go on with a run in other units than it began with, or with pieces that were built again."""
    models = start.task_state.get(UNITS) or {}
    kind, began = UnitKind(cfg.task.units), UnitKind.sentencepiece if models else UnitKind.letters
    if began != kind:
        raise ValueError(
            f"{start.path}: this run began with task.units={began}, now it is task.units={kind}; give another name=..."
        )
    for lang in job_languages(cfg.task) if models else ():
        path = Path(cfg.task.data) / lang / PIECES_MODEL
        if lang in models and units.read_units(path).to_text() != models[lang]:
            raise ValueError(
                f"{path}: not the pieces that this run began with ({start.path}), they were built again since; give "
                "another name=..., or restore the file and those that belong to it"
            )


# ---- the base, and the sizes of all tensors


def _check_base(cfg: DictConfig, base: checkpoints.Base, start: Start) -> None:
    """Refuse adapters that were trained on another base; a checkpoint of before 0.2 does not say, its adapters do."""
    trained_on = start.task_state.get(BASE_HASH)
    adapters = sorted(Path(cfg.task.adapters).glob("*.safetensors"))
    if trained_on is None and start.is_own and adapters:
        trained_on = adapter_files.read_adapter(adapters[0]).base_hash
    if trained_on not in (None, base.hash):
        way = "Restore that base, or give another name=..." if start.is_own else "Give its base as model.base"
        raise ValueError(
            f"model.base={cfg.model.base}: is base {base.hash}, but the adapters in {start.path} were trained on "
            f"{trained_on}. They are of no use on another base, {NEVER}. {way}"
        )


def _check_shapes(cfg: DictConfig, base: checkpoints.Base | None, now: Heads, start: Start) -> None:
    """Refuse a checkpoint whose tensors are not those of the model; the first are named."""
    found = {name: tuple(tensor.shape) for name, tensor in start.state["model"].items()}
    expected = model_shapes.shapes(cfg, base, now)
    wrong = [name for name in expected | found if expected.get(name) != found.get(name)]
    if wrong:
        shown = "; ".join(f"{name}: found {found.get(name)}, expected {expected.get(name)}" for name in wrong[:3])
        raise ValueError(
            f"{start.path}: {len(wrong)} tensors are not those of the model ({shown}), {NEVER}. "
            f"{_other_way(cfg, start)}"
        )
