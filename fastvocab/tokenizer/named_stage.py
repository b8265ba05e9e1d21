"""The tokenizer stage where tokens are named: add them, write, prove, count."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastvocab import files
from fastvocab.config.models import NamedToken
from fastvocab.console import say
from fastvocab.errors import ModelError
from fastvocab.tokenizer import base as bases
from fastvocab.tokenizer import folder, named, probes, proofs, samples, verify
from fastvocab.tokenizer.base import Base
from fastvocab.tokenizer.measure import lines_of
from fastvocab.tokenizer.named import Named
from fastvocab.tokenizer.proofs import Proof, Texts
from fastvocab.tokenizer.proofs.common import EXAMPLES, differences
from fastvocab.tokenizer.text import collector_paused, read_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

#: Tags that are shown one by one; the codes of items are thousands.
_SHOWN = 12


@collector_paused()
def build(
    base: Path, out: Path, tokens: Sequence[NamedToken], *, reuse: bool = False, replay: Path | None = None
) -> dict[str, Any]:
    """Add named tokens alone to a base tokenizer, prove it, and write the folder.

    Writes what `fastvocab.tokenizer.stage.build` writes; a line of ``new_tokens.jsonl`` also has ``init``, ``special``
    and ``replaces`` (`named.Tag`).

    Args:
        base: folder of the base tokenizer.
        out: an empty folder.
        reuse: in the place of reserved tokens of the base.
        replay: jsonl file of text that must keep its ids, beside what is built in.

    Returns:
        The figures, as in ``merge.json``: ``named`` (each token with its id, how many tokens the base reads in its
        place, whether it was there), ``new_tokens`` (rows that are added), ``proofs``.

    Raises:
        ModelError: the base cannot be extended, or a token cannot be one in it (`named.add`, `named.faults`).
    """
    started = time.perf_counter()
    source = bases.read(base)
    say(f"base tokenizer: {source.kind}, {source.next_id:,} ids")
    own = lines_of(islice(read_texts(replay), verify.MOST_LINES))[: verify.MOST_LINES] if replay else []
    found = named.add(source, source, tokens, reuse=reuse)
    loaded = folder.load_auto(source.folder)
    folder.copy_settings(source.folder, out, loaded, found.spec)
    figures = write(source, found, out, loaded, own)
    figures |= {
        "kind": str(source.kind),
        "old_size": source.next_id,
        "new_size": source.next_id + figures["new_tokens"],
        "seconds": {"total": round(time.perf_counter() - started, 2)},
    }
    files.write_json(out / "merge.json", figures)
    return figures


def add_to(
    source: Base, out: Path, tokens: Sequence[NamedToken], loaded: PreTrainedTokenizerFast, *, reuse: bool
) -> dict[str, Any]:
    """Add named tokens to a folder that has tokens which were learnt; returns the figures.

    A ``tokenizer.model`` goes: SentencePiece reads text around its own user-defined symbols otherwise than the
    tokenizers library does around added tokens, and the two files must agree.
    """
    (out / "tokenizer.model").unlink(missing_ok=True)
    if reuse:
        raise ModelError(
            "tokenizer.reuse_reserved together with tokens that are learnt",
            rule="new ids follow one another, and reserved tokens lie elsewhere",
            fix="leave tokenizer.reuse_reserved out, or add the named tokens alone (recipe special_tokens)",
        )
    return write(source, named.add(source, bases.read(out), tokens), out, loaded, [])


def write(
    source: Base, found: Named, out: Path, loaded: PreTrainedTokenizerFast, own: list[str]
) -> dict[str, Any]:
    """Write tokenizer.json and ``new_tokens.jsonl`` of named tokens into a folder with its settings, and prove them."""
    files.write_text(out / "tokenizer.json", json.dumps(found.spec, ensure_ascii=False) + "\n")
    _patch_settings(out / "tokenizer_config.json", found)
    listed = out / "new_tokens.jsonl"
    rows = listed.read_text(encoding="utf-8") if listed.is_file() else ""
    rows += "".join(json.dumps(tag.row(), ensure_ascii=False) + "\n" for tag in found.tags)
    files.write_text(listed, rows)
    extended = bases.read(out)
    wrong = named.faults(source, extended, found.tags)
    if wrong:
        raise ModelError(
            "tokenizer.tokens: " + "; ".join(wrong[:5]),
            rule="a named token is found as one wherever it stands, and comes back as it was",
            fix="choose another text for it, such as plain letters in angle brackets",
        )
    results = _prove(source, extended, found, loaded, own, wrong)
    verify.require(results)
    _say(found)
    return {
        "new_tokens": sum(tag.replaces is None for tag in found.tags),
        "named": [
            {"token": tag.token, "id": tag.id, "pieces_before": len(tag.base_ids), "special": tag.special,
             "init": tag.init, "replaces": tag.replaces, "was_there": False}
            for tag in found.tags
        ] + [
            {"token": token, "id": i, "pieces_before": 1, "was_there": True} for token, i in found.known.items()
        ],
        "proofs": [{"name": p.name, "passed": p.passed, "detail": p.detail} for p in results],
    }  # fmt: skip


def _prove(
    source: Base,
    extended: Base,
    found: Named,
    loaded: PreTrainedTokenizerFast,
    own: list[str],
    wrong: list[str],
) -> list[Proof]:
    gone = {tag.replaces for tag in found.tags}
    before, after = source.vocab | source.added, extended.vocab | extended.added
    moved = [token for token, i in before.items() if token not in gone and after.get(token) != i]
    lines = [
        *own,
        *samples.built_in(),
        *samples.other_scripts(frozenset()),
        *probes.mixed(frozenset()),
        *probes.spaces(),
    ]
    lines += [f"x {content} y{content}{content}z" for content in source.added if content not in gone]
    lines = [line for line in lines if not any(tag.token in line for tag in found.tags)]
    changed = [] if extended.merges != source.merges else differences(source, extended, lines)
    texts = [source.tokenizer, extended.tokenizer]
    ids = [encoding.ids for encoding in source.tokenizer.encode_batch_fast(lines)]
    read = [tokenizer.decode_batch(ids, skip_special_tokens=False) for tokenizer in texts]
    garbled = [line for line, a, b in zip(lines, *read) if a != b and not any(g and g in line for g in gone)]
    auto = folder.load_auto(extended.folder)
    return [
        Proof(
            "old_ids_identical",
            not moved,
            {"tokens": len(before), "moved": len(moved), "examples": moved[:EXAMPLES]},
        ),
        Proof(
            "text_without_them_identical",
            not (changed or garbled),
            {"lines": len(lines), "changed": len(changed), "decoded_otherwise": len(garbled),
             "examples": [*changed, *garbled][:EXAMPLES]},
        ),
        Proof("named_tokens_found", not wrong, {"tokens": len(found.tags), "examples": wrong[:EXAMPLES]}),
        proofs.chat_template(source, extended, loaded, auto),
        proofs.same_settings(loaded, auto),
        proofs.loaders(source, extended, loaded, auto, Texts(own, [])),
    ]  # fmt: skip


def _patch_settings(path: Path, found: Named) -> None:
    """tokenizer_config.json lists added tokens a second time, in folders that transformers 4 wrote."""
    config = files.read_json(path)
    gone = {tag.replaces for tag in found.tags if tag.replaces}
    decoder = config.get("added_tokens_decoder")
    if isinstance(decoder, dict):
        kept = {i: entry for i, entry in decoder.items() if entry.get("content") not in gone}
        entries = {e["id"]: e for e in found.spec["added_tokens"]}
        for i, entry in entries.items():
            if str(i) in kept:
                kept[str(i)] = {**kept[str(i)], "special": entry["special"]}
        new = {str(t.id): {k: v for k, v in entries[t.id].items() if k != "id"} for t in found.tags}
        config["added_tokens_decoder"] = kept | new
    for name in ("additional_special_tokens", "extra_special_tokens"):
        if isinstance(listed := config.get(name), list):
            config[name] = [t for t in listed if (t.get("content") if isinstance(t, dict) else t) not in gone]
    files.write_json(path, config)


def _say(found: Named) -> None:
    for tag in found.tags[:_SHOWN]:
        place = f", in the place of {tag.replaces}" if tag.replaces else ""
        kind = "special" if tag.special else "plain"
        say(f"  {tag.token}  id {tag.id:,}, {kind}{place}; {len(tag.base_ids)} tokens before")
    if len(found.tags) > _SHOWN:
        say(f"  ... and {len(found.tags) - _SHOWN:,} more")
    for token, i in found.known.items():
        say(f"  {token}  is one token of the base already (id {i:,}): it stays as it is")
    fresh = [tag for tag in found.tags if tag.replaces is None]
    if fresh and found.reserved >= len(fresh):
        say(
            f"  the base has {found.reserved:,} reserved tokens in a row: with tokenizer.reuse_reserved=true no row "
            "would be added"
        )
