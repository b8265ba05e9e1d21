"""Carry an order of exports out: each thing whole or not at all, a merged model used again where there is one."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastvocab import console, files
from fastvocab.errors import CheckpointError
from fastvocab.export import adapter, hub, stage, targets
from fastvocab.export.stage import gguf_name
from fastvocab.export.targets import Order
from fastvocab.model import manifest
from fastvocab.numbers import size
from fastvocab.run import last_checkpoint, records_around


def deliver(order: Order) -> dict[str, str]:
    """Make all that is not there yet; returns by target where it lies."""
    found = {target: str(place) for target, place in order.there.items()}
    if "hf" in found and order.merged() is None:
        raise CheckpointError(
            f"{found['hf']} is not as it was written",
            fix="run the recipe again, which makes it anew, or --out NEW",
        )
    if "adapter" in order.places:
        place = order.places["adapter"]
        with files.atomic_folder(place) as folder:
            adapter.write(folder, order.source, base=order.base)
        found["adapter"] = _remember(order, "adapter", place)
    if {"hf", "gguf", "ollama"} & set(order.places) or "hub" in order.wanted:
        with _model(order) as model:
            for target, make in (("hf", _copy), ("gguf", _gguf), ("ollama", _ollama)):
                if target in order.places:
                    if not order.places[target].exists():
                        make(order, model)
                    found[target] = _remember(order, target, order.places[target])
            if "hub" in order.wanted:
                found["hub"] = _upload(order, model, found.get("gguf"))
    return found


@contextmanager
def _model(order: Order) -> Iterator[Path]:
    """The merged model: one that is there, one that is wanted anyway, or one for as long as it takes."""
    if (there := order.merged()) is not None:
        console.say(f"  the merged model in {there} is of this checkpoint and is used")
        yield there
    elif (place := order.places.get("hf")) is not None:
        with files.atomic_folder(place) as folder:
            stage.merged(folder, source=order.source, records=order.records, base=order.base)
        _remember(order, "hf", place)
        yield place
    else:
        order.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".merged-", dir=order.root) as folder_name:
            folder = Path(folder_name)
            stage.merged(folder, source=order.source, records=order.records, base=order.base)
            yield folder


def _copy(order: Order, model: Path) -> None:
    with files.atomic_folder(order.places["hf"]) as folder:
        for name, file in hub.listing(model).items():
            if not name.endswith(".gguf"):
                (folder / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(file, folder / name)


def _gguf(order: Order, model: Path) -> None:
    stage.write_gguf(model, order.places["gguf"], order.kind)


def _ollama(order: Order, model: Path) -> None:
    with files.atomic_folder(order.places["ollama"]) as folder:
        file = order.places.get("gguf") or order.there.get("gguf")
        if file is not None:
            stage.write_ollama(folder, file, model)
            return
        from fastvocab.export import ollama

        own = folder / gguf_name(order.name, order.kind)
        stage.write_gguf(model, own, order.kind)
        ollama.write(folder, own, model)


def _upload(order: Order, model: Path, gguf: str | None) -> str:
    assert order.repository is not None, "an order for the hub names a repository"
    file = Path(gguf) if gguf else None
    listed = hub.listing(model, {file.name: file} if file else None)
    hub.show(listed, order.repository)
    readme = listed["README.md"].read_text(encoding="utf-8")
    card = _tagged(readme) if any(name.endswith(".gguf") for name in listed) else None
    done = hub.upload(listed, order.repository, card=card, again=_again(order))
    entry = done | {"checkpoint": manifest.digest(order.source), "content": content(_digests(listed))}
    targets.remember(order.root, "hub", entry)
    return str(done["url"])


def _tagged(readme: str) -> str:
    """The card with the tag by which the Hub shows GGUF files."""
    from huggingface_hub import ModelCard

    card = ModelCard(readme)
    tags = card.data.get("tags") or []
    if "gguf" in tags:
        return readme
    card.data["tags"] = [*tags, "gguf"]
    return str(card)


def _digests(listed: Mapping[str, Path]) -> dict[str, str]:
    return {name: files.sha256_file(file) for name, file in listed.items()}


def content(digests: Mapping[str, str]) -> str:
    """One digest of files by name, to tell an upload by."""
    return hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()


def _again(order: Order) -> str:
    assert order.repository is not None
    more = " --public" if order.repository.public else ""
    more += " --update" if order.repository.update else ""
    more += f" --base {shlex.quote(order.base)}" if order.base else ""
    where = shlex.quote(str(order.source))
    return f"fastvocab export {where} --to hub --repo {order.repository.name}{more}"


def _remember(order: Order, target: str, place: Path) -> str:
    # what only goes up is remembered in any case: an upload may break off
    if (order.kept or target not in order.wanted) and place.is_relative_to(order.root):
        entry: dict[str, Any] = {
            "path": place.relative_to(order.root).as_posix(),
            "checkpoint": manifest.digest(order.source),
        }
        if target in ("gguf", "ollama"):
            entry["kind"] = order.kind
        if target == "hf":
            entry["files"] = files.describe(place)
        # a file of each precision has a name of its own
        targets.remember(order.root, f"gguf-{order.kind}" if target == "gguf" else target, entry)
    return str(place)


def published(run: Path, repo: str) -> str | None:
    """Address of the upload to ``repo`` of just what the run's export stage made; None where there was none."""
    try:
        source = last_checkpoint(run)
    except CheckpointError:
        return None
    records = records_around(source)
    entry = targets.made(run.resolve() / "exports").get("hub") or {}
    if "export" not in records or entry.get("repo") != repo:
        return None
    folder = records["export"].folder
    listed = hub.listing(folder)
    made = {o["path"]: o["sha256"] for o in records["export"].data["outputs"] if o["path"] in listed}
    return str(entry["url"]) if entry.get("content") == content(made) else None


def publish(run: Path, repo: str, *, public: bool) -> str:
    """Upload what the export stage of a run made, if it is not there yet; returns the address."""
    if (done := published(run, repo)) is not None:
        console.say(f"hub: uploaded already, nothing has changed ({done})")
        return done
    return deliver(targets.order(last_checkpoint(run), ["hub"], repo=repo, public=public))["hub"]


def show(order: Order) -> None:
    """What a dry run says: where everything would go, how much of it, and what would be uploaded."""
    for target, place in order.there.items():
        console.say(f"{target:8} there already: {place}")
    model = order.merged()
    for target, place in order.places.items():
        there = model is not None
        needed = stage.space(order.source, [target], order.kind, base=order.base, merged=there)
        console.say(f"{target:8} {place}  (up to {size(needed)} while it is made)")
    if order.repository is not None:
        if model is None:
            console.say(f"hub      {order.repository.name}, once the model is merged")
        else:
            console.say(f"hub      {order.repository.name}, from {model}:")
            gguf = order.there.get("gguf")
            hub.show(hub.listing(model, {gguf.name: gguf} if gguf else None), order.repository)


def commands(places: Mapping[str, str]) -> list[str]:
    """What to type next with what was made, by target."""
    quoted = {target: shlex.quote(place) for target, place in places.items()}
    model = _ollama_name(Path(places["ollama"])) if "ollama" in places else ""
    lines = {
        "hf": "vllm serve {}",
        "gguf": "llama-cli -m {}",
        "ollama": f"ollama create {model} -f {{}}/Modelfile && ollama run {model}",
        "adapter": "less {}/README.md",
        "hub": "{}",
    }
    return [lines[target].format(quoted[target]) for target in targets.TARGETS if target in quoted]


def _ollama_name(folder: Path) -> str:
    """The name that the Modelfile's own first line has."""
    with (folder / "Modelfile").open(encoding="utf-8") as lines:
        return next(lines).split()[3]
