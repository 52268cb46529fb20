"""`python -m mms_recipes.evaluate checkpoint=... data=... out=...`: WER and CER per language, or accuracy of LID."""

from mms_recipes.cluster import signals

if __name__ == "__main__":
    signals.end_quietly()  # here, since what follows takes seconds

import hydra
from omegaconf import DictConfig

from mms_recipes import command_line, config, runner
from mms_recipes.evaluation import evaluator
from mms_recipes.lid import evaluator as lid_evaluator
from mms_recipes.report import lid_files
from mms_recipes.report.reading import read_scores
from mms_recipes.report.scores import comparison_table

config.register()


@command_line.typed()
@hydra.main(version_base="1.3", config_path=str(config.CONFIGS), config_name="evaluate")
def main(cfg: DictConfig) -> None:
    with runner.errors_for_users():
        if cfg.lid is None and cfg.corpora:
            raise ValueError("corpora=... is of language identification (+benchmark=lid); give one corpus as data=...")
        out = evaluator.evaluate(cfg) if cfg.lid is None else lid_evaluator.evaluate(cfg)
        if cfg.num_shards > 1:
            return
        scores = out / "scores.json"
        print(comparison_table({cfg.name: scores}) if cfg.lid is None else lid_files.table(read_scores(scores)))
        print(f"scores: {out}; as a page: python -m mms_recipes.report {out}")


if __name__ == "__main__":
    with runner.errors_for_users():
        main()
