"""The shapes of a model's weights, from its config.json and, where they are there, the headers of its weights.

No torch: what a plan needs, before any weight is loaded. Of the families in `FAMILIES` the counts are exact, checked
against transformers' own models (``tests/test_architecture.py``). Of others the headers of the safetensors files give
exact counts too; with a config.json alone they are counted as a Llama of these sizes, and `Architecture.known` is
False.
"""

from __future__ import annotations

import ast
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastvocab.errors import ModelError

Shape = tuple[int, ...]
#: Most bytes of a safetensors header (the format's own limit).
_MOST_HEADER = 100_000_000
_CAUSAL = "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"
_FLOATS = {"F32", "F16", "BF16", "F64"}


@dataclass(frozen=True)
class Family:
    """How a model type differs from Llama.

    Attributes:
        tied: whether input and output embeddings are one where config.json does not say.
        head: size of a head where it does not say; None: hidden_size / num_attention_heads.
        groups: whether a missing num_key_value_heads means as many as heads; False: it has to be there.
        bias: which of q, k, v, o have a bias: ``config`` (attention_bias: all four), ``qkv``, or none.
        norms: normalisations of the layer, of hidden_size each.
        head_norms: normalisations of queries and keys: ``head`` (of a head), ``all`` (of all heads together), or none.
        fused: whether q, k, v are one matrix, and gate and up another.
        mlp_bias: whether config.json's mlp_bias gives gate, up and down one.
    """

    tied: bool = False
    head: int | None = None
    groups: bool = False
    bias: str = ""
    norms: int = 2
    head_norms: str = ""
    fused: bool = False
    mlp_bias: bool = False


#: Model types whose shapes are known.
FAMILIES = {
    "llama": Family(groups=True, bias="config", mlp_bias=True),
    "mistral": Family(),
    "qwen2": Family(bias="qkv"),
    "qwen3": Family(head=128, bias="config", head_norms="head"),
    "gemma": Family(tied=True, head=256, bias="config"),
    "gemma2": Family(tied=True, head=256, bias="config", norms=4),
    "gemma3_text": Family(tied=True, head=256, bias="config", norms=4, head_norms="head"),
    "phi3": Family(groups=True, fused=True),
    "olmo2": Family(groups=True, bias="config", head_norms="all"),
    "granite": Family(groups=True, bias="config", mlp_bias=True),
    "smollm3": Family(tied=True, bias="config", mlp_bias=True),
}
_NEEDED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


@cache
def causal_types() -> frozenset[str]:
    """Model types that the installed transformers has a causal language model of; empty where it does not say.

    Read from its source in 0.03 s, because a plan imports neither transformers nor torch.
    """
    spec = find_spec("transformers")
    source = Path(spec.origin).parent / "models/auto/modeling_auto.py" if spec and spec.origin else Path()
    if source.is_file():
        for node in ast.parse(source.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == _CAUSAL:
                assert isinstance(node.value, ast.Call)
                return frozenset(name for name, _ in ast.literal_eval(node.value.args[0]))
    return frozenset()


@dataclass(frozen=True)
class Architecture:
    """A decoder's sizes.

    Attributes:
        model_type: of config.json.
        known: whether the shapes are those of the model type; False: it is counted as a Llama.
        rows, width: of an embedding matrix.
        matrices: 1 where input and output embeddings are one, else 2.
        layers, intermediate, heads, groups, head: of the body; ``groups`` is key-value heads, ``head`` their size.
        linears: (in, out) of each linear module of the body by its name, one entry a layer.
        body: parameters of everything but the embeddings.
        exact: whether ``body`` and ``linears`` are exact: known, or read from the weights.
    """

    model_type: str
    known: bool
    rows: int
    width: int
    matrices: int
    layers: int
    intermediate: int
    heads: int
    groups: int
    head: int
    linears: Mapping[str, tuple[Shape, ...]]
    body: int
    exact: bool = True

    @cached_property
    def embeddings(self) -> int:
        """Parameters of the embedding matrices."""
        return self.rows * self.width * self.matrices

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.body + self.embeddings

    @property
    def linear_parameters(self) -> int:
        """Weights of the body's linear modules, which 4-bit loading quantizes."""
        return sum(a * b for shapes in self.linears.values() for a, b in shapes)

    def lora(self, r: int, targets: tuple[str, ...]) -> int:
        """Parameters of adapters of rank ``r`` on the modules that ``targets`` name."""
        return r * sum(a + b for name in set(targets) for a, b in self.linears.get(name, ()))

    def targeted(self, targets: tuple[str, ...]) -> int:
        """Weights of the modules that have an adapter."""
        return sum(a * b for name in set(targets) for a, b in self.linears.get(name, ()))

    @classmethod
    def read(cls, config: dict[str, Any], weights: Path | None = None) -> Architecture:
        """By config.json, and the headers of the safetensors files in ``weights`` where these are in full precision.

        Raises:
            ModelError: sizes are missing or none; all of them in one error.
        """
        inner = config.get("text_config") or config
        kind = str(inner.get("model_type") or config.get("model_type"))
        family = FAMILIES.get(kind)
        sizes = _sizes(inner, family or Family(groups=True), kind)
        tied = config.get("tie_word_embeddings", inner.get("tie_word_embeddings"))
        tied = (family or Family()).tied if tied is None else bool(tied)
        linears, body = _layout(inner, family or Family(groups=True, bias="config", mlp_bias=True), sizes)
        exact = family is not None
        if weights is not None and (found := tensors(weights)):
            linears, body, exact = *_measured(found), True
        return cls(
            kind, family is not None, sizes["vocab_size"], sizes["hidden_size"], 1 if tied else 2,
            sizes["num_hidden_layers"], sizes["intermediate_size"], sizes["num_attention_heads"],
            sizes["num_key_value_heads"], sizes["head_dim"], linears, body, exact,
        )  # fmt: skip


def _sizes(config: dict[str, Any], family: Family, kind: str) -> dict[str, int]:
    needed = [*_NEEDED, *([] if family.groups else ["num_key_value_heads"])]
    wrong = [f"{key} is missing" for key in needed if config.get(key) is None]
    given = {key: config.get(key) for key in (*_NEEDED, "num_key_value_heads", "head_dim")}
    wrong += [
        f"{key} is {value!r}"
        for key, value in given.items()
        if value is not None and (type(value) is not int or value < 1)
    ]
    if wrong:
        raise ModelError(
            f"config.json of a {kind}: {'; '.join(wrong)}", rule="sizes of a decoder, whole numbers above 0"
        )
    sizes = {key: value for key, value in given.items() if value is not None}
    sizes.setdefault("num_key_value_heads", sizes["num_attention_heads"])
    sizes.setdefault("head_dim", family.head or sizes["hidden_size"] // sizes["num_attention_heads"])
    return sizes


def _layout(
    config: dict[str, Any], family: Family, sizes: dict[str, int]
) -> tuple[dict[str, tuple[Shape, ...]], int]:
    """(linear modules, parameters of the body) by the rules of a family."""
    width, inner, layers = sizes["hidden_size"], sizes["intermediate_size"], sizes["num_hidden_layers"]
    query = sizes["num_attention_heads"] * sizes["head_dim"]
    value = sizes["num_key_value_heads"] * sizes["head_dim"]
    one: dict[str, Shape] = {"o_proj": (query, width), "down_proj": (inner, width)}
    if family.fused:
        one |= {"qkv_proj": (width, query + 2 * value), "gate_up_proj": (width, 2 * inner)}
    else:
        one |= {"q_proj": (width, query), "k_proj": (width, value), "v_proj": (width, value)}
        one |= {"gate_proj": (width, inner), "up_proj": (width, inner)}
    biases = 0
    if family.bias == "qkv" or (family.bias == "config" and config.get("attention_bias")):
        biases += query + 2 * value + (width if family.bias == "config" else 0)
    if family.mlp_bias and config.get("mlp_bias"):
        biases += 2 * inner + width
    norms = family.norms * width
    norms += {"": 0, "head": 2 * sizes["head_dim"], "all": query + value}[family.head_norms]
    body = layers * (sum(a * b for a, b in one.values()) + biases + norms) + width
    return {name: (shape,) * layers for name, shape in one.items()}, body


def _measured(found: dict[str, Shape]) -> tuple[dict[str, tuple[Shape, ...]], int]:
    """The same from the shapes of the tensors themselves."""
    linears: dict[str, list[Shape]] = {}
    body = 0
    for name, shape in found.items():
        *_, owner, kind = ("", *name.split("."))
        if owner in ("embed_tokens", "lm_head"):
            continue
        count = 1
        for size in shape:
            count *= size
        body += count
        if kind == "weight" and len(shape) == 2:
            linears.setdefault(owner, []).append((shape[1], shape[0]))
    return {name: tuple(shapes) for name, shapes in linears.items()}, body


def tensors(folder: Path) -> dict[str, Shape]:
    """Shapes by name, from the headers of the safetensors files in a folder.

    Empty where there are none, or where not all are in full precision: the shapes of a quantized file are no weights'.

    Raises:
        ModelError: a file that is none.
    """
    shapes: dict[str, Shape] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                (size,) = struct.unpack("<Q", file.read(8))
                header: dict[str, Any] = json.loads(file.read(min(size, _MOST_HEADER)))
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            if any(entry["dtype"] not in _FLOATS for entry in entries.values()):
                return {}
            shapes |= {name: tuple(map(int, entry["shape"])) for name, entry in entries.items()}
        except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{path} has no readable safetensors header ({error})", fix="fetch the file again"
            ) from error
    return shapes
