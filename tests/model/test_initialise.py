"""New rows against definitions written out by hand, against transformers and unsloth, and against what is promised."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastvocab.config.fields import Init
from fastvocab.errors import ConfigError, ModelError
from fastvocab.model import checkpoint, initialise, load, reference, text
from fastvocab.model.extend import grow
from fastvocab.model.initialise import choose, means, named, unsloth_own
from fastvocab.model.initialise.calibration import states
from fastvocab.model.initialise.task import Task
from fastvocab.model.new_tokens import NewTokens
from tests.conftest import english, sentences

KINDS = ("tied_llama", "untied_llama")


def grown(base: Path, new: NewTokens, *, rows: int | None = None, way: unsloth_own.Way = "mean"):
    """(model, its task) with rows for ``new``, and with ``rows`` in all."""
    own = text.tokenizer(base)
    model, _ = load.base_model(reference.resolve(str(base)), load_in_4bit=False, block=64, seed=0)
    grow(model, text.tokenizer(base), new.ids, new.spellings, rows=rows, way=way)
    return model, Task(new, own, own, seed=4)


def words(base: Path, texts: list[str]) -> NewTokens:
    """New tokens of these texts, as if a tokenizer had gained them."""
    own = text.tokenizer(base)
    ids = range(len(own), len(own) + len(texts))
    return NewTokens(ids, [f"new {t}" for t in texts], text.encode(own, texts), list(texts))


def snapshot(model) -> dict[str, torch.Tensor]:
    return {part: w.detach().clone() for part, w in load.embedding_weights(model).items()}


def of(made) -> tuple[torch.nn.Module, Task]:
    """A model and its task with real new tokens and text, 32 rows of padding behind them."""
    new = NewTokens.read(made.tokenizer)
    model, task = grown(made.base, new, rows=832)
    target, original = (text.byte_pieces(t, size=2048, limit=60_000) for t in (sentences(300), english(10)))
    return model, Task(
        new, task.base_tokenizer, text.tokenizer(made.tokenizer), seed=4, target=target, original=original,
        calibration_bytes=10_000, reference="<s>", descriptions={str(new.texts[0]): "the letter of a word"},
    )  # fmt: skip


def test_the_table_and_the_configuration_name_the_same_methods() -> None:
    given = {"item_text", "item_centroid"}  # rows that come with the tokens
    assert {*initialise.METHODS} - {"clone"} == {*get_args(Init)} - {"auto"} - given
    assert {*choose.CANDIDATES, *unsloth_own.WAYS} < {*initialise.METHODS}
    with pytest.raises(ModelError, match="init 'magic'"):
        initialise.check("magic", None)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_a_method_sets_the_new_rows_and_no_others_the_same_each_time(kind: str, make, request) -> None:
    model, task = of(make(request.getfixturevalue(kind)))
    before, ids = snapshot(model), slice(700, 800)
    assert load.is_tied(model) == (kind == "tied_llama")
    for name, method in initialise.METHODS.items():
        results = []
        for _ in range(2):
            for part, weight in load.embedding_weights(model).items():
                weight.data.copy_(before[part])
                if name not in unsloth_own.WAYS:
                    weight.data[ids] = torch.nan
            notes = method(model, task)
            json.dumps(notes, allow_nan=False)
            results.append(snapshot(model))
        for part, rows in results[0].items():
            assert torch.equal(rows, results[1][part]), name
            assert torch.equal(rows[:700], before[part][:700]) and torch.equal(rows[800:], before[part][800:])
            assert rows[ids].isfinite().all(), name


def test_subtoken_means_equal_a_loop(tied_llama: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(50, 8, generator=generator)
    base_ids = [[1, 2, 3], [4], [0, 0, 7, 9, 11]]
    expected = weight.clone()
    for i, ids in enumerate(base_ids):
        expected[40 + i] = torch.stack([weight[j] for j in ids]).mean(0)
    initialise.subtoken_mean(weight, 40, base_ids)
    torch.testing.assert_close(weight, expected)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 19), st.integers(1, 9)), min_size=1, max_size=6), min_size=1)
)
def test_weighted_means_are_numpys(groups: list[list[tuple[int, int]]]) -> None:
    weight = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    ids, shares = ([[pair[k] for pair in group] for group in groups] for k in (0, 1))
    found = means.mean_rows(weight, ids, shares)
    expected = [np.average(weight.numpy()[i], axis=0, weights=s) for i, s in zip(ids, shares)]
    np.testing.assert_allclose(found.numpy(), np.stack(expected), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_asymmetric_rows_are_those_of_the_definition(kind: str, request) -> None:
    base = request.getfixturevalue(kind)
    new = words(base, ["lambda", " yield", "мова", " and the"])
    model, task = grown(base, new)
    notes = means.asymmetric(model, task)
    weights, own = load.embedding_weights(model), task.base_tokenizer
    for place, ids in enumerate(new.base_ids):
        lengths = [len(token) for token in own.convert_ids_to_tokens(ids)]  # a character for each byte
        assert sum(lengths) == len((new.texts[place] or "").encode())
        heads = model.get_output_embeddings().weight.detach()
        expected = sum(n * heads[i] for n, i in zip(lengths, ids)) / sum(lengths)
        torch.testing.assert_close(heads[700 + place], expected)
        if "lm_head" in weights:
            rows = weights["embed_tokens"].detach()
            plain = rows[ids].mean(0)
            torch.testing.assert_close(rows[700 + place], plain * notes["norm"] / plain.norm())
    if kind == "untied_llama":
        # the new tokens are Latin and Cyrillic: the base has hundreds of tokens of Latin letters
        rows = weights["embed_tokens"].detach()
        latin = [i for t, i in own.get_vocab().items() if t.strip("Ġ").isascii() and t.strip("Ġ").isalpha()]
        assert notes["norm_of"] == "script" and abs(notes["norm_rows"] - len(latin)) < 10
        assert notes["norm"] == pytest.approx(float(rows[latin].norm(dim=1).mean()), rel=0.01)


def test_a_script_without_tokens_of_its_own_is_measured_on_its_sub_tokens(untied_llama: Path) -> None:
    new = words(untied_llama, ["мова", "народ"])
    model, task = grown(untied_llama, new)
    pieces = sorted({i for ids in new.base_ids for i in ids})
    notes = means.asymmetric(model, task)
    rows = load.embedding_weights(model)["embed_tokens"].detach()
    assert notes["norm_of"] == "sub-tokens" and notes["norm_rows"] == len(pieces)
    assert notes["norm"] == pytest.approx(float(rows[pieces].norm(dim=1).mean()))


def test_lengths_are_bytes_in_every_kind_of_vocabulary(tied_llama: Path, mistral_like: Path) -> None:
    for folder in (tied_llama, mistral_like):
        own = text.tokenizer(folder)
        for line in ("the мова of народу", "¡ñandú! 你好"):
            (ids,) = text.encode(own, [line])
            # SentencePiece puts a space in front
            extra = 1 if folder == mistral_like else 0
            assert sum(means.byte_lengths(own, ids)[i] for i in ids) == len(line.encode()) + extra


@pytest.mark.parametrize("kind", KINDS)
def test_n_clones_share_with_their_reference_as_derived(kind: str, request) -> None:
    """e^l / (Z + n e^l) = p / (1 + n p), where p = e^l / Z was the reference's."""
    base = request.getfixturevalue(kind)
    new = words(base, ["<a>", "<b>", "<c>", "<d>"])
    model, task = grown(base, new)
    ids, head = torch.tensor([[0, 90, 300, 41]]), model.get_output_embeddings().weight
    with torch.no_grad():
        state = model.get_decoder()(input_ids=ids).last_hidden_state[0, -1]
        for push in (0.0, 4.0, 40.0):  # a rare token, a likely one, and a certain one
            head[5] += push * state / state.square().sum()
            p = torch.softmax((head[:700] @ state).double(), 0)[5]
            token = task.base_tokenizer.convert_ids_to_tokens([5])[0]
            notes = named.clone(model, replace(task, reference=token))
            after = torch.softmax((head @ state).double(), 0)
            torch.testing.assert_close(after[[5, 700, 701, 702, 703]], (p / (1 + 4 * p)).repeat(5))
            assert notes == {"reference": token, "reference_id": 5}
    assert p > 0.9999 and after[5] == pytest.approx(0.2, abs=1e-4)
    for weight in load.embedding_weights(model).values():
        assert torch.equal(weight[700:], weight[5].expand(4, -1))


def test_a_reference_is_named_by_spelling_or_text_and_an_unknown_one_is_refused(tied_llama: Path) -> None:
    own = text.tokenizer(tied_llama)
    new = words(tied_llama, ["x"])
    assert named.reference_id(Task(new, own, own, reference="</s>")) == 1
    the = own.get_vocab()["Ġthe"]
    for name in ("Ġthe", " the"):
        assert named.reference_id(Task(new, own, own, reference=name)) == the
    with pytest.raises(ModelError, match=r"clone:<\|/s\|> ?: the base reads this as \d tokens") as error:
        named.reference_id(Task(new, own, own, reference="<|/s|>"))
    assert "</s>" in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_descriptions_are_means_of_their_tokens_and_the_rest_falls_back(kind: str, request) -> None:
    base = request.getfixturevalue(kind)
    new = words(base, ["<think>", " мова", "народ"])
    model, task = grown(base, new)
    said = {"<think>": "begin of reasoning", "мова": "language"}
    notes = named.description(model, Task(new, task.base_tokenizer, task.tokenizer, descriptions=said))
    assert notes == {"described": 2, "fallback": 1}
    for weight in load.embedding_weights(model).values():
        for row, line in ((700, "begin of reasoning"), (701, "language")):
            ids = task.base_tokenizer(line, add_special_tokens=False).input_ids
            torch.testing.assert_close(weight[row], weight[ids].mean(0))
        torch.testing.assert_close(weight[702], weight[new.base_ids[2]].mean(0))


def test_descriptions_of_other_tokens_are_refused_by_name(tied_llama: Path, tmp_path: Path) -> None:
    own = text.tokenizer(tied_llama)
    new = words(tied_llama, ["<think>", " мова"])
    said = {"<thnk>": "x", "<think>": "y", "the": "z"}
    with pytest.raises(ModelError, match=r"2 tokens are not new: '<thnk>', 'the'") as error:
        initialise.check("description", Task(new, own, own, descriptions=said))
    assert "there is: <think>" in str(error.value)
    with pytest.raises(ModelError, match="no new token has a description"):
        initialise.check("description", Task(new, own, own))
    file = tmp_path / "d.json"
    for content, found in (
        ("[]", "holds a list"), ("{", "d.json"), ('{"a": 1}', "no description of 'a'"), ('{"a": " "}', "'a'")
    ):  # fmt: skip
        file.write_text(content)
        with pytest.raises(ConfigError, match=found):
            named.read_descriptions(file)
    with pytest.raises(ConfigError, match="No such file"):
        named.read_descriptions(tmp_path / "none.json")


def test_the_mean_is_of_tokens_not_of_padding(padded_llama: Path) -> None:
    new = words(padded_llama, ["a b", "c d"])
    model, task = grown(padded_llama, new)
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        weight[702:] = 1000.0
    means.mean(model, task)
    torch.testing.assert_close(weight[700:702], weight[:700].mean(0).expand(2, -1))


@pytest.mark.parametrize("kind", KINDS)
def test_noise_has_the_statistics_of_transformers(kind: str, request) -> None:
    from transformers import AutoModelForCausalLM

    base, count = request.getfixturevalue(kind), 4000
    new = NewTokens(range(700, 700 + count), [f"t{i}" for i in range(count)], [[1]] * count, [None] * count)
    model, task = grown(base, new)
    for method, mean_resizing in ((means.noisy_mean, True), (means.random, False)):
        plain = AutoModelForCausalLM.from_pretrained(base)
        torch.manual_seed(1)
        plain.resize_token_embeddings(700 + count, mean_resizing=mean_resizing)
        method(model, task)
        for ours, theirs in (
            (model.get_input_embeddings(), plain.get_input_embeddings()),
            (model.get_output_embeddings(), plain.get_output_embeddings()),
        ):
            a, b = ours.weight[700:].detach().double(), theirs.weight[700:].detach().double()
            deviations = a.std(0), b.std(0)
            assert (b.std(0) > 0).all()
            # the mean of 4000 draws is off by a 60th of the deviation, the difference of two such by a 45th
            assert ((a.mean(0) - b.mean(0)).abs() < 0.12 * deviations[1]).all()
            torch.testing.assert_close(deviations[0], deviations[1], rtol=0.08, atol=0)
            correlation = [torch.corrcoef(x.T) for x in (a, b)]
            assert (correlation[0] - correlation[1]).abs().max() < 0.12


@pytest.mark.parametrize("way", ["mean", "interpolation"])
@pytest.mark.parametrize("kind", [*KINDS, "padded_llama"])
def test_unsloths_rows_are_its_own_bit_by_bit(kind: str, way: str, make, request, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM
    from unsloth_zoo.tokenizer_utils import add_new_tokens

    from fastvocab.model.extend import extend

    made = make(request.getfixturevalue(kind))
    figures = extend(
        tmp_path, reference.resolve(str(made.base)), made.tokenizer, init=f"unsloth_{way}", seed=1,
        pad_to_multiple_of=64,
    )  # fmt: skip
    assert figures["init"] == checkpoint.read(tmp_path)["init"] == f"unsloth_{way}"
    ours, _ = checkpoint.load(tmp_path)
    rows = [json.loads(line) for line in (made.tokenizer / "new_tokens.jsonl").read_text().splitlines()]
    theirs = AutoModelForCausalLM.from_pretrained(made.base)
    add_new_tokens(theirs, text.tokenizer(made.base), [r["text"] or r["token"] for r in rows], method=way)
    expected = load.embedding_weights(theirs)
    for part, weight in load.embedding_weights(ours).items():
        assert torch.equal(weight[:800], expected[part][:800])
    if way == "interpolation":
        assert figures["initialise"]["spelled"] == sum(r["text"] is None for r in rows) < len(rows)
        assert len(expected["embed_tokens"][700:800].unique(dim=0)) > 90, "it has read sub-tokens"


def test_calibration_reads_text_from_all_over_the_corpus(make, tied_llama: Path) -> None:
    """A corpus may begin with anything: a title page, one author, another kind of text."""
    made = make(tied_llama)
    own = text.tokenizer(made.tokenizer)
    pieces = [f"{number} слово" for number in range(2000)]
    task = Task(
        NewTokens.read(made.tokenizer),
        text.tokenizer(made.base),
        own,
        target=pieces,
        calibration_bytes=10_000,
    )
    found = [int(own.decode(ids[1:]).split()[0]) for ids in task.pieces(task.target)]
    size = sum(len(pieces[number].encode()) for number in found)
    assert 10_000 <= size < 10_020 and len(set(found)) == len(found)
    quarters = np.bincount(np.array(found) // 500, minlength=4) / len(found)
    assert (abs(quarters - 0.25) < 0.08).all(), quarters
    assert task.pieces(task.target) == task.pieces(task.target) != replace(task, seed=1).pieces(task.target)


def test_names_for_unsloth_are_never_taken_already() -> None:
    new = NewTokens(range(5, 9), ["Ġa", "b", "Ġc", "d"], [[1]] * 4, ["x", None, "b", "x"])
    assert unsloth_own.names(new, {"y": 0}) == ["x", "b", "Ġc", "d"]
    assert unsloth_own.names(new, {"x": 0}) == ["Ġa", "b", "Ġc", "d"]


def test_rows_behind_a_gap_in_the_bases_ids_stay(tied_llama: Path, tmp_path: Path) -> None:
    """add_new_tokens counts from the number of tokens: it would set the rows of the base's last ones."""
    from transformers import AutoModelForCausalLM

    data = json.loads((tied_llama / "tokenizer.json").read_text())
    last = max(data["model"]["vocab"], key=data["model"]["vocab"].get)
    data["model"]["vocab"][last] = 705
    own = text.tokenizer(tied_llama)
    own.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    own = text.tokenizer(tmp_path)
    assert len(own) == 700 and own.get_vocab()[last] == 705
    model = AutoModelForCausalLM.from_pretrained(tied_llama)
    model.resize_token_embeddings(706)
    before = model.get_input_embeddings().weight.detach().clone()
    grow(model, own, range(706, 709), ["<x>", "<y>", "<z>"])
    after = model.get_input_embeddings().weight.detach()
    assert torch.equal(after[:706], before)
    trained = before[before.abs().amax(1) > 0]  # unsloth leaves out the padding token's zeros
    torch.testing.assert_close(after[706:], trained.mean(0).expand(3, -1))


@pytest.mark.parametrize("kind", KINDS)
def test_calibration_gives_new_tokens_their_share_and_leaves_old_rows(kind: str, make, request) -> None:
    model, task = of(make(request.getfixturevalue(kind)))
    new = task.new
    means.subtokens(model, task)
    before = model.get_output_embeddings().weight.detach().clone()
    pieces = [list(text.pieces(task.tokenizer, t, limit=8000, size=150)) for t in (sentences(60), english(3))]
    counts = initialise.count(pieces[0], len(before))
    figures = initialise.calibrate(model, *(states(model, p) for p in pieces), new.ids, counts)
    after = model.get_output_embeddings().weight.detach()
    assert torch.equal(before[: new.ids.start], after[: new.ids.start])
    assert figures["after"] == pytest.approx(figures["share"], abs=0.01)
    assert abs(figures["before"] - figures["share"]) > 0.05, "nothing was there to calibrate"
    # the update has rank one: every row moved along the same direction
    update = after[new.ids.start : new.ids.stop] - before[new.ids.start : new.ids.stop]
    singular = torch.linalg.svdvals(update.float())
    assert singular[1] < 1e-3 * singular[0]


def test_a_text_without_new_tokens_leaves_the_rows_alone(make, tied_llama: Path) -> None:
    made = make(tied_llama)
    model, tok = checkpoint.load(made.extend)
    before = model.get_output_embeddings().weight.detach().clone()
    pieces = list(text.pieces(tok, english(2), limit=3000, size=150))
    counts = initialise.count(pieces, len(before))
    figures = initialise.calibrate(
        model, states(model, pieces), states(model, []), NewTokens.read(made.tokenizer).ids, counts
    )
    assert figures["share"] == 0
    assert torch.equal(before, model.get_output_embeddings().weight)


def test_calibration_without_text_is_refused(tied_llama: Path) -> None:
    own = text.tokenizer(tied_llama)
    with pytest.raises(ModelError, match="reads text of the new language"):
        initialise.check("calibrated", Task(words(tied_llama, ["x"]), own, own))
