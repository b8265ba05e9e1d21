"""The written folder: what plain AutoTokenizer and SentencePiece make of it, now and after another save."""

from __future__ import annotations

import shutil
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastvocab.console import quiet
from fastvocab.tokenizer import agreement, folder, probes, samples
from fastvocab.tokenizer.base import Base
from fastvocab.tokenizer.proofs.common import EXAMPLES, Proof, Texts, differences, new_ids
from fastvocab.tokenizer.sentencepiece_file import parse_proto

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_RELOADED_LINES = 600  # lines compared between loaders; AutoTokenizer is slower than the library alone
_MESSAGES = [
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "It's 4, naturally."},
]


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
    wrong = differences(base, extended, [before for before, _ in pairs])
    same = all(before == after for before, after in pairs)
    return Proof(name, same and not wrong, {"template": True, "text_same": same, "ids_changed": len(wrong)})


def same_settings(auto_base: PreTrainedTokenizerFast, auto: PreTrainedTokenizerFast) -> Proof:
    """Padding side, special tokens map, BOS and EOS, model inputs: as plain AutoTokenizer loads them."""
    before, after = folder.settings(auto_base), folder.settings(auto)
    changed = {key: [before[key], after[key]] for key in before if before[key] != after[key]}
    return Proof("settings_identical", not changed, {"settings": len(before), "changed": changed})


def loaders(
    base: Base,
    extended: Base,
    auto_base: PreTrainedTokenizerFast,
    auto: PreTrainedTokenizerFast,
    texts: Texts,
) -> Proof:
    """AutoTokenizer and tokenizer.json give equal ids, before and after another save.

    The saved copy is loaded beside the base model's config.json, if there is one: by its ``model_type``
    transformers may choose another class, which cuts text otherwise (`folder.copy_settings`).
    ``base_differs`` counts lines that AutoTokenizer reads otherwise than the base's own tokenizer.json: some
    classes of transformers rebuild what the file says. The extended folder follows the file.
    """
    lines = _some(texts)
    plain = [encoding.ids for encoding in extended.tokenizer.encode_batch_fast(lines)]
    with quiet():  # transformers warns of texts longer than the model reads; they are only compared
        loaded, own_auto = auto(lines)["input_ids"], auto_base(lines)["input_ids"]
    with tempfile.TemporaryDirectory() as place:
        auto.save_pretrained(place)
        if (base.folder / "config.json").is_file():
            shutil.copyfile(base.folder / "config.json", Path(place) / "config.json")
        reloaded = folder.load_auto(Path(place))
        with quiet():
            again = reloaded(lines)["input_ids"]
    wrong = [line for line, a, b, c in zip(lines, plain, loaded, again) if not a == b == c]
    own = [encoding.ids for encoding in base.tokenizer.encode_batch_fast(lines)]
    differs = sum(a != b for a, b in zip(own, own_auto))
    same_vocab = auto.get_vocab() == extended.vocab | extended.added
    detail = {
        "lines": len(lines),
        "changed": len(wrong),
        "examples": wrong[:EXAMPLES],
        "size": len(auto),
        "same_vocabulary": same_vocab,
        "base_differs": differs,
    }
    return Proof("same_ids_after_reload", not wrong and same_vocab, detail)


def sentencepiece_file(base: Base, extended: Base, texts: Texts) -> Proof:
    """tokenizer.model and tokenizer.json give equal ids on everything, and the new pieces are in both.

    Compared: held-out and replay lines, the new pieces' own texts, and what `agreement.compare` has built in
    (which ran when the folder was read: ``Base.disagreement``).
    """
    name = "sentencepiece_file_agrees"
    if (known := extended.disagreement) is not None:
        detail: dict[str, Any] = {"lines": known.lines, "unequal": known.unequal, "examples": [str(known)]}
        return Proof(name, False, detail)
    assert extended.proto is not None, "asked only of a folder with a SentencePiece file"
    proto = parse_proto(extended.proto)
    added = new_ids(base, extended)
    spelt = [text.replace("▁", " ") for text in added]
    lines = [*texts.heldout, *texts.replay, *spelt, *(f"x{a}{b} {a}" for a, b in pairwise(spelt))]
    found = agreement.compare(extended.tokenizer, extended.proto, lines)
    pieces = [piece.piece for piece in proto.pieces]
    same = len(pieces) == extended.next_id and all(pieces[i] == token for token, i in added.items())
    detail = {
        "lines": len(lines),
        "unequal": found.unequal if found else 0,
        "examples": [str(found)] if found else [],
        "pieces": len(pieces),
        "new_pieces_in_place": same,
    }
    return Proof(name, found is None and same, detail)


def _some(texts: Texts) -> list[str]:
    half = _RELOADED_LINES // 2
    return [*texts.heldout[:half], *texts.replay[:half], *samples.built_in(), *probes.random_unicode(50)[:-2]]
