"""`python -m mms_recipes.evaluate checkpoint=... data=... out=...`: WER and CER per language, or accuracy of LID."""

import hydra
from omegaconf import DictConfig

from mms_recipes import config, report, runner
from mms_recipes.evaluation import evaluator
from mms_recipes.lid import evaluator as lid_evaluator
from mms_recipes.report import lid_files

config.register()


@hydra.main(version_base="1.3", config_path=str(config.CONFIGS), config_name="evaluate")
def main(cfg: DictConfig) -> None:
    with runner.errors_for_users():
        if cfg.lid is None and cfg.corpora:
            raise ValueError("corpora=... is of language identification (+benchmark=lid); give one corpus as data=...")
        if cfg.lid is None:
            out = evaluator.evaluate(cfg)
            if cfg.num_shards > 1:
                return
            print(report.comparison_table({cfg.name: out / "scores.json"}))
        elif cfg.num_shards > 1:
            raise ValueError(f"num_shards={cfg.num_shards}: identification is not split over jobs; leave it out")
        else:
            out = lid_evaluator.evaluate(cfg)
            print(lid_files.table(report.read_scores(out / "scores.json")))
        print(f"full report: {out}")


if __name__ == "__main__":
    with runner.errors_for_users():
        main()
