"""What the tokenizer stage says and writes down about what it found."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastvocab.console import say
from fastvocab.tokenizer.find import Found, Request
from fastvocab.tokenizer.pretokenizer import Repair
from fastvocab.tokenizer.words import Words


def method(found: Found, size: int, unit: str) -> dict[str, Any]:
    """What one method came to, with the curve at round sizes."""
    most = len(found.pruned.grown.tokens)
    sizes = [n for n in (0, 100, 250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000) if n <= most]
    return {
        "method": found.method,
        "pieces": found.pieces,
        "tokens": most,
        "unit": unit,
        "heldout_units": found.curve.words,
        "tokens_per_unit": found.heldout(size),
        "curve": {str(n): found.heldout(n) for n in sorted({*sizes, size, most})},
        "size": found.choice.size,
        "size_because": found.choice.reason,
        "seconds": found.seconds,
    }


def say_repair(repaired: Repair) -> None:
    """Say what the pre-tokenizer costs, and whether it was repaired."""
    before, after = repaired.before, repaired.after
    if repaired.changed:
        say(
            f"pre-tokenizer: a {before.unit} needs {before.tokens:.2f} tokens however many merges there are; "
            f"repaired for this script: {after.tokens:.2f}"
        )
    elif before.unit == "word" and before.tokens > 1.02:
        causes = ", ".join(f"{name} {n:g}" for name, n in before.causes.items())
        say(
            f"pre-tokenizer: a word needs {before.tokens:.2f} tokens however many merges there are (cuts for "
            f"each 1,000 words: {causes}); {repaired.reason}"
        )


def say_found(found: list[Found], request: Request, unit: str) -> None:
    """Say which method was taken, by how much it is better, and why so many tokens."""
    best = found[0]
    size = best.choice.size
    gain = f"{best.heldout(0):.2f} -> {best.heldout(size):.3f} tokens a held-out {unit}"
    line = f"{best.method}: {size:,} new tokens, {gain}"
    for other in found[1:]:
        line += f"; {other.method} {other.heldout(size):.3f} ({other.heldout(size) / best.heldout(size) - 1:+.1%})"
    say(line)
    if request.new_tokens is None:
        say(f"{size:,} new tokens: {best.choice.reason}")
    if request.cost is not None:
        cost = request.cost.describe(size)
        say(
            f"their rows: {cost['parameters']:,} parameters, {cost['megabytes']:,} MB "
            f"({cost['megabytes_in_training']:,} in full training); logits take "
            f"{cost['logits_share_before']:.0%} -> {cost['logits_share_after']:.0%} of a token's multiply-adds"
        )


def reasons(found: Found) -> str:
    """Why candidates were passed over, with their numbers."""
    counts = Counter(found.pruned.grown.rejected)
    counts += Counter({"no target-script character": found.ascii_only, "never fire": found.pruned.dropped})
    return "; ".join(f"{number:,} {name}" for name, number in counts.most_common()) or "no candidates"


def shortfall(given: int, asked: int | str, words: Words, found: Found) -> str | None:
    """Why there are fewer tokens than asked for; None where there are not."""
    if asked == "auto" or given >= int(asked):
        return None
    return (
        f"{given:,} new tokens instead of {asked:,}: the text ({words.bytes:,} bytes, {len(words.counts):,} "
        f"distinct words) supports {found.pieces:,} pieces; passed over: {reasons(found)}"
    )


def say_gain(before: dict[str, Any], after: dict[str, Any], alone: dict[str, Any]) -> None:
    """Say what was gained on held-out text, beside a model of its own for the language."""
    key = f"tokens_per_{before['unit']}"
    if before[key] and after[key]:
        say(
            f"tokens per {before['unit']} on held-out text: {before[key]:.2f} -> {after[key]:.2f} "
            f"(a fresh SentencePiece model of as many pieces: {alone[key]:.2f})"
        )
