"""Unsloth, and how a base model and its LoRA part come out of it: the same calls on CPU and GPU.

Unsloth 2026.10.9 has two classes behind ``FastLanguageModel``: the GPU one and, where no accelerator is
found, stock transformers + PEFT. Only keywords that both know are passed here (tests/gpu/test_contract.py).

What the GPU class does beside loading is kept off what is ours:

- Where no token but the end of text could pad, it adds one and a row, and then refuses the model
  (``unsloth_zoo.pad_token``); where one is found, it becomes the model's. It is given a tokenizer that pads already.
- Where the tokenizer is longer than the matrix, the matrix gets rows. They are taken off again.
- Where memory is tight it moves the input matrix to the host (``offload_embedding``), which a resize undoes.
- Where embeddings train and activations are offloaded, it writes the matrices as pickles into
  ``temporary_location`` joined with the model's path, which for an absolute path is the base model's own folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from fastvocab import console
from fastvocab.doctor import machine
from fastvocab.errors import ModelError, ResourceError
from fastvocab.model import backend
from fastvocab.model.reference import Base
from fastvocab.model.tying import untie

Embeddings = Literal["full", "new_rows", "frozen"]

#: The linear modules of the Llama family (unsloth's own default).
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def base_model(base: Base, *, load_in_4bit: bool, block: int, seed: int) -> tuple[Any, Any]:
    """Load a base model and its tokenizer through ``FastLanguageModel.from_pretrained``.

    Args:
        load_in_4bit: linear layers in NF4, where bitsandbytes runs (on a CPU too, in recent versions); embedding
            matrices stay as they are. `backend.is_quantized` tells whether it came so.
        block: the longest sequence that training will use, in tokens.
        seed: for what the loader draws.

    Returns:
        (model, tokenizer); on CPU the weights are float32, on GPU 16-bit or 4-bit.
    """
    package = backend.unsloth()  # before torch: it looks whether OpenMP's threads may spin
    import torch
    from safetensors import SafetensorError

    from fastvocab.model import text

    longest = (base.config.get("text_config") or base.config).get("max_position_embeddings")
    if isinstance(longest, int):
        block = min(block, longest)  # a longer one would make unsloth stretch the rotary positions
    if backend.device() == "cpu":
        available, _ = machine.memory()
        needed = (
            (3 if load_in_4bit else 4) * sum(f.stat().st_size for f in base.folder.glob("*.safetensors")) // 2
        )
        if needed > available:
            raise ResourceError(
                f"{base.name} needs {needed / 1e9:.1f} GB of memory in float32, {available / 1e9:.1f} GB are free",
                fix="choose a smaller model.base, or a machine with a GPU",
            )
    try:
        own = None if backend.device() == "cpu" else text.tokenizer(base.folder)
        with console.quiet(), _padding(own, base.folder) as tokenizer_folder:
            model, tokenizer = package.FastLanguageModel.from_pretrained(
                model_name=str(base.folder),
                tokenizer_name=tokenizer_folder,
                max_seq_length=block,
                dtype=getattr(torch, backend.dtype_name()),
                load_in_4bit=load_in_4bit,
                trust_remote_code=False,
                offload_embedding=False,
                random_state=seed,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{base.name} could not be loaded: {error}", fix="check the folder's files"
        ) from error
    if load_in_4bit and not backend.is_quantized(model):
        console.warn(
            "model.load_in_4bit: bitsandbytes does not run on this machine; weights are loaded in full"
        )
    for needed_part in ("get_input_embeddings", "get_output_embeddings"):
        if getattr(model, needed_part)() is None:
            raise ModelError(
                f"{base.name} has no {needed_part[4:].replace('_', ' ')}: not a Llama-style model"
            )
    if is_tied(model) and model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        # the file has a head of its own beside a config that says tied; transformers loads it, and so it counts
        untie(model)
    if own is None:
        return model, tokenizer
    rows = (base.config.get("text_config") or base.config)["vocab_size"]
    if len(model.get_input_embeddings().weight) > rows:
        # a row for each token of a tokenizer that is longer than the matrix: those are not the file's
        model.resize_token_embeddings(rows, mean_resizing=False)
    pad = base.config.get("pad_token_id")
    pad = next((i for i in (pad, own.pad_token_id, own.eos_token_id) if i is not None), None)
    for config in (model.config, model.generation_config):
        config.pad_token_id = pad  # not that of the tokenizer that the class was given
    return model, own


def _pads(tokenizer: Any) -> bool:
    """Has it a padding token that is not the end of text, so that unsloth's GPU class leaves it and the model alone?"""
    return tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)


@contextmanager
def _padding(own: Any, folder: Path) -> Iterator[str]:
    """A folder with the tokenizer ``own`` of a base, which pads by some other token where it has none to pad by."""
    if own is None or _pads(own):
        yield str(folder)
        return
    import copy

    given = copy.deepcopy(own)
    given.pad_token = next(token for token, i in own.get_vocab().items() if i != own.eos_token_id)
    with tempfile.TemporaryDirectory(prefix="fastvocab-") as beside:
        given.save_pretrained(beside)
        yield beside


def precision(model: Any) -> str:
    """The lowest of its floating-point weights', such as ``"bfloat16"``: that of the layers, not of what is opened."""
    import torch

    found = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return str(max(found, key=lambda dtype: torch.finfo(dtype).eps)).removeprefix("torch.")


def is_tied(model: Any) -> bool:
    """Do input and output embeddings share one matrix?"""
    return bool(model.config.get_text_config().tie_word_embeddings)


def add_lora(
    model: Any,
    *,
    r: int,
    alpha: int,
    dropout: float,
    targets: tuple[str, ...],
    embeddings: Embeddings,
    new_ids: range,
    block: int,
    seed: int,
    gradient_checkpointing: bool,
) -> Any:
    """Put LoRA on the linear modules and open the embedding matrices (``full``) or the rows ``new_ids`` of them.

    A tied pair stays one matrix: ``embed_tokens`` alone is named and PEFT's ``ensure_weight_tying`` shares it
    with the head (two copies would drift apart, and the head's would be lost at a merge).

    ``add_new_tokens`` leaves a flag on the model by which unsloth's GPU class trains both matrices whether
    asked or not; the flag is taken off here, because what to train is said by ``embeddings``.
    """
    for part in _wrapped(model):
        if hasattr(part, "_need_to_train_embeddings"):
            del part._need_to_train_embeddings
    tied = is_tied(model)
    full: list[str] | None = None
    if embeddings == "full":
        full = ["embed_tokens"] if tied else ["embed_tokens", "lm_head"]
    with console.quiet(), _own_folder(model) as folder:
        model = backend.unsloth().FastLanguageModel.get_peft_model(
            model,
            r=r,
            target_modules=list(targets),
            lora_alpha=alpha,
            lora_dropout=dropout,
            bias="none",
            modules_to_save=full,
            ensure_weight_tying=bool(tied and full),
            use_gradient_checkpointing="unsloth" if gradient_checkpointing else False,
            random_state=seed,
            max_seq_length=block,
            temporary_location=folder,
        )
    if embeddings == "full":
        # PEFT's copies are 16-bit where the base is: 5e-5 of a weight is less than half a unit in bfloat16's last place
        for weight in embedding_weights(model).values():
            weight.data = weight.data.float()
    if embeddings == "new_rows":
        from fastvocab.model import new_rows

        new_rows.open_rows(model, new_ids)
    return model


@contextmanager
def _own_folder(model: Any) -> Iterator[str]:
    """A folder for the pickles of embedding matrices, and meanwhile a path of the model that stays inside it.

    They are mapped into memory, and hold their space until the process ends, under no name any more.
    """
    own = model.config._name_or_path
    # Windows does not remove what is mapped
    with tempfile.TemporaryDirectory(prefix="fastvocab-", ignore_cleanup_errors=True) as folder:
        model.config._name_or_path = "base"
        try:
            yield folder
        finally:
            model.config._name_or_path = own


def _wrapped(model: Any) -> list[Any]:
    parts = [model]
    while hasattr(parts[-1], "model"):
        parts.append(parts[-1].model)
    return parts


def embedding_weights(model: Any) -> dict[str, Any]:
    """The live matrices by part, ``(rows, width)``: trained copies where PEFT made them, one entry if tied."""
    weights = {"embed_tokens": live(model.get_input_embeddings())}
    head = live(model.get_output_embeddings())
    if head is not weights["embed_tokens"]:
        weights["lm_head"] = head
    return weights


def trained_rows(model: Any) -> dict[str, Any]:
    """The rows that train alone (``embeddings: new_rows``), ``(added, width)`` by part; empty in other modes."""
    modules = {"embed_tokens": model.get_input_embeddings(), "lm_head": model.get_output_embeddings()}
    found = {part: module.new_rows for part, module in modules.items() if hasattr(module, "new_rows")}
    if found.get("lm_head") is found.get("embed_tokens"):
        found.pop("lm_head", None)
    return found


def live(module: Any) -> Any:
    """The weight of an embedding or head: the trained copy where PEFT made one."""
    copies = getattr(module, "modules_to_save", None)
    if copies is not None and "default" in copies:
        return copies["default"].weight
    return module.weight
