"""Base models, the rows that are added to them, and checkpoints: the only place that imports unsloth."""

import os

# Before torch is loaded: its OpenMP threads spin while they wait, and where anything else wants a core they wait
# for one another. Measured on 2 cores beside one busy process: 1653 ms a forward pass spinning, 350 ms sleeping.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
