"""The stages of a line of items, as far as they are other than a language's: codes and tokens, and their rows."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastvocab import console
from fastvocab.config.models import ItemCodesSection, NamedToken
from fastvocab.errors import ConfigError, ModelError
from fastvocab.items import codes as coding
from fastvocab.items import interactions, starts, vectors
from fastvocab.items.interactions import Interactions
from fastvocab.items.mapping import MAPPING, ItemTokens
from fastvocab.model import checkpoint, text
from fastvocab.model.reference import Base
from fastvocab.tokenizer import base as tokenizers
from fastvocab.tokenizer import named_stage

#: What was clustered, in the folder of the tokenizer stage.
CLUSTERS = "item_clusters.npz"
#: Of the rows, as a share of the base's mean norm. A tied SmolLM2-135M, rows alone trained for 40 steps: nats of an
#: item 9.52 with 0.375 of it, 11.4 with all of it, 11.1 from the base's mean with noise.
LENGTH = 0.5


def tokens(
    folder: Path, *, base: Base, corpus: Path, section: ItemCodesSection, load_in_4bit: bool, seed: int
) -> dict[str, Any]:
    """The tokenizer stage: codes for items, a token for each code, and `MAPPING`.

    Args:
        corpus: folder that `fastvocab.items.interactions.build` wrote.

    Returns:
        The figures of `named_stage.build`, and as ``items`` those of `codes.usage`, with ``tokens``, how the codes were
        made (``from``) and, of residual k-means, what it left over.

    Raises:
        DataError, ConfigError: the codes or vectors that are given are not good for these items.
    """
    data = interactions.read(corpus)
    if section.codes is not None:
        found, kept = coding.read_codes(section.codes, data.items), {}
        how: dict[str, Any] = {"from": "a file"}
    else:
        given = _vectors(section, data, base, load_in_4bit=load_in_4bit, seed=seed)
        made = coding.residual_kmeans(given, levels=section.levels, codebook=section.codebook, seed=seed)
        found = coding.resolve_collisions(made.codes)
        kept = {"vectors": given} | {f"centroids_{n}": centres for n, centres in enumerate(made.centroids)}
        how = {"from": _source(section), **made.figures()}
    figures = coding.usage(found, how.get("codebooks", ()))
    for line in coding.table_lines(figures):
        console.say(f"  {line}")
    mapping = ItemTokens(data.items, found)
    named = [NamedToken(token=token) for token in mapping.tokens()]
    own = tokenizers.read(base.tokenizer_folder)
    if known := [one.token for one in named if one.token in own.vocab or one.token in own.added]:
        raise ModelError(
            f"{base.name} has tokens of items already, such as {known[0]}",
            rule="its rows stand for the codes of other items",
            fix="begin with the plain base model; a run goes on by itself (the same command again)",
        )
    added = named_stage.build(base.tokenizer_folder, folder, named)
    mapping.write(folder / MAPPING)
    if kept:
        np.savez(folder / CLUSTERS, **kept)
    return added | {
        "items": figures | how | {"levels": mapping.levels, "usage": figures["levels"], "tokens": len(named)}
    }


def _source(section: ItemCodesSection) -> str:
    return section.vectors if section.vectors in ("cooccurrence", "text") else "vectors of a file"


def _vectors(
    section: ItemCodesSection, data: Interactions, base: Base, *, load_in_4bit: bool, seed: int
) -> Any:
    if section.vectors == "cooccurrence":
        return vectors.cooccurrence(data.histories, len(data.items), seed=seed)
    if section.vectors == "text":
        model, tok = checkpoint.on_base(base, load_in_4bit=load_in_4bit, seed=seed)
        try:
            return vectors.of_text(model, tok, data.texts)
        finally:
            del model
            gc.collect()
    return vectors.read_vectors(section.vectors, data.items)


def start_rows(corpus: Path, tokenizer: Path, init: str, *, seed: int) -> Callable[[Any, Any], Any]:
    """What gives the rows of item tokens to ``extend`` (`fastvocab.model.initialise.task.Task.rows`).

    Args:
        init: ``item_text`` or ``item_centroid``.

    Raises:
        ConfigError: ``item_centroid``, and the codes came without centroids.
    """
    data, mapping = interactions.read(corpus), ItemTokens.read(tokenizer / MAPPING)
    kept: dict[str, Any] = {}
    if init == "item_centroid":
        if not (tokenizer / CLUSTERS).is_file():
            raise ConfigError(
                "extend.init is item_centroid, and the codes are from a file",
                rule="codes from a file have no centroids",
                fix="extend.init=item_text",
            )
        with np.load(tokenizer / CLUSTERS, allow_pickle=False) as stored:
            centres = [stored[f"centroids_{n}"] for n in range(len(stored.files) - 1)]
            kept = {"vectors": stored["vectors"], "centroids": centres}

    def rows(weight: Any, task: Any) -> Any:
        described = text.encode(task.base_tokenizer, list(data.texts))
        way: Any = "centroid" if init == "item_centroid" else "description"
        return starts.rows(
            weight,
            way=way,
            description_ids=described,
            codes=mapping.codes,
            used=task.old_ids,
            seed=seed,
            **kept,
        )

    return rows
