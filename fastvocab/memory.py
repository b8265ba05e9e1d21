"""The peak of a process's memory, counted from a chosen moment."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path


def reset_peak() -> None:
    """Let the peak count from now on, so that what came earlier in this process is not in it.

    On Linux for the process itself (``ru_maxrss``), and for a GPU that torch uses; elsewhere nothing happens, and
    a peak is that of the process since it began.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    torch = sys.modules.get("torch")  # where nobody has imported it there is no GPU memory either
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
