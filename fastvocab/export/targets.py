"""What ``fastvocab export`` is asked for, where it goes, and what of it is there already.

Everything of a run lies in one place: what its own stage made in ``RUN/70-export/``, what is exported later in
``RUN/exports/``, with ``made.json`` beside it, which says what each was made of. A checkpoint of no run has
``NAME-exports/`` beside it. All that is wrong with an order is found before any work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastvocab import files
from fastvocab.errors import ConfigError, FastvocabError
from fastvocab.export import adapter, hub
from fastvocab.export.gguf import KINDS
from fastvocab.export.hub import Repository
from fastvocab.export.stage import gguf_name, space
from fastvocab.model import manifest, reference
from fastvocab.run import Record, records_around

TARGETS = ("hf", "gguf", "ollama", "adapter", "hub")
MADE = "made.json"


@dataclass(frozen=True)
class Order:
    """What is to be made of a checkpoint.

    Attributes:
        source: the checkpoint.
        records: of its run, without what came after it.
        name: of the model, for file names.
        root: folder of what is exported later.
        wanted: what was asked for, in the order of `TARGETS`.
        places: by target, what is to be made; the hub has none, but needs ``hf``.
        there: by target, what is there already.
        kind: of a GGUF file.
        repository: for the hub.
        base: where the base model lies, if not where the checkpoint says.
        kept: whether ``root`` remembers what is made: not where a place was named.
    """

    source: Path
    records: dict[str, Record]
    name: str
    root: Path
    wanted: tuple[str, ...]
    places: dict[str, Path]
    there: dict[str, Path]
    kind: str
    repository: Repository | None
    base: str | None
    kept: bool

    def merged(self) -> Path | None:
        """A merged folder of this very checkpoint, whole by its digests; None where there is none."""
        if (found := _of_stage(self.source, self.records).get("hf")) is not None:
            listed = [o for o in self.records["export"].data["outputs"] if _in_model(o["path"])]
            if not files.verify(found, listed):
                return found
        entry = made(self.root).get("hf") or {}
        place = self.root / entry.get("path", "")
        if entry.get("checkpoint") == manifest.digest(self.source) and place.is_dir():
            return None if files.verify(place, entry["files"]) else place
        return None


def order(
    source: Path,
    to: Sequence[str],
    *,
    out: Path | None = None,
    kind: str | None = None,
    repo: str | None = None,
    public: bool = False,
    update: bool = False,
    base: str | None = None,
    reach: bool = True,
) -> Order:
    """Read what is asked for; nothing is made yet.

    Args:
        source: the checkpoint.
        to: of `TARGETS`.
        out: instead of the usual place: of one target the place itself, of several a folder for all.
        reach: False for a dry run, which asks nobody and needs no token.

    Raises:
        FastvocabError: of the kind of the first mistake, naming all.
    """
    problems: list[FastvocabError] = []

    def attempt(test: Callable[[], Any]) -> Any:
        try:
            return test()
        except FastvocabError as error:
            problems.append(error)

    attempt(partial(_check_words, to, out, kind, repo, public or update))
    wanted = tuple(name for name in TARGETS if name in to)
    records = records_around(source)
    root, name = _home(source, records)
    chosen = kind if kind in KINDS else "q8_0"
    known = _there(source, records, root, chosen)
    there = {} if out else {target: place for target, place in known.items() if target in wanted}
    places = _places(wanted, out or root, name, chosen, alone=bool(out) and len(wanted) == 1)
    places = {target: place for target, place in places.items() if target not in there}
    if "hub" in wanted and "hf" not in known:  # what goes up is kept: an upload may break off
        places.setdefault("hf", root / "hf")
    for target, place in places.items():
        if place.exists():
            problems.append(
                ConfigError(
                    f"--to {target}: {place} is there already"
                    + ("" if out else ", of another checkpoint or by another hand"),
                    fix="choose another place with --out, or remove it"
                    if target in wanted
                    else "remove it: what is uploaded is made there",
                )
            )
    if {"gguf", "ollama"} & set(places):
        attempt(partial(_check_gguf, source, base))
    if "ollama" in places:
        attempt(partial(check_ollama, source))
    if "adapter" in places:
        attempt(partial(adapter.check, source))
    repository = Repository(repo, public, update or _ours(root, repo)) if "hub" in wanted and repo else None
    if repository is not None:
        attempt(partial(hub.check, repository, reach=reach))
    needed = attempt(partial(space, source, places, chosen, base=base, merged="hf" in known))
    if needed is not None:
        attempt(partial(files.require_space, out or root, needed, "the export"))
    if problems:
        raise together(problems)
    return Order(source, records, name, root, wanted, places, there, chosen, repository, base, out is None)


def together(problems: Sequence[FastvocabError]) -> FastvocabError:
    """One error of several, of the kind of the first."""
    if len(problems) == 1:
        return problems[0]
    several = type(problems[0])(f"{len(problems)} things stand in the way:")
    several.message += "".join(f"\n- {problem}" for problem in problems)
    return several


def _check_words(to: Sequence[str], out: Path | None, kind: str | None, repo: str | None, more: bool) -> None:
    unknown = [word for word in to if word not in TARGETS]
    gguf, to_hub = bool({"gguf", "ollama"} & set(to)), "hub" in to
    wrong: list[tuple[str, str]] = []
    if unknown:
        place = unknown[0] if "/" in unknown[0] or "." in unknown[0] or len(unknown[0]) > 8 else "DIR"
        wrong.append((f"--to {unknown[0]}: a word of {', '.join(TARGETS)}", f"--to hf --out {place}"))
    if not to:
        wrong.append(("--to is missing", f"--to {'|'.join(TARGETS)}"))
    if kind is not None and kind not in KINDS:
        wrong.append((f"--kind {kind}: a word of {', '.join(KINDS)}", "--kind q8_0"))
    elif kind is not None and not gguf:
        wrong.append((f"--kind {kind} is for --to gguf and --to ollama", "leave it out"))
    if to_hub and not repo:
        wrong.append(("--to hub without --repo", "--repo NAMESPACE/NAME"))
    if not to_hub and (repo or more):
        wrong.append(("--repo, --public and --update are for --to hub", "leave them out, or add --to hub"))
    if out is not None and set(to) == {"hub"}:
        wrong.append(("--out together with --to hub alone", "leave it out: nothing is kept elsewhere"))
    if wrong:
        raise ConfigError("; ".join(what for what, _ in wrong), fix="; ".join(fix for _, fix in wrong))


def _check_gguf(source: Path, base: str | None) -> None:
    from fastvocab.export import gguf

    found = reference.recorded(manifest.peek(source)["base"], base=base)
    gguf.check_before(source, config=found.config)


def check_ollama(folder: Path) -> None:
    """Is there a chat template that a Modelfile can say?

    Args:
        folder: with a tokenizer.

    Raises:
        ModelError: there is none.
    """
    from fastvocab.export import ollama
    from fastvocab.model import text

    ollama.find(text.tokenizer(folder), folder)


def _home(source: Path, records: dict[str, Record]) -> tuple[Path, str]:
    """Where exports of a checkpoint go, and what the model is called."""
    place = source.resolve()
    if not records:
        return place.with_name(f"{place.name}-exports"), place.name
    run = place.parent
    stages = [name for name, record in records.items() if record.folder.resolve() == place]
    later = [f for f in run.glob("[0-9]0-*/fastvocab.json") if f.parent.name > place.name]
    if later and stages:  # not what the run ended with: apart, and named by its stage
        return run / "exports" / place.name, f"{run.name}-{stages[0]}"
    return run / "exports", run.name


def _places(to: Sequence[str], root: Path, name: str, kind: str, *, alone: bool) -> dict[str, Path]:
    usual = {"hf": root / "hf", "gguf": root / gguf_name(name, kind), "ollama": root / "ollama",
             "adapter": root / "adapter"}  # fmt: skip
    return {target: root if alone else usual[target] for target in to if target in usual}


def _in_model(path: str) -> bool:
    """Is it a file of the merged model, rather than one beside it?"""
    return any(Path(path).match(pattern) for pattern in hub.PATTERNS) and not path.startswith(
        ("adapter/", "ollama/")
    )


def _of_stage(source: Path, records: dict[str, Record]) -> dict[str, Path]:
    """What the run's own stage made of this very checkpoint, by target."""
    record = records.get("export")
    if record is None:
        return {}
    own = f"{source.name}/{manifest.MANIFEST}"
    read = {i["path"]: i["sha256"] for i in record.data["inputs"]}
    if read.get(own) != manifest.digest(source):
        return {}
    found = {"hf": record.folder} if (record.folder / "config.json").is_file() else {}
    beside = {name: record.folder / name for name in ("ollama", "adapter")}
    if "gguf" in record.figures:
        beside["gguf"] = record.folder / record.figures["gguf"]["file"]
    return found | {name: place for name, place in beside.items() if place.exists()}


def _there(source: Path, records: dict[str, Record], root: Path, kind: str) -> dict[str, Path]:
    found = _of_stage(source, records)
    if found and (records["export"].figures.get("gguf") or {}).get("kind") != kind:
        found = {name: place for name, place in found.items() if name not in ("gguf", "ollama")}
    digest = manifest.digest(source)
    for key, entry in made(root).items():
        name = key.partition("-")[0]  # gguf-q8_0
        if name not in ("hf", "adapter", "gguf", "ollama") or entry.get("checkpoint") != digest:
            continue
        place = root / entry["path"]
        if place.exists() and entry.get("kind") in (None, kind):
            found.setdefault(name, place)
    return found


def made(root: Path) -> dict[str, Any]:
    """What is remembered of earlier exports; nothing where there were none."""
    path = root / MADE
    found = files.read_json(path) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def remember(root: Path, target: str, entry: dict[str, Any]) -> None:
    """Keep what was made, and of what, for the next export."""
    files.write_json(root / MADE, made(root) | {target: entry})


def uploaded_to(run: Path, repo: str) -> bool:
    """Was what is in a repository uploaded from this run?"""
    return _ours(run / "exports", repo)


def _ours(root: Path, repo: str) -> bool:
    return bool(made(root).get("hub", {}).get("repo") == repo)
