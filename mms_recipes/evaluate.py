"""`python -m mms_recipes.evaluate checkpoint=... data=... out=...`: WER and CER per language."""

import hydra
from omegaconf import DictConfig

from mms_recipes import config, evaluator, report, runner

config.register()


@hydra.main(version_base="1.3", config_path=str(config.CONFIGS), config_name="evaluate")
def main(cfg: DictConfig) -> None:
    with runner.errors_for_users():
        out = evaluator.evaluate(cfg)
        print(report.comparison_table({cfg.name: out / "scores.json"}))
        print(f"full report: {out}")


if __name__ == "__main__":
    with runner.errors_for_users():
        main()
