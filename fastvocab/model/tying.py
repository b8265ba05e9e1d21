"""Taking a tied pair of embedding matrices apart."""

from __future__ import annotations

from typing import Any


def untie(model: Any) -> None:
    """Give the head of a tied model a matrix of its own, equal to the input embedding, in place.

    For models whose two halves were trained as separate copies on top of a tied base (PEFT's ``modules_to_save``
    without ``ensure_weight_tying``): no single matrix gives their logits.
    """
    import torch

    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=head.weight.requires_grad)
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False  # or the next tie_weights() would undo it
