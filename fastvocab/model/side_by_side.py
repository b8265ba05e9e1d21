"""The same prompt to a base model and to what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from fastvocab import memory
from fastvocab.errors import ConfigError
from fastvocab.model import backend, checkpoint, load, manifest, reference, text
from fastvocab.model import open as opening
from fastvocab.model.open import LONGEST, Opened, context_of
from fastvocab.model.speaking import Manner, Reply, ids_of, reading, reply
from fastvocab.run import last_checkpoint


def replies(
    path: Path,
    prompt: str,
    manner: Manner,
    *,
    base: str | None = None,
    waiting: Callable[[str], AbstractContextManager[object]] = lambda _: nullcontext(),
) -> Iterator[tuple[str, str, Reply]]:
    """The replies of both, one after the other, never both models in memory.

    Args:
        path: a checkpoint, which knows its base; or a plain folder or GGUF file together with ``base``.
        waiting: shows what is being done.

    Yields:
        (``"base"`` or ``"extended"``, name of the model, reply).

    Raises:
        ConfigError: no base is known, or the base has no chat template.
    """
    backend.sleep_beside_others()
    for which in ("base", "extended"):
        with waiting(f"loading the {which} model"):
            opened = base_of(path, base) if which == "base" else _open(path, base)
        name = opened.name
        with waiting(f"{which}: {name} replies"), reading(opened) as live:
            del opened
            found = reply(live, ids_of(live, prompt, manner), manner, prompt=prompt)
            del live
        memory.release()
        if found.interrupted:
            raise KeyboardInterrupt
        yield which, name, found


def _open(path: Path, base: str | None) -> Opened:
    known = opening.kind(path) == "checkpoint"
    return opening.model(path, base=base if known else None)


def base_of(path: Path, base: str | None = None) -> Opened:
    """The base model that something was made from, opened in the same way.

    Raises:
        ConfigError: not a checkpoint, and no ``base``.
    """
    found = opening.kind(path)
    if found == "checkpoint":
        facts = manifest.read(last_checkpoint(path))
        known = reference.recorded(facts["base"], base=base)
        live, _ = load.base_model(known, load_in_4bit=facts["load_in_4bit"], block=LONGEST, seed=0)
        tok = text.tokenizer(known.folder)
        return Opened(live.eval(), tok, "checkpoint", known.public()["name"], context_of(live))
    if base is None:
        raise ConfigError(
            f"{path} does not say which base it was made from",
            rule="--compare needs the base model",
            fix="--base NAME or DIR says which it is; or give the run folder, which knows",
        )
    known = reference.resolve(base)
    if known.checkpoint is not None:
        live, tok = checkpoint.on_base(known, load_in_4bit=False, block=LONGEST, seed=0)
        return Opened(live, tok, "checkpoint", known.public()["name"], context_of(live))
    live, tok = opening.plain(known.folder)
    return Opened(live, tok, "huggingface", known.public()["name"], context_of(live))
