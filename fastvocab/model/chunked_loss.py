"""The loss of training, a chunk of positions at a time, with the gradient of the head taken on the way.

Only there are the gradient of the logits and the head's input at hand together, without logits of (positions, rows)
being kept; and what the head's gradient is wanted of (all rows, the added ones, none) costs no more than that.
"""

from __future__ import annotations

import os
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from fastvocab.model import backend, load
from fastvocab.model.logits import Transform, transform_of

#: Elements of a chunk of logits: 256 MB in 16 bits. Each chunk reads the whole head twice, so small ones cost time.
CHUNK = 128 * 1024 * 1024
#: Elements of them that are in float32 at a time: 16 MB.
SLICE = 4 * 1024 * 1024

#: Models whose logits are exactly head(last hidden state). Others (soft caps, scales, routers) keep their own loss.
_PLAIN = {"llama", "mistral", "qwen2", "qwen3", "gemma", "olmo2", "phi3", "smollm3"}


def lower(tensor: Any) -> Any:
    """Cast as autocast would: inside a `torch.autograd.Function` it casts forward, but not backward."""
    kind = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else tensor


class _CrossEntropy(torch.autograd.Function):
    """Sum of -log p(label) / divisor over positions, all gradients taken on the way, chunk by chunk.

    With ``counted`` targets the value is the same, and the gradient is that of the mixture of label and counts.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Any, rows: Any, weight: Any, labels: Any, first: int, divisor: float, counted: Any
    ) -> Any:
        positions = len(hidden)
        # matrix units work on 16 positions: 255 of them take 0.81 s, 256 take 0.57 s (256,000 x 2304, AMX)
        spare = -positions % 16
        hidden, labels = functional.pad(hidden, (0, 0, 0, spare)), functional.pad(labels, (0, spare))
        # chunks of one size: a last one of a few positions would read the whole head twice, too
        count = max(1, round(len(hidden) * len(weight) / CHUNK))
        size = 16 * max(1, -(-len(hidden) // (16 * count)))
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        to_hidden = torch.empty_like(hidden)
        to_rows = torch.zeros(rows.shape, dtype=torch.float32, device=hidden.device)
        # float32 for a few positions at a time, in memory that stays in the cache: fresh pages cost more than exp
        few = max(1, min(size, SLICE // len(weight))) if hidden.device.type == "cpu" else size
        space = torch.empty((few, len(weight)), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(hidden), size):
            part, target = hidden[start : start + size], labels[start : start + size, None]
            logits, real = functional.linear(part, weight), max(0, min(size, positions - start))
            logits[real:] = 0
            at = start
            for raw, right in zip(logits[:real].split(few), target[:real].split(few)):
                exact = space[: len(raw)].copy_(raw)
                exact -= exact.amax(-1, keepdim=True)
                chosen = exact.gather(-1, right)
                mass = exact.exp_().sum(-1, keepdim=True)
                total += (mass.log() - chosen).sum()
                # the gradient of the logits but for the divisor, in their own place: p - 1 at the label
                exact /= mass
                if counted is None:
                    exact.scatter_add_(-1, right, torch.full_like(chosen, -1.0))
                else:
                    counted.subtract(exact, right, at)
                raw.copy_(exact)
                at += len(raw)
            to_hidden[start : start + size] = logits @ weight
            to_rows += (logits[:, first : first + len(rows)].T @ part).float()
        ctx.save_for_backward(to_hidden[:positions], to_rows)
        ctx.divisor = divisor
        return total / divisor

    @staticmethod
    def backward(ctx: Any, outer: Any) -> Any:
        to_hidden, to_rows = ctx.saved_tensors
        # in float32: a loss scale of 65536 is infinite in float16
        scale = outer / ctx.divisor
        return (to_hidden.float() * scale).to(to_hidden.dtype), to_rows * scale, *(None,) * 5


def loss(
    hidden: Any, head: Any, labels: Any, *, items: Any = None, ignore: int = -100, counted: Any = None
) -> Any:
    """Causal-LM loss, shifted and averaged as transformers' ``ForCausalLMLoss`` does it.

    Args:
        hidden: (batch, length, width), the last hidden states.
        head: the output embedding, without bias; its rows get a gradient after
            `new_rows.open_rows`, or where it trains.
        labels: (batch, length), ``ignore`` where no loss is wanted.
        items: what the sum is divided by; None: the number of labels that count.
        counted: `fastvocab.model.counts.Mixture` of the same positions: the gradient, not the value, is that of its
            targets.
    """
    flat, wanted = hidden[:, :-1].flatten(0, 1), labels[:, 1:].flatten().to(hidden.device)
    keep = wanted != ignore
    if not bool(keep.all()):
        flat, wanted = flat[keep], wanted[keep]
        counted = counted.only(keep.cpu()) if counted is not None else None
    divisor = float(items) if items is not None else float(len(wanted) or "nan")
    weight = load.live(head)
    if hasattr(head, "new_rows"):
        head.refresh()
        rows, first = head.new_rows, head.new_ids.start
    else:
        rows, first = (weight if weight.requires_grad else weight[:0]), 0
    return _CrossEntropy.apply(
        lower(flat), rows, _lowered(head, weight.detach()), wanted, first, divisor, counted
    )


@contextmanager
def kept_lowered(model: Any) -> Iterator[None]:
    """Inside, the head's matrix as autocast has it is kept from step to step, where its added rows alone train.

    The cast reads 4 bytes a weight: 57,152 x 576 take 38 ms of a step of 0.8 s or more, 256,000 x 2304 take 0.7 s.
    """
    head = model.get_output_embeddings()
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    if hasattr(head, "new_rows") and _is_plain(causal):  # others do not come through `loss`
        with backend.autocast():
            head.lowered = lower(head.weight.detach())
    try:
        yield
    finally:
        head.__dict__.pop("lowered", None)


def _lowered(head: Any, weight: Any) -> Any:
    kept = head.__dict__.get("lowered")
    if kept is None:
        return lower(weight)
    kept[head.new_ids.start : head.new_ids.stop] = head.new_rows.detach()
    return kept


def open_loss(model: Any) -> bool:
    """Let a model's forward pass take ``counted`` in training, whatever trains; False where its logits are not plain.

    After `new_rows.open_rows` it does already.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    if plain := _is_plain(causal):
        take_over(causal)
    return plain


def take_over(causal: Any) -> None:
    """Put the forward pass that computes `loss` in place of a model's own; or, where its logits are not plain, one that
    makes logits, so that a head whose rows alone train is not passed by.
    """
    causal.forward = types.MethodType(_forward if _is_plain(causal) else _forward_with_logits, causal)


def _is_plain(causal: Any) -> bool:
    config = causal.config.get_text_config()
    head = causal.get_output_embeddings()
    return config.model_type in _PLAIN and head.bias is None and transform_of(causal) == Transform()


@contextmanager
def _switched_on(name: str) -> Iterator[None]:
    """One of unsloth's switches, for a single forward pass."""
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _forward_with_logits(self: Any, *args: Any, **kwargs: Any) -> Any:
    # unsloth's fused loss reads the head's weight past its forward: the head's rows would get no gradient
    with _switched_on("UNSLOTH_RETURN_LOGITS"):
        return type(self).forward(self, *args, **kwargs)


def _forward(
    self: Any,
    input_ids: Any = None,
    attention_mask: Any = None,
    position_ids: Any = None,
    past_key_values: Any = None,
    inputs_embeds: Any = None,
    labels: Any = None,
    use_cache: Any = None,
    **more: Any,
) -> Any:
    """The model's own forward pass, but for training, where the loss is `loss` and no logits are made."""
    given = {
        "input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids,
        "past_key_values": past_key_values, "inputs_embeds": inputs_embeds, "use_cache": use_cache,
    }  # fmt: skip
    asked = (
        more.get("return_dict") is False or more.get("output_hidden_states") or more.get("output_attentions")
    )
    if labels is None or asked or not (self.training and torch.is_grad_enabled()):
        return _forward_with_logits(self, **given, labels=labels, **more)
    from transformers.modeling_outputs import CausalLMOutputWithPast

    items, ignore = more.pop("num_items_in_batch", None), more.pop("ignore_index", -100)
    counted = more.pop("counted", None)
    head = self.get_output_embeddings()
    if head.weight.device.type == "cpu":
        hidden = self.get_decoder()(**given, **more).last_hidden_state
    else:  # unsloth's GPU forward prepares masks for its kernels; this is its own way to stop before the head
        with _switched_on("UNSLOTH_RETURN_HIDDEN_STATES"):
            hidden = type(self).forward(self, **given, labels=labels, **more).logits
    value = loss(hidden, head, labels, items=items, ignore=ignore, counted=counted)
    return CausalLMOutputWithPast(loss=value)
