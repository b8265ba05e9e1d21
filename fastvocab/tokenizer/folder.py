"""The files of a tokenizer folder around tokenizer.json: settings, chat templates, loading."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fastvocab import files
from fastvocab.console import quiet
from fastvocab.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

#: Copied as they are. vocab.json, merges.txt, added_tokens.json, tekken.json and a tiktoken tokenizer.model
#: are left behind: they would hold the old vocabulary, and tokenizer.json says all that they say.
_COPIED = (
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates",
)

#: Classes that take tokenizer.json as it is. Any other may rebuild parts of it from its own defaults.
_PLAIN_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")

#: What a tokenizer class may set by default and the plain class sets otherwise (LlamaTokenizer pads left).
SETTINGS = (
    "padding_side",
    "truncation_side",
    "model_input_names",
    "model_max_length",
    "clean_up_tokenization_spaces",
    "split_special_tokens",
)


def load_auto(folder: Path) -> PreTrainedTokenizerFast:
    """The folder as plain ``AutoTokenizer.from_pretrained`` loads it, without network.

    Raises:
        ModelError: if transformers cannot load it, or only as something other than a tokenizers backend.
    """
    from transformers import AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # transformers raises five kinds, tokenizers the bare class
        raise ModelError(
            f"{folder}: transformers cannot load this tokenizer: {type(error).__name__}: {error}",
            fix="copy the tokenizer files of the base model again",
        ) from error
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ModelError(
            f"{folder}: transformers loads this tokenizer as {type(tokenizer).__name__}, which is not "
            "backed by the tokenizers library",
            rule="a base has a tokenizer.json, or files that transformers converts to one",
            fix="use a folder with tokenizer.json (for Mistral's tekken, the Hugging Face form)",
        )
    return cast("PreTrainedTokenizerFast", tokenizer)


def settings(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """What a loaded tokenizer does besides merging: sides, special tokens, BOS and EOS, templates."""
    found = {name: getattr(tokenizer, name, None) for name in SETTINGS}
    found["special_tokens_map"] = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
    found["bos_eos"] = (
        tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id],
        (tokenizer("a")["input_ids"][-1:] == [tokenizer.eos_token_id]),
    )
    found["chat_template"] = tokenizer.chat_template
    return found


def copy_settings(base: Path, out: Path, loaded: PreTrainedTokenizerFast) -> None:
    """Write tokenizer_config.json and the chat templates of ``base`` into ``out``.

    The class becomes one that takes tokenizer.json as it is, and what the old class set by default is
    written out. ``PreTrainedTokenizerFast`` is known to transformers 4 and 5 alike.
    """
    for name in _COPIED:
        source = base / name
        if source.is_dir():
            shutil.copytree(source, out / name)
        elif source.is_file():
            shutil.copyfile(source, out / name)
    config = _read_config(base / "tokenizer_config.json")
    if config.get("tokenizer_class") not in _PLAIN_CLASSES:
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        # special tokens that the class knows by default (<s>, </s>, <unk>) and the file may leave out
        for key, value in loaded.special_tokens_map.items():
            if isinstance(value, str):
                config.setdefault(key, value)
    for name in ("auto_map", "tokenizer_file", "vocab_file", "name_or_path"):
        config.pop(name, None)  # they name code or places of the base
    for name in SETTINGS:
        if getattr(loaded, name, None) is not None:
            config[name] = getattr(loaded, name)
    if loaded.chat_template and not any((out / name).exists() for name in _COPIED[1:]):
        config.setdefault("chat_template", loaded.chat_template)
    files.write_json(out / "tokenizer_config.json", config)


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(
            f"{path} is damaged: {error}", fix="copy the tokenizer files of the base model again"
        ) from None
    if not isinstance(config, dict):
        raise ModelError(
            f"{path} is not a JSON object", fix="copy the tokenizer files of the base model again"
        )
    return config
