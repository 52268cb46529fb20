"""Hydra's launcher behind `hydra/launcher=slurm`; Hydra takes launchers only from the namespace `hydra_plugins`.

Everything but the contact with Hydra is in mms_recipes.cluster.submission.
Without the extra `cluster` there is no launcher.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn

try:
    from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as SubmititLauncher
except ImportError:
    SlurmQueueConf = None

if SlurmQueueConf is not None:

    @dataclass
    class SlurmArrayConf(SlurmQueueConf):
        """What hydra-submitit-launcher takes, with what it lacks."""

        _target_: str = "hydra_plugins.mms_recipes_slurm.SlurmLauncher"
        nodes: int | None = None
        tasks_per_node: int | None = None
        requeue: bool = True
        dry_run: bool = False

    ConfigStore.instance().store(
        group="hydra/launcher", name="slurm_array", node=SlurmArrayConf(), provider="mms_recipes"
    )

    class SlurmLauncher(SubmititLauncher):
        """Submits what is not finished and returns; each job runs as submitit's own launcher has it."""

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            from mms_recipes.cluster import submission

            jobs = submission.compose(self.config, job_overrides, self.hydra_context.config_loader, initial_job_idx)
            submission.launch(self, jobs, self.params)
            return []

        def __call__(self, *args: Any) -> JobReturn:
            returned = super().__call__(*args)
            returned.return_value  # noqa: B018  (raises what the job raised, so that Slurm sees it fail)
            return returned


def register() -> None:
    """Make the launcher known to Hydra, where the extra `cluster` is installed."""
    if SlurmQueueConf is not None:
        Plugins.instance().register(SlurmLauncher)
