"""`python -m mms_recipes.cluster.job FOLDER`: what the sbatch file starts, which is submitit's job.

A signal that comes while Python still imports would kill it, and the job would not be requeued.
"""

from mms_recipes.cluster import signals

if __name__ == "__main__":
    signals.end_at_once()
    from submitit.core.submission import submitit_main

    submitit_main()
