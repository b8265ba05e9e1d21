"""The YAML at the head of a model card, by which the Hub finds and files a model."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

from fastvocab import facts
from fastvocab.facts import Records
from fastvocab.numbers import number

#: Licences that the Hub knows under their SPDX name in small letters; any other is ``other`` with a name.
_HUB_LICENCES = frozenset(
    {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "gpl-3.0",
     "agpl-3.0", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "gemma", "openrail", "unlicense"}
)  # fmt: skip
_TAGS = ("unsloth", "fastvocab", "vocabulary-extension", "continual-pretraining")


def text(records: Records, *, gguf: bool = False) -> str:
    """The front matter with its two lines of dashes; what is not known is left out.

    Args:
        gguf: there is a GGUF file in the repository.
    """
    base = facts.root(records)
    data: dict[str, Any] = {}
    # a local folder is named by its last component; one that could be no name on the Hub is left out
    if base and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name := base.hub or base.title):
        data["base_model"] = name
        # left to itself the Hub would guess: a repository with a GGUF file passes for a mere quantization
        data["base_model_relation"] = "finetune"
    if languages := _languages(records):
        data["language"] = languages
    if base and base.licence:
        data |= _licence(base.licence)
    data["library_name"] = "transformers"
    data["pipeline_tag"] = "text-generation"
    data["tags"] = [*_TAGS, *(["gguf"] if gguf else [])]
    if datasets := list(dict.fromkeys(s.dataset for s in facts.sources(records) if s.dataset)):
        data["datasets"] = datasets
    if results := _results(records):
        data["model-index"] = results
    return f"---\n{_yaml(data)}---"


def _licence(licence: str) -> dict[str, str]:
    known = licence.lower()
    return {"license": known} if known in _HUB_LICENCES else {"license": "other", "license_name": known}


def _languages(records: Records) -> list[str]:
    """New and original language as codes of two or three letters, which are all that the Hub takes."""
    from langcodes import Language, tag_is_valid

    listed = facts.figures(records, "corpus").get("packages") or ()
    replay = [s.name for s in facts.sources(records) if "original" in s.role]
    codes = [facts.language(records)]
    codes += [
        p.get("language") for p in listed if isinstance(p, dict) and f"package:{p.get('name')}" in replay
    ]
    tags = [Language.get(code).language for code in codes if isinstance(code, str) and tag_is_valid(code)]
    return list(dict.fromkeys(tag for tag in tags if tag))


def _results(records: Records) -> list[dict[str, Any]]:
    """Bits per byte as the Hub's ``model-index``, where the text that was scored can be named there.

    A result needs a dataset by its name on the Hub (huggingface/hub-docs, modelcard.md), so there is none for files
    of one's own, for packages, or for several sources together: those figures are in the card's table alone.
    """
    texts = [s for s in facts.sources(records) if s.role == "text of the new language"]
    measured = list(facts.line(records).values())
    bits = number(measured[-1], "target", "bits_per_byte") if measured else None
    base = facts.root(records)
    if len(texts) != 1 or texts[0].dataset is None or bits is None or base is None:
        return []
    dataset = {"type": texts[0].dataset, "name": f"{texts[0].dataset}, documents held out by a hash"}
    metric = {"type": "bits_per_byte", "value": round(bits, 4), "name": "Bits per byte"}
    task = {"type": "text-generation"}
    name = f"{base.title}, vocabulary extended"
    return [{"name": name, "results": [{"task": task, "dataset": dataset, "metrics": [metric]}]}]


def _yaml(data: dict[str, Any]) -> str:
    from ruamel.yaml import YAML

    out = StringIO()
    yaml = YAML(pure=True)
    # the Hub and huggingface_hub read YAML 1.1, where a bare `no` (Norwegian) is false
    yaml.version = (1, 1)
    yaml.allow_unicode = True
    yaml.width = 4096
    yaml.dump(data, out)
    return out.getvalue().removeprefix("%YAML 1.1\n---\n")
