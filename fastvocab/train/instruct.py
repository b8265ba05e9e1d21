"""The ``instruct`` stage: chat rows on top of the pretrained checkpoint, loss on the replies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fastvocab.config.models import InstructSection
from fastvocab.errors import ConfigError
from fastvocab.train import chat, stage
from fastvocab.train.data import Data


def template_text(section: InstructSection) -> str | None:
    """The chat template that the configuration names, read and parsed.

    Raises:
        ConfigError: not there, or not Jinja.
    """
    if section.template is None:
        return None
    from jinja2 import Environment, TemplateSyntaxError

    path = Path(section.template).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
        Environment().parse(text)
    except OSError as error:
        raise ConfigError(f"instruct.template: {path}: {error.strerror}") from None
    except TemplateSyntaxError as error:
        raise ConfigError(f"instruct.template: {path}, line {error.lineno}: {error.message}") from None
    return text


def instruct(
    folder: Path,
    *,
    previous: Path,
    rows: Callable[[], Iterable[dict[str, Any]]],
    section: InstructSection,
    key: str,
    saves_folder: Path,
    seed: int,
    track: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Tune ``previous`` on ``rows`` (each ``{"messages": [...]}``) and write the new checkpoint to ``folder``."""

    def prepare(_: Any, tokenizer: Any, work: Path) -> Data:
        return chat.dataset(rows(), tokenizer, max_length=section.max_length)

    return stage.train(
        folder, stage="instruct", previous=previous, section=section, lora=None,
        prepare=prepare, block=section.max_length,
        key=key, saves_folder=saves_folder, seed=seed, template=template_text(section), track=track,
    )  # fmt: skip
