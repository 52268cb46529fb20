"""Slurm, and what keeps a run whole on a cluster: submission, state, claims, preemption."""
