"""Does a reloaded model say what the saved one said: logits of a few fixed ids, kept with the checkpoint.

The digest of all logits proves a reload that is equal bit by bit. Where it is not (another precision, another BLAS,
another GPU), the kept logits give the figure: the largest difference, compared with a stated tolerance.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from fastvocab import console
from fastvocab.errors import CheckpointError
from fastvocab.model import load, text

#: Largest difference of a probed logit that a reload may show, by the dtype it was loaded in. 16-bit: two units
#: in the last place at |logit| ~ 30 (bfloat16 keeps 8 bits). float32: another BLAS sums in another order. Over a 4-bit
#: base it is bfloat16's: bitsandbytes computes in what its first input had, which autocast made bfloat16 in training.
TOLERANCE = {"float32": 2e-3, "bfloat16": 0.5, "float16": 0.1}
_PLACES = 64


def ids(tokenizer: Any, new_ids: range, rows: int) -> list[int]:
    """Sixteen ids: a BOS, new tokens from everywhere, old ones between them; all below ``rows``."""
    old = [i * (min(new_ids.start or rows, rows) - 1) // 7 for i in range(8)]
    picks = [new_ids[i * (len(new_ids) - 1) // 7] for i in range(8)] if new_ids else []
    mixed = [i for pair in zip(old, picks or reversed(old)) for i in pair]
    return [text.bos_id(tokenizer), *mixed[:15]]


def logits(model: Any, ids: list[int]) -> Any:
    """(len(ids), rows) float32 on the CPU, in inference mode of the model, whatever mode it is in."""
    import torch

    training = model.training
    model.eval()
    # a trainer leaves its autocast wrapped around forward: 0.28 off on SmolLM2 against the float32 reload
    forward = vars(model).get("_original_forward", model)
    with torch.inference_mode():
        device = model.get_input_embeddings().weight.device
        out = forward(input_ids=torch.tensor([ids], device=device), use_cache=False).logits[0].float().cpu()
    model.train(training)
    return out


def take(model: Any, ids: list[int]) -> dict[str, Any]:
    """The probe of a live model: ``ids``, ``sha256`` of all logits, and ``logits`` of three positions at ``places``."""
    found = logits(model, ids)
    places = [i * (found.shape[1] - 1) // (_PLACES - 1) for i in range(_PLACES)]
    return {
        "ids": ids,
        "sha256": hashlib.sha256(found.numpy().tobytes()).hexdigest(),
        "places": places,
        "logits": [[float(row[p]) for p in places] for row in found[[0, len(ids) // 2, -1]]],
    }


def check(folder: Path, model: Any, manifest: dict[str, Any], *, quantized: bool) -> float:
    """Compare a reloaded model with the probe of its manifest.

    Args:
        quantized: is the base loaded in 4-bit now.

    Returns:
        The largest difference, 0 where all logits are equal bit by bit.

    Raises:
        CheckpointError: beyond `TOLERANCE`, with the figure. In another precision than it was saved in the
            difference is said, and is no error: 4-bit weights are other weights.
    """
    saved = manifest["probe"]
    now = take(model, saved["ids"])
    if now["sha256"] == saved["sha256"]:
        return 0.0
    pairs = zip(saved["logits"], now["logits"])
    apart = max(abs(a - b) for before, after in pairs for a, b in zip(before, after))
    loaded = load.precision(model)
    if quantized != manifest["load_in_4bit"]:
        console.say(
            f"{folder.name}: loaded in another precision than it was trained in; probe differs by {apart:.3g}"
        )
        return apart
    computed = {loaded, manifest["dtype"]} | ({"bfloat16"} if quantized else set())
    tolerance = max(TOLERANCE.get(d, 0.5) for d in computed)
    if not apart <= tolerance:  # also where it is not a number
        raise CheckpointError(
            f"{folder}: the reloaded model's logits differ by {apart:.3g} from those that were saved",
            rule=f"at most {tolerance:g} in {loaded}",
            fix="compare the package versions in stage.json with those installed",
        )
    return apart
