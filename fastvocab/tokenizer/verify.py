"""Prove that an extended tokenizer is its base and that nothing else has moved.

Everything is asked of the files as they were written: through the tokenizers library, through plain
``AutoTokenizer``, and through SentencePiece where there is such a file.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastvocab.errors import ModelError
from fastvocab.tokenizer import folder, proofs
from fastvocab.tokenizer.base import Base, read
from fastvocab.tokenizer.measure import lines_of
from fastvocab.tokenizer.proofs import Proof, Texts
from fastvocab.tokenizer.text import read_texts
from fastvocab.unicode import dominant_scripts, letter_scripts

__all__ = ["Proof", "Texts", "check", "require", "verify"]


def verify(base: Base, extended: Base, scripts: frozenset[str], texts: Texts) -> list[Proof]:
    """Run every proof on an extended tokenizer folder.

    Args:
        base: the base, as `base.read` gives it.
        extended: the extended folder, likewise.
        scripts: the target scripts.
        texts: lines to compare on, beside the built-in ones.
    """
    auto_base, auto = folder.load_auto(base.folder), folder.load_auto(extended.folder)
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
    if extended.proto is not None:
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


def check(base: Path, extended: Path, corpus: Path | None = None) -> dict[str, Any]:
    """Compare any extended tokenizer folder with its base.

    Args:
        base: folder of the base tokenizer.
        extended: folder of the extended one, made by fastvocab or anything else.
        corpus: jsonl file with ``{"text"}`` in the target language, for the round trip.

    Returns:
        ``passed``, ``scripts``, ``new_tokens``, and ``proofs`` with name, passed and detail of each.
    """
    one, two = read(base), read(extended)
    added = proofs.new_ids(one, two)
    spelt = "".join(text or "" for text, _ in proofs.described(one, list(added)))
    scripts = dominant_scripts(letter_scripts("".join(char for char in spelt if char > "\x7f")), share=0.05)
    texts = Texts(heldout=lines_of(read_texts(corpus)) if corpus else [])
    results = verify(one, two, scripts, texts)
    return {
        "passed": all(proof.passed for proof in results),
        "scripts": sorted(scripts),
        "new_tokens": len(added),
        "proofs": [asdict(proof) for proof in results],
    }
