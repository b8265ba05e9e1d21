"""The proofs themselves: each compares an extended tokenizer with its base on one point.

A proof gives figures and its first counterexamples, and never raises for a failure. `vocabulary` asks for ids
and special tokens, `text` for running text, `files` for what other libraries make of the written folder.
"""

from fastvocab.tokenizer.proofs.common import Proof, Texts, described, new_ids
from fastvocab.tokenizer.proofs.files import chat_template, loaders, same_settings, sentencepiece_file
from fastvocab.tokenizer.proofs.text import other_text, round_trip
from fastvocab.tokenizer.proofs.vocabulary import old_ids, reachable, special_tokens

__all__ = [
    "Proof",
    "Texts",
    "chat_template",
    "described",
    "loaders",
    "new_ids",
    "old_ids",
    "other_text",
    "reachable",
    "round_trip",
    "same_settings",
    "sentencepiece_file",
    "special_tokens",
]
