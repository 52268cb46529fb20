"""From a checkpoint and manifests to scores, and the tuning of what decodes."""
