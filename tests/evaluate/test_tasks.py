"""lm-eval: a clear word where it is missing, its own figures where it is there, on a task made here."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from fastvocab.config import Config
from fastvocab.config.models import EvaluateSection
from fastvocab.errors import DataError, DependencyError
from fastvocab.evaluate import tasks
from fastvocab.model import reference
from fastvocab.recipes import new_language
from tests.conftest import tiny_run

INSTALLED = find_spec("lm_eval") is not None


@pytest.mark.skipif(INSTALLED, reason="lm-eval is installed")
def test_a_missing_lm_eval_is_said_before_any_work(
    tied_llama: Path, text_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DependencyError, match=r"pip install 'fastvocab\[lm-eval\]'"):
        tasks.check(["hellaswag"])
    arguments = tiny_run(tied_llama, text_folder, tmp_path, "evaluate.tasks=[hellaswag,belebele]")
    assert new_language.main([*arguments, "--dry-run"]) == DependencyError.exit_code
    assert "hellaswag, belebele need lm-eval" in capsys.readouterr().err
    assert not (tmp_path / "tiny").exists()


def test_no_tasks_need_nothing() -> None:
    assert Config().evaluate.tasks == ()
    tasks.check(())
    assert EvaluateSection.model_validate({"tasks": "arc_easy"}).tasks == ("arc_easy",)


def test_filters_stay_in_the_names_and_text_is_left_out() -> None:
    found = tasks._plain(
        {
            "gsm8k": {
                "alias": "gsm8k", "sample_len": 5, "exact_match,strict-match": 0.25,
                "exact_match_stderr,strict-match": 0.1, "acc,none": 0.5, "acc_stderr,none": "N/A",
            }
        }
    )  # fmt: skip
    assert found == {
        "gsm8k": {"exact_match (strict-match)": 0.25, "exact_match (strict-match)_stderr": 0.1, "acc": 0.5}
    }


def _task(folder: Path) -> Path:
    """Two choices, of which the base's own tokenizer makes one token and many."""
    rows = [{"question": f"{n} and", "choices": ["the", "xq zw"], "answer": n % 2} for n in range(8)]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = folder / "made_here.yaml"
    task.write_text(
        f"""task: made_here
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{{metric: acc}}]
""",
        encoding="utf-8",
    )
    return task


@pytest.mark.skipif(not INSTALLED, reason="needs the extra lm-eval")
def test_lm_eval_measures_the_base_as_it_does_by_itself(tied_llama: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    task = _task(tmp_path)
    found = tasks.measure([str(task)], reference.resolve(str(tied_llama)), {}, seed=1)
    model, tok = AutoModelForCausalLM.from_pretrained(tied_llama), AutoTokenizer.from_pretrained(tied_llama)
    right = 0
    for n in range(8):
        start = [tok.bos_token_id, *tok(f"{n} and", add_special_tokens=False).input_ids]
        scores = []
        for choice in (" the", " xq zw"):
            ids = torch.tensor([[*start, *tok(choice, add_special_tokens=False).input_ids]])
            with torch.no_grad():
                logs = torch.log_softmax(model(ids).logits[0], -1)
            scores.append(sum(float(logs[i - 1, ids[0, i]]) for i in range(len(start), ids.shape[1])))
        right += scores.index(max(scores)) == n % 2
    assert found == {"base": {"made_here": {"acc": right / 8, "acc_stderr": pytest.approx(0.19, abs=0.2)}}}


@pytest.mark.skipif(not INSTALLED, reason="needs the extra lm-eval")
def test_an_unknown_task_is_named_with_its_neighbours(tied_llama: Path) -> None:
    with pytest.raises(DataError, match="hellaswagg") as raised:
        tasks.measure(["hellaswagg"], reference.resolve(str(tied_llama)), {}, seed=1)
    assert "hellaswag" in raised.value.message.replace("hellaswagg", "")


@pytest.mark.skipif(not INSTALLED, reason="needs the extra lm-eval")
def test_a_task_file_that_is_not_there_is_said() -> None:
    with pytest.raises(DataError, match=r"no file nowhere\.yaml"):
        tasks.check(["nowhere.yaml"])
