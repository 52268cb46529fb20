"""What is checked before the first update: a run that cannot work stops in seconds and says what to mend."""

import logging
import os
import shutil
from pathlib import Path

import torch
from omegaconf import DictConfig

from mms_recipes import checkpoints, manifest, validation
from mms_recipes.tasks.finetuning import job_languages

logger = logging.getLogger(__name__)

# above this many utterances only the first file of each split has its header read before training
ALL_HEADERS = 20_000
LABELLED = ("mms_finetuning", "mms_lsah")
LAUNCHERS = {"TORCHELASTIC_RUN_ID", "MASTER_ADDR", "SLURM_STEP_NODELIST"}


def check(cfg: DictConfig, run_folder: Path) -> None:
    """Check device, manifests, base and disk of a training run. Raises ValueError or FileNotFoundError."""
    check_device(cfg)
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
    # torchrun and Slurm start processes on several machines: fairseq then takes the world from them
    launched = cfg.distributed_training.distributed_init_method is not None or bool(LAUNCHERS & os.environ.keys())
    if not launched and world > max(1, devices):
        raise ValueError(
            f"distributed_training.distributed_world_size is {world}, but this machine has {devices} CUDA device(s); "
            f"start it on several with torchrun, or set distributed_training.distributed_world_size={max(1, devices)} "
            f"and optimization.update_freq=[{-(-world // max(1, devices))}], which keeps the size of the batch"
        )


def check_manifests(cfg: DictConfig) -> None:
    """Validate train and dev of all languages against their dictionaries; raise one ManifestError for all."""
    task = cfg.task
    folder, labelled = Path(task.data), task._name in LABELLED
    langs = job_languages(task)
    splits = (cfg.dataset.train_subset, *cfg.dataset.valid_subset.split(","))
    rows = sum(_count_rows(folder / lang / f"{split}.tsv") for lang in langs for split in splits)
    report = validation.validate(
        folder,
        langs,
        splits,
        check_audio="all" if rows <= ALL_HEADERS else "first",
        dictionary=folder / "dict.ltr.txt" if task._name == "mms_finetuning" else None,
        labelled=labelled,
        progress=rows > ALL_HEADERS,
    )
    report.raise_if_bad()
    for note in report.notes():
        logger.warning("%s", note)
    logger.info("%d languages\n%s", len(langs), report.table())


def _count_rows(tsv: Path) -> int:
    return len(manifest.read_manifest(tsv)) if tsv.is_file() else 0


def check_base(cfg: DictConfig) -> checkpoints.Base | None:
    """Read the checkpoint that the run starts from and compare it with the configuration."""
    key = {"wav2vec_ctc": "w2v_path", "mms_lsah": "base"}.get(cfg.model._name)
    if key is None:
        return None
    base = checkpoints.read_base(cfg.model[key])
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
        return 0
    if cfg.model._name == "wav2vec_ctc":
        return 12 * sum(tensor.numel() for tensor in base.encoder_state.values())
    encoder, folder = base.cfg, Path(cfg.task.data)
    per_block = (
        2 * encoder.encoder_embed_dim * (cfg.model.adapter_dim + 1) + encoder.encoder_embed_dim + cfg.model.adapter_dim
    )
    langs = job_languages(cfg.task)
    letters = sum(len(manifest.read_dictionary(folder / lang / "dict.ltr.txt")) + 4 for lang in langs)
    return 12 * (len(langs) * encoder.encoder_layers * per_block + letters * encoder.encoder_embed_dim)


def check_disk(run_folder: Path, size: int) -> None:
    """Refuse a run whose folder has no room for the last checkpoint, the best one and the one being written."""
    existing = next(parent for parent in (run_folder, *run_folder.resolve().parents) if parent.is_dir())
    free = shutil.disk_usage(existing).free
    if free < 3 * size:
        raise ValueError(
            f"{run_folder}: {free / 1e9:.2f} GB free, but three checkpoints of {size / 1e9:.2f} GB are needed "
            "(last, best, and the one being written); free some space or set runs=FOLDER on another disk"
        )
