"""Training the added rows alone, at the cost of those rows: ``embeddings: new_rows``.

The matrix W (rows, width) stays frozen; a parameter R (added, width) holds the rows that train. Where dtypes allow,
R *is* the slice of W: the optimizer's update in place changes W too, so forward passes, merges and saves see the
trained rows with nothing copied or concatenated. Where W is 16-bit, R is float32 beside it and W's slice is
refreshed from it, as in mixed-precision training.

What is saved against training the matrix: its gradient (rows x width), Adam's two moments of it, and a third of the
head's work. Against PEFT's ``trainable_token_indices``: a copy of the matrix in each forward pass, and the gradient
of all of it in each backward pass. ``scripts/bench_rows.py`` measures all three side by side.

The loss of training is computed by `chunked_loss`, which knows such rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from fastvocab.errors import ModelError
from fastvocab.model import chunked_loss


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
    chunked_loss.take_over(causal)

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
        module.register_state_dict_pre_hook(lambda module, *_: module.refresh()),
        module.register_state_dict_post_hook(_without_rows),
    ]

    def undo() -> None:
        module.refresh()
        for hook in hooks:
            hook.remove()
        del module.new_rows, module.new_ids
        module.__class__ = before
        module.weight.requires_grad_(trained)

    return undo


def _without_rows(module: Any, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    state.pop(f"{prefix}new_rows", None)


class _Rows:
    """A matrix whose added rows alone train: ``weight`` (rows, width), ``new_rows`` (added, width)."""

    weight: Any
    new_rows: Any
    new_ids: Any

    def refresh(self) -> None:
        """Put the rows into the matrix, where they are not its slice."""
        target = self.weight.data[self.new_ids.start : self.new_ids.stop]
        if target.data_ptr() != self.new_rows.data_ptr():
            target.copy_(self.new_rows.data)


class _RowsEmbedding(_Rows, torch.nn.Embedding):
    """Looks up in the whole matrix; the gradient reaches the added rows alone."""

    def forward(self, input: Any) -> Any:
        self.refresh()
        return _Lookup.apply(self.new_rows, self.weight, input, self.new_ids.start, self.padding_idx)


class _RowsLinear(_Rows, torch.nn.Linear):
    """Multiplies with the whole matrix; the gradient reaches the input and the added rows."""

    def forward(self, input: Any) -> Any:
        self.refresh()
        out = _Project.apply(
            chunked_loss.lower(input), self.new_rows, chunked_loss.lower(self.weight), self.new_ids.start
        )
        return out if self.bias is None else out + self.bias


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
