"""How much memory a training takes, by part, and what to change where that is too much.

On a CPU reckoned from what is kept: float32 weights, their bfloat16 copies for the products
(`fastvocab.train.cpu_kernels`), gradients, Adam's moments, what each layer saves for its backward pass, logits.
``scripts/bench_memory.py`` compares it with measured peaks. On a GPU the same arithmetic with the sizes of unsloth's
GPU classes; nobody has measured that yet, and the plan says so. Constants of modules that import torch are written
here a second time; a test holds them together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fastvocab.config import Config
from fastvocab.config.models import InstructSection, PretrainSection, TrainSection
from fastvocab.plan.device import Device
from fastvocab.plan.sizes import Sizes
from fastvocab.train.budget import batch_size, recomputes

#: A process with torch, unsloth and what earlier stages leave in it. CPU, measured: 0.95 GB after the import of
#: unsloth, 1.25 to 1.35 GB in a recipe before its training. GPU: CUDA's context and libraries, as commonly seen.
_LIBRARIES = {"cpu": 1_300_000_000, "gpu": 800_000_000}
#: What allocators take beside what is asked for, of activations: 1.20 and 1.24 at 1,024 and 2,048 tokens (SmolLM2).
_SLACK = 1.22
#: Logits that an evaluation on the way holds, and bytes of each: 16-bit, float32 twice (`fastvocab.model.nats`).
_EVALUATED, _EVALUATED_BYTES = 2**24, 10
#: Elements of a chunk of logits in training (`fastvocab.model.chunked_loss.CHUNK`).
_CHUNK = 128 * 1024 * 1024
#: Bytes of one layer's attention weights up to which they are kept (`fastvocab.train.cpu_kernels`).
_SCORES = 20 * 2**20
#: bitsandbytes' NF4 with doubly quantized scales: 4 bits, and 0.127 for blocks of 64.
_NF4 = 4.127 / 8
#: Free memory that is left alone: where a plan takes more than this share, it is called tight.
TIGHT = 0.9
#: A plan is refused where the estimate, less what it may be wrong by, is more than there is.
WRONG = 0.85


@dataclass(frozen=True)
class Training:
    """What decides the memory of one stage's training.

    Attributes:
        mode: ``pretrain.embeddings``.
        tokens: of one forward pass; ``length`` of one of its rows.
        checkpointing: activations are computed again in the backward pass.
        shared, evaluated: whether added rows share parts, whether there are evaluations on the way.
    """

    mode: str
    tokens: int
    length: int
    checkpointing: bool
    four_bit: bool
    shared: bool
    evaluated: bool

    @classmethod
    def of(cls, section: TrainSection, device: Device, *, four_bit: bool) -> Training:
        """That of a section of the configuration on a device."""
        kind = "cpu" if device.kind == "cpu" else "cuda"
        shared, evaluated = False, section.evaluations > 0
        if isinstance(section, PretrainSection):
            length, shared = section.block, section.shared_subwords
        else:
            assert isinstance(section, InstructSection), "two stages train"
            length = section.max_length
        rows = batch_size(section, kind)
        return cls(
            section.embeddings, rows * length, length, recomputes(section, kind), four_bit, shared, evaluated
        )


def parts(sizes: Sizes, training: Training, device: Device) -> dict[str, int]:
    """Bytes by part at the peak: libraries, weights, rows, lora, gradients, optimizer, activations, logits."""
    rows = sizes.rows_trained(training.mode)
    trained = sizes.lora + rows
    shared = sizes.shared() if training.shared and training.mode != "frozen" else 0
    on_gpu = device.kind == "gpu"
    matrix = sizes.rows * sizes.base.width
    # a byte for each moment in 8-bit Adam, but for added rows and what they share (`fastvocab.train.optimizer`)
    exact = (min(rows, sizes.new_parameters) + shared) if on_gpu else trained + shared
    moments = 8 * exact + 2 * (trained + shared - exact)
    found = {"libraries": _LIBRARIES[device.kind], "weights": _weights(sizes, training, device)}
    if training.mode == "full" and sizes.own_layers:
        found["rows"] = 2 * matrix  # the matrices themselves train
    elif training.mode == "full":
        # PEFT's copies, in float32, and the head in 16 bits while it multiplies
        found["rows"] = 4 * rows + 2 * matrix
    elif on_gpu:
        found["rows"] = 4 * (rows + shared)
    else:  # on a CPU the rows that train are the matrix's own; the head's 16-bit copy is kept
        found["rows"] = 4 * shared + (2 * matrix if device.bfloat16 else 0)
    found["lora"] = 0 if sizes.own_layers else 4 * sizes.lora
    # of a whole matrix there are three on the way: by the head, scaled, and by the input
    found["gradients"] = 4 * (trained + shared) + (
        8 * rows // sizes.base.matrices if training.mode == "full" else 0
    )
    found["optimizer"] = moments
    activations, logits = _activations(sizes, training, device), _logits(sizes, training)
    evaluation = _EVALUATED * _EVALUATED_BYTES if training.evaluated else 0
    found["activations"] = activations
    found["logits"] = max(logits, evaluation - activations)
    return found


def _weights(sizes: Sizes, training: Training, device: Device) -> int:
    base, matrices = sizes.base, sizes.embeddings
    if device.kind == "cpu":
        return 4 * (base.body + matrices) + (2 * sizes.targeted if device.bfloat16 else 0)
    if training.four_bit:
        linear = base.linear_parameters
        return int(_NF4 * linear) + 2 * (base.body - linear + matrices)
    if sizes.own_layers:
        return 4 * base.body + (4 if training.mode == "full" else 2) * matrices
    return 2 * (base.body + matrices)


def _activations(sizes: Sizes, training: Training, device: Device) -> int:
    """What layers keep for the backward pass: all of it, or one layer's and each layer's input."""
    base = sizes.base
    query, value = base.heads * base.head, base.groups * base.head
    low, whole = (2, 4) if device.bfloat16 or device.kind == "gpu" else (4, 4)
    hidden = whole if device.kind == "cpu" else low
    # inputs of two normalisations, their outputs, q k v, attention's output, gate, up, act(gate) and their product
    each = 2 * hidden * base.width + low * (2 * base.width + 2 * query + 2 * value + 4 * base.intermediate)
    if device.kind == "cpu" and device.bfloat16:
        scores = low * base.heads * training.length
        # `cpu_kernels` keeps the weights of attention for short blocks
        each += scores if scores * training.tokens <= _SCORES else 0
    elif device.kind == "cpu":
        each += 4 * (base.width * 2 + base.intermediate)  # normalised values and products of stock modules
    layers = base.layers
    if not training.checkpointing:
        return int(_SLACK * training.tokens * each * layers)
    kept = hidden * base.width * layers
    if device.kind == "gpu":
        kept //= 8  # unsloth moves them to the machine's own memory and back
    # the layer that is computed again, with its gradients
    return int(_SLACK * training.tokens * (kept + 2 * each))


def _logits(sizes: Sizes, training: Training) -> int:
    chunk = min(training.tokens * sizes.rows, _CHUNK)
    return 2 * chunk + 4 * min(chunk, 4 * 1024 * 1024) + 4 * training.tokens * sizes.base.width


def total(found: dict[str, int]) -> int:
    """Bytes of all parts."""
    return sum(found.values())


def fits(found: dict[str, int], device: Device) -> str:
    """``yes``, ``tight`` or ``no``; no only where the estimate's error (`WRONG`) does not explain it."""
    share = total(found) / max(1, device.memory)
    return "yes" if share <= TIGHT else "tight" if share * WRONG <= 1 else "no"


#: What makes a training smaller, what costs least first. Each takes a configuration and gives the keys to set.
def _ladder(config: Config, device: Device, stage: str) -> list[dict[str, Any]]:
    section: TrainSection = getattr(config, stage)
    kind = "cpu" if device.kind == "cpu" else "cuda"
    batch = batch_size(section, kind)
    steps: list[dict[str, Any]] = []
    if batch > 1:
        steps.append({f"{stage}.batch": 1, f"{stage}.accumulate": section.accumulate * batch})
    if not recomputes(section, kind):
        steps.append({f"{stage}.gradient_checkpointing": True})
    if section.embeddings == "full":
        steps.append({f"{stage}.embeddings": "new_rows"})
    if isinstance(section, PretrainSection) and section.shared_subwords:
        steps.append({f"{stage}.shared_subwords": False})
    if device.kind == "gpu" and not config.model.load_in_4bit and section.layers == "lora":
        steps.append({"model.load_in_4bit": True})
    key = "block" if isinstance(section, PretrainSection) else "max_length"
    if getattr(section, key) > 256:
        steps.append({f"{stage}.{key}": 256})
    if config.pretrain.lora.r > 8 and section.layers == "lora":
        steps.append({"pretrain.lora.r": 8})
    return steps


def smaller(config: Config, sizes: Sizes, device: Device, stage: str) -> dict[str, Any] | None:
    """Settings with which a stage's training fits a device, as few as will do; None where none of them help."""

    def taken(chosen: list[dict[str, Any]]) -> dict[str, int]:
        changed = with_keys(config, merged(chosen))
        rank = changed.pretrain.lora.r / config.pretrain.lora.r
        own = sizes if sizes.own_layers else replace(sizes, lora=int(sizes.lora * rank))
        training = Training.of(getattr(changed, stage), device, four_bit=changed.model.load_in_4bit)
        return parts(own, training, device)

    ladder = _ladder(config, device, stage)
    for count in range(1, len(ladder) + 1):
        chosen = ladder[:count]
        if total(taken(chosen)) > TIGHT * device.memory:
            continue
        for step in ladder[: count - 1]:  # what the last one made unnecessary
            fewer = [other for other in chosen if other is not step]
            if total(taken(fewer)) <= TIGHT * device.memory:
                chosen = fewer
        return _largest_batch(config, stage, device, merged(chosen), taken)
    return None


def _largest_batch(
    config: Config, stage: str, device: Device, keys: dict[str, Any], taken: Callable[..., dict[str, int]]
) -> dict[str, Any]:
    """``keys`` with as many sequences in a pass as fit, where these keys have one: fewer passes are faster."""
    section: TrainSection = getattr(config, stage)
    if f"{stage}.batch" not in keys:
        return keys
    batch = batch_size(section, "cpu" if device.kind == "cpu" else "cuda")
    for size in range(batch // 2, 0, -1):
        if batch % size == 0:
            own = {f"{stage}.batch": size, f"{stage}.accumulate": section.accumulate * batch // size}
            if total(taken([keys | own])) <= TIGHT * device.memory:
                return keys | own
    return keys


def merged(chosen: list[dict[str, Any]]) -> dict[str, Any]:
    """Settings of several steps as one."""
    return {key: value for step in chosen for key, value in step.items()}


def spelled(keys: dict[str, Any]) -> str:
    """As they are typed on the command line."""
    return " ".join(
        f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in keys.items()
    )


def with_keys(config: Config, keys: dict[str, Any]) -> Config:
    """``config`` with dotted ``keys`` set."""
    for key, value in keys.items():
        path = key.split(".")
        config = _set(config, path, value)
    return config


def _set(section: Any, path: list[str], value: Any) -> Any:
    head, *rest = path
    return section.model_copy(update={head: _set(getattr(section, head), rest, value) if rest else value})


def stages(config: Config) -> list[str]:
    """Stages that train, the first one that the modes are compared for."""
    if config.recipe != "new_language":
        return ["instruct" if config.recipe == "special_tokens" else "pretrain"]
    return ["pretrain", *(["instruct"] if config.instruct.train else [])]


def of_stage(config: Config, sizes: Sizes, device: Device, stage: str) -> dict[str, int]:
    """`parts` of a stage as it is configured."""
    section: PretrainSection | InstructSection = getattr(config, stage)
    return parts(sizes, Training.of(section, device, four_bit=config.model.load_in_4bit), device)
