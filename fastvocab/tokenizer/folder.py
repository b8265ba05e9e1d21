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

#: Loaded beside the config.json of one of these models, a folder gets the model's own tokenizer class of
#: transformers 5 whatever `tokenizer_class` says (5.17, `MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS`), and
#: `Qwen2Tokenizer` has its regex in the code. Of llama, mistral, mixtral, qwen2, qwen2_moe, qwen3, qwen3_moe,
#: gemma, gemma2, gemma3_text, smollm3, gpt2, phi3, olmo2, granite, deepseek_v3, cohere, gpt_neox, starcoder2
#: and stablelm it is the only one; the others keep tokenizer.json as it is with one of `_PLAIN_CLASSES`.
_OVERRIDDEN = ("qwen2",)

#: What keeps it there: an `auto_map`. Without `trust_remote_code` the code that it names is not run, but the
#: class is no longer overridden; with it, transformers needs the file.
_OWN_CLASS = "tokenization_extended.ExtendedTokenizerFast"
_OWN_CODE = '''"""Keeps tokenizer.json as it is: Qwen2Tokenizer would put its own regex in the place of the file's."""

from transformers import PreTrainedTokenizerFast


class ExtendedTokenizerFast(PreTrainedTokenizerFast):
    """A tokenizer that is all in tokenizer.json."""
'''

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

    A folder that holds only mistral-common's tekken.json is converted by transformers, with the special tokens
    and the chat template that mistral-common gives it (AutoTokenizer alone finds neither).

    Raises:
        ModelError: if transformers cannot load it, or only as something other than a tokenizers backend.
    """
    from transformers import AutoTokenizer

    try:
        with quiet():
            if _only_tekken(folder):
                tokenizer = _from_tekken(folder / "tekken.json")
            else:
                tokenizer = AutoTokenizer.from_pretrained(
                    str(folder), local_files_only=True, trust_remote_code=False
                )
                if not hasattr(tokenizer, "backend_tokenizer") and (folder / "tokenizer.json").is_file():
                    # beside tekken.json and a Mistral config.json mistral-common goes first
                    tokenizer = AutoTokenizer.from_pretrained(
                        str(folder), local_files_only=True, mistral_format=False, trust_remote_code=False
                    )
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


def _only_tekken(folder: Path) -> bool:
    others = ("tokenizer.json", "tokenizer.model", "vocab.json")
    return (folder / "tekken.json").is_file() and not any((folder / name).is_file() for name in others)


def _from_tekken(path: Path) -> Any:
    from transformers.integrations.mistral.tokenizer import convert_tekken_tokenizer

    return convert_tekken_tokenizer(str(path))


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


def copy_settings(
    base: Path, out: Path, loaded: PreTrainedTokenizerFast, spec: dict[str, Any] | None = None
) -> None:
    """Write tokenizer_config.json and the chat templates of ``base`` into ``out``.

    The class becomes one that takes tokenizer.json as it is, and what the old class set by default is
    written out. ``PreTrainedTokenizerFast`` is known to transformers 4 and 5 alike. For a Qwen2 model that is
    not enough (see `_OVERRIDDEN`): where its own class would cut text otherwise than ``spec``, an `auto_map`
    and the few lines of code that it names are written too.

    Args:
        base: folder of the base tokenizer.
        out: folder to write into.
        loaded: the base as `load_auto` gives it.
        spec: the tokenizer.json that is written beside it; None if it cuts text as the base's does.
    """
    for name in _COPIED:
        source = base / name
        if source.is_dir():
            shutil.copytree(source, out / name)
        elif source.is_file():
            shutil.copyfile(source, out / name)
    config = read_config(base / "tokenizer_config.json")
    if not {config.get("tokenizer_class"), type(loaded).__name__} <= set(_PLAIN_CLASSES):
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
    if _would_be_overridden(base, spec):
        config["auto_map"] = {"AutoTokenizer": [None, _OWN_CLASS]}
        files.write_text(out / f"{_OWN_CLASS.split('.')[0]}.py", _OWN_CODE)
    if loaded.chat_template and not any((out / name).exists() for name in _COPIED[1:]):
        config.setdefault("chat_template", loaded.chat_template)
    files.write_json(out / "tokenizer_config.json", config)


def _would_be_overridden(base: Path, spec: dict[str, Any] | None) -> bool:
    """True if transformers would put its own normaliser or regex in the place of the written file's."""
    model_type = read_config(base / "config.json").get("model_type")
    if model_type is None:  # a tokenizer folder without a model
        name = str(read_config(base / "tokenizer_config.json").get("tokenizer_class"))
        model_type = "qwen2" if name.startswith("Qwen2Tokenizer") else None
    if model_type not in _OVERRIDDEN:
        return False
    from transformers import Qwen2Tokenizer

    own = json.loads(Qwen2Tokenizer().backend_tokenizer.to_str())
    if spec is None:
        path = base / "tokenizer.json"
        spec = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else own
    return any(_plain(spec.get(key)) != _plain(own[key]) for key in ("normalizer", "pre_tokenizer"))


def _plain(step: Any) -> Any:
    """A step without what decides nothing about ids: offsets, and a list of one for its one element."""
    if not isinstance(step, dict):
        return [_plain(part) for part in step] if isinstance(step, list) else step
    return {key: _plain(value) for key, value in step.items() if key not in ("trim_offsets", "invert")}


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file.

    Raises:
        ModelError: it is damaged.
    """
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
