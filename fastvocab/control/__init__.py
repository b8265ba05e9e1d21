"""What the extension gained: the same time spent without it, and spent in the plain way, beside the run's own."""
