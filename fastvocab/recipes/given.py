"""What the stages of a recipe are given: the base model, settings, chats, and what of it counts as changed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

from fastvocab import console
from fastvocab.config import Config
from fastvocab.config.fields import Section
from fastvocab.config.models import InstructSection
from fastvocab.corpus import chat as chat_reader
from fastvocab.corpus import provenance
from fastvocab.corpus.packages import package_info
from fastvocab.corpus.split import held_out
from fastvocab.errors import ConfigError, DataError, ModelError
from fastvocab.evaluate.replies import Questions
from fastvocab.layout import Layout
from fastvocab.model import reference
from fastvocab.model.reference import Base
from fastvocab.plan import bases
from fastvocab.run import Context, Run, Step
from fastvocab.train.instruct import template_text

#: Settings that change how a stage is made, not what comes out.
_IMMATERIAL = {"save_minutes", "save_steps", "keep_saves"}
#: Those of one stage alone (evaluate.tasks is another matter).
_IMMATERIAL_OF = {
    "corpus": {"executor", "tasks", "workers", "memory_gb", "slurm"},
    "instruct": {"chat_vector", "template"},  # these count by their content (`chat_sources`)
}
#: Share of chat rows kept from training, for the samples.
_HELDOUT_CHAT = 0.03
#: Files of a base that its tokenizer is read from.
_TOKENIZER_FILES = (
    "tokenizer*.json", "*.model", "*.tiktoken", "tekken.json", "vocab.*", "merges.txt", "added_tokens.json",
    "special_tokens_map.json", "*.jinja", "chat_template.json", "additional_chat_templates/*.jinja",
)  # fmt: skip
#: Keys of tokenizer_config.json that tell of the machine it was written on.
_OF_THE_MACHINE = {"name_or_path", "is_local", "local_files_only", "tokenizer_file", "vocab_file",
                   "transformers_version"}  # fmt: skip


@cache
def _resolve(name: str) -> Base:
    return reference.resolve(name)


def base(config: Config) -> Base:
    """The base model of a run, found once."""
    return _resolve(config.model.base)


def tokenizer_settings(config: Config) -> dict[str, Any]:
    """What the tokenizer stage takes from the configuration."""
    section = config.tokenizer
    auto = section.new_tokens == "auto"
    return {
        "new_tokens": section.new_tokens,
        "method": section.method,
        "sentencepiece": section.sentencepiece,
        "pretokenizer": section.pretokenizer,
        "max_bytes": int(section.sample_mb * 1e6),
        "config": base(config).config,
        "training_tokens": training_tokens(config) if auto else None,
        "tokens": section.tokens,
        "reuse_reserved": section.reuse_reserved,
    }


def tokenizer_files(model: Base, role: str) -> list[dict[str, Any]]:
    """A model's tokenizer and chat template as a stage's sources: they are no part of its fingerprint.

    By content, so that another machine's copy is the same; of tokenizer_config.json by what it says of the tokenizer.
    """
    folder, entries = model.tokenizer_folder, []
    for path in sorted({path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern)}):
        name, content = path.relative_to(folder).as_posix(), path.read_bytes()
        digest = hashlib.sha256(_settings(content) if name == "tokenizer_config.json" else content)
        entries.append(
            {"path": name, "bytes": len(content), "sha256": digest.hexdigest(), "role": f"{role} {name}"}
        )
    return entries


def _settings(content: bytes) -> bytes:
    try:
        kept = {key: value for key, value in json.loads(content).items() if key not in _OF_THE_MACHINE}
    except (ValueError, AttributeError):  # damaged: whoever reads it will say so
        return content
    return json.dumps(kept, sort_keys=True).encode()


def training_tokens(config: Config) -> int | None:
    """Tokens of the new language that pretraining will see, None for one pass over the text.

    For a budget in minutes an estimate, good to a factor of two: there is no model yet to measure.
    """
    from fastvocab.model import speed
    from fastvocab.tokenizer.size import Cost
    from fastvocab.train.loop import batch_size

    section = config.pretrain
    limits: list[float] = []
    if section.tokens is not None:
        limits.append(section.tokens)
    if section.steps is not None:
        limits.append(section.steps * batch_size(section) * section.accumulate * section.block)
    cost = Cost.read(base(config).config)
    if section.minutes is not None and cost is not None:
        limits.append(section.minutes * 60 * speed.tokens_per_second(cost.of_token(0)))
    share = 1 - section.replay if config.corpus.replay else 1.0
    return int(min(limits) * share) if limits else None


def chat(
    config: Config, *, heldout: bool, replay: bool = False, dropped: Counter[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Chat rows for training, or those held out by a hash of the conversation; none where there is no chat data.

    Args:
        replay: those of ``instruct.replay``, in place of ``instruct.train``.
        dropped: filled while they are taken: rows of the sources that are not usable, by reason.
    """
    sources = config.instruct.replay if replay else config.instruct.train
    if not sources:
        return
    # replies in the language that is kept are ordinary ones
    columns, reply = ({}, None) if replay else (config.instruct.columns, layout(config))
    for row in chat_reader.chat_rows(sources, dropped=dropped, columns=columns, reply=reply):
        if held_out("\n".join(m["content"] for m in row["messages"]), _HELDOUT_CHAT) == heldout:
            yield row


def layout(config: Config) -> Layout | None:
    """How replies are laid out, where that is said."""
    return Layout(config.instruct.reply) if config.instruct.reply else None


def require_gguf(config: Config, tokenizer: Path) -> None:
    """Refuse a tokenizer that the GGUF file asked for could not hold, before a row is trained for it.

    Of the base it is known before the run (`plan.exports`); a repaired regex is known only now.

    Args:
        tokenizer: folder of the stage.

    Raises:
        ModelError: as `fastvocab.export.gguf.check_before`.
    """
    if {"gguf", "ollama"} & set(config.export.to):
        from fastvocab.export import gguf

        gguf.check_before(tokenizer)


def require_chat(config: Config, previous: Path) -> None:
    """Refuse chats that could not be trained on, or a chat model that is gone, while nothing long was done for them.

    Args:
        previous: a checkpoint of the run.

    Raises:
        DataError: as `fastvocab.train.instruct.require_rows`.
        ModelError: as `bases.find_chat`.
    """
    section = config.instruct
    bases.find_chat(config, fetch=True)
    if section.train:
        from fastvocab.train.instruct import require_rows

        rows = {"instruct.train": partial(chat, config, heldout=False)}
        # a handful may all be held out
        if section.replay_share and next(chat(config, heldout=False, replay=True), None):
            rows["instruct.replay"] = partial(chat, config, heldout=False, replay=True)
        require_rows(previous, rows, section)


def packages(sources: Iterable[str]) -> dict[str, Any]:
    """``{"packages": [...]}`` with licences, of those sources that are packages."""
    return {"packages": [package_info(source) for source in sources if source.startswith("package:")]}


def chat_sources(config: Config) -> dict[str, Any]:
    """What `step` is given for the instruct stage: conversations, or a chat model, and the template."""
    if config.instruct.chat_vector:
        name = {"chat_vector": [config.instruct.chat_vector]}
        # nothing is trained: no other key changes what comes out
        told: dict[str, Any] = {"files": lambda: _chat_model(config), "named": name, "keys": set()}
    else:
        given = {"train": config.instruct.train, "replay": config.instruct.replay}
        told = {"sources": given, "together": True}
    return {**told, "template_text": template_text(config.instruct)}


def _chat_model(config: Config) -> list[dict[str, Any]]:
    """The model of ``instruct.chat_vector`` as a stage's sources: its fingerprint, tokenizer and template.

    Raises:
        DataError: it is not on this machine.
    """
    try:
        chat = bases.find_chat(config, fetch=False)
    except ModelError as error:
        raise DataError(error.message, rule=error.rule, fix=error.fix) from error
    if chat is None:
        raise DataError(f"instruct.chat_vector: {config.instruct.chat_vector} is not on this machine")
    size = sum(path.stat().st_size for path in chat.folder.glob("*.safetensors"))
    weights = {"path": chat.name, "bytes": size, "sha256": chat.fingerprint, "role": "chat_vector"}
    return [weights, *tokenizer_files(chat, "chat_vector")]


def tuned(config: Config, tokenizer: dict[str, Any]) -> InstructSection:
    """The settings of instruction tuning: where every named token was there already, no added rows can train.

    Args:
        tokenizer: figures of that stage.
    """
    section = config.instruct
    if section.embeddings == "new_rows" and all(one["was_there"] for one in tokenizer["named"]):
        console.say("  no row was added, so none trains: as instruct.embeddings=frozen")
        return section.model_copy(update={"embeddings": "frozen"})
    return section


def questions(config: Config, checkpoint: Path) -> Questions | None:
    """Held-out questions whose replies are to be laid out, where ``instruct.reply`` says how.

    Args:
        checkpoint: of instruction tuning, with the chat template.
    """
    own = layout(config)
    if own is None or not config.evaluate.questions:
        return None
    from fastvocab.model.text import tokenizer

    asked = [row["messages"] for row in islice(chat(config, heldout=True), config.evaluate.questions)]
    return Questions.of(asked, own, config.evaluate.reply_tokens, tokenizer(checkpoint)) if asked else None


def require_beams(config: Config, items: int) -> None:
    """Refuse a beam search that is wider than the catalogue before the training that comes first.

    Raises:
        ConfigError: with both numbers.
    """
    section = config.evaluate.items
    if section.beams > items:
        top = min(section.top, items)
        raise ConfigError(
            f"evaluate.items.beams is {section.beams}, and the catalogue has {items} items",
            rule="a beam is an item in the making: there are no more beams than items",
            fix=f"evaluate.items.top={top} evaluate.items.beams={items}",
        )


def item_sources(config: Config) -> Callable[[], list[dict[str, Any]]]:
    """Files that the codes of items are made from, where the configuration names any, as a stage's sources."""
    section = config.tokenizer.items
    own = [section.codes] if section.codes else []
    own += [section.vectors] if section.vectors not in ("cooccurrence", "text") else []
    return lambda: [{**entry, "role": "items"} for name in own for entry in provenance.describe(name)]


def _in_stage(config: Config) -> tuple[str, ...]:
    """``export.to`` in order, without the hub, which comes after the stage and uploads what ``hf`` is."""
    to = {"hf" if name == "hub" else name for name in config.export.to}
    return tuple(name for name in ("hf", "gguf", "ollama", "adapter") if name in to)


def export_steps(run: Run, *reads: str) -> list[Step]:
    """The stage ``export`` of a checkpoint, or nothing if nothing is wanted.

    Where it is uploaded to changes nothing of what it makes.

    Args:
        reads: stages; the first one's checkpoint is exported.
    """
    config = run.config
    to = _in_stage(config)
    if not to:
        return []

    def export(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.export.stage import export

        # where the merged model waits for the rest to be made
        kept = context.saves / context.key[:16] / config.name
        named: dict[str, Any] = {"to": to, "kind": config.export.kind, "name": config.name, "kept": kept}
        return export(folder, source=context.inputs[reads[0]], records=run.records, **named)

    keys = {"to", "kind"} if {"gguf", "ollama"} & set(to) else {"to"}
    section = config.export.model_copy(update={"to": to})
    return [step("export", section, export, reads=reads, base=config, keys=keys)]


def step(
    name: str,
    section: Section,
    work: Callable[[Path, Context], dict[str, Any]],
    *,
    reads: tuple[str, ...] = (),
    together: bool = False,
    sources: Mapping[str, Sequence[str]] | None = None,
    base: Config | None = None,
    files: Callable[[], list[dict[str, Any]]] | None = None,
    named: Mapping[str, list[str]] | None = None,
    keys: set[str] | None = None,
    **more: Any,
) -> Step:
    """A `Step` whose settings are a section of the configuration and ``more``.

    Args:
        sources: outside text by the key that names it; it counts by its content, not by where it lies.
        files: other files from outside, as `Step.sources` has them.
        named: what is from outside, by the key that names it; None: ``sources``.
        keys: of the section, those that count; None: all but what changes no result.
    """
    given = sources or {}
    settings = (
        section.model_dump(
            mode="json", include=keys, exclude=_IMMATERIAL | _IMMATERIAL_OF.get(name, set()) | set(given)
        )
        | more
    )
    outside = named or {role: [text] if isinstance(text, str) else list(text) for role, text in given.items()}

    def record() -> dict[str, Any]:
        assert base is not None
        found = _resolve(base.model.base)
        return found.public() if name == "export" else found.record()

    def timed(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.model import backend

        before = backend.seconds_importing()
        figures = work(folder, context)
        return {**figures, "seconds_importing": round(backend.seconds_importing() - before, 2)}

    def describe_sources() -> list[dict[str, Any]]:
        return [
            {**entry, "role": role}
            for role, text in given.items()
            if text
            for entry in provenance.describe(text)
        ] + (files() if files else [])

    return Step(
        name,
        settings,
        timed,
        reads,
        describe_sources if given or files else None,
        record if base is not None else None,
        together,
        dict(outside),
    )
