"""`python -m mms_recipes.tune checkpoint=... data=... decoding.lm=...`: tune the beam search on dev."""

from mms_recipes.cluster import signals

if __name__ == "__main__":
    signals.end_quietly()  # here, since what follows takes seconds

import hydra
from omegaconf import DictConfig

from mms_recipes import command_line, config, runner
from mms_recipes.evaluation import tuner

config.register()


@command_line.typed()
@hydra.main(version_base="1.3", config_path=str(config.CONFIGS), config_name="tune")
def main(cfg: DictConfig) -> None:
    with runner.errors_for_users():
        found = tuner.tune(cfg)
        print(tuner.table(found))
        print(f"all points: {cfg.out}/<lang>/{tuner.POINTS}; weights, which evaluate reads: {cfg.decoding.lm}/<lang>/")


if __name__ == "__main__":
    with runner.errors_for_users():
        main()
