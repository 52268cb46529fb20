"""`python -m mms_recipes.train +experiment=NAME [key=value ...]`: train one experiment; the same command resumes."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mms_recipes import config, runner

config.register()


@hydra.main(version_base="1.3", config_path=str(config.CONFIGS), config_name="train")
def main(cfg: DictConfig) -> None:
    with runner.errors_for_users():
        config.refuse_early_preset(HydraConfig.get().overrides.task)
        runner.train(cfg, Path(HydraConfig.get().runtime.output_dir))


if __name__ == "__main__":
    with runner.errors_for_users():
        main()
