"""What a foreign folder is: kind, tool, files, tokenizer; and what its adapter_config.json rules out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastvocab import files
from fastvocab.errors import CheckpointError, FastvocabError

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
    card = readme.read_bytes()[:8192].decode("utf-8", "replace").lower() if readme.is_file() else ""
    signs = card + str(config.get("base_model_name_or_path", "")).lower() + str(config.get("auto_mapping"))
    words = set(re.findall(r"llama-factory|axolotl|unsloth|\btrl\b", signs))
    for sign, tool in _SIGNS.items():
        if sign in words:
            return tool
    if (folder / "trainer_state.json").is_file():
        return "transformers Trainer"
    return "PEFT" if (folder / "adapter_config.json").is_file() else "transformers"


def base_name(source: Source) -> str:
    """The base that an adapter names: an untrusted string, for `reference.resolve` alone.

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
    revision = source.config.get("revision")
    return f"{name}@{revision}" if isinstance(revision, str) and revision and "@" not in name else name


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
            if isinstance(value, bool) or not isinstance(value, int | float) or value < low:
                faults.append(f"{name}={value!r} is no number from {low}")
    others = sorted({m for m in map(str, _list(config.get("modules_to_save"))) if last(m) not in PARTS})
    if others:
        faults.append(
            f"modules_to_save trained {', '.join(others)}: only embed_tokens and lm_head have a place"
        )
    return faults


def last(module: str) -> str:
    """``model.embed_tokens`` -> ``embed_tokens``."""
    return module.rpartition(".")[2]


def saved_parts(config: dict[str, Any]) -> set[str]:
    """Which of the two matrices ``modules_to_save`` names."""
    return {last(str(name)) for name in _list(config.get("modules_to_save"))} & set(PARTS)


def token_indices(config: dict[str, Any], part: str) -> list[int] | None:
    """Ids whose rows trained alone, by ``trainable_token_indices`` (a list means the input embedding)."""
    found = config.get("trainable_token_indices", config.get("token_indices"))
    if isinstance(found, dict):
        # a tied head shares the input's rows, and their ids
        named = {last(str(key)): value for key, value in found.items()}
        found = named.get(part, named.get("embed_tokens"))
    if not isinstance(found, list) or not all(isinstance(i, int) and i >= 0 for i in found):
        return None
    return found


def _list(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [value]
    return list(value) if isinstance(value, Iterable) else []


def raise_all(where: str, faults: list[str], *, fix: str | None = None, rule: str | None = None) -> None:
    """One error for all faults, if there are any."""
    if faults:
        more = f" (and {len(faults) - 8} more)" if len(faults) > 8 else ""
        raise CheckpointError(f"{where}: " + "; ".join(faults[:8]) + more, rule=rule, fix=fix)


def reads(error: Exception) -> str:
    """The first line of a library's error."""
    return error.message if isinstance(error, FastvocabError) else str(error).strip().partition("\n")[0]
