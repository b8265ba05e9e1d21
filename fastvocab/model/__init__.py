"""Base models, the rows that are added to them, and checkpoints: the only place that imports unsloth."""
