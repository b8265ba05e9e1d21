"""What a written file says, read back: by the `gguf` library, and by transformers' own GGUF loader.

transformers 5.17 takes tokens, merges and special tokens from a file, and for most architectures nothing else: it
ignores ``tokenizer.ggml.pre`` and has one regex for each architecture (GPT-2's for ``llama``, its own for ``qwen2`` and
``qwen3``), no normaliser, and no user-defined tokens; Gemma's it reads as Unigram, which is another algorithm. So what
is compared is what it can hold: its tokens and merges, with the pre-tokenizer and normaliser of tokenizer.json put
around them. How many texts come out alike with what it puts there itself is told beside.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastvocab.console import quiet
from fastvocab.errors import ModelError
from fastvocab.export.gguf.pretokenizers import encode_all
from fastvocab.export.gguf.vocabulary import SPECIAL, Vocabulary
from fastvocab.tokenizer.base import Base, load_spec

#: Settings of BPE that are the tokenizer's own and in no GGUF file.
_OPTIONS = ("ignore_merges", "fuse_unk", "byte_fallback", "unk_token")


def header(path: Path) -> tuple[int, bool]:
    """The context length of a file's model, and whether llama.cpp puts BOS before each prompt."""
    import gguf

    fields = gguf.GGUFReader(path).fields
    arch = fields["general.architecture"].contents()
    return int(fields[f"{arch}.context_length"].contents()), bool(
        fields["tokenizer.ggml.add_bos_token"].contents()
    )


def vocabulary(path: Path) -> Vocabulary:
    """The keys ``tokenizer.*`` of a file."""
    import gguf

    fields = gguf.GGUFReader(path).fields

    def said(key: str, default: Any = None) -> Any:
        found = fields.get(f"tokenizer.{key}")
        return default if found is None else found.contents()

    merges = [tuple(merge.split(" ", 1)) for merge in said("ggml.merges", [])]
    named = {name: said(f"ggml.{name}_token_id") for name in (*SPECIAL.values(), "eot")}
    return Vocabulary(
        said("ggml.model"),
        said("ggml.pre"),
        said("ggml.tokens"),
        said("ggml.token_type"),
        merges,
        said("ggml.scores"),
        {name: index for name, index in named.items() if index is not None},
        add_bos=said("ggml.add_bos_token"),
        add_eos=said("ggml.add_eos_token"),
        space_prefix=said("ggml.add_space_prefix", False),
        template=said("chat_template"),
    )


def by_transformers(path: Path, base: Base, lines: Sequence[str]) -> dict[str, Any]:
    """Compare what transformers reads out of a file with the tokenizer that was written.

    Returns:
        ``{"version", "lines", "equal", "as_loaded"}``: texts with equal ids under the tokenizer's own pre-tokenizer
        (all of them), and under the one that transformers puts there. Or ``{"version", "not_read"}`` with the reason,
        for an architecture that it does not know.

    Raises:
        ModelError: it reads other tokens or merges.
    """
    from transformers import AutoTokenizer

    try:
        with quiet():
            loaded = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    except (ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
        # an architecture without a reader, or a tokenizer that it does not expect there
        return {"version": version("transformers"), "not_read": f"{type(error).__name__}: {error}"[:200]}
    spec = json.loads(loaded.backend_tokenizer.to_str())
    if spec["model"]["type"] != "BPE":
        return {"version": version("transformers"), "not_read": f"as {spec['model']['type']}, and not as BPE"}
    own = base.spec["model"]
    model = spec["model"] | {name: own[name] for name in _OPTIONS if name in own}
    around = {key: base.spec.get(key) for key in ("normalizer", "pre_tokenizer", "added_tokens")}
    inside = load_spec(spec | around | {"model": model}, path)
    ours = encode_all(base.tokenizer, lines)
    wrong = [row for row in zip(lines, ours, encode_all(inside, lines)) if row[1] != row[2]]
    if wrong:
        text, one, other = min(wrong, key=lambda row: len(row[0]))
        raise ModelError(
            f"{path.name}: transformers reads other tokens or merges out of the file: {len(wrong):,} of {len(lines):,} "
            f"probe texts have other ids, such as {text[:40]!r}: {one[:8]} by tokenizer.json, {other[:8]} by the file",
            rule="a file that reads text otherwise than the model was trained to is not written",
            fix="please report this tokenizer",
        )
    as_loaded = encode_all(loaded.backend_tokenizer, lines)
    return {
        "version": version("transformers"),
        "lines": len(lines),
        "equal": len(lines),
        "as_loaded": sum(a == b for a, b in zip(ours, as_loaded)),
    }
