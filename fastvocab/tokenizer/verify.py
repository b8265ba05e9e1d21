"""Prove that an extended tokenizer is its base and that nothing else has moved.

Everything is asked of the files as they were written: through the tokenizers library, through plain
``AutoTokenizer``, and through SentencePiece where there is such a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastvocab.errors import ModelError
from fastvocab.tokenizer import folder, proofs
from fastvocab.tokenizer.base import Base, read
from fastvocab.tokenizer.guard import Guard
from fastvocab.tokenizer.measure import encode_all, lines_of, measure
from fastvocab.tokenizer.proofs import Proof, Texts
from fastvocab.tokenizer.text import collector_paused, require_unicode
from fastvocab.unicode import dominant_scripts, letter_scripts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

#: Lines of a text (corpus, replay, held-out) that are read: they are held in memory, and each proof goes over all.
MOST_LINES = 20_000

__all__ = ["Proof", "Texts", "check", "require", "rows", "verify"]


def verify(
    base: Base,
    extended: Base,
    scripts: frozenset[str],
    texts: Texts,
    auto_base: PreTrainedTokenizerFast | None = None,
) -> list[Proof]:
    """Run every proof on an extended tokenizer folder.

    Args:
        base: the base, as `base.read` gives it.
        extended: the extended folder, likewise.
        scripts: the target scripts.
        texts: lines to compare on, beside the built-in ones.
        auto_base: the base as `folder.load_auto` gives it, where it is loaded already (2 s for Llama-3).
    """
    auto_base = auto_base or folder.load_auto(base.folder)
    auto = folder.load_auto(extended.folder)
    results = [
        proofs.old_ids(base, extended),
        proofs.special_tokens(base, extended),
        proofs.chat_template(base, extended, auto_base, auto),
        proofs.same_settings(auto_base, auto),
        proofs.other_text(base, extended, scripts, texts.replay),
        proofs.reachable(base, extended),
        proofs.round_trip(base, extended, texts),
        proofs.loaders(base, extended, auto_base, auto, texts),
    ]
    if extended.proto is not None or extended.disagreement is not None:
        results.append(proofs.sentencepiece_file(base, extended, texts))
    return results


def require(results: list[Proof]) -> None:
    """Raise at the first proof that fails.

    Raises:
        ModelError: naming the proof, with its figures and first counterexamples.
    """
    failed = [proof for proof in results if not proof.passed]
    if failed:
        names = ", ".join(proof.name for proof in failed)
        raise ModelError(
            f"the extended tokenizer does not hold up: {names}: {failed[0].detail}",
            rule="an extended tokenizer leaves everything of its base in place",
            fix="nothing was written; please report this base tokenizer and script",
        )


@collector_paused()
def check(base: Path, extended: Path, corpus: Iterable[str] = ()) -> dict[str, Any]:
    """Compare any extended tokenizer folder with its base.

    Args:
        base: folder of the base tokenizer.
        extended: folder of the extended one, made by fastvocab or anything else.
        corpus: texts to measure on and to compare, their first 20,000 lines. Lines with the target script must
            decode to themselves, lines without it must keep their ids.

    Returns:
        ``passed``, ``scripts``, ``new_tokens``, ``proofs`` (name, passed and detail of each), and, where
        there is a corpus, ``corpus``: the figures of `measure.measure` for ``base`` and ``extended``, and
        ``never_fired``, the new tokens that do not occur in it.

    Raises:
        ModelError: if one of the folders holds no tokenizer that can be read.
        DataError: if a text holds a lone surrogate.
    """
    one, two = read(base), read(extended)
    added = proofs.new_ids(one, two)
    spelt = "".join(
        token if token in two.added else text or ""
        for token, (text, _) in zip(added, proofs.described(one, list(added)))
    )
    scripts = dominant_scripts(letter_scripts("".join(char for char in spelt if char > "\x7f")), share=0.05)
    valid = (require_unicode(text, f"text {number}") for number, text in enumerate(corpus, 1))
    lines = list(islice((line for text in valid for line in lines_of([text])), MOST_LINES))
    guard = Guard(scripts)
    target = [guard.has_target(line) for line in lines]
    texts = Texts(
        replay=[line for line, is_target in zip(lines, target) if not is_target],
        heldout=[line for line, is_target in zip(lines, target) if is_target],
    )
    results = verify(one, two, scripts, texts)
    report: dict[str, Any] = {
        "passed": all(proof.passed for proof in results),
        "scripts": sorted(scripts),
        "new_tokens": len(added),
        "proofs": [asdict(proof) for proof in results],
    }
    if lines:
        unused = set(added.values()).difference(*encode_all(two.tokenizer, lines))
        report["corpus"] = {
            "base": measure(one.tokenizer, lines),
            "extended": measure(two.tokenizer, lines, new_ids=frozenset(added.values())),
            "never_fired": len(unused),
        }
    return report


def rows(results: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Proofs as rows of a table: name, ``ok`` or ``FAILED``, and a figure.

    Args:
        results: proofs as `check` returns them and merge.json holds them.
    """
    table = []
    for proof in results:
        name = str(proof["name"]).replace("_", " ")
        table.append((name, "ok" if proof["passed"] else "FAILED", _figure(proof["name"], proof["detail"])))
    return table


#: The figure of each proof, from its detail.
_FIGURES = {
    "old_ids_identical": "{tokens:,} tokens, {moved:,} moved",
    "special_tokens_identical": "{tokens:,} special and added tokens, {changed:,} changed",
    "other_text_identical": "{lines:,} lines, {characters:,} characters, {wrong:,} changed{shorter}",
    "new_tokens_reachable": "{new_tokens:,} tokens, {unreachable:,} unreachable, {fragments:,} byte fragments",
    "round_trip_exact": "{lines:,} lines, {wrong:,} wrong, {inexact_in_the_base_too:,} inexact as in the base",
    "same_ids_after_reload": "{lines:,} lines, {changed:,} changed",
    "sentencepiece_file_agrees": "{lines:,} lines, {unequal:,} unequal",
}


def _figure(name: str, detail: Mapping[str, Any]) -> str:
    if name == "chat_template_identical":
        return "no template" if not detail["template"] else f"{detail.get('ids_changed', 0)} ids changed"
    if name == "settings_identical":
        changed = ", ".join(detail["changed"])
        return f"{detail['settings']} settings, {f'changed: {changed}' if changed else '0 changed'}"
    values = dict(detail)
    if name == "other_text_identical":
        values["lines"] = detail["replay_lines"] + detail["built_in_lines"]
        shorter = detail.get("shared", {}).get("characters_one_step_shorter", 0)
        values["shorter"] = f"; {shorter:,} that share first bytes take fewer tokens" if shorter else ""
        values["wrong"] = detail["lines_changed"] + detail["characters_changed"]
    if name == "new_tokens_reachable":
        values["fragments"] = len(detail["byte_fragments"])
    return _FIGURES[name].format(**values) if name in _FIGURES else ""
