"""How good the recommendations of a model are: beside what is popular, what goes together, and SASRec."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastvocab import console, files
from fastvocab.config.models import RecommendSection
from fastvocab.evaluate.points import each
from fastvocab.items import baselines, interactions, ranking, sasrec
from fastvocab.items.decoding import recommend
from fastvocab.items.interactions import Interactions
from fastvocab.items.mapping import MAPPING, ItemTokens
from fastvocab.items.sequences import room
from fastvocab.items.trie import Trie
from fastvocab.model import backend, text
from fastvocab.model.reference import Base

#: Users whose recommendations the record keeps.
_EXAMPLES = 3


def evaluate(
    folder: Path,
    *,
    base: Base,
    points: dict[str, Path],
    corpus: Path,
    tokenizer: Path,
    section: RecommendSection,
    block: int,
    load_in_4bit: bool = False,
    seed: int = 3407,
) -> dict[str, Any]:
    """Recall, NDCG and MRR of the test items, ranked among the whole catalogue; write ``recommendations.jsonl``.

    Args:
        points: checkpoint folders by stage, in order.
        corpus, tokenizer: folders of their stages.
        block: longest sequence that the model was trained on; histories are cut to it.

    Returns:
        ``points``, each with ``recommendations`` (`ranking.measure`): those of the line (whatever they recommend is an
        item: `recommend` raises on anything else), and ``popularity``, ``cooccurrence`` and, where it was trained,
        ``sasrec`` (``sasrec`` beside them says how); ``compared``: `ranking.compare` of the line's last point with each
        of the others; ``users``, ``examples``.
    """
    top = section.top
    data, mapping = interactions.read(corpus), ItemTokens.read(tokenizer / MAPPING)
    chosen = _chosen(len(data.users), section.users, seed)
    every, wanted = data.contexts("test"), data.targets("test")
    contexts, targets = [every[user] for user in chosen], [wanted[user] for user in chosen]
    asked: dict[str, Any] = {"k": top, "bar_seen": section.bar_seen}
    ranked: dict[str, Any] = {
        "popularity": baselines.popularity(data.histories, len(data.items), contexts, **asked),
        "cooccurrence": baselines.cooccurrence(data.histories, len(data.items), contexts, **asked),
    }
    figures: dict[str, Any] = {
        "users": len(chosen),
        "top": top,
        "beams": section.beams,
        "bar_seen": section.bar_seen,
    }
    measured: dict[str, Any] = {}
    # the base has no tokens for items
    for at in each(base, points, block=max(2048, block), of_base=False, load_in_4bit=load_in_4bit, seed=seed):
        lists, point = _recommended(at.model, at.tokenizer, data, mapping, contexts, section, block)
        ranked[at.name] = [[one.row for one in some] for some in lists]
        point |= {
            "recommendations": ranking.measure(ranked[at.name], targets, ks=(top,)),
            "seconds": at.seconds(),
        }
        measured[at.name] = point
        figures["examples"] = [
            {
                "user": data.users[user],
                "history": [data.texts[row] for row in contexts[place][-5:]],
                "wanted": data.texts[targets[place]],
                "recommended": [
                    {"text": data.texts[one.row], "score": round(one.score, 4)} for one in some[:5]
                ],
            }
            for place, (user, some) in enumerate(zip(chosen, lists[:_EXAMPLES]))
        ]
        console.say(f"  {at.name}: {_in_words(point['recommendations'], top)}")
    if section.sasrec_minutes and (why := sasrec.available()) is not None:
        console.warn(f"evaluate.items.sasrec_minutes: {why}")
    elif section.sasrec_minutes:
        found = sasrec.train_and_rank(data, minutes=section.sasrec_minutes, seed=seed, **asked)
        ranked["sasrec"], figures["sasrec"] = found["ranked"][chosen], found["figures"]
    last = [*measured][-1]
    others = [name for name in ranked if name not in measured]
    for name in others:
        measured[name] = {"recommendations": ranking.measure(ranked[name], targets, ks=(top,))}
        console.say(f"  {name}: {_in_words(measured[name]['recommendations'], top)}")
    compared = {name: ranking.compare(ranked[last], ranked[name], targets, k=top) for name in others}
    figures |= {"points": measured, "compared": compared, "device": backend.device()}
    files.write_json(folder / "evaluation.json", figures)
    return figures


def _chosen(users: int, wanted: int | None, seed: int) -> list[int]:
    if wanted is None or wanted >= users:
        return list(range(users))
    return sorted(random.Random(seed).sample(range(users), wanted))


def _recommended(
    model: Any,
    tok: Any,
    data: Interactions,
    mapping: ItemTokens,
    contexts: Sequence[Sequence[int]],
    section: RecommendSection,
    block: int,
) -> tuple[list[Any], dict[str, Any]]:
    """The lists of all users, and what is known of how they came about."""
    ids, begin = mapping.ids(tok), text.bos_id(tok)
    most = room(block, mapping.levels) - 1
    # where seen items are barred, nothing is left for who has seen all of them
    asked = [n for n, context in enumerate(contexts) if not section.bar_seen or len(set(context)) < len(ids)]
    prompts = [[begin, *ids[list(contexts[n][-most:])].flatten().tolist()] for n in asked]
    trie, began = Trie.build(ids), time.monotonic()
    found = recommend(
        model, prompts, trie, count=section.top, num_beams=section.beams,
        seen=[set(contexts[n]) for n in asked] if section.bar_seen else None,
        pad_id=tok.pad_token_id if tok.pad_token_id is not None else begin,
    )  # fmt: skip
    seconds = time.monotonic() - began
    by_user = dict(zip(asked, found))
    lists = [by_user.get(n, []) for n in range(len(contexts))]
    return lists, {
        "recommended": sum(map(len, lists)),
        "users_per_second": round(len(lists) / max(seconds, 1e-9), 1),
    }


def _in_words(found: dict[str, Any], top: int) -> str:
    recall, gain = found[f"recall@{top}"], found[f"ndcg@{top}"]
    return (
        f"Recall@{top} {recall['value']:.3f} (95%: {recall['low']:.3f} to {recall['high']:.3f}), "
        f"NDCG@{top} {gain['value']:.3f}"
    )
