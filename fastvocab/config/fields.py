"""What the sections of the configuration are made of: their base, and the kinds of their fields."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def listed(value: object) -> object:
    """A list of one for a value alone."""
    return [value] if isinstance(value, str) else value


def no_blank(values: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse empty names."""
    if any(not v.strip() for v in values):
        raise ValueError("an empty name is no source")
    return values


def language_code(code: str | None) -> str | None:
    """Refuse what is no BCP 47 code."""
    if code is None:
        return None
    from fastvocab.unicode import language_scripts

    language_scripts(code)
    return code


def folder_name(name: str) -> str:
    """Refuse what is more than a name."""
    if not name or name in (".", "..") or any(c in name for c in "/\\\0") or name.startswith("."):
        raise ValueError("a plain folder name is needed, without slashes and not starting with a dot")
    return name


#: Methods of starting new rows, but for clone:TOKEN (`fastvocab.model.initialise` has them).
Init = Literal[
    "auto", "counted", "calibrated", "distilled", "subtokens", "asymmetric", "description", "mean", "noisy_mean",
    "random", "unsloth_mean", "unsloth_interpolation", "item_text", "item_centroid",
]  # fmt: skip


def known_init(value: str) -> str:
    """Refuse unknown methods, with the nearest name."""
    known = [*get_args(Init), "clone:TOKEN"]
    if value in get_args(Init) or (value.startswith("clone:") and value != "clone:"):
        return value
    near = ["clone:TOKEN"] if value.startswith("clone") else get_close_matches(value, known, 1, 0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"input should be one of {', '.join(known)}{hint}")


#: One source or a list of them: a path, a glob, a folder, ``hf:org/name``, ``package:NAME``.
Sources = Annotated[tuple[str, ...], BeforeValidator(listed), AfterValidator(no_blank)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys are mistakes, field docstrings are the help."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )
