"""Word problems whose reasoning is written by a program: honest, checkable, as many as are wanted.

Each has an ``instruction``, the ``reasoning`` step by step, and the ``output``, a whole number that the steps lead to.
As ``package:fastvocab/arithmetic`` they are the default data of the recipe special_tokens, where held-out questions
tell whether a model writes its tags, and whether what it writes between them is right.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

#: Enough that a run of minutes reads no question twice, and 3% of them, held out, are some sixty.
ROWS = 2000
SEED = 3407

_NAMES = ("Ada", "Ben", "Chidi", "Dana", "Emil", "Fatima", "Goran", "Hana", "Ivan", "Joy", "Kofi", "Lena")
_THINGS = ("apples", "books", "coins", "eggs", "pens", "shells", "stamps", "tickets", "plums", "cards")

_Problem = tuple[str, str, int]


def _bags(draw: random.Random) -> _Problem:
    name, things = draw.choice(_NAMES), draw.choice(_THINGS)
    first, bags, each = draw.randint(2, 30), draw.randint(2, 9), draw.randint(2, 9)
    more = bags * each
    given = draw.randint(1, first + more - 1)
    question = draw.choice(
        (
            f"{name} has {first} {things}, buys {bags} bags with {each} {things} each and gives away {given}. "
            f"How many {things} are left?",
            f"There are {first} {things} on the table. {name} puts {bags} boxes of {each} {things} beside them "
            f"and takes {given} away. How many {things} are there now?",
        )
    )
    total = first + more
    steps = f"{bags} * {each} = {more}. {first} + {more} = {total}. {total} - {given} = {total - given}."
    return question, steps, total - given


def _shares(draw: random.Random) -> _Problem:
    name, things = draw.choice(_NAMES), draw.choice(_THINGS)
    friends, each, first = draw.randint(2, 9), draw.randint(2, 9), draw.randint(2, 20)
    total = friends * each
    if total <= first:
        first = total - 1
    question = draw.choice(
        (
            f"{name} has {first} {things}, finds {total - first} more and shares all of them among {friends} friends. "
            f"How many {things} does each friend get?",
            f"{first} {things} and {total - first} {things} are divided equally among {friends} children. "
            f"How many {things} does each child have?",
        )
    )
    return question, f"{first} + {total - first} = {total}. {total} / {friends} = {each}.", each


def _money(draw: random.Random) -> _Problem:
    name, things = draw.choice(_NAMES), draw.choice(_THINGS)
    count, price, extra = draw.randint(2, 9), draw.randint(2, 9), draw.randint(2, 20)
    cost = count * price + extra
    paid = cost + draw.randint(1, 30)
    question = (
        f"{name} buys {count} {things} for {price} dollars each and a bag for {extra} dollars, and pays with {paid} "
        "dollars. How many dollars does the shop give back?"
    )
    steps = f"{count} * {price} = {count * price}. {count * price} + {extra} = {cost}. {paid} - {cost} = {paid - cost}."
    return question, steps, paid - cost


def _plain(draw: random.Random) -> _Problem:
    a, b, c = draw.randint(2, 40), draw.randint(2, 40), draw.randint(2, 9)
    question = draw.choice((f"What is ({a} + {b}) * {c}?", f"Add {a} and {b}, then multiply by {c}."))
    return question, f"{a} + {b} = {a + b}. {a + b} * {c} = {(a + b) * c}.", (a + b) * c


_KINDS: tuple[Callable[[random.Random], _Problem], ...] = (_bags, _shares, _money, _plain)


def problems(count: int = ROWS, seed: int = SEED) -> Iterator[dict[str, str]]:
    """Distinct problems, each ``{"instruction", "reasoning", "output"}``; the same ones for the same seed."""
    draw, seen = random.Random(seed), set[str]()
    while len(seen) < count:
        question, steps, answer = draw.choice(_KINDS)(draw)
        if question not in seen:
            seen.add(question)
            yield {"instruction": question, "reasoning": steps, "output": str(answer)}
