"""``fastvocab.json``: what a checkpoint folder says of itself, and whether it is true.

A checkpoint is a folder of these files; nothing else in it is ever read::

    fastvocab.json             the manifest (fields below), written last
    rows.safetensors           PART.index (n,) int64 and PART.rows (n, width) of each embedding row that differs
                               from the base; PART is embed_tokens, and lm_head where the two are not tied
    layers.safetensors         the layers' own weights, where these were trained (``layers: full``); else absent
    adapter_model.safetensors  the LoRA part, plain PEFT, with adapter_config.json; absent where there is none
    tokenizer.json, ...        the tokenizer and its chat template, as ``save_pretrained`` writes them

A save inside a stage adds the trainer's state (`fastvocab.train.saves`), a stage of a run its ``stage.json``.

===================  ====================================================================================
``schema``           version of this table (1); a newer one is refused
``stage``            extend, pretrain, instruct, or adopt
``base``             name as typed, folder, Hub commit or null, fingerprint (`reference.Base`)
``vocabulary``       base_rows (of the base's matrix), new_first and new_stop (ids that the last extension added;
                     equal where it added none), tokens (of the tokenizer), rows (of the matrix), unused (ranges
                     ``[first, stop)`` of ids below rows that no token has: padding, never to be sampled)
``extensions``       first, stop, init of each extension, oldest first; a second language adds an entry
``tied``             do input and output embeddings share a matrix
``init``             how the newest rows started
``rows``             rows in rows.safetensors, by part
``layers``           are there weights in layers.safetensors (absent in older checkpoints: no)
``lora``             r, alpha, dropout, targets; null: no adapter
``embeddings``       what trained: full, new_rows, frozen
``dtype``            of the layers' live weights when saved; ``load_in_4bit`` likewise
``lineage``          what it comes from, oldest first: stage, digest of that checkpoint's manifest, tokens trained on,
                     and the base's fingerprint where it stood on another one (`fastvocab.model.chat_vector`);
                     of a folder of another tool (stage "adopted") what was found in it
``probe``            ids, digest of their logits, and some of the logits, to check a reload (`fastvocab.model.probe`)
``files``            path, bytes, sha256 of every other file
``manifest_sha256``  of the manifest itself without this field, as canonical JSON: a changed field is found
===================  ====================================================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from fastvocab import files, sealed
from fastvocab.errors import CheckpointError

SCHEMA = 1
MANIFEST, ROWS, LAYERS = "fastvocab.json", "rows.safetensors", "layers.safetensors"
ADAPTER = ("adapter_model.safetensors", "adapter_config.json")

_SEAL = "manifest_sha256"
#: Files that a loader would take up by their mere presence: one that the manifest does not list is a fault.
_READ = (
    "*.safetensors", "*.bin", "*.pt", "*.model", "adapter_config.json", "config.json", "generation_config.json",
    "tokenizer*.json", "added_tokens.json", "special_tokens_map.json", "vocab.json", "merges.txt", "*.jinja", "*.py",
)  # fmt: skip
#: What a save inside a stage holds beside its checkpoint, listed by save.json.
_TRAINER = {"optimizer.pt", "scheduler.pt", "scaler.pt"}


class _Fields(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _BaseFields(_Fields):
    name: str
    folder: str
    commit: str | None
    fingerprint: str


class _Vocabulary(_Fields):
    base_rows: PositiveInt
    new_first: NonNegativeInt
    new_stop: NonNegativeInt
    tokens: PositiveInt
    rows: PositiveInt
    unused: list[Annotated[list[NonNegativeInt], Field(min_length=2, max_length=2)]]


class _Extension(_Fields):
    first: NonNegativeInt
    stop: NonNegativeInt
    init: str


class _Lora(_Fields):
    r: PositiveInt
    alpha: float
    dropout: float
    targets: Annotated[list[str], Field(min_length=1)]


class _Probe(_Fields):
    ids: Annotated[list[NonNegativeInt], Field(min_length=1)]
    sha256: str
    places: list[NonNegativeInt]
    logits: list[list[float]]


class _File(_Fields):
    path: str
    bytes: NonNegativeInt
    sha256: str


class _Manifest(_Fields):
    """The table above, as far as it is needed to rebuild a model."""

    stage: str
    base: _BaseFields
    vocabulary: _Vocabulary
    extensions: Annotated[list[_Extension], Field(min_length=1)]
    tied: bool
    init: str
    rows: dict[Literal["embed_tokens", "lm_head"], NonNegativeInt]
    layers: bool = False
    lora: _Lora | None
    embeddings: Literal["full", "new_rows", "frozen"]
    dtype: Literal["float32", "bfloat16", "float16"]
    load_in_4bit: bool
    lineage: list[dict[str, Any]]
    probe: _Probe
    files: list[_File]


def write(folder: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """Complete a checkpoint folder: hash its files and write the manifest; returns it."""
    listed = files.describe(folder, skip=frozenset({MANIFEST}))
    manifest = sealed.seal({"schema": SCHEMA, **fields, "files": listed}, _SEAL)
    files.write_json(folder / MANIFEST, manifest)
    return manifest


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, checked: schema, fields, its own digest, and every file by its hash.

    Raises:
        CheckpointError: no checkpoint, of a newer version, or damaged (with all that is wrong).
    """
    manifest = peek(folder)
    if found := faults(folder, manifest):
        raise CheckpointError(
            f"{folder} is damaged: " + "; ".join(found),
            fix="go back to an earlier checkpoint of its run, or run its stage again",
        )
    return manifest


def peek(folder: Path) -> dict[str, Any]:
    """The manifest as it stands, its files not looked at.

    Raises:
        CheckpointError: no checkpoint, unreadable, or of a newer version.
    """
    if not (folder / MANIFEST).is_file():
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:6]) if folder.is_dir() else "nothing"
        raise CheckpointError(
            f"{folder} is no fastvocab checkpoint: there is no {MANIFEST} (found: {found})",
            fix=f"for a folder of another tool: fastvocab adopt {folder} --out NEW",
        )
    manifest = files.read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("schema"), int):
        raise CheckpointError(f"{folder / MANIFEST} is no manifest: it has no schema")
    if manifest["schema"] > SCHEMA:
        raise CheckpointError(
            f"{folder} has schema {manifest['schema']}, this version reads up to {SCHEMA}",
            fix="pip install -U fastvocab",
        )
    return manifest


def faults(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """All that is wrong with a checkpoint: fields, digest, files missing, changed or strange."""
    wrong = sealed.faults(manifest, _SEAL, {}, MANIFEST)
    try:
        _Manifest.model_validate(manifest)
    except ValidationError as error:
        return wrong + [f"{MANIFEST}: {_place(e)}: {e['msg']}" for e in error.errors()[:6]]
    vocabulary, listed = manifest["vocabulary"], {entry["path"] for entry in manifest["files"]}
    if not vocabulary["new_first"] <= vocabulary["new_stop"] <= vocabulary["rows"]:
        wrong.append(f"{MANIFEST}: new_first, new_stop and rows of the vocabulary are not in order")
    needed = {ROWS} | (set(ADAPTER) if manifest["lora"] else set())
    needed |= {LAYERS} if manifest.get("layers") else set()
    wrong += [f"{name} is not among the files of {MANIFEST}" for name in sorted(needed - listed)]
    if not listed & {"tokenizer.json", "tokenizer.model"}:
        wrong.append(f"no tokenizer is among the files of {MANIFEST}")
    try:
        wrong += files.verify(folder, manifest["files"])
    except CheckpointError as error:  # a name that leads out of the folder
        wrong.append(error.message)
    present = {path.name for pattern in _READ for path in folder.glob(pattern)}
    # no checkpoint of ours has folders but for further chat templates, which a loader reads too
    present |= {p.relative_to(folder).as_posix() for p in folder.rglob("*/*") if not p.is_dir()}
    return wrong + [
        f"{name} is there, but not in the manifest" for name in sorted(present - listed - _TRAINER)
    ]


def _place(error: Any) -> str:
    return ".".join(map(str, error["loc"]))


def is_readable(manifest: dict[str, Any]) -> bool:
    """Are all its fields there, and of the right kind?"""
    try:
        _Manifest.model_validate(manifest)
    except ValidationError:
        return False
    return True


def digest(folder: Path) -> str:
    """What a lineage calls a checkpoint: sha256 of its manifest, which has the hashes of everything else."""
    return files.sha256_file(folder / MANIFEST)


def new_ids(manifest: dict[str, Any]) -> range:
    """Ids that the last extension added."""
    vocabulary = manifest["vocabulary"]
    return range(vocabulary["new_first"], vocabulary["new_stop"])
