"""`python -m mms_recipes.train +experiment=NAME [key=value ...]`: train one experiment; the same command resumes.

On Slurm: `-m ... hydra/launcher=slurm [--dry-run]` (docs/cluster.md).
"""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from mms_recipes.cluster import signals

if __name__ == "__main__":
    signals.end_at_once()  # here, since what follows takes seconds

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hydra_plugins import mms_recipes_slurm
from mms_recipes import command_line, config, runner

config.register()
mms_recipes_slurm.register()  # Hydra itself does not find it in an editable installation

LAUNCHERS = {"slurm": "submitit", "submitit_slurm": "submitit", "submitit_local": "submitit", "joblib": "joblib"}


def prepared(arguments: Sequence[str]) -> list[str]:
    """The command's arguments as Hydra takes them. Raises ValueError when the launcher asked for is not installed."""
    chosen = [word.partition("=")[2] for word in arguments if word.startswith("hydra/launcher=")]
    for plugin in (LAUNCHERS[name] for name in chosen if name in LAUNCHERS):
        if importlib.util.find_spec(f"hydra_plugins.hydra_{plugin}_launcher") is None:
            raise ValueError(f"hydra/launcher={chosen[-1]}: not installed; pip install '.[cluster]'")
    if chosen and not {"-m", "--multirun", "hydra.mode=MULTIRUN"} & {*arguments}:
        raise ValueError(f"hydra/launcher={chosen[-1]}: without -m Hydra would train here; add -m to the command")
    if "--dry-run" not in arguments:
        return list(arguments)
    if not {*chosen} - (LAUNCHERS.keys() - {"slurm"}):  # slurm, or a site's file that extends it
        raise ValueError("--dry-run shows what would be submitted: it goes with -m and hydra/launcher=slurm")
    return [*(word for word in arguments if word != "--dry-run"), "hydra.launcher.dry_run=true"]


@command_line.typed(command_line.with_job_folders)
@hydra.main(version_base="1.3", config_path=str(config.CONFIGS), config_name="train")
def main(cfg: DictConfig) -> None:
    with runner.errors_for_users():
        config.refuse_early_preset(HydraConfig.get().overrides.task)
        runner.train(cfg, Path(HydraConfig.get().runtime.output_dir))


if __name__ == "__main__":
    with runner.errors_for_users():
        sys.argv[1:] = prepared(sys.argv[1:])
        main()
