"""What a recipe does without any text of one's own."""

from __future__ import annotations

from typing import Any

#: The embedded default: everything from ordinary packages, sized for two CPU cores and ten minutes.
EMBEDDED: dict[str, Any] = {
    "name": "smollm2-ukrainian",
    "corpus": {
        "train": "package:ua-gec",
        "replay": "package:pydoc-topics",
        "language": "uk",
        "heldout": 0.08,
    },
    "tokenizer": {"new_tokens": 8000},
    # on two cores 40,000 take 15 s longer, in which training gains more than they do
    "extend": {"calibration_bytes": 10_000},
    # steps of 256 tokens: in a few minutes that is some hundred of them instead of some dozen
    "pretrain": {
        "minutes": 4.1,
        "save_minutes": 1,
        "embeddings": "new_rows",
        "learning_rate": 2e-3,
        "block": 256,
        "batch": 1,
    },
    "instruct": {"train": "package:chatterbot-corpus/ukrainian", "minutes": 0.6, "save_minutes": 1},
    # in pieces of 600 bytes they are of 17 and 10 documents, of 1,024 bytes they would be of 10 and 6
    "evaluate": {"heldout_bytes": 8_000, "replay_bytes": 6_000, "piece_bytes": 600, "sample_tokens": 20},
}
