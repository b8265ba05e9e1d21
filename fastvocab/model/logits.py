"""What a model does to its logits behind the head: nothing in the Llama family, a scale or a soft cap in relatives.

Cohere multiplies them (``logit_scale``), Granite divides them (``logits_scaling``), Gemma 2 bends them into a range,
cap * tanh(logit / cap) (``final_logit_softcapping``).
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Transform(NamedTuple):
    """Logits are ``capped(scale * (hidden @ head.T))``."""

    scale: float = 1.0
    cap: float | None = None

    def capped(self, logits: Any) -> Any:
        """The soft cap, in place where there is one."""
        return logits if self.cap is None else logits.div_(self.cap).tanh_().mul_(self.cap)


def transform_of(model: Any) -> Transform:
    """By the configuration of a causal LM or its PEFT wrapper."""
    config = model.config.get_text_config()
    scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    return Transform(float(scale), getattr(config, "final_logit_softcapping", None) or None)
