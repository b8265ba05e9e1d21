"""What would stop an export, found before the training that it comes after; and the room that it takes."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path

from fastvocab.config import Config
from fastvocab.config.models import ExportSection
from fastvocab.errors import ConfigError, DependencyError, FastvocabError
from fastvocab.export import deliver, hub, targets
from fastvocab.export.card import template_in
from fastvocab.export.gguf import BYTES
from fastvocab.model import reference
from fastvocab.model.reference import Base
from fastvocab.plan import memory


def check(config: Config, base: Base | None, *, reach: bool) -> None:
    """Can everything in ``export.to`` be made, and may it be uploaded?

    Args:
        base: the base model, None where it is not on this machine yet.
        reach: also look at what takes some seconds, and ask the Hub: hours of training would be late to find out.

    Raises:
        FastvocabError: of the kind of the first problem, naming all.
    """
    section, problems = config.export, []
    tests = []
    if {"gguf", "ollama"} & set(section.to):
        tests.append(partial(_check_gguf, base if reach else None))
    if "ollama" in section.to and base is not None and reference.is_whole(base):
        tests.append(partial(_check_ollama, config, base, reach))
    if "adapter" in section.to:
        tests.append(partial(_check_adapter, config))
    run = Path(config.runs).expanduser() / config.name
    # what is up there already needs neither a token nor the Hub
    if section.repo is not None and not (reach and run.is_dir() and deliver.published(run, section.repo)):
        update = targets.uploaded_to(run, section.repo)
        repository = hub.Repository(section.repo, section.public, update)
        tests.append(partial(hub.check, repository, reach=reach))
    for test in tests:
        try:
            test()
        except FastvocabError as error:
            problems.append(error)
    if problems:
        raise targets.together(problems)


def _check_gguf(base: Base | None) -> None:
    """Is there the library, and can the base be said in a GGUF file?"""
    if find_spec("gguf") is None:
        raise DependencyError("a GGUF file needs the package gguf", fix="pip install 'fastvocab[gguf]'")
    if base is not None and reference.is_whole(base):
        from fastvocab.export import gguf

        gguf.check_before(base.tokenizer_folder, config=base.config)


def _check_ollama(config: Config, base: Base, reach: bool) -> None:
    """Will there be a chat template? Instruction tuning brings one; else it is the base's, if that has one."""
    if config.instruct.train or config.instruct.chat_vector or config.instruct.template:
        return
    if not template_in(base.tokenizer_folder):
        raise ConfigError(
            f"export.to has ollama, {base.name} has no chat template, and there is no instruction tuning",
            rule="Ollama asks a model in turns",
            fix="instruct.train=FILE, or export.to=[gguf] for llama.cpp",
        )
    if reach:
        targets.check_ollama(base.tokenizer_folder)


def _check_adapter(config: Config) -> None:
    if full := [stage for stage in memory.stages(config) if getattr(config, stage).layers == "full"]:
        raise ConfigError(
            f"export.to has adapter, and {', '.join(f'{stage}.layers=full' for stage in full)}",
            rule="an adapter is what LoRA training leaves; layers that trained their own weights leave none",
            fix="export.to=[hf]",
        )


def disk(section: ExportSection, parameters: int, adapter: int, tokenizer: int) -> int:
    """Bytes of the stage's folder, with what lies there while it is made.

    Args:
        parameters: of the merged model.
        adapter: bytes of a checkpoint's adapter.
        tokenizer: bytes of its files.
    """
    gguf, total = BYTES[section.kind] * parameters + tokenizer, 0.0
    if set(section.to) - {"adapter"}:
        total += 2 * parameters + tokenizer
    if {"gguf", "ollama"} & set(section.to):
        total += gguf
    if "ollama" in section.to:  # the same file again, where the file system has no hard links
        total += gguf
    if "adapter" in section.to:
        total += adapter + tokenizer
    return int(total)
