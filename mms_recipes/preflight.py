"""What is checked before the first update: a run that cannot work stops in seconds and says what to mend."""

import logging
import math
import shutil
from pathlib import Path

import torch
from omegaconf import DictConfig

from mms_recipes import checkpoints, manifest, model_shapes
from mms_recipes.corpora import validation
from mms_recipes.corpora.problems import REMEDIES, ManifestError
from mms_recipes.tasks import lid
from mms_recipes.tasks.finetuning import job_languages
from mms_recipes.tasks.pretraining import corpus_languages, find_corpora
from mms_recipes.unit_kinds import UnitKind

logger = logging.getLogger(__name__)

# above this many utterances only the first file of each split has its header read before training
ALL_HEADERS = 20_000
LABELLED = ("mms_finetuning", "mms_lsah")


def check(cfg: DictConfig, run_folder: Path) -> None:
    """Check device, manifests, base and disk of a training run. Raises ValueError or FileNotFoundError."""
    check_device(cfg)
    check_batch(cfg)
    check_length(cfg)
    check_manifests(cfg)
    base = check_base(cfg)
    check_disk(run_folder, checkpoint_bytes(cfg, base))


def check_device(cfg: DictConfig) -> None:
    """Refuse a configuration that this machine has no device for."""
    world, devices = cfg.distributed_training.distributed_world_size, torch.cuda.device_count()
    if not cfg.common.cpu and devices == 0:
        raise ValueError(
            "common.cpu=false, but torch sees no CUDA device; install a CUDA build of torch, or common.cpu=true"
        )
    if cfg.common.fp16 and cfg.distributed_training.ddp_backend == "fully_sharded":
        raise ValueError(
            "distributed_training.ddp_backend=fully_sharded computes in bfloat16 or float32, not in fp16: set "
            "common.bf16=true on devices that have it, else distributed_training.ddp_backend=legacy_ddp"
        )
    if cfg.distributed_training.distributed_init_method is None and world > max(1, devices):
        raise ValueError(
            f"distributed_training.distributed_world_size is {world}, but this machine has {devices} CUDA device(s); "
            "start it on several with Slurm or torchrun (docs/cluster.md), or set "
            f"distributed_training.distributed_world_size={max(1, devices)} and task.hours_per_update to the hours "
            "that an update shall have, which keeps the size of the batch"
        )


def check_batch(cfg: DictConfig) -> None:
    """Refuse crops that do not fit into a batch (pretraining)."""
    if "max_seconds" not in cfg.task:
        return
    crop = cfg.task.max_seconds
    for key in ("max_tokens", "max_tokens_valid"):
        seconds = cfg.dataset[key] / manifest.SAMPLE_RATE
        if crop > seconds:
            raise ValueError(
                f"task.max_seconds={crop:g}: a crop is longer than a batch, dataset.{key}={cfg.dataset[key]} is "
                f"{seconds:g} s; raise it to {int(crop * manifest.SAMPLE_RATE)}, or crop shorter"
            )
    if not 0 < cfg.task.min_seconds <= crop:
        raise ValueError(f"task.min_seconds={cfg.task.min_seconds:g}: expected more than 0, at most max_seconds={crop}")


def check_length(cfg: DictConfig) -> None:
    """Refuse settings with which fairseq ends before the first update, or learns in the wrong direction."""
    settings = cfg.optimization
    if settings.max_update < 1:
        raise ValueError(f"optimization.max_update={settings.max_update}: expected 1 or more")
    ratios = cfg.lr_scheduler.get("phase_ratio") or [1]
    if not any(int(settings.max_update * ratio) for ratio in ratios):
        raise ValueError(
            f"optimization.max_update={settings.max_update}: too few for lr_scheduler.phase_ratio={list(ratios)}, of "
            "which no phase has a whole update; give more updates"
        )
    for rate in settings.lr:
        if not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"optimization.lr={list(settings.lr)}: expected numbers above 0, such as [0.001]")
        if rate <= settings.stop_min_lr:
            raise ValueError(
                f"optimization.lr={list(settings.lr)} is not above optimization.stop_min_lr={settings.stop_min_lr:g}, "
                "at which training ends: it would end before the first update; lower stop_min_lr (-1: never)"
            )


def unit_kind(task: DictConfig) -> UnitKind:
    """What a task has its model write; letters where it has no such setting."""
    return UnitKind(task.get("units", UnitKind.letters))


def language_folders(task: DictConfig) -> list[str]:
    """Folder of each language of the job, relative to task.data: `eng`, or `mls/eng` where there are corpora."""
    if task._name == "mms_lid":
        task = lid.places(task)
    elif task._name != "mms_pretraining":
        return job_languages(task)
    folders, data = find_corpora(task), Path(task.data)
    chosen = corpus_languages(task).items()
    return [str((folders[corpus] / lang).relative_to(data)) for corpus, langs in chosen for lang in langs]


def check_manifests(cfg: DictConfig) -> None:
    """Validate train and dev of all languages against their dictionaries; raise one ManifestError for all.

    Without labels (pretraining) a language needs no dev split, nor where validation is disabled.
    """
    if "," in cfg.dataset.valid_subset:
        raise ValueError(
            f"dataset.valid_subset={cfg.dataset.valid_subset}: the best is kept by one split; name that one, and score "
            "the others with mms_recipes.evaluate"
        )
    task = cfg.task
    folder, labelled, kind = Path(task.data), task._name in LABELLED, unit_kind(task)
    langs = language_folders(task)
    splits: tuple[str, ...] = (cfg.dataset.train_subset, cfg.dataset.valid_subset)
    rows = sum(_count_rows(folder / lang / f"{split}.tsv") for lang in langs for split in splits)
    groups: dict[tuple[str, ...], list[str]] = {}
    needed = splits if labelled and not cfg.dataset.disable_validation else splits[:1]
    for lang in langs:
        has_dev, has_train = ((folder / lang / f"{split}.tsv").exists() for split in reversed(splits))
        if has_train and not has_dev and splits[1] in needed:
            raise ManifestError(
                f"{folder / lang / splits[1]}.tsv: no such file; {REMEDIES['no dev split']}, name another one with "
                "dataset.valid_subset, or train without any: dataset.disable_validation=true"
            )
        groups.setdefault(splits if has_dev else needed, []).append(lang)
    for there, group in groups.items():
        report = validation.validate(
            folder,
            group,
            there,
            check_audio="all" if rows <= ALL_HEADERS else "first",
            dictionary=folder / kind.dictionary if task._name == "mms_finetuning" else None,
            labelled=labelled,
            kind=kind,
            progress=rows > ALL_HEADERS,
        )
        report.raise_if_bad()
        for note in report.notes():
            logger.warning("%s", note)
        logger.info("%d languages\n%s", len(group), report.table())


def _count_rows(tsv: Path) -> int:
    return len(manifest.read_manifest(tsv)) if tsv.is_file() else 0


def check_base(cfg: DictConfig) -> checkpoints.Base | None:
    """Read the checkpoint that the run starts from and compare it with the configuration."""
    base = model_shapes.read_base(cfg)
    if base is None:
        return None
    if base.normalize != cfg.task.normalize:
        raise ValueError(
            f"{base.path}: trained with normalize={base.normalize}, but task.normalize={cfg.task.normalize}; "
            f"add task.normalize={str(base.normalize).lower()}"
        )
    if cfg.model.get("head_init") == "dense":
        base.require_head()
    return base


def checkpoint_bytes(cfg: DictConfig, base: checkpoints.Base | None) -> int:
    """About what one checkpoint takes: all that is trained and Adam's two moments, in float32."""
    if base is None:
        return 12 * sum(parameter.numel() for parameter in model_shapes.pretraining_model(cfg).parameters())
    if cfg.model._name in ("wav2vec_ctc", "mms_lid"):
        return 12 * sum(tensor.numel() for tensor in base.encoder_state.values())
    encoder, folder = base.cfg, Path(cfg.task.data)
    per_block = (
        2 * encoder.encoder_embed_dim * (cfg.model.adapter_dim + 1) + encoder.encoder_embed_dim + cfg.model.adapter_dim
    )
    langs = job_languages(cfg.task)
    dictionaries = (folder / lang / unit_kind(cfg.task).dictionary for lang in langs)
    rows = sum(len(manifest.read_dictionary(path)) + 4 for path in dictionaries)
    return 12 * (len(langs) * encoder.encoder_layers * per_block + rows * encoder.encoder_embed_dim)


def check_disk(run_folder: Path, size: int) -> None:
    """Refuse a run whose folder has no room for the last checkpoint, the best one and the one being written."""
    existing = next(parent for parent in (run_folder, *run_folder.resolve().parents) if parent.is_dir())
    free = shutil.disk_usage(existing).free
    if free < 3 * size:
        raise ValueError(
            f"{run_folder}: {free / 1e9:.2f} GB free, but three checkpoints of {size / 1e9:.2f} GB are needed "
            "(last, best, and the one being written); free some space or set runs=FOLDER on another disk"
        )
