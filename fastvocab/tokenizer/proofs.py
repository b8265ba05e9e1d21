"""The proofs themselves: each compares an extended tokenizer with its base on one point.

A proof gives figures and its first counterexamples, and never raises for a failure.
"""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastvocab.tokenizer import byte_level, folder, samples, sentencepiece_base
from fastvocab.tokenizer.base import Base, Kind
from fastvocab.tokenizer.bpe import from_alphabet
from fastvocab.tokenizer.guard import ENGLISH_LOANS, Guard, protectable, shared_prefix
from fastvocab.tokenizer.measure import encode_all

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_EXAMPLES = 5  # counterexamples kept for each proof
_GROUP = 24
_RELOADED_LINES = 2000  # lines compared between loaders; AutoTokenizer is slower than the library alone
_MESSAGES = [
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "It's 4, naturally."},
]

#: What may stand before a token when its reachability is tried: nothing, or something it cannot merge with.
_BEFORE = ("", "\n", "1", "(", "\u00a0", "a")


@dataclass
class Proof:
    """One proof: its name, whether it holds, and figures with the first counterexamples."""

    name: str
    passed: bool
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Texts:
    """What the proofs are run on.

    Attributes:
        replay: lines of the base's own languages.
        heldout: lines of the target language.
    """

    replay: list[str] = field(default_factory=list)
    heldout: list[str] = field(default_factory=list)


def new_ids(base: Base, extended: Base) -> dict[str, int]:
    """Spelling to id of the tokens that ``extended`` has and ``base`` has not, in id order."""
    known = base.vocab.keys() | base.added.keys()
    added = {token: i for token, i in (extended.vocab | extended.added).items() if token not in known}
    return dict(sorted(added.items(), key=lambda item: item[1]))


def described(base: Base, tokens: list[str]) -> list[tuple[str | None, list[int]]]:
    """Text (None for a byte fragment) and base ids of each spelling."""
    module = byte_level if base.kind is Kind.BYTE_LEVEL else sentencepiece_base
    return module.describe(base, tokens)


def old_ids(base: Base, extended: Base) -> Proof:
    """Each token of the base has its id and spelling; new ids follow without a gap."""
    before, after = base.vocab | base.added, extended.vocab | extended.added
    moved = [(token, i, after.get(token)) for token, i in before.items() if after.get(token) != i]
    ids = list(new_ids(base, extended).values())
    contiguous = ids == list(range(base.next_id, base.next_id + len(ids)))
    merges_kept = extended.merges[: len(base.merges)] == base.merges
    return Proof(
        "old_ids_identical",
        not moved and contiguous and merges_kept,
        {
            "tokens": len(before),
            "moved": len(moved),
            "examples": moved[:_EXAMPLES],
            "new_ids_contiguous": contiguous,
            "old_merges_first": merges_kept,
        },
    )


def special_tokens(base: Base, extended: Base) -> Proof:
    """Each added token of the base is found in running text at its old id, and none were added."""
    texts = [f"x {content} y{content}{content}z" for content in base.added]
    wrong = _differences(base, extended, texts)
    same_list = base.spec.get("added_tokens") == extended.spec.get("added_tokens")
    detail = {
        "tokens": len(base.added),
        "changed": len(wrong),
        "examples": wrong[:_EXAMPLES],
        "same_list": same_list,
    }
    return Proof("special_tokens_identical", not wrong and same_list, detail)


def chat_template(
    base: Base, extended: Base, auto_base: PreTrainedTokenizerFast, auto: PreTrainedTokenizerFast
) -> Proof:
    """The chat template renders the same text, and the same ids."""
    name = "chat_template_identical"
    if not auto_base.chat_template:
        return Proof(name, not auto.chat_template, {"template": False})
    from jinja2 import TemplateError

    def render(tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]]) -> str:
        try:
            return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except TemplateError as error:  # a template may refuse a conversation: both must refuse alike
            return f"refused: {error}"

    pairs = [(render(auto_base, part), render(auto, part)) for part in (_MESSAGES, _MESSAGES[:1])]
    wrong = _differences(base, extended, [before for before, _ in pairs])
    same = all(before == after for before, after in pairs)
    return Proof(name, same and not wrong, {"template": True, "text_same": same, "ids_changed": len(wrong)})


def same_settings(auto_base: PreTrainedTokenizerFast, auto: PreTrainedTokenizerFast) -> Proof:
    """Padding side, special tokens map, BOS and EOS, model inputs: as plain AutoTokenizer loads them."""
    before, after = folder.settings(auto_base), folder.settings(auto)
    changed = {key: [before[key], after[key]] for key in before if before[key] != after[key]}
    return Proof("settings_identical", not changed, {"settings": len(before), "changed": changed})


def other_text(base: Base, extended: Base, scripts: frozenset[str], replay: list[str]) -> Proof:
    """Text without the target script has the same ids as before.

    Compared: the replay lines, code, English, emoji, digits, spacing, made-up words of every other Unicode
    script, and the assigned characters one by one. Characters that share their first bytes with the target
    script where the base does not merge these bytes (``shared``) are exempt, and counted.
    """
    guard = Guard(scripts)
    prefixes = _shared_prefixes(base, extended, scripts)

    def target(text: str) -> bool:
        return guard.has_target(text)

    def exempt(text: str) -> bool:
        return any(char.encode("utf-8", "replace").startswith(prefix) for char in text for prefix in prefixes)

    kept_whole = protectable(replay, scripts)
    own = [line for line in replay if kept_whole or not target(line)]
    english = [*samples.built_in(), ENGLISH_LOANS]
    fixed = [*english, *(line for line in samples.other_scripts(scripts) if not target(line))]
    if "Latn" not in scripts:
        fixed = [line for line in fixed if not target(line)]  # such as Greek, for its mathematical letters
    compared = [line for line in [*own, *fixed] if not exempt(line)] if prefixes else [*own, *fixed]
    chars = [char for char in samples.assigned() if not target(char)]
    singles = [char for char in chars if not exempt(char)] if prefixes else chars
    wrong = _differences(base, extended, compared)
    wrong_singles = _changed_characters(base, extended, singles)
    detail: dict[str, Any] = {
        "replay_lines": len(own),
        "replay_lines_in_target_script": len(replay) - len(own),
        "built_in_lines": len(fixed),
        "characters": len(singles),
        "lines_changed": len(wrong),
        "characters_changed": len(wrong_singles),
        "examples": (wrong + wrong_singles)[:_EXAMPLES],
    }
    if prefixes:
        shared = _changed_characters(base, extended, [char for char in chars if exempt(char)])
        detail["shared"] = {
            "first_bytes": sorted(prefix.hex(" ") for prefix in prefixes),
            "characters_one_step_shorter": len(shared),
            "examples": shared[:50],
        }
    return Proof("other_text_identical", not wrong and not wrong_singles, detail)


def _shared_prefixes(base: Base, extended: Base, scripts: frozenset[str]) -> set[bytes]:
    if base.kind is not Kind.BYTE_LEVEL:
        return set()
    raws = (from_alphabet(token) for token in new_ids(base, extended))
    return {p for raw in raws if raw is not None and (p := shared_prefix(raw, scripts)) is not None}


def reachable(base: Base, extended: Base) -> Proof:
    """The text of each new token encodes to it alone; byte fragments are only steps and are listed."""
    added = new_ids(base, extended)
    texts = {token: text for token, (text, _) in zip(added, described(base, list(added)))}
    fragments = [token for token, text in texts.items() if text is None]
    left = {token: text for token, text in texts.items() if text is not None}
    tokenizer = extended.tokenizer
    for before in _BEFORE:
        if not left:
            break
        lead = tokenizer.encode(before, add_special_tokens=False).ids
        encoded = encode_all(tokenizer, [before + text for text in left.values()])
        left = {
            token: text
            for (token, text), ids in zip(list(left.items()), encoded)
            if ids != [*lead, added[token]]
        }
    detail = {
        "new_tokens": len(added),
        "unreachable": len(left),
        "examples": list(left.values())[:_EXAMPLES],
        "byte_fragments": fragments,
    }
    return Proof("new_tokens_reachable", not left and len(texts) == len(added), detail)


def round_trip(base: Base, extended: Base, texts: Texts) -> Proof:
    """Encoding and decoding gives the text back: on held-out and replay lines and on random Unicode.

    Where the base itself does not (a normaliser, a byte it lacks), the result must be the base's own.
    """
    lines = [*texts.heldout, *texts.replay, *samples.built_in(), *random_unicode()]
    wrong: list[str] = []
    as_base = 0
    heldout_exact = len(texts.heldout)
    after = extended.tokenizer.decode_batch(
        list(encode_all(extended.tokenizer, lines)), skip_special_tokens=False
    )
    for place, (line, result) in enumerate(zip(lines, after)):
        if result != line:
            heldout_exact -= place < len(texts.heldout)
            ids = base.tokenizer.encode(line, add_special_tokens=False).ids
            as_base += 1
            if base.tokenizer.decode(ids, skip_special_tokens=False) != result:
                wrong.append(line)
    detail = {
        "heldout_lines": len(texts.heldout),
        "heldout_exact": heldout_exact,
        "lines": len(lines),
        "exact": len(lines) - as_base,
        "inexact_in_the_base_too": as_base - len(wrong),
        "wrong": len(wrong),
        "examples": wrong[:_EXAMPLES],
    }
    return Proof("round_trip_exact", not wrong, detail)


def random_unicode(count: int = 300, seed: int = 0) -> list[str]:
    """Random strings over the whole code space but surrogates, half of them from the BMP."""
    draw = random.Random(seed)

    def char() -> str:
        while True:
            code = draw.randrange(0x10000 if draw.random() < 0.5 else 0x110000)
            if not 0xD800 <= code < 0xE000:
                return chr(code)

    return ["".join(char() for _ in range(draw.randint(1, 40))) for _ in range(count)]


def loaders(
    base: Base,
    extended: Base,
    auto_base: PreTrainedTokenizerFast,
    auto: PreTrainedTokenizerFast,
    texts: Texts,
) -> Proof:
    """AutoTokenizer and tokenizer.json give equal ids, before and after another save.

    ``base_differs`` counts lines that AutoTokenizer reads otherwise than the base's own tokenizer.json: some
    classes of transformers rebuild what the file says. The extended folder follows the file.
    """
    lines = _some(texts)
    plain = [encoding.ids for encoding in extended.tokenizer.encode_batch(lines)]
    loaded = auto(lines)["input_ids"]
    with tempfile.TemporaryDirectory() as place:
        auto.save_pretrained(place)
        again = folder.load_auto(Path(place))(lines)["input_ids"]
    wrong = [line for line, a, b, c in zip(lines, plain, loaded, again) if not a == b == c]
    own = [encoding.ids for encoding in base.tokenizer.encode_batch(lines)]
    differs = sum(a != b for a, b in zip(own, auto_base(lines)["input_ids"]))
    same_vocab = auto.get_vocab() == extended.vocab | extended.added
    detail = {
        "lines": len(lines),
        "changed": len(wrong),
        "examples": wrong[:_EXAMPLES],
        "size": len(auto),
        "same_vocabulary": same_vocab,
        "base_differs": differs,
    }
    return Proof("same_ids_after_reload", not wrong and same_vocab, detail)


def sentencepiece_file(base: Base, extended: Base, texts: Texts) -> Proof:
    """tokenizer.model and tokenizer.json give equal ids wherever they did so in the base.

    transformers 5 converts a lone tokenizer.model with another order for runs of spaces, and does not
    double a leading space; ``unequal_in_the_base_too`` counts such lines.
    """
    from sentencepiece import SentencePieceProcessor

    old = SentencePieceProcessor(model_proto=base.proto) if base.proto else None
    new = SentencePieceProcessor(model_proto=extended.proto)
    lines = [line for line in _some(texts) if "\x00" not in line]
    wrong: list[str] = []
    before = 0
    for line, ids in zip(lines, encode_all(extended.tokenizer, lines)):
        if new.encode(line) != ids:
            same = base.tokenizer.encode(line, add_special_tokens=False).ids == (
                old.encode(line) if old else None
            )
            before += not same
            if same:
                wrong.append(line)
    pieces = [new.id_to_piece(i) for i in range(new.get_piece_size())]
    spelt = all(pieces[i] == token for token, i in new_ids(base, extended).items())
    detail = {
        "lines": len(lines),
        "unequal": len(wrong),
        "unequal_in_the_base_too": before,
        "examples": wrong[:_EXAMPLES],
        "pieces": len(pieces),
    }
    return Proof("sentencepiece_file_agrees", not wrong and spelt and len(pieces) == extended.next_id, detail)


def _some(texts: Texts) -> list[str]:
    half = _RELOADED_LINES // 2
    return [*texts.heldout[:half], *texts.replay[:half], *samples.built_in()]


def _differences(base: Base, extended: Base, lines: list[str]) -> list[str]:
    """The lines that the two tokenize differently."""
    before, after = encode_all(base.tokenizer, lines), encode_all(extended.tokenizer, lines)
    return [line for line, a, b in zip(lines, before, after) if a != b]


def _changed_characters(base: Base, extended: Base, chars: list[str]) -> list[str]:
    """The characters that the two tokenize differently: alone, after a space, doubled.

    Two dozen go into one text, and are taken apart where it differs: the library's cost is by text.
    """
    groups = [chars[start : start + _GROUP] for start in range(0, len(chars), _GROUP)]
    texts = {"\n".join(f"{c} {c}{c}" for c in group): group for group in groups}
    suspects = [char for text in _differences(base, extended, list(texts)) for char in texts[text]]
    single = {f"{c} {c}{c}": c for c in suspects}
    return [single[text] for text in _differences(base, extended, list(single))]
