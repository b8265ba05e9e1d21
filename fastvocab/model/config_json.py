"""What the folder of a base model must have before anything is done with it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastvocab import files
from fastvocab.architecture import causal_types
from fastvocab.errors import CheckpointError, ModelError


def read(name: str, folder: Path) -> dict[str, Any]:
    """The config.json of a causal language model, which may be all that there is.

    Args:
        name: of the model as it was typed, for messages.

    Raises:
        ModelError: not there, damaged, or of another kind of model.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"model.base: {name} has no config.json",
            rule="a Hugging Face model folder is needed",
            fix="give the folder that has config.json, the weights and the tokenizer in it",
        )
    try:
        config = files.read_json(folder / "config.json")
    except CheckpointError as error:  # whose advice, to remove the folder, is for what a run can make again
        raise ModelError(f"model.base: {error.message}", fix="fetch that file again") from error
    if not isinstance(config, dict):
        raise ModelError(f"model.base: config.json of {name} is no JSON object")
    architectures = config.get("architectures") or []
    if not any(str(a).endswith("ForCausalLM") for a in architectures):
        raise ModelError(
            f"model.base: {name} is {', '.join(map(str, architectures)) or 'of an unnamed architecture'}",
            rule="a causal language model (…ForCausalLM) is needed",
            fix='where config.json is only without the line: "architectures": ["LlamaForCausalLM"], or what it is'
            if not architectures
            else "choose a model that generates text",
        )
    return config


def of_whole(name: str, folder: Path) -> dict[str, Any]:
    """The config.json of a model that can be loaded: it has weights that are read, and code that is here.

    Raises:
        ModelError: as `read`; pickled weights or none; a model type that the installed transformers does not have.
    """
    config = read(name, folder)
    kind, known = config.get("model_type"), causal_types()
    if known and kind not in known:
        own = " and brings code of its own, which is never run" if "auto_map" in config else ""
        raise ModelError(
            f"model.base: {name} is of the model type {kind!r}{own}",
            rule=f"a causal language model that the installed transformers has ({version('transformers')})",
            fix="choose another model, or a version of transformers and Unsloth that has it",
        )
    if not any(folder.glob("*.safetensors")):
        pickles = [p.name for pattern in ("*.bin", "*.pt", "*.pth") for p in folder.glob(pattern)]
        raise ModelError(
            f"model.base: {name} has no .safetensors weights"
            + (f", only {', '.join(pickles)}" if pickles else ""),
            rule="pickled weights can run code and are not read",
            fix="convert them where you trust them: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW)",
        )
    return config
