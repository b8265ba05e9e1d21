"""Write recipes/new_language.yaml: every key with its help and its default, from the configuration itself.

python scripts/write_yaml.py            (a test fails where the file and the configuration differ)
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fastvocab.config.models import Config
from fastvocab.recipes.embedded import NEW_LANGUAGE

TARGET = Path(__file__).parents[1] / "recipes" / "new_language.yaml"

HEAD = """\
# A new language for a Llama-family model, with your own text.
#
#   python -m fastvocab.recipes.new_language --config recipes/new_language.yaml
#
# Set model.base, corpus.train and corpus.language; everything else has a default that you may delete here.
# On the command line the same keys win over this file: pretrain.minutes=30
# Written by scripts/write_yaml.py from the configuration, so the explanations are those of --help.
"""

#: What a person has to fill in, with something that runs as an example.
EXAMPLES = {
    "name": "my-language",
    "corpus.train": ["data/*.txt"],
    "corpus.language": "ka",
    "pretrain.minutes": 60,
}


def lines(model: type[BaseModel], prefix: str = "", indent: int = 0) -> list[str]:
    """YAML lines of a section, explanations as comments above the keys."""
    out = []
    space = " " * indent
    for name, field in model.model_fields.items():
        kind, key = field.annotation, prefix + name
        if f"{key}.".startswith(NEW_LANGUAGE.idle) or key == "recipe":
            continue
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            out += ["", f"{space}# {(kind.__doc__ or '').strip()}", f"{space}{name}:"]
            out += lines(kind, key + ".", indent + 2)
            continue
        out += textwrap.wrap(
            field.description or "", 108 - indent, initial_indent=space + "# ", subsequent_indent=space + "# "
        )
        out.append(f"{space}{name}: {scalar(EXAMPLES.get(key, field.default))}")
    return out


def scalar(value: Any) -> str:
    """A value as YAML on one line (JSON is YAML)."""
    if isinstance(value, str) and value.replace("-", "").replace("_", "").isalnum():
        return value
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def text() -> str:
    """The whole file."""
    return HEAD + "\n".join(["", *lines(Config)]).replace("\n\n\n", "\n\n") + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
