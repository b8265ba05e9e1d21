"""What would stop a run later, found before it begins."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastvocab import console, files
from fastvocab.config import STAGES, Config
from fastvocab.corpus import chat, minhash, sources
from fastvocab.corpus.read import documents_of, rows
from fastvocab.corpus.spread import Spread
from fastvocab.errors import ConfigError, DataError, DependencyError, FastvocabError, ModelError
from fastvocab.evaluate import tasks
from fastvocab.items import fields
from fastvocab.items.sequences import room
from fastvocab.layout import Layout
from fastvocab.model import chat_vector, manifest, reference
from fastvocab.model.reference import Base
from fastvocab.plan import bases, exports, memory, outlook, trackers
from fastvocab.plan.device import Device
from fastvocab.plan.outlook import Outlook
from fastvocab.tokenizer import base as tokenizers
from fastvocab.tokenizer import named
from fastvocab.train.instruct import template_text

#: Starts of rows that count text (`fastvocab.model.initialise`, which imports torch with its methods).
_OF_TEXT = ("counted", "calibrated", "distilled")


def check(
    config: Config,
    base: Base | None,
    device: Device,
    *,
    room: bool = True,
    measured: float | None = None,
    fresh: bool = False,
) -> tuple[Config, Outlook | None]:
    """Find what would stop the run later; all of it in one error.

    Args:
        base: the base model, None where it is not on this machine yet.
        device: what it is to run on.
        room: also refuse what does not fit the memory or the disk; a plan shows that instead.
        measured: tokens a second of steps that were just taken, if any were.
        fresh: what an existing run has done does not count.

    Returns:
        (`settle`'s configuration, what it takes; None where there is no base to tell from).

    Raises:
        FastvocabError: of the kind of the first problem, naming all.
    """
    problems: list[FastvocabError] = []

    def attempt(test: Any) -> Any:
        try:
            return test()
        except FastvocabError as error:
            problems.append(error)

    if base is not None:
        attempt(lambda: _check_place(config, base, "model.base"))
    attempt(lambda: trackers.check(config.track))
    attempt(lambda: tasks.check(config.evaluate.tasks))
    attempt(lambda: exports.check(config, base, reach=room))
    # what a finished stage was made from may be gone, on another machine for one: its record stands for it
    done = set() if fresh else {name for name in STAGES if _finished(config, name)}
    if "corpus" not in done:
        attempt(lambda: _check_corpus(config))
        for given in (config.corpus.train, config.corpus.replay):
            if given:
                attempt(partial(_check_text, config, given))
    if config.recipe != "new_language":
        attempt(lambda: _check_init(config))
    if config.recipe == "item_tokens":
        attempt(lambda: _check_items(config, read="corpus" not in done))
    if config.instruct.train and "instruct" not in done:
        attempt(lambda: _check_chat(config))
    if config.instruct.chat_vector and config.pretrain.layers == "full":
        problems.append(
            ConfigError(
                "instruct.chat_vector together with pretrain.layers=full",
                rule="the difference is added under an adapter; layers that trained themselves would hide it",
                fix="pretrain.layers=lora, or instruct.train in place of the chat_vector",
            )
        )
    attempt(lambda: _check_layers(config, base))
    if config.recipe == "special_tokens" and config.evaluate.control and config.instruct.reply is None:
        problems.append(
            ConfigError(
                "evaluate.control without instruct.reply",
                rule="the control is taught the same replies without the tags, which their layout tells apart",
                fix="instruct.reply='<think>{reasoning}</think><answer>{output}</answer>', or evaluate.control=false",
            )
        )
    if config.instruct.chat_vector and base is not None:
        # to be fetched now, not after hours of pretraining
        known = _added(config) if "instruct" in done else []
        attempt(lambda: _check_chat_vector(config, base, known, fetch=room))
    ahead = None
    if base is not None:
        config = attempt(lambda: settle(config, base)) or config
        attempt(lambda: _check_lengths(config, base))
        if reference.is_whole(base):  # a config.json alone has neither tokenizer nor template
            tokenizer = attempt(lambda: tokenizers.read(base.tokenizer_folder))
            if tokenizer is not None:
                attempt(lambda: _check_tokens(config, tokenizer))
            attempt(lambda: _check_template(config, base))
        ahead = attempt(lambda: outlook.look(config, base, device, measured=measured))
    if ahead is not None:
        if not ahead.sizes.own_layers:
            attempt(lambda: _check_targets(config, ahead))
        if room:
            attempt(lambda: ahead.require_disk(config))
            attempt(lambda: ahead.require_memory(config))
    if len(problems) == 1:
        raise problems[0]
    if problems:
        several = type(problems[0])(f"{len(problems)} things stand in the way:")
        several.message += "".join(f"\n- {problem}" for problem in problems)
        raise several
    return config, ahead


def _check_corpus(config: Config) -> None:
    section = config.corpus
    minhash.check_threshold(section.near_duplicates)
    Spread(section.executor, slurm=section.slurm.model_dump()).check()


def _check_layers(config: Config, base: Base | None) -> None:
    """Layers that are to train themselves: no adapter may be there, and no 4-bit weight."""
    stages = [stage for stage in memory.stages(config) if getattr(config, stage).layers == "full"]
    if not stages:
        return
    keys = ", ".join(f"{stage}.layers=full" for stage in stages)
    if config.model.load_in_4bit:
        raise ConfigError(
            f"{keys} together with model.load_in_4bit",
            rule="4-bit weights do not train",
            fix="set one of them",
        )
    earlier = base is not None and base.checkpoint is not None and manifest.peek(base.checkpoint)["lora"]
    after_adapter = config.recipe == "new_language" and stages == ["instruct"]
    if earlier or after_adapter:
        raise ConfigError(
            f"{keys}: there is an adapter by then, {'of the base' if earlier else 'of pretraining'}",
            rule="training goes on with the adapter that is there",
            fix="leave it out" if earlier else "pretrain.layers=full, with instruct.layers=lora on top of it",
        )


def _check_init(config: Config) -> None:
    """Ways of starting rows that a recipe without text has nothing for."""
    init, items = config.extend.init, config.recipe == "item_tokens"
    wrong = init == "auto" or init in _OF_TEXT or (init.startswith("item_") and not items)
    if wrong or (items and init.startswith(("clone", "description"))):
        known = "item_centroid, item_text, mean, random" if items else "subtokens, clone:TOKEN, description"
        raise ConfigError(
            f"extend.init={init} in the recipe {config.recipe}",
            rule="there is no text that tokens could be counted in",
            fix=f"extend.init= one of {known}",
        )


def _check_items(config: Config, *, read: bool) -> None:
    """The first interaction has its fields, what codes or vectors come from is there, and a block has room."""
    section, codes = config.corpus.items, config.tokenizer.items
    if read:
        first = next(rows(section.interactions))
        named = {key: getattr(section, key) for key in ("user", "item", "time")}
        if (problem := fields.absent(first, named)) is not None:
            raise problem
        if section.catalogue and (
            problem := fields.absent(next(rows(section.catalogue)), {"item": section.item})
        ):
            raise problem
    for name in (codes.codes, codes.vectors if codes.vectors not in ("cooccurrence", "text") else None):
        if name is not None:
            sources.resolve(name)
    if codes.codes is None:
        room(config.pretrain.block, codes.levels + 1)
        if find_spec("sklearn") is None:
            raise DependencyError("residual k-means needs scikit-learn", fix="pip install 'fastvocab[items]'")
    elif config.extend.init == "item_centroid":
        raise ConfigError(
            "extend.init is item_centroid, and the codes are from a file",
            rule="codes from a file have no centroids",
            fix="extend.init=item_text",
        )


def _check_text(config: Config, given: tuple[str, ...]) -> None:
    """All is there, and files have a document that can be read: that much is seen without reading on."""
    found = sources.resolve(given)
    if all(source.kind == "file" for source in found):
        next(documents_of(found, config.corpus.text_key, config.corpus.unit, None))


def _finished(config: Config, stage: str) -> bool:
    return any((Path(config.runs).expanduser() / config.name).glob(f"[0-9]0-{stage}/stage.json"))


def _check_place(config: Config, model: Base, key: str) -> None:
    """A run that stood on what lies in its own folder would replace it, stage by stage."""
    folder = Path(config.runs).expanduser() / config.name
    for place in (model.checkpoint, model.folder):
        if place is not None and place.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(
                f"{key}: {place} lies in the folder of the run itself, {folder}",
                rule="a run writes its own stages over what is there",
                fix=f"give the new run a name of its own: name={config.name}-2",
            )


def settle(config: Config, base: Base) -> Config:
    """``config`` with the adapter that training will use: that of the checkpoint it starts from, if it has one.

    Raises:
        ConfigError: another one was asked for.
    """
    from fastvocab.train.stage import own_adapter

    saved = manifest.peek(base.checkpoint).get("lora") if base.checkpoint else None
    if saved is None:
        return config
    lora = own_adapter(config.pretrain.lora, saved)
    return config.model_copy(update={"pretrain": config.pretrain.model_copy(update={"lora": lora})})


def _check_chat(config: Config) -> None:
    """The first rows must parse: better now than after hours of pretraining."""
    for key in ("train", "replay"):
        given, dropped = getattr(config.instruct, key), Counter[str]()
        own: dict[str, Any] = {}
        if key == "train":
            reply = config.instruct.reply
            own = {"columns": config.instruct.columns, "reply": Layout(reply) if reply else None}
        if given and next(chat.chat_rows(given, dropped=dropped, **own), None) is None:
            reasons = [f"{count} of them: {chat.REASONS[reason]}" for reason, count in dropped.most_common()]
            raise DataError(
                f"instruct.{key}: {', '.join(given)} has no usable conversation in {dropped.total()} rows"
                + "".join(f"\n  {reason}" for reason in reasons),
                rule="messages of user and assistant in turns, all with text, the last one the assistant's",
                fix=f"mend the rows, or name others: instruct.{key}=FILE",
            )


def _check_chat_vector(config: Config, base: Base, known: list[str], *, fetch: bool) -> None:
    """
    Args:
        known: name of the chat model that the finished stage was made with, which may be gone by now.
    """
    try:
        chat = bases.find_chat(config, fetch=fetch)
    except ModelError:
        if known == [config.instruct.chat_vector]:
            return
        raise
    if chat is None:
        return
    _check_place(config, chat, chat_vector.KEY)
    chat_vector.check(base, chat)
    if reference.is_whole(base):
        own, theirs = (tokenizers.read(model.tokenizer_folder) for model in (base, chat))
        earlier = manifest.peek(base.checkpoint)["extensions"] if base.checkpoint else []
        first = min((entry["first"] for entry in earlier), default=None)
        chat_vector.check_tokens(chat, own.vocab | own.added, theirs.vocab | theirs.added, first=first)
    if template_text(config.instruct) is None and not _has_template(chat):
        raise ModelError(
            f"{chat_vector.KEY}: {chat.name} has no chat template",
            fix="give the one it was tuned with: instruct.template=FILE",
        )


def _added(config: Config) -> list[str]:
    """Name of the chat model that the finished instruct stage was made with, in a list; none if there was none."""
    path = Path(config.runs).expanduser() / config.name / "50-instruct" / "stage.json"
    return files.read_json(path).get("named", {}).get("chat_vector", []) if path.is_file() else []


def _check_tokens(config: Config, base: tokenizers.Base) -> None:
    """Named tokens and the tokens that their rows are to start from."""
    section, wrong = config.tokenizer, []
    if not section.tokens:
        return
    named.add(base, base, section.tokens, reuse=section.reuse_reserved)
    for one in section.tokens:
        kind, _, said = (one.init or config.extend.init).partition(":")
        if kind == "clone" and (near := named.nearest(base, said)) is not None:
            hint = f" (there is: {', '.join(near)})" if near else ""
            wrong.append(f"{one.token} clone:{said}: the base reads this as several tokens{hint}")
    if wrong:
        raise ModelError(
            "tokenizer.tokens: " + "; ".join(wrong),
            rule="the reference is one token of the base, as its vocabulary spells it or as text",
            fix="choose a token of the base's tokenizer.json",
        )


def _check_lengths(config: Config, base: Base) -> None:
    limit = (base.config.get("text_config") or base.config).get("max_position_embeddings")
    keys = {"pretrain": "block", "instruct": "max_length"}
    lengths = {f"{s}.{keys[s]}": getattr(getattr(config, s), keys[s]) for s in memory.stages(config)}
    wrong = [key for key, value in lengths.items() if isinstance(limit, int) and value > limit]
    if wrong:
        raise ConfigError(
            "; ".join(f"{key} is {lengths[key]}" for key in wrong),
            rule=f"{base.name} reads at most {limit} tokens (max_position_embeddings)",
            fix=" ".join(f"{key}={limit}" for key in wrong),
        )


def _check_template(config: Config, base: Base) -> None:
    if not config.instruct.train:
        return
    if config.instruct.template is not None:
        template_text(config.instruct)
        return
    settings = _tokenizer_settings(base)
    if not _has_template(base) and settings and not settings.get("eos_token"):
        raise ConfigError(
            f"{base.name} has neither a chat template nor an end-of-text token, so no reply could end",
            fix="give a template with instruct.template=FILE, or leave instruct.train out",
        )


def _tokenizer_settings(model: Base) -> dict[str, Any]:
    path = model.tokenizer_folder / "tokenizer_config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:  # UnicodeDecodeError is one too
        raise ModelError(f"{path} is no JSON: {error}", fix="fetch that file again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} is no JSON object", fix="fetch that file again")
    return found


def _has_template(model: Base) -> bool:
    file = model.tokenizer_folder / "chat_template.jinja"
    return file.is_file() or bool(_tokenizer_settings(model).get("chat_template"))


def _check_targets(config: Config, outlook: Outlook) -> None:
    known = outlook.architecture.linears
    wanted = config.pretrain.lora.targets
    if not set(wanted) & set(known):
        raise ConfigError(
            f"pretrain.lora.targets: {', '.join(wanted)}",
            rule=f"this model ({outlook.architecture.model_type}) has the linear modules {', '.join(sorted(known))}",
            fix="pretrain.lora.targets='[" + ", ".join(sorted(known)) + "]'",
        )
    if missing := sorted(set(wanted) - set(known)):
        console.warn(
            f"pretrain.lora.targets: this model has no {', '.join(missing)} and gets no adapter there; it has "
            f"{', '.join(sorted(known))}"
        )
