"""What a model is worth: bits per byte on the same bytes, decode steps, samples."""
