"""Forward and backward passes of a transformer layer's parts for training on a CPU under bfloat16 autocast.

What unsloth's kernels are on a GPU, for the CPU backend, which trains transformers' own modules: there the same
activations and weights are cast again for each linear layer, LoRA's products are tensors of the output's size, and
attention's backward pass is slow. SmolLM2-135M, forward and backward pass, two runs of ``scripts/bench_kernels.py``:
1.17 and 1.30 times faster with 256 tokens a step, 1.27 and 1.41 with 512, 1.26 and 1.29 with 1,024; the gradient's
error against float32 is 0.014 to 0.022 of it either way.

- A linear layer with LoRA is one function: frozen weights are cast once, the adapter's product is added in place.
- A normalisation hands its output over in bfloat16, which the linear layers after it would each have cast it to.
- Attention over short blocks multiplies whole score matrices in bfloat16, the heads of a group together.

A part that is not exactly one of these (another class, DoRA, dropout, several adapters) stays as it is.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

#: Normalisations that are x / rms(x) * weight, and in which order they round.
_NORMS = {"LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm"}
#: Bytes of the score matrices of one layer, which all layers keep for the backward pass; longer blocks go through
#: torch's own attention, which keeps none. 32 heads over 512 tokens: 17 MB.
_MOST_SCORES = 20 * 2**20
_NAME = "fastvocab_cpu"


@contextmanager
def installed(model: Any) -> Iterator[dict[str, int]]:
    """Train ``model`` through these functions inside; afterwards it is as it was.

    Where the CPU has no fast bfloat16 products, or the model is elsewhere, nothing changes. The casts of frozen weights
    are 2 bytes a weight; without kernels a step keeps as many for its backward pass.

    Args:
        model: a PEFT model, ready for training.

    Yields:
        how many modules of each kind were taken: ``linear``, ``norm``, ``attention``.
    """
    taken = {"linear": 0, "norm": 0, "attention": 0}
    undo = []
    if _applies(model):
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        width = causal.config.get_text_config().hidden_size
        for module in causal.modules():
            if _is_plain_lora(module):
                weight = module.base_layer.weight.detach().bfloat16()
                module.forward = types.MethodType(_linear(weight), module)
                taken["linear"] += 1
            elif type(module).__name__ in _NORMS and module.weight.shape == (width,):
                module.forward = types.MethodType(_norm, module)
                taken["norm"] += 1
            else:
                continue
            undo.append(module)
        taken["attention"] = _register(causal)
    try:
        yield taken
    finally:
        for module in undo:
            del module.forward
        if taken["attention"]:
            causal.config._attn_implementation = "sdpa"


def _applies(model: Any) -> bool:
    from fastvocab.model import backend

    with backend.autocast():
        lowered = torch.is_autocast_enabled("cpu")
    first = next(model.parameters())
    return bool(lowered and first.device.type == "cpu")


def _is_plain_lora(module: Any) -> bool:
    from peft.tuners.lora import Linear

    if (
        type(module) is not Linear
        or len(module.active_adapters) != 1
        or module.merged
        or module.disable_adapters
    ):
        return False
    (adapter,) = module.active_adapters
    base = module.base_layer
    return (
        type(base) is torch.nn.Linear
        and base.weight.dtype in (torch.float32, torch.bfloat16)
        and not base.weight.requires_grad
        and adapter in module.lora_A
        and adapter not in module.lora_variant
        and isinstance(module.lora_dropout[adapter], torch.nn.Identity)
        and module.lora_A[adapter].bias is None
        and module.lora_B[adapter].bias is None
    )


def _linear(weight: Any) -> Any:
    def forward(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        (adapter,) = self.active_adapters
        if not torch.is_grad_enabled() or self.disable_adapters or self.merged or args or kwargs:
            return type(self).forward(self, x, *args, **kwargs)
        down, up = self.lora_A[adapter].weight, self.lora_B[adapter].weight
        return _Lora.apply(x, weight, self.base_layer.bias, down, up, self.scaling[adapter])

    return forward


class _Lora(torch.autograd.Function):
    """y = x W' + b + s (x A') B', with W (out, in), A (r, in), B (out, r)."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, down: Any, up: Any, scale: float) -> Any:
        shape, x = x.shape, x.reshape(-1, x.shape[-1]).bfloat16()
        small, back = down.bfloat16(), (up * scale).bfloat16()
        out = functional.linear(x, weight)
        inner = functional.linear(x, small)
        out.addmm_(inner, back.T)
        if bias is not None:
            out += bias
        ctx.save_for_backward(x, inner, small, back)
        # not among the saved tensors: it is frozen, and nothing changes it in place
        ctx.weight, ctx.scale, ctx.shape, ctx.bias = weight, scale, shape, bias is not None
        return out.view(*shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        x, inner, small, back = ctx.saved_tensors
        gradient = gradient.reshape(-1, gradient.shape[-1]).bfloat16()
        through = gradient @ back
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (gradient @ ctx.weight).addmm_(through, small).view(ctx.shape)
        to_bias = gradient.sum(0).float() if ctx.bias and ctx.needs_input_grad[2] else None
        return (
            to_x,
            None,
            to_bias,
            (through.T @ x).float(),
            (gradient.T @ inner).float().mul_(ctx.scale),
            None,
        )


def _norm(self: Any, hidden_states: Any) -> Any:
    if not torch.is_grad_enabled() or self.weight.requires_grad or hidden_states.dtype != torch.float32:
        return type(self).forward(self, hidden_states)
    return _Norm.apply(hidden_states, self.weight, self.variance_epsilon)


class _Norm(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * weight: float32 in, bfloat16 out."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, epsilon: float) -> Any:
        scale = x.pow(2).mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight).bfloat16()

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        x, weight, scale = ctx.saved_tensors
        normal = x * scale
        inner = gradient.float().mul_(weight)
        along = (inner * normal).mean(-1, keepdim=True)
        return inner.sub_(normal.mul_(along)).mul_(scale), None, None


def _register(causal: Any) -> int:
    """Send the model's attention through `_attend`; how many layers do so."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if causal.config._attn_implementation != "sdpa":
        return 0
    ALL_ATTENTION_FUNCTIONS.register(_NAME, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    causal.config._attn_implementation = _NAME
    return int(causal.config.get_text_config().num_hidden_layers)


def _attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, dropout: float = 0.0,
    scaling: float | None = None, **kwargs: Any,
) -> tuple[Any, None]:  # fmt: skip
    """Attention as transformers calls it: query (batch, heads, length, size), key and value (batch, groups, ...)."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    batch, heads, length, size = query.shape
    whole = key.shape[2] == length and (attention_mask is None or attention_mask.dtype == torch.bool)
    fits = batch * heads * length * length * 2 <= _MOST_SCORES
    # what else a model asks of its attention (sinks, caps) is not done here; a window is in the mask
    plain = torch.is_grad_enabled() and not dropout and not kwargs.keys() & {"s_aux", "softcap"}
    if not (whole and fits and plain):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    groups = key.shape[1]
    scale = size**-0.5 if scaling is None else scaling
    rows = query.bfloat16().reshape(batch * groups, heads // groups * length, size)
    keys, values = (t.bfloat16().reshape(batch * groups, length, -1) for t in (key, value))
    if attention_mask is None:
        attention_mask = torch.ones(length, length, dtype=torch.bool).tril_()[None, None]
    out = _Attention.apply(rows, keys, values, attention_mask, scale)
    return out.view(batch, heads, length, -1).transpose(1, 2).contiguous(), None


class _Attention(torch.autograd.Function):
    """softmax(Q K' s + mask) V, with Q (batch * groups, heads in a group * length, size)."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any, scale: float) -> Any:
        scores = torch.bmm(query, key.transpose(1, 2)).mul_(scale)
        length = mask.shape[-1]
        # the smallest number, not -inf: a row of padding that may look nowhere shall be finite
        scores.view(len(mask), -1, length, length).masked_fill_(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1)
        ctx.save_for_backward(query, key, value, weights)
        ctx.scale = scale
        return torch.bmm(weights, value)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        query, key, value, weights = ctx.saved_tensors
        gradient = gradient.bfloat16()
        to_value = torch.bmm(weights.transpose(1, 2), gradient)
        to_weights = torch.bmm(gradient, value.transpose(1, 2))
        to_scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype).mul_(ctx.scale)
        return torch.bmm(to_scores, key), torch.bmm(to_scores.transpose(1, 2), query), to_value, None, None
