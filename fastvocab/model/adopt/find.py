"""What a foreign folder is: kind, tool, files, tokenizer; and what its adapter_config.json rules out."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

from fastvocab import files
from fastvocab.errors import CheckpointError, FastvocabError, ModelError
from fastvocab.model.reference import _VOLATILE
from fastvocab.model.text import ranges

Kind = Literal["adapter", "model"]
PARTS = ("embed_tokens", "lm_head")

_TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
#: What a tool leaves in the README.md that it writes.
_SIGNS = {"llama-factory": "LLaMA-Factory", "axolotl": "Axolotl", "unsloth": "Unsloth", "trl": "TRL"}
#: Fields of a LoRA config that change the forward pass into one that r, alpha, dropout and targets do not describe.
_FORWARD = (
    "use_dora", "lora_bias", "use_qalora", "use_bdlora", "target_parameters", "layer_replication",
    "alora_invocation_tokens", "arrow_config", "monteclora_config", "kasa_config", "velora_config",
    "megatron_config", "fan_in_fan_out",
)  # fmt: skip
#: Keys of config.json by which a model and its base may differ: the vocabulary's own, what tools write of themselves,
#: and what a forward pass never reads.
_FREE = _VOLATILE | {
    "vocab_size", "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id", "unsloth_version",
    "unsloth_fixed", "model_name", "id2label", "label2id", "problem_type", "return_dict", "initializer_range",
}  # fmt: skip
#: Ways to start LoRA that leave the base's weights alone; the others (pissa, olora, corda, loftq, lora_ga) do not.
_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class Source:
    """A folder that another tool left.

    Attributes:
        folder: as given.
        kind: ``adapter`` (adapter_config.json) or ``model`` (config.json and whole weights).
        tool: who wrote it, as far as its README and its files tell.
        config: adapter_config.json or config.json.
        weights: the safetensors files that belong to it.
        tokenizer: the folder that has one, this or its parent; None.
        unopened: names of files that were never opened (pickles, a trainer's state).
    """

    folder: Path
    kind: Kind
    tool: str
    config: dict[str, Any]
    weights: list[Path]
    tokenizer: Path | None
    unopened: list[str]


def examine(folder: Path) -> Source:
    """Say what ``folder`` is, without opening a weight.

    Raises:
        CheckpointError: not there, one of our own, several checkpoints in one folder, pickles alone, links that
            lead out, or nothing that is known.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder", fix="give the folder that the other tool wrote")
    if (folder / "fastvocab.json").is_file():
        raise CheckpointError(
            f"{folder} is a fastvocab checkpoint already", fix="use it as it is: it needs no adopting"
        )
    adapter, model = (folder / "adapter_config.json").is_file(), (folder / "config.json").is_file()
    if not adapter and not model:
        raise _nothing(folder)
    _check_links(folder)
    # Axolotl writes config.json beside an adapter as well
    kind: Kind = "adapter" if adapter else "model"
    config = files.read_json(folder / ("adapter_config.json" if adapter else "config.json"))
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder}: its config is {type(config).__name__}", rule="a JSON object")
    return Source(
        folder, kind, _tool(folder, config), config, _weights(folder, kind), _tokenizer(folder),
        sorted({p.name for pattern in _PICKLES for p in folder.glob(pattern)}),
    )  # fmt: skip


def _nothing(folder: Path) -> CheckpointError:
    saves = [p for p in folder.glob("checkpoint-*") if p.is_dir()]
    saves.sort(key=lambda p: int(n) if (n := p.name.rpartition("-")[2]).isdecimal() else -1)
    if saves:
        names = ", ".join(p.name for p in saves)
        return CheckpointError(
            f"{folder} holds {len(saves)} checkpoints of a trainer and no model of its own: {names}",
            rule="one is adopted at a time; the highest number need not be the best, or whole",
            fix=f"fastvocab adopt {saves[-1]} --out DIR",
        )
    found = ", ".join(sorted(p.name for p in folder.iterdir())[:6]) or "nothing"
    return CheckpointError(
        f"{folder} has neither adapter_config.json nor config.json (found: {found})",
        rule="a PEFT adapter or a Hugging Face model is needed",
    )


def _check_links(folder: Path) -> None:
    inside = folder.resolve()
    # the Hub's cache: snapshots/COMMIT/file is a link into blobs/ of the same model
    blobs = inside.parent.parent / "blobs" if inside.parent.name == "snapshots" else inside
    for path in sorted(folder.iterdir()):
        target = path.resolve()
        if not (target.is_relative_to(inside) or target.is_relative_to(blobs)):
            raise CheckpointError(
                f"{path.name} in {folder} is a link out of the folder",
                rule="nothing outside the folder is read",
                fix="copy the file that is meant into its place",
            )


def _weights(folder: Path, kind: Kind) -> list[Path]:
    stem = "adapter_model" if kind == "adapter" else "model"
    listing = folder / f"{stem}.safetensors.index.json"
    if listing.is_file():
        found = files.read_json(listing)
        shards = found.get("weight_map") if isinstance(found, dict) else None
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise CheckpointError(f"{listing} has no weight_map")
        # a name with a folder in it could lead anywhere; no tool writes one
        wrong = sorted({n for n in shards.values() if Path(n).name != n or not n.endswith(".safetensors")})
        lost = sorted({n for n in shards.values() if not (folder / Path(n).name).is_file()})
        if wrong or lost:
            raise CheckpointError(
                f"{listing.name} in {folder} names {', '.join((wrong or lost)[:3])}",
                rule="shards are .safetensors files beside it" if wrong else "these files are not there",
                fix="fetch the missing files from where the folder came from",
            )
        return [folder / name for name in sorted(set(shards.values()))]
    if (single := folder / f"{stem}.safetensors").is_file():
        return [single]
    if kind == "model" and (shards_found := sorted(folder.glob("model-*.safetensors"))):
        return shards_found
    pickles = sorted({p.name for p in folder.glob("*.bin")})
    if pickles:
        raise CheckpointError(
            f"{folder} has its weights in {', '.join(pickles[:3])} alone",
            rule="pickled weights can run code and are never opened",
            fix="where you trust them, load and save them again with safe_serialization=True "
            "(PeftModel or AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW)), then adopt NEW",
        )
    raise CheckpointError(f"{folder} has no {stem}.safetensors: the weights are in no file")


def _tokenizer(folder: Path) -> Path | None:
    # a checkpoint-N of some tools has none; the final save beside it does
    for place in (folder, folder.resolve().parent):
        if any((place / name).is_file() for name in _TOKENIZER):
            if place != folder:
                _check_links(place)
            return place
    return None


def _tool(folder: Path, config: dict[str, Any]) -> str:
    readme = folder / "README.md"
    card = ""
    with suppress(OSError):  # none, or not readable: it decides nothing
        card = readme.read_bytes()[:8192].decode("utf-8", "replace").lower()
    signs = card + str(config.get("base_model_name_or_path", "")).lower() + str(config.get("auto_mapping"))
    words = set(re.findall(r"llama-factory|axolotl|unsloth|\btrl\b", signs))
    for sign, tool in _SIGNS.items():
        if sign in words:
            return tool
    if (folder / "trainer_state.json").is_file():
        return "transformers Trainer"
    return "PEFT" if (folder / "adapter_config.json").is_file() else "transformers"


def check_base(name: str) -> None:
    """Refuse a base folder whose config.json is none, before anything reads it.

    Args:
        name: a reference; what is no folder with a config.json here is left to `reference.resolve`.

    Raises:
        ModelError: what is wrong with it.
    """
    path = Path(name).expanduser() / "config.json"
    try:
        if path.is_file():
            _check_config(path)
    except PermissionError as error:
        raise unreadable(path, error) from error
    except OSError:  # such as a name too long for a path
        pass


def _check_config(path: Path) -> None:
    config = files.read_json(path)
    fix = "give another base with --base, or copy its files again"
    if not isinstance(config, dict):
        raise ModelError(f"{path} is {type(config).__name__}", rule="a JSON object", fix=fix)
    inner = config.get("text_config") or config
    wanted: tuple[tuple[str, Any, type, str], ...] = (
        ("model_type", config.get("model_type"), str, 'a name such as "llama"'),
        ("architectures", config.get("architectures") or [], list, "a list of class names"),
        ("text_config", inner, dict, "a JSON object"),
        ("quantization_config", config.get("quantization_config") or {}, dict, "a JSON object"),
        ("vocab_size", inner.get("vocab_size") if isinstance(inner, dict) else 0, int, "a number of rows"),
    )
    for key, value, kind, rule in wanted:
        if not isinstance(value, kind):
            raise ModelError(f"{path}: {key}={value!r}", rule=rule, fix=fix)


def settings(folder: Path) -> dict[str, Any]:
    """config.json by dotted key, with the defaults that it leaves out, less what no forward pass depends on."""
    out: dict[str, Any] = {}

    def add(values: dict[str, Any], before: str) -> None:
        for key, value in values.items():
            if key in _FREE or key.startswith("output_") or (key == "type" and "rope" in before):
                continue  # rope type: transformers 4's spelling, kept beside rope_type
            if isinstance(value, dict):
                add(value, f"{before}{key}.")
            else:
                # as JSON has it: a tuple is a list
                out[f"{before}{key}"] = json.loads(json.dumps(value, default=str))

    add(auto_config(folder).to_dict(), "")
    return out


def auto_config(folder: Path) -> Any:
    """config.json as transformers reads it; none of a folder's own code is run.

    Raises:
        ModelError: transformers does not take it.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    # each model's config class checks its fields in its own way
    except Exception as error:
        raise ModelError(
            f"{folder / 'config.json'}: transformers does not take it: {reads(error)}",
            rule="a model type and values that the installed transformers knows",
            fix="copy or download config.json again",
        ) from error


def base_name(source: Source) -> str:
    """The base that an adapter names: an untrusted string, for `reference.resolve` alone.

    A relative path counts from here, and where nothing is there from the adapter's folder.

    Raises:
        CheckpointError: none named, or a quantized one, whose weights are others than those of the 16-bit model.
    """
    name = source.config.get("base_model_name_or_path")
    if not isinstance(name, str) or not name.strip():
        raise CheckpointError(
            f"{source.folder}: adapter_config.json names no base model ({name!r})", fix="give it with --base"
        )
    if re.search(r"bnb-?4bit|-(4bit|gptq|awq|gguf|fp8)\b", name, re.IGNORECASE):
        raise CheckpointError(
            f"{source.folder}: the base is a quantized model, {name!r}",
            rule="rows and adapters are laid over the 16-bit weights that it was made from",
            fix="give those with --base, such as "
            + re.sub(r"(-unsloth)?-bnb-?4bit|-4bit", "", name, flags=re.IGNORECASE),
        )
    beside = source.folder / name
    if not _is_model(Path(name).expanduser()) and _is_model(beside):
        return str(beside.resolve())
    revision = source.config.get("revision")
    return f"{name}@{revision}" if isinstance(revision, str) and revision and "@" not in name else name


def _is_model(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file()
    except OSError:  # such as a name too long for a path
        return False


def config_faults(config: dict[str, Any]) -> list[str]:
    """What in adapter_config.json a checkpoint cannot represent, each fault with field and value."""
    faults = []
    kind = config.get("peft_type")
    if kind not in ("LORA", "TRAINABLE_TOKENS"):
        return [f"peft_type={kind!r} cannot be represented: LORA and TRAINABLE_TOKENS can"]
    if (task := config.get("task_type")) not in (None, "CAUSAL_LM"):
        faults.append(f"task_type={task!r} is no causal language model")
    faults += [
        f"{name}={str(config[name]).lower()} cannot be represented" for name in _FORWARD if config.get(name)
    ]
    if (bias := config.get("bias", "none")) != "none":
        faults.append(f"bias={bias!r} cannot be represented: trained biases have no place")
    if (start := config.get("init_lora_weights", True)) not in _STARTS:
        faults.append(
            f"init_lora_weights={start!r} cannot be represented: it changes the base's own weights "
            "(convert it with path_initial_model_for_weight_conversion where it was trained)"
        )
    if kind == "LORA":
        for name, low in (("r", 1), ("lora_alpha", 0)):
            value = config.get(name)
            if not _is_number(value) or value < low:
                faults.append(f"{name}={value!r} is no number from {low}")
        dropout = config.get("lora_dropout")
        if dropout is not None and not (_is_number(dropout) and 0 <= dropout <= 1):
            faults.append(f"lora_dropout={dropout!r} is no number from 0 to 1")
    for name in ("trainable_token_indices", "token_indices"):
        found = config.get(name)
        lists = list(found.values()) if isinstance(found, dict) else [found]
        if found is not None and not all(_is_ids(ids) for ids in lists):
            faults.append(f"{name}={found!r:.60} is no list of ids")
    others = sorted({m for m in map(str, _list(config.get("modules_to_save"))) if last(m) not in PARTS})
    if others:
        faults.append(
            f"modules_to_save trained {', '.join(others)}: only embed_tokens and lm_head have a place"
        )
    return faults


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in value
    )


def last(module: str) -> str:
    """``model.embed_tokens`` -> ``embed_tokens``."""
    return module.rpartition(".")[2]


def saved_parts(config: dict[str, Any]) -> set[str]:
    """Which of the two matrices ``modules_to_save`` names."""
    return {last(str(name)) for name in _list(config.get("modules_to_save"))} & set(PARTS)


def token_indices(config: dict[str, Any], part: str) -> list[int] | None:
    """Ids whose rows trained alone, by ``trainable_token_indices`` (a list means the input embedding)."""
    found = config.get("trainable_token_indices") or config.get("token_indices")
    if isinstance(found, dict):
        # a tied head shares the input's rows, and their ids
        named = {last(str(key)): value for key, value in found.items()}
        found = named.get(part, named.get("embed_tokens"))
    return found if _is_ids(found) else None


def indexed_parts(config: dict[str, Any]) -> set[str]:
    """Which of the two matrices had rows that trained alone."""
    found = config.get("trainable_token_indices")
    if isinstance(found, dict):
        return {last(str(key)) for key, ids in found.items() if ids} & set(PARTS)
    if config.get("token_indices"):
        return {last(str(name)) for name in _list(config.get("target_modules"))} & set(PARTS) or {PARTS[0]}
    return {PARTS[0]} if found else set()


def lora_parts(config: dict[str, Any]) -> set[str]:
    """Which of the two matrices ``target_modules`` names for LoRA."""
    names = config.get("target_modules")
    if isinstance(names, str) and not re.search(r"\(\?<?!", names):
        # a regular expression, never run here: untrusted, it can run for ever. One that rules nothing out and
        # has the name in it is taken to mean it
        names = [part for part in PARTS if part in names]
    # what is left out may be one of the two
    if config.get("peft_type") != "LORA" or not isinstance(names, list) or narrowed(config):
        return set()
    return {last(str(name)) for name in names} & set(PARTS)


def narrowed(config: dict[str, Any]) -> bool:
    """Does an adapter leave out some of the modules that ``target_modules`` names?"""
    some = any(config.get(key) is not None for key in ("layers_to_transform", "layers_pattern"))
    return some or bool(config.get("exclude_modules"))


def _list(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [value]
    return list(value) if isinstance(value, Iterable) else []


def spans(ids: Iterable[int]) -> str:
    """``700 to 711, 720`` for people."""
    shown = [f"{a:,} to {b - 1:,}" if b - a > 1 else f"{a:,}" for a, b in ranges(sorted(ids))]
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more ranges" if len(shown) > 5 else "")


def raise_all(where: str, faults: list[str], *, fix: str | None = None, rule: str | None = None) -> None:
    """One error for all faults, if there are any."""
    if faults:
        more = f" (and {len(faults) - 8} more)" if len(faults) > 8 else ""
        raise CheckpointError(f"{where}: " + "; ".join(faults[:8]) + more, rule=rule, fix=fix)


def unreadable(path: Path | str, error: OSError) -> CheckpointError:
    """A file that is there and may not be read, or cannot."""
    return CheckpointError(
        f"{error.filename or path} cannot be read ({error.strerror or error})",
        rule="whoever runs this must be able to read the files of the folder and of its base",
        fix=f"chmod -R u+rX {path}, or copy them from where they can be read",
    )


def reads(error: Exception) -> str:
    """The first line of a library's error."""
    return error.message if isinstance(error, FastvocabError) else str(error).strip().partition("\n")[0]
