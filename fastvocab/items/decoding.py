"""What a model would recommend: a beam search over the tokens of items, held to a catalogue by its trie.

Constrained as in "Autoregressive Entity Retrieval" (De Cao et al., 2021, arXiv:2010.00904), with items in place of
names of entities.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fastvocab.errors import ConfigError, DataError, ModelError
from fastvocab.items.trie import BarredTrie, Trie
from fastvocab.model import backend

#: What transformers gives a beam that is none: -1e9 and some. The worst token of a real one costs hundreds of nats.
_NONE = -1e8
#: A model's own generation_config.json must change no score and end nothing (Qwen2.5's has a repetition penalty of
#: 1.05); an EOS, which no item has or needs, is none here.
_PLAIN = {
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "cache_implementation": None,
    "do_sample": False,
    "eos_token_id": None,
    "exponential_decay_length_penalty": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "guidance_scale": None,
    "length_penalty": 0.0,
    "max_time": None,
    "min_length": 0,
    "no_repeat_ngram_size": 0,
    "renormalize_logits": False,
    "repetition_penalty": 1.0,
    "sequence_bias": None,
    "stop_strings": None,
    "suppress_tokens": None,
    "use_cache": True,
}


@dataclass(frozen=True)
class Recommendation:
    """An item, and how likely the model thinks it."""

    row: int
    """Row of the item in the codes that the trie was built of."""
    score: float
    """Log-probability of its tokens after the prompt, in nats: their sum, whatever their number."""


def recommend(
    model: Any,
    prompts: Sequence[Sequence[int]],
    trie: Trie,
    *,
    count: int,
    num_beams: int,
    seen: Sequence[Iterable[int]] | None = None,
    pad_id: int,
    batch: int = 16,
) -> list[list[Recommendation]]:
    """The items that most likely follow each prompt.

    Probabilities are the model's own over its whole vocabulary, not renormalised over the tokens that the trie allows:
    a score is exactly that of a plain forward pass over prompt and item, so that scores of different prompts and of
    different catalogues compare. With as many beams as items the answer is exact; with fewer, an item is missed whose
    first tokens are less likely than those of ``num_beams`` others.

    A model that is being trained is in training again afterwards.

    Args:
        prompts: token ids of each, of any length.
        count: items wanted for each prompt, at most ``num_beams``.
        num_beams: how many beginnings of items are followed at once.
        seen: rows of the items that each prompt's user must not get.
        pad_id: fills up the shorter prompts of a batch; the model does not see it.
        batch: prompts in one pass; memory is that of ``batch * num_beams`` sequences, and of as many rows of scores
            over the vocabulary, for each token of an item once more (a batch of 16 with 50 beams, a vocabulary of
            50,000, items of 4 tokens: 0.16 GB each).

    Returns:
        For each prompt distinct items, best first: ``count``, or all that are left where these are fewer.

    Raises:
        ConfigError: more beams than items, or fewer beams than items wanted.
        DataError: a prompt that is empty or too long, or whose user has seen everything.
        ModelError: the model gives scores that are no numbers.
        DeadPrefix: what came out is no item.
    """
    _check(model, prompts, trie, count, num_beams)
    barred = [[] for _ in prompts] if seen is None else [list(rows) for rows in seen]
    _check_left(trie, prompts, barred)
    found: list[list[Recommendation]] = [[] for _ in prompts]
    by_length = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))  # the least padding
    for start in range(0, len(prompts), batch):
        part = by_length[start : start + batch]
        tries = [trie.barring(barred[at]) if barred[at] else trie for at in part]
        answers = _search(model, [prompts[at] for at in part], tries, count, num_beams, pad_id)
        for at, answer in zip(part, answers):
            found[at] = answer
    return found


def _check(model: Any, prompts: Sequence[Sequence[int]], trie: Trie, count: int, num_beams: int) -> None:
    if num_beams > len(trie):
        raise ConfigError(
            f"{num_beams} beams over a catalogue of {len(trie)} items",
            rule="num_beams is at most the number of items",
            fix=f"num_beams={len(trie)} finds the exact order of all of them",
        )
    if not 1 <= count <= num_beams:
        raise ConfigError(
            f"{count} items wanted of {num_beams} beams",
            rule="count is 1 to num_beams: each beam ends in one item",
            fix=f"count={max(1, num_beams)}, or num_beams={max(1, count)}",
        )
    longest = getattr(model.config, "max_position_embeddings", None)
    for number, prompt in enumerate(prompts):
        if not len(prompt):
            raise DataError(
                f"prompt {number} is empty",
                rule="an item is predicted from at least one token",
                fix="begin each prompt with the BOS token",
            )
        if longest is not None and len(prompt) + trie.depth > longest:
            raise DataError(
                f"prompt {number} has {len(prompt)} tokens, and an item {trie.depth} more",
                rule=f"together at most max_position_embeddings={longest} of the model",
                fix=f"keep the last {longest - trie.depth} tokens of the history",
            )


def _check_left(trie: Trie, prompts: Sequence[Sequence[int]], barred: Sequence[Sequence[int]]) -> None:
    """Is something left for each prompt's user? Views are made once more for their batch: 0.1 ms each, not kept."""
    assert len(barred) == len(prompts), f"seen items of {len(barred)} users for {len(prompts)} prompts"
    for number, rows in enumerate(barred):
        try:
            trie.barring(rows)
        except DataError as error:
            raise DataError(f"prompt {number}: {error.message}", rule=error.rule, fix=error.fix) from None


def _search(
    model: Any,
    prompts: Sequence[Sequence[int]],
    tries: Sequence[Trie | BarredTrie],
    count: int,
    num_beams: int,
    pad_id: int,
) -> list[list[Recommendation]]:
    """One batch."""
    import torch
    from transformers import LogitsProcessorList

    width, depth = max(map(len, prompts)), tries[0].depth
    device = model.get_input_embeddings().weight.device
    ids = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts], device=device)

    def allowed(at: int, sequence: Any) -> list[int]:
        return tries[at].children(sequence[width:].tolist()).tolist()

    # what a library keeps from here (masks, rotary tables) may be used in training next
    graph = torch.no_grad() if model.training else torch.inference_mode()
    with backend.generating(model), graph:
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=_read_once(model, ids, mask, num_beams, pad_id),
            max_new_tokens=depth,
            num_beams=num_beams,
            num_return_sequences=count,
            early_stopping=num_beams > 1,
            prefix_allowed_tokens_fn=allowed,
            logits_processor=LogitsProcessorList([_checked]),
            pad_token_id=pad_id,
            return_dict_in_generate=True,
            output_scores=True,
            output_logits=num_beams == 1,
            **_PLAIN,
        )
    sequences = out.sequences[:, width:]
    scores = out.sequences_scores if num_beams > 1 else _greedy_scores(out.logits, sequences)
    pairs = list(zip(sequences.tolist(), scores.tolist()))
    return [_items(pairs[at * count : (at + 1) * count], own) for at, own in enumerate(tries)]


def _read_once(model: Any, ids: Any, mask: Any, num_beams: int, pad_id: int) -> Any:
    """Keys and values of all but the prompts' last tokens, one copy for each beam; None where that cannot be.

    By itself ``generate`` reads each prompt once for each beam: 3.1 s of forward passes in place of 0.8 (6 layers, 8
    prompts of 100 tokens, 30 beams, 2 cores).

    Args:
        ids, mask: (batch, width), padded on the left.
    """
    from transformers import Cache

    if num_beams == 1 or not bool(
        mask[:, :-1].any(1).all()
    ):  # a row of padding alone is not for every kernel
        return None
    # by way of `generate`, which knows of positions, precision and kernels; the one token that it writes is not kept
    read = model.generate(
        input_ids=ids[:, :-1],
        attention_mask=mask[:, :-1],
        max_new_tokens=1,
        pad_token_id=pad_id,
        return_dict_in_generate=True,
        num_beams=1,
        **_PLAIN,
    ).past_key_values
    if not isinstance(read, Cache):
        return None
    read.batch_repeat_interleave(num_beams)
    return read


def _checked(ids: Any, scores: Any) -> Any:
    """Scores (sequences, vocabulary) as they are; without this, beams of NaN wander off the trie."""
    if bool(scores.isnan().any()):
        raise ModelError(
            "the model's scores are not finite",
            rule="recommending needs a log-probability of each token",
            fix="train it again with a lower learning rate, or load it in bfloat16 in place of float16",
        )
    return scores


def _greedy_scores(logits: Sequence[Any], sequences: Any) -> Any:
    """(batch,) log-probabilities of sequences (batch, tokens) from a step's logits (batch, vocabulary) each.

    Of one beam transformers gives no score.
    """
    import torch

    chances = torch.stack([step.float() for step in logits], 1).log_softmax(-1)
    return chances.gather(2, sequences[:, :, None]).sum((1, 2))


def _items(found: list[tuple[list[int], float]], trie: Trie | BarredTrie) -> list[Recommendation]:
    """The items among what the beams of one prompt came to, best first.

    Where there are fewer items than beams, the rest of the beams repeat some of them.
    """
    real = [Recommendation(trie.item(codes), score) for codes, score in found if score > _NONE]
    assert len({item.row for item in real}) == len(real), f"an item came twice: {real}"
    return sorted(real, key=lambda item: -item.score)
