"""A checkpoint as a PEFT adapter that plain transformers and PEFT load, without anything of fastvocab.

PEFT saves an extended model's embedding matrices whole, more than once (SmolLM2-135M with 1,089 new rows: 386 MB
beside a base of 269 MB). Here the rows that differ from the base's are written alone, once, as PEFT's
``trainable_token_indices`` keeps them (peft 0.15 and later): a row is replaced, not added to, so it does not matter
what stood there after resizing.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from fastvocab import facts, files
from fastvocab.errors import CheckpointError
from fastvocab.export import older
from fastvocab.model import manifest, reference, text
from fastvocab.run import Record

_ROWS = "token_adapter.trainable_tokens_delta"
#: What a checkpoint folder holds of the tokenizer.
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja",
    "tokenization_extended.py",
)  # fmt: skip


def check(source: Path) -> None:
    """Can this checkpoint be told as an adapter of its base?

    Raises:
        CheckpointError: its layers trained themselves, nothing trained, or a head that the base does not have apart.
    """
    found = manifest.peek(source)
    own_layers, lora = bool(found.get("layers")), found["lora"]
    if own_layers or lora is None:
        raise CheckpointError(
            f"{source} has no adapter: "
            + (
                "its layers trained their own weights" if own_layers else "only its rows differ from the base"
            ),
            rule="an adapter is what LoRA training leaves",
            fix="export it whole: --to hf, or export.to=[hf]",
        )


def write(folder: Path, source: Path, *, base: str | None = None) -> dict[str, Any]:
    """Write the adapter, its tokenizer and a README with the lines that load it into ``folder`` (existing, empty).

    Args:
        source: the checkpoint.
        base: where its base model lies, if not where the checkpoint says.

    Returns:
        ``{"rows", "parameters", "bytes"}``: rows of each matrix, and numbers in the file.

    Raises:
        CheckpointError: as `check`.
    """
    from safetensors.torch import load_file, save_file

    check(source)
    facts_of = manifest.read(source)
    found = reference.recorded(facts_of["base"], base=base)
    config = found.config
    if not facts_of["tied"] and (config.get("text_config") or config).get("tie_word_embeddings", False):
        raise CheckpointError(
            f"{source} has a head of its own, and its base ties the two matrices",
            rule="an adapter changes rows of a matrix; it cannot part one into two",
            fix="export it whole: --to hf, or export.to=[hf]",
        )
    count = text.rows(text.tokenizer(source))
    tensors = load_file(source / manifest.ADAPTER[0])
    prefix = next(iter(tensors)).partition(".layers.")[0]
    places = {"embed_tokens": f"{prefix}.embed_tokens", "lm_head": "base_model.model.lm_head"}
    saved, indices = load_file(source / manifest.ROWS), {}
    for part in facts_of["rows"]:
        index, rows = saved[f"{part}.index"], saved[f"{part}.rows"]
        known = index < count  # rows beyond are padding, which the resized base has not
        indices[part] = index[known].tolist()
        tensors[f"{places[part]}.{_ROWS}"] = rows[known].contiguous()
    save_file(tensors, folder / manifest.ADAPTER[0], metadata={"format": "pt"})
    settings = files.read_json(source / manifest.ADAPTER[1])
    settings |= {"trainable_token_indices": indices, "base_model_name_or_path": _base_name(facts_of)}
    files.write_json(folder / manifest.ADAPTER[1], settings)
    copy_tokenizer(source, folder)
    older.write_tokenizer(folder)
    files.write_text(folder / "README.md", _readme(facts_of, indices, count))
    return {
        "rows": {part: len(index) for part, index in indices.items()},
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "bytes": sum(p.stat().st_size for p in folder.iterdir() if p.is_file()),
    }


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the tokenizer's files, and nothing else that lies beside them."""
    for pattern in _TOKENIZER:
        for file in source.glob(pattern):
            place = folder / file.relative_to(source)
            place.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, place)


def _named(found: dict[str, Any]) -> facts.Base:
    named = facts.base({found["stage"]: Record(Path(), {"base": found["base"], "figures": {}})})
    assert named is not None, "a manifest has a base"
    return named


def _base_name(found: dict[str, Any]) -> str:
    """The base's name on the Hub, or the last component of its folder: nothing of this machine."""
    named = _named(found)
    return named.hub or named.title


def _readme(found: dict[str, Any], indices: dict[str, list[int]], count: int) -> str:
    base, lora = _named(found), found["lora"]
    rows = ", ".join(f"{len(index):,} rows of {part}" for part, index in indices.items())
    name = _base_name(found)
    # the Hub refuses a base_model that could be no name there
    relation = f"base_model: {base.hub}\nbase_model_relation: adapter\n" if base.hub else ""
    return f"""---
{relation}library_name: peft
pipeline_tag: text-generation
tags:
- fastvocab
- vocabulary-extension
- lora
---

# Adapter of {name}

LoRA of rank {lora["r"]}, {rows}, and the extended tokenizer. The base is not in here (fingerprint
`{base.fingerprint}`), and has to be resized before the adapter goes on. With PEFT 0.15 or later:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")  # this folder
model = AutoModelForCausalLM.from_pretrained("{name}")  # the base, or the folder that it lies in
model.resize_token_embeddings({count})
model = PeftModel.from_pretrained(model, ".")
```

`model.merge_and_unload()` makes an ordinary model of it.

## Where it does not go

vLLM serves an adapter's LoRA alone: it refuses `modules_to_save` and any other tensor, and the vocabulary is the
base's. llama.cpp does the same. For these take the merged model: `fastvocab export RUN --to hf`, or `--to gguf`.
"""
