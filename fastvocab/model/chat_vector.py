"""A chat model's skills without data: what sets it apart from its base is added to a checkpoint of ours.

Huang et al., "Chat Vector" (2023, https://arxiv.org/abs/2310.04799): weights + (chat - base). A checkpoint of ours is a
base, changed rows and an adapter, so that

    (base + adapter) + (chat - base)  =  chat + adapter

is the same checkpoint on another base: the layers are exact, nothing of them is computed or written. Rows that the
checkpoint changed get the difference of their matrix's rows; added rows have none, and stay as they are.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from fastvocab.architecture import Architecture
from fastvocab.errors import ModelError
from fastvocab.model import adapter, backend, checkpoint, load, manifest, probe, reference, rows, text
from fastvocab.model.reference import Base

KEY = "instruct.chat_vector"
_RULE = "it has to be tuned from the base model, with the same tokens"
_FIX = f"{KEY}=DIR of a chat model that was made from this very base; or tune on conversations: instruct.train=FILE"
#: Settings of a configuration in which both models must agree, or an adapter means something else on the other. Not
#: rms_norm_eps: 1e-5 or 1e-6 makes no other model.
_ALIKE = (
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "rope_parameters", "attention_bias", "mlp_bias",
    "sliding_window", "tie_word_embeddings",
)  # fmt: skip
#: Weights of two unrelated models differ by the root of two of their own size, those of a model and its tuned
#: descendant by a few hundredths.
_UNRELATED = 0.9
#: Rows of each matrix that are compared, and embedding rows that are computed at a time.
_COMPARED, _AT_A_TIME = 32, 8192


def check(base: Base, chat: Base, lineage: list[dict[str, Any]] | None = None) -> None:
    """Can ``chat`` be a descendant of ``base``, by their sizes? Nothing is loaded.

    Args:
        base: of the run; where that is a checkpoint, the model that it stands on is meant.
        lineage: of the checkpoint, if ``base`` is what it stands on.

    Raises:
        ModelError: with all that speaks against it.
    """
    if base.checkpoint is not None:
        facts = manifest.read(base.checkpoint)
        check(reference.recorded(facts["base"]), chat, facts["lineage"])
        return
    if chat.checkpoint is not None:
        raise ModelError(
            f"{KEY}: {chat.checkpoint} is a checkpoint of an extended model", rule=_RULE, fix=_FIX
        )
    if chat.fingerprint == base.fingerprint:
        raise ModelError(f"{KEY}: {chat.name} is the base model itself", rule=_RULE, fix=_FIX)
    if any(entry.get("base") == chat.fingerprint for entry in lineage or ()):
        raise ModelError(
            f"{KEY}: {chat.name} is the base that the checkpoint stood on before another chat model was added",
            rule="it would be taken away again",
            fix=_FIX,
        )
    # not the rows: either may be padded
    shapes = [{name: getattr(Architecture.read(one.config), name) for name in _SIZES} for one in (base, chat)]
    _refuse(chat, [f"{name} is {shapes[1][name]}, the base's {shapes[0][name]}"
                   for name in _SIZES if shapes[0][name] != shapes[1][name]])  # fmt: skip


_SIZES = ("model_type", "width", "matrices", "layers", "intermediate", "heads", "groups", "head")


def add(
    folder: Path, *, previous: Path, chat: Base, template: str | None = None, seed: int
) -> dict[str, Any]:
    """Write the checkpoint ``previous`` with the skills of ``chat`` into ``folder``.

    Args:
        chat: a plain model, tuned from the base of ``previous``.
        template: the chat template, where it is not to be that of ``chat``.

    Returns:
        ``{"chat_vector", "difference", "moved_rows", "device"}``: the record of ``chat``; the size of the difference,
        as a share of the weights (None where they cannot be read, as in quantized files); and by part how many changed
        rows got theirs.

    Raises:
        ModelError: ``chat`` is no descendant of the base, or its tokens are not the checkpoint's.
    """
    facts = manifest.read(previous)
    if facts.get("layers"):
        raise ModelError(
            f"{KEY}: the layers of {previous} have weights of their own",
            rule="the difference is added under an adapter; these weights would hide it",
            fix="train with layers: lora, or tune on conversations (instruct.train)",
        )
    base = reference.recorded(facts["base"])
    check(base, chat, facts["lineage"])
    difference = _difference(base.folder, chat.folder)
    wrong = _unlike(base, chat)
    if difference is not None and not difference < _UNRELATED:
        wrong.append(f"its weights differ from the base's by {difference:.0%} of their size")
    _refuse(chat, wrong)
    tokenizer = _tokenizer(previous, chat, template, first=min(e["first"] for e in facts["extensions"]))
    text.save_tokenizer(tokenizer, folder)
    if facts["lora"]:
        adapter.copy(previous, folder, chat)
    moved, kept = _move_rows(previous, folder, facts, base.folder, chat.folder)
    base_rows = (chat.config.get("text_config") or chat.config)["vocab_size"]
    count = max(facts["vocabulary"]["rows"], base_rows)
    unused = text.ranges(text.unused_ids(tokenizer, count))
    parent = {"stage": facts["stage"], "checkpoint": checkpoint.digest(previous), "base": base.fingerprint}
    fields = {name: facts[name] for name in ("extensions", "tied", "init", "lora", "embeddings")} | {
        "stage": "instruct",
        "base": chat.record(),
        "vocabulary": facts["vocabulary"] | {"base_rows": base_rows, "rows": count, "unused": unused},
        "rows": kept,
        "lineage": [*facts["lineage"], parent],
    }
    model, _ = checkpoint.rebuild(folder, fields, chat, load_in_4bit=facts["load_in_4bit"], seed=seed)
    fields |= {"dtype": load.precision(model), "load_in_4bit": backend.is_quantized(model)}
    fields["probe"] = probe.take(model, probe.ids(tokenizer, manifest.new_ids(facts), count))
    manifest.write(folder, fields)
    return {
        "chat_vector": chat.record(),
        "difference": difference,
        "moved_rows": moved,
        "device": backend.device(),
    }


def _refuse(chat: Base, wrong: list[str]) -> None:
    if wrong:
        shown = "; ".join(wrong[:6]) + (f"; and {len(wrong) - 6} more" if len(wrong) > 6 else "")
        raise ModelError(f"{KEY}: {chat.name}: {shown}", rule=_RULE, fix=_FIX)


def _unlike(base: Base, chat: Base) -> list[str]:
    """In what of `_ALIKE` they differ, as transformers reads their configurations."""
    from transformers import AutoConfig

    ours, theirs = (
        AutoConfig.from_pretrained(one.folder, trust_remote_code=False).get_text_config().to_dict()
        for one in (base, chat)
    )
    return [
        f"{key} is {theirs.get(key)}, the base's {ours.get(key)}"
        for key in _ALIKE
        if theirs.get(key) != ours.get(key)
    ]


def _difference(base: Path, chat: Path) -> float | None:
    """|chat - base| / |base| over the first rows of each matrix of the layers; None where there are none to read."""
    from safetensors import safe_open

    ours, theirs = rows.index(base), rows.index(chat)
    apart = size = 0.0
    for name in ours.keys() & theirs.keys():
        with safe_open(ours[name], "pt") as one, safe_open(theirs[name], "pt") as other:
            parts = one.get_slice(name), other.get_slice(name)
            if len(parts[0].get_shape()) != 2 or name.endswith(("embed_tokens.weight", "lm_head.weight")):
                continue
            a, b = (part[:_COMPARED] for part in parts)
            if a.shape == b.shape and a.is_floating_point() and b.is_floating_point():
                a, b = a.double(), b.double()
                apart, size = apart + float((b - a).square().sum()), size + float(a.square().sum())
    return math.sqrt(apart / size) if size else None


def check_tokens(chat: Base, own: dict[str, int], theirs: dict[str, int], *, first: int | None) -> None:
    """Are all tokens of ``chat`` the base's, by their ids?

    Args:
        own: tokens of what the difference is to be added to, with their ids.
        theirs: those of ``chat``.
        first: of the added tokens in ``own``; None where there are none yet.

    Raises:
        ModelError: with those that are not.
    """
    entries = sorted(theirs.items(), key=lambda item: item[1])
    wrong = [
        f"its token {token!r} has id {i}, which is {'another' if token in own else 'no'} token here"
        for token, i in entries
        if own.get(token) != i
    ]
    if first is not None and not wrong:
        wrong = [f"its token {token!r} is one that was added here" for token, i in entries if i >= first]
    _refuse(chat, wrong)


def _tokenizer(previous: Path, chat: Base, template: str | None, *, first: int) -> Any:
    """The checkpoint's tokenizer with the marks and the template of a conversation that ``chat`` was tuned on.

    Args:
        first: of the added tokens. A chat model that has them is this checkpoint's relative, not the base's.
    """
    own, theirs = text.tokenizer(previous), text.tokenizer(chat.folder)
    count = len(own)
    check_tokens(chat, own.get_vocab(), theirs.get_vocab(), first=first)
    if not (given := template or theirs.chat_template):
        raise ModelError(
            f"{KEY}: {chat.name} has no chat template",
            fix="give the one it was tuned with: instruct.template=FILE",
        )
    # marks that are an ordinary piece of text to the base, as <|im_start|> is to some
    for i, mark in theirs.added_tokens_decoder.items():
        if own(mark.content, add_special_tokens=False)["input_ids"] != [i]:
            own.add_tokens([mark], special_tokens=mark.special)
    own.chat_template = given
    for name in ("eos_token", "pad_token"):
        if (token := getattr(theirs, name)) is not None:
            setattr(own, name, token)
    assert len(own) == count, "all of its tokens were there"
    return own


def _move_rows(
    previous: Path, folder: Path, facts: dict[str, Any], base: Path, chat: Path
) -> tuple[dict[str, int], dict[str, int]]:
    """Write the rows that are not those of ``chat``; returns how many moved, and how many there are, by part."""
    import torch
    from safetensors.torch import load_file, save_file

    added = range(min(e["first"] for e in facts["extensions"]), facts["vocabulary"]["new_stop"])
    saved, out = load_file(previous / manifest.ROWS), {}
    moved: dict[str, int] = {}
    for part in facts["rows"]:
        index, values = saved[f"{part}.index"], saved[f"{part}.rows"]
        ours, theirs = _matrix(base, part), _matrix(chat, part)
        # where chat's matrix is the shorter one, rows of the base's that the checkpoint did not write as they were
        missing = torch.arange(len(ours))[len(theirs) :]
        missing = missing[~torch.isin(missing, index)]
        index, order = torch.cat([index, missing]).sort()
        values = torch.cat([values, ours[missing].to(values.dtype)])[order]
        mine = (index < min(len(ours), len(theirs))) & ~((index >= added.start) & (index < added.stop))
        places = mine.nonzero().flatten()
        for some in places.split(_AT_A_TIME):
            ids = index[some]
            step = theirs[ids].float() - ours[ids].float()
            values[some] = (values[some].float() + step).to(values.dtype)
        moved[part] = len(places)
        out[f"{part}.index"], out[f"{part}.rows"] = index, values.contiguous()
    save_file(out, folder / manifest.ROWS, metadata={"format": "pt"})
    return moved, {part: len(out[f"{part}.index"]) for part in facts["rows"]}


def _matrix(folder: Path, part: str) -> Any:
    """As it lies on disk; of a tied model, both parts are one."""
    found = rows.base_matrix(folder, part)
    return rows.base_matrix(folder, "embed_tokens") if found is None else found
