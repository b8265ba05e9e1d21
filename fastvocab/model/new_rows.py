"""Training the added rows alone, at the cost of those rows: ``embeddings: new_rows``.

The matrix W (rows, width) stays frozen; a parameter R (added, width) holds the rows that train. Where dtypes allow,
R *is* the slice of W: the optimizer's update in place changes W too, so forward passes, merges and saves see the
trained rows with nothing copied or concatenated. Where W is 16-bit, R is float32 beside it and W's slice is
refreshed from it, as in mixed-precision training.

What is saved against training the matrix: its gradient (rows x width), Adam's two moments of it, and a third of the
head's work. Against PEFT's ``trainable_token_indices``: a copy of the matrix in each forward pass, and the gradient
of all of it in each backward pass. ``scripts/bench_rows.py`` measures all three side by side.

The loss of training is computed here too (`_CrossEntropy`), a chunk of positions at a time: only there are the
gradient of the logits and the head's input at hand together, without logits of (positions, rows) being kept.
"""

from __future__ import annotations

import os
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from fastvocab.errors import ModelError
from fastvocab.model import load
from fastvocab.model.logits import Transform, transform_of

#: Elements of a chunk of logits: 256 MB in 16 bits. Each chunk reads the whole head twice, so small ones cost time.
CHUNK = 128 * 1024 * 1024
#: Elements of them that are in float32 at a time: 16 MB.
SLICE = 4 * 1024 * 1024

#: Models whose logits are exactly head(last hidden state). Others (soft caps, scales, routers) keep their own loss.
_PLAIN = {"llama", "mistral", "qwen2", "qwen3", "gemma", "olmo2", "phi3", "smollm3"}


def open_rows(model: Any, new_ids: range) -> Callable[[], None]:
    """Make the rows ``new_ids`` of a model's embedding matrices the only ones of them that train, in place.

    Call it after LoRA was put on (PEFT freezes what it finds). `load.trained_rows` then has the new parameters.

    Args:
        model: a causal language model or its PEFT wrapper, matrices frozen.
        new_ids: ids of the added tokens; the same rows of both matrices where these are two.

    Returns:
        what takes it back: the modules are as they were, what the rows learnt stays in the matrices.

    Raises:
        ModelError: no row to train, or the matrices are not ones that this can be done to.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not len(new_ids):
        raise ModelError(
            "embeddings: new_rows, but the checkpoint has no added tokens",
            fix="choose embeddings=full or embeddings=frozen",
        )
    for module, kind in ((embedding, torch.nn.Embedding), (head, torch.nn.Linear)):
        if not isinstance(module, kind) or not module.weight.is_floating_point():
            raise ModelError(
                f"embeddings: new_rows does not know {type(module).__name__} with weights of "
                f"{str(module.weight.dtype).removeprefix('torch.')}",
                rule="input and output embeddings must be 16-bit or 32-bit Embedding and Linear layers",
                fix="choose embeddings=full or embeddings=frozen",
            )
    rows = _parameter(embedding.weight, new_ids)
    tied = head.weight is embedding.weight
    closing = [
        _install(embedding, _RowsEmbedding, rows, new_ids),
        _install(head, _RowsLinear, rows if tied else _parameter(head.weight, new_ids), new_ids),
    ]
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    own = causal.__dict__.get("forward")
    causal.forward = types.MethodType(_forward if _is_plain(causal) else _forward_with_logits, causal)

    def close() -> None:
        for undo in reversed(closing):  # of a tied matrix the first one knows whether it trained
            undo()
        if own is None:
            del causal.forward
        else:
            causal.forward = own

    return close


def _parameter(weight: Any, new_ids: range) -> Any:
    slice_ = weight.data[new_ids.start : new_ids.stop]
    # 16-bit rows would lose updates: 1e-5 of a weight is less than half a unit in bfloat16's last place
    return torch.nn.Parameter(slice_ if weight.dtype == torch.float32 else slice_.float())


def _install(module: Any, kind: type, rows: Any, new_ids: range) -> Callable[[], None]:
    before, trained = type(module), module.weight.requires_grad
    # below the module's own class: a subclass that scales its output (Gemma 3) keeps doing so
    bases = (kind,) if type(module) in (torch.nn.Embedding, torch.nn.Linear) else (type(module), kind)
    module.__class__ = type(f"NewRows{type(module).__name__}", bases, {})
    module.weight.requires_grad_(False)
    module.new_rows, module.new_ids = rows, new_ids
    # the matrix has them: whoever saves or copies the model's state finds the names that it had before
    hooks = [
        module.register_state_dict_pre_hook(lambda module, *_: _refresh(module)),
        module.register_state_dict_post_hook(_without_rows),
    ]

    def undo() -> None:
        _refresh(module)
        for hook in hooks:
            hook.remove()
        del module.new_rows, module.new_ids
        module.__class__ = before
        module.weight.requires_grad_(trained)

    return undo


def _without_rows(module: Any, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    state.pop(f"{prefix}new_rows", None)


def _refresh(module: Any) -> None:
    target = module.weight.data[module.new_ids.start : module.new_ids.stop]
    if target.data_ptr() != module.new_rows.data_ptr():
        target.copy_(module.new_rows.data)


class _RowsEmbedding(torch.nn.Embedding):
    """Looks up in the whole matrix; the gradient reaches the added rows alone."""

    new_rows: Any
    new_ids: Any

    def forward(self, input: Any) -> Any:
        _refresh(self)
        return _Lookup.apply(self.new_rows, self.weight, input, self.new_ids.start, self.padding_idx)


class _RowsLinear(torch.nn.Linear):
    """Multiplies with the whole matrix; the gradient reaches the input and the added rows."""

    new_rows: Any
    new_ids: Any

    def forward(self, input: Any) -> Any:
        _refresh(self)
        out = _Project.apply(_lower(input), self.new_rows, _lower(self.weight), self.new_ids.start)
        return out if self.bias is None else out + self.bias


def _lower(tensor: Any) -> Any:
    """Cast as autocast would: inside a `torch.autograd.Function` it casts forward, but not backward."""
    kind = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else tensor


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Any, weight: Any, ids: Any, first: int, padding: int | None) -> Any:
        ctx.save_for_backward(ids)
        ctx.shape, ctx.first, ctx.padding = rows.shape, first, padding
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        (ids,) = ctx.saved_tensors
        return _scatter(gradient, ids, ctx.shape, ctx.first, ctx.padding), None, None, None, None


def _scatter(gradient: Any, ids: Any, shape: Any, first: int, padding: int | None) -> Any:
    """Sum of ``gradient`` (..., width) over the places of each added token: (added, width) float32."""
    new = (ids >= first) & (ids < first + shape[0])
    if padding is not None:
        new &= ids != padding  # as torch's own embedding does
    out = torch.zeros(shape, dtype=torch.float32, device=gradient.device)
    return out.index_add_(0, ids[new] - first, gradient[new].float())


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Any, rows: Any, weight: Any, first: int) -> Any:
        ctx.save_for_backward(hidden)
        # not among the saved tensors: the matrix is frozen, and its version would only stand in the way
        ctx.weight, ctx.first, ctx.count = weight, first, len(rows)
        return functional.linear(hidden, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        (hidden,) = ctx.saved_tensors
        mine = gradient[..., ctx.first : ctx.first + ctx.count].flatten(0, -2)
        return gradient @ ctx.weight, (mine.T @ hidden.flatten(0, -2)).float(), None, None


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
        head: the output embedding, without bias; its rows get a gradient after `open_rows`, or where it trains.
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
        _refresh(head)
        rows, first = head.new_rows, head.new_ids.start
    else:
        rows, first = (weight if weight.requires_grad else weight[:0]), 0
    return _CrossEntropy.apply(
        _lower(flat), rows, _lowered(head, weight.detach()), wanted, first, divisor, counted
    )


@contextmanager
def kept_lowered(model: Any) -> Iterator[None]:
    """Inside, the head's matrix as autocast has it is kept from step to step, where its added rows alone train.

    The cast reads 4 bytes a weight: 57,152 x 576 take 38 ms of a step of 0.8 s or more, 256,000 x 2304 take 0.7 s.
    """
    head = model.get_output_embeddings()
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    if hasattr(head, "new_rows") and _is_plain(causal):  # others do not come through `loss`
        with load.autocast():
            head.lowered = _lower(head.weight.detach())
    try:
        yield
    finally:
        head.__dict__.pop("lowered", None)


def _lowered(head: Any, weight: Any) -> Any:
    kept = head.__dict__.get("lowered")
    if kept is None:
        return _lower(weight)
    kept[head.new_ids.start : head.new_ids.stop] = head.new_rows.detach()
    return kept


def open_loss(model: Any) -> bool:
    """Let a model's forward pass take ``counted`` in training, whatever trains; False where its logits are not plain.

    After `open_rows` it does already.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    if _is_plain(causal):
        causal.forward = types.MethodType(_forward, causal)
        return True
    return False


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
