"""Who took which item and when, as histories: the corpus stage of runs that give items tokens.

The last item of each user is for the test and the one before it for validation (leave-one-out, as SASRec, arXiv
1808.09781, and most after it have it); what comes before is what can be learnt from.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastvocab import console, files
from fastvocab.corpus import packages
from fastvocab.corpus.read import rows
from fastvocab.corpus.sources import resolve
from fastvocab.corpus.write import WRITING, Meter, encode
from fastvocab.errors import CheckpointError, ConfigError, DataError
from fastvocab.items import catalogue as catalogues
from fastvocab.items.reading import Reading, check_known, nothing_left, take

Part = Literal["valid", "test"]
_INTERACTIONS, _ITEMS = "interactions.jsonl", "items.jsonl"


@dataclass(frozen=True)
class Interactions:
    """Histories as row numbers of the catalogue.

    Attributes:
        users: (users,) ids.
        items: (items,) ids.
        texts: (items,) what they are called.
        histories: (users,) the training history of each user, oldest first, one item or more.
        valid: (users,) the item after it.
        test: (users,) the item after that.
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    texts: tuple[str, ...]
    histories: list[list[int]]
    valid: list[int]
    test: list[int]

    def targets(self, part: Part) -> list[int]:
        """(users,) the item that is to be predicted."""
        return self.valid if part == "valid" else self.test

    def contexts(self, part: Part) -> list[list[int]]:
        """(users,) what is known before the target: for the test, the validation item too."""
        if part == "valid":
            return self.histories
        return [[*history, item] for history, item in zip(self.histories, self.valid)]


def build(
    folder: Path,
    *,
    interactions: Sequence[str],
    catalogue: Sequence[str],
    user: str,
    item: str,
    time: str,
    text: str,
    min_history: int = 3,
) -> dict[str, Any]:
    """Make ``interactions.jsonl`` and ``items.jsonl``.

    The first has a line ``{"user", "items": [...], "valid", "test"}`` for each user, with ids of items in the order of
    time; interactions at the same time stay in the order of their rows. An item that comes again is kept, as its own
    prediction, unless it comes at once after itself: whoever predicted the last item again would be right there. The
    second has a line ``{"item", "text"}`` for each item of the catalogue, also for those that nobody took.

    Args:
        folder: an existing folder.
        interactions: sources of rows (`fastvocab.corpus.sources.resolve`).
        catalogue: the same; empty: the items are those of the interactions, and their id is their text.
        user, item, time: names of fields; ``item`` is that of the catalogue as well.
        text: template of an item's text (`catalogue.Template`).
        min_history: users with fewer interactions are left out, 3 or more: one to learn from, one for validation, one
            for the test.

    Returns:
        Figures, fit for JSON. ``users``, ``items``, ``interactions``: what is kept. ``read``: rows of interactions.
        ``dropped``: interactions by reason (`reading.REASONS`); ``dropped_users``: those with too short a history.
        ``density``: share of all pairs of user and item that are there. ``lengths``: ``median`` and ``max`` of whole
        histories. ``items_without_interactions``, ``items_not_in_training``. ``targets_seen``: test items that the
        user had before, which nobody finds where seen items are barred. ``tied``: share of neighbouring interactions
        of one user at the same time, whose order is that of the rows and means little (MovieLens-100K: 51%).
        `Catalogue.figures`. ``packages``: records with licences.

    Raises:
        ConfigError: a template that is none, or too small a ``min_history``.
        DataError: sources missing or damaged, no such field, two texts for one item, or nothing left (with the counts
            by reason).
        DependencyError: a package source that is not installed.
    """
    if min_history < 3:
        raise ConfigError(
            f"corpus.items.min_history is {min_history}",
            rule="3 or more: one item to learn from, one for validation, one for the test",
        )
    if not interactions:
        raise DataError("no interactions are given", fix="corpus.items.interactions=FILE")
    catalogues.Template(text)
    found = {"catalogue": resolve(catalogue) if catalogue else [], "interactions": resolve(interactions)}
    records = _packages([s.name for group in found.values() for s in group if s.kind == "package"])
    with console.progress("MB") as bars:
        meter = Meter(bars)
        meter.start("reading the catalogue", found["catalogue"])
        listed = (
            catalogues.read(rows(catalogue, display=meter), item=item, text=text)
            if catalogue
            else catalogues.Catalogue()
        )
        meter.start("reading interactions", found["interactions"])
        fields = {"user": user, "item": item, "time": time}
        reading = take(rows(interactions, display=meter), fields, listed, closed=bool(catalogue))
    check_known(reading, listed)
    histories, shape = _histories(reading, min_history)
    if not histories:
        raise nothing_left(reading)
    files.require_space(folder, 40 * reading.read + 500 * len(listed.texts), "the histories")
    ids = list(listed.texts)
    with (folder / _ITEMS).open("w", **WRITING) as out:
        out.writelines(encode({"item": key, "text": said}) + "\n" for key, said in listed.texts.items())
    with (folder / _INTERACTIONS).open("w", **WRITING) as out:
        for name, history in histories.items():
            *past, valid, test = (ids[row] for row in history)
            out.write(encode({"user": name, "items": past, "valid": valid, "test": test}) + "\n")
    dropped = {"dropped": dict(reading.dropped.most_common())}
    return (
        {"users": len(histories), "items": len(ids), **_figures(list(histories.values()), len(ids))}
        | {"read": reading.read}
        | dropped
        | shape
        | listed.figures()
        | {"packages": records}
    )


def _packages(sources: Iterable[str]) -> list[dict[str, Any]]:
    # the interactions and the items of one package are one record
    records = {record["name"]: record for record in map(packages.package_info, sources)}
    for record in records.values():
        console.say(f"items from {record['name']} {record['version']}, {record['licence']}, {record['url']}")
    return list(records.values())


def _histories(reading: Reading, least: int) -> tuple[dict[str, list[int]], dict[str, Any]]:
    """Histories in the order of time of the users who have enough; counts what goes in ``reading``."""
    kept: dict[str, list[int]] = {}
    short = ties = steps = 0
    for user, taken in reading.by_user.items():
        taken.sort(key=lambda pair: pair[0])
        ties += sum(a[0] == b[0] for a, b in itertools.pairwise(taken))
        steps += len(taken) - 1
        history = [row for at, (_, row) in enumerate(taken) if not at or row != taken[at - 1][1]]
        reading.dropped["at_once_again"] += len(taken) - len(history)
        if len(history) < least:
            short += 1
            reading.dropped["short_history"] += len(history)
        else:
            kept[user] = history
    reading.dropped = +reading.dropped  # without the reasons of which there is none
    return kept, {"dropped_users": short, "tied": round(ties / steps, 4) if steps else 0.0}


def _figures(histories: list[list[int]], items: int) -> dict[str, Any]:
    lengths = [len(history) for history in histories]
    trained = {row for history in histories for row in history[:-2]}
    touched = trained | {row for history in histories for row in history[-2:]}
    pairs = sum(len(set(history)) for history in histories)
    return {
        "interactions": sum(lengths),
        "density": round(pairs / (len(histories) * items), 6),
        "lengths": {"median": statistics.median(lengths), "max": max(lengths)},
        "items_without_interactions": items - len(touched),
        "items_not_in_training": items - len(trained),
        "targets_seen": sum(history[-1] in history[:-1] for history in histories),
    }


def read(folder: Path) -> Interactions:
    """What `build` wrote into ``folder``.

    Raises:
        CheckpointError: a file is missing or damaged, or a history has an item that ``items.jsonl`` has not.
    """
    listed = _lines(folder / _ITEMS)
    numbers = {line["item"]: row for row, line in enumerate(listed)}
    users, histories, valid, test = list[str](), list[list[int]](), list[int](), list[int]()
    for line in _lines(folder / _INTERACTIONS):
        try:
            history = [numbers[key] for key in (*line["items"], line["valid"], line["test"])]
        except KeyError as error:
            raise CheckpointError(
                f"{folder / _INTERACTIONS}: {error} of user {line.get('user')!r} is not in {_ITEMS}",
                fix="run the corpus stage again",
            ) from None
        users.append(line["user"])
        histories.append(history[:-2])
        valid.append(history[-2])
        test.append(history[-1])
    items, texts = tuple(numbers), tuple(line["text"] for line in listed)
    return Interactions(tuple(users), items, texts, histories, valid, test)


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except FileNotFoundError:
        raise CheckpointError(f"{path} is not there", fix="run the corpus stage again") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}", fix="run the corpus stage again") from None
