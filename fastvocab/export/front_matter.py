"""The YAML at the head of a model card, by which the Hub finds and files a model."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

from fastvocab import facts
from fastvocab.facts import Records

#: Licences that the Hub knows under their SPDX name in small letters; any other is ``other`` with a name.
_HUB_LICENCES = frozenset(
    {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "gpl-3.0",
     "agpl-3.0", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "gemma", "openrail", "unlicense"}
)  # fmt: skip
_TAGS = ("unsloth", "fastvocab", "vocabulary-extension", "continual-pretraining")


def text(records: Records) -> str:
    """The front matter with its two lines of dashes; what is not known is left out."""
    base = facts.root(records)
    data: dict[str, Any] = {}
    # a local folder is named by its last component; one that could be no name on the Hub is left out
    if base and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name := base.hub or base.title):
        data["base_model"] = name
    if languages := _languages(records):
        data["language"] = languages
    if base and base.licence:
        data |= _licence(base.licence)
    data["library_name"] = "transformers"
    data["pipeline_tag"] = "text-generation"
    data["tags"] = list(_TAGS)
    if datasets := list(dict.fromkeys(s.dataset for s in facts.sources(records) if s.dataset)):
        data["datasets"] = datasets
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
