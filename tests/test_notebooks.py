"""The notebooks: made from their scripts, clean, and really executed, one of them killed in the middle."""

from __future__ import annotations

import ast
import csv
import html
import importlib.util
import json
import os
import random
import re
import signal
import sys
import threading
import time
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from fastvocab import notebook as shown
from fastvocab.config import load as load_config
from tests import made_records
from tests.conftest import tiny_run

RECIPES = Path(__file__).parents[1] / "recipes"
NOTEBOOKS = sorted(RECIPES.glob("*.ipynb"))


def load(name: str) -> Any:
    return nbformat.read(RECIPES / f"{name}.ipynb", as_version=4)


def tagged(notebook: Any, tag: str) -> Any:
    (cell,) = [cell for cell in notebook.cells if tag in cell.metadata.get("tags", ())]
    return cell


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    path = RECIPES.parent / "scripts" / "build_notebooks.py"
    spec = importlib.util.spec_from_file_location("build_notebooks", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_four_are_there_and_what_their_scripts_make(builder: ModuleType) -> None:
    names = {"new_language", "special_tokens", "item_tokens", "continue_after_disconnect"}
    assert {path.stem for path in NOTEBOOKS} == names
    assert builder.differing(builder.notebooks()) == []


def test_a_changed_notebook_is_named(
    builder: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in NOTEBOOKS[1:]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    changed = tmp_path / NOTEBOOKS[1].name
    changed.write_text(changed.read_text(encoding="utf-8").replace("## Run", "## Go"), encoding="utf-8")
    (tmp_path / "old.ipynb").write_text("{}")
    monkeypatch.setattr(builder, "TARGETS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["build_notebooks.py", "--check"])
    assert builder.main() == 1
    said = capsys.readouterr().out
    assert f"{NOTEBOOKS[0].name}: is missing" in said and f"{changed.name}: differs" in said
    assert "old.ipynb: has no script" in said and NOTEBOOKS[2].name not in said
    monkeypatch.setattr(sys, "argv", ["build_notebooks.py"])
    assert builder.main() == 0
    assert all((tmp_path / path.name).read_bytes() == path.read_bytes() for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_clean(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert notebook.metadata.kernelspec.name == "python3" and notebook.metadata.accelerator == "GPU"
    assert "install" in next(c for c in notebook.cells if c.cell_type == "code").metadata.tags
    tagged(notebook, "parameters")
    for cell in notebook.cells:
        assert not re.search(r"hf_[A-Za-z0-9]{16}|\bsk-\w{16}|gh[pousr]_\w{20}", cell.source)
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
            strings = [n.value for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Constant)]
            assert not [s for s in strings if isinstance(s, str) and re.match(r"/\w|[A-Za-z]:\\|~", s)]


def test_readme_files_and_keys_that_the_prose_names_are_there() -> None:
    """A beginner is never sent to a key or a file that does not exist."""
    from fastvocab.config import describe

    known = {key for key, *_ in describe.rows()}
    sections = {key.split(".")[0] for key in known}
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            for key in re.findall(r"[\"`]([a-z_]+(?:\.[a-z_0-9]+)+)(?=[\"`=])", cell.source):
                if key.split(".")[0] in sections:
                    assert key in known or key.startswith("instruct.columns."), (path.name, key)
            for file in re.findall(r"`(?:recipes/)?(\w+\.(?:ipynb|yaml|md))`", cell.source):
                assert (RECIPES / file).is_file(), (path.name, file)


def test_the_advice_for_a_t4_is_that_of_the_catalogue() -> None:
    """`tests/test_catalogue.py` reckons its memory."""
    catalogue = load_config(RECIPES / "llama-3.2-1b-t4.yaml", ())
    prose = "\n".join(cell.source for cell in load("new_language").cells if "free T4" in cell.source)
    (typed,) = re.findall(r"more = (\[[^]]*\])", prose)
    minutes, base = re.findall(r"`(unsloth/[^`]+)`, (\d+), and", prose)[0][::-1]
    advised = load_config(
        None, [*ast.literal_eval(typed), f"model.base={base}", f"pretrain.minutes={minutes}"]
    )
    for key in ("embeddings", "block", "batch", "accumulate", "minutes", "lora", "layers"):
        assert getattr(advised.pretrain, key) == getattr(catalogue.pretrain, key), key
    assert advised.model == catalogue.model


def execute(
    name: str,
    folder: Path,
    values: dict[str, Any],
    meanwhile: Callable[[NotebookClient], None] | None = None,
) -> Any:
    """The notebook, run from the top in a kernel of its own, with other values after the cell of parameters."""
    notebook = load(name)
    place = notebook.cells.index(tagged(notebook, "parameters"))
    source = "\n".join(f"{key} = {value!r}" for key, value in values.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(source))
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    if meanwhile is not None:
        threading.Thread(target=meanwhile, args=(client,), daemon=True).start()
    client.execute()
    return notebook


def outputs(notebook: Any, kind: str) -> str:
    """All outputs of a kind: ``stdout``, ``stderr``, or a MIME type."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert output.output_type != "error", output.evalue
            if output.output_type == "stream":
                found.append(output.text if output.name == kind else "")
            else:
                found.append(output.data.get(kind, ""))
    return "\n".join(found)


def assert_shown(notebook: Any, first: str = "base") -> None:
    """A table whose first column is ``first``, the report with its figures, and progress, all inline."""
    said, shown = outputs(notebook, "stdout"), outputs(notebook, "text/html")
    assert "was installed already" in said
    assert f"<th></th><th>{first}</th>" in shown
    (page,) = re.findall(r'<iframe srcdoc="([^"]*)"', shown)
    page = html.unescape(page)
    assert page.lstrip().lower().startswith("<!doctype html>") and "</html>" in page
    assert "<svg" in page and not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']?(https?:)?//", page)
    assert re.search(r"━+", outputs(notebook, "text/plain")), "progress is drawn"
    assert "Traceback" not in said and not outputs(notebook, "stderr").strip()


def more(*keys: str) -> list[str]:
    return [key for key in keys if not key.startswith(("model.base=", "runs=", "name="))]


@pytest.mark.slow
def test_new_language(tied_llama: Path, text_folder: Path, tmp_path: Path) -> None:
    values = {
        "base_model": str(tied_llama), "minutes": None, "run_name": "made",
        "more": more(*tiny_run(tied_llama, text_folder, tmp_path)),
    }  # fmt: skip
    notebook = execute("new_language", tmp_path, values)
    assert_shown(notebook)
    shown = outputs(notebook, "text/html")
    assert "tokens per word, uk" in shown and "<th>pretrain</th>" in shown and "<th>prompt</th>" in shown
    assert "fastvocab plan name=made" in outputs(notebook, "stdout")
    assert list((tmp_path / "runs" / "made" / "exports").glob("*.gguf"))
    assert ".gguf" in shown.rsplit("</iframe>", 1)[1], "a link to take it home"


@pytest.mark.slow
def test_special_tokens(tied_llama: Path, tmp_path: Path) -> None:
    rows = [
        {"instruction": f"What is {a} + {b}?", "reasoning": f"{a} + {b} = {a + b}.", "output": a + b}
        for a in range(12)
        for b in range(12)
    ]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    values = {
        "base_model": str(tied_llama), "chats": "qa.jsonl", "minutes": None, "question": "What is 3 + 4?",
        "tokens": ["<think>", {"token": "</think>", "init": "clone:<s>"}, "<answer>", "</answer>"],
        "reply": "<think>{reasoning}</think><answer>{output}</answer>",
        "more": ["instruct.steps=8", "instruct.batch=8", "instruct.max_length=128", "pretrain.lora.r=4",
                 "evaluate.questions=3", "evaluate.reply_tokens=24"],
    }  # fmt: skip
    notebook = execute("special_tokens", tmp_path, values)
    assert_shown(notebook)
    assert "well-formed replies" in outputs(notebook, "text/html")
    assert '"well_formed":' in outputs(notebook, "stdout")
    assert list((tmp_path / "runs" / "my-tags" / "exports").glob("*.gguf"))


@pytest.mark.slow
def test_item_tokens(tied_llama: Path, tmp_path: Path) -> None:
    draw = random.Random(0)
    with (tmp_path / "log.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["who", "what", "when"])
        for user in range(60):
            start = draw.randrange(20)
            out.writerows([f"u{user}", f"i{(start + step) % 20}", step] for step in range(8))
    values = {
        "base_model": str(tied_llama), "interactions": "log.csv", "user": "who", "item": "what", "time": "when",
        "minutes": None, "history": "i3 i4 i5",
        "more": ["tokenizer.items.codebook=5", "pretrain.layers=full", "pretrain.embeddings=full",
                 "pretrain.block=64", "pretrain.batch=8", "pretrain.steps=10", "evaluate.items.top=5",
                 "evaluate.items.beams=10", "evaluate.items.users=20"],
    }  # fmt: skip
    notebook = execute("item_tokens", tmp_path, values)
    assert_shown(notebook, "pretrain")
    assert "Recall@5" in outputs(notebook, "text/html")
    said = outputs(notebook, "stdout").split("$ fastvocab recommend", 1)[1]
    assert re.search(r"-\d+\.\d+  i\d+ ", said)
    assert (tmp_path / "runs" / "my-items" / "70-export-download.zip").is_file()


@pytest.mark.slow
def test_a_killed_kernel_goes_on_in_a_new_one(tied_llama: Path, text_folder: Path, tmp_path: Path) -> None:
    """SIGKILL while it trains; then the same notebook from the top, in a new kernel."""
    steps = ("pretrain.steps=60", "pretrain.save_steps=10")
    keys = more(*tiny_run(tied_llama, text_folder, tmp_path, *steps))
    values = {"base_model": str(tied_llama), "minutes": None, "save_minutes": None, "more": keys}
    run = tmp_path / "fastvocab-runs" / "continued"

    def kill(client: NotebookClient) -> None:
        for _ in range(3000):
            if any((run / ".saves" / "pretrain").glob("step-*/save.json")):
                os.kill(client.km.provisioner.pid, signal.SIGKILL)  # type: ignore[union-attr]
                return
            time.sleep(0.05)

    with pytest.raises(DeadKernelError):
        execute("continue_after_disconnect", tmp_path, values, kill)
    assert not (run / "40-pretrain").exists() and (run / "30-extend" / "stage.json").is_file()

    notebook = execute("continue_after_disconnect", tmp_path, values)
    assert_shown(notebook)
    said, shown = outputs(notebook, "stdout"), outputs(notebook, "text/html")
    for stage in ("corpus", "tokenizer", "extend"):
        assert f"{stage}: reused, nothing has changed" in said
    assert re.search(r"pretrain: goes on from step [1-5]0 ", said)
    assert re.search(r"half way: saved at step [1-5]0<", shown), "what was there before it went on"
    assert "every file is as it was written" in said
    log = [json.loads(line) for line in (run / "40-pretrain" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if "loss" in entry][-1] == 60


@pytest.mark.slow
def test_a_mistake_is_one_message_and_stops_run_all(tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError) as caught:
        execute("new_language", tmp_path, {"more": ["pretrain.stepz=3"]})
    said = str(caught.value)
    assert "pretrain.stepz" in said and "not done (exit code 2)" in said and "Traceback" not in said


def test_secrets_stay_hidden_in_a_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich displays HTML past the filter where it finds a notebook; the console must not let it."""
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop1234")
    cell = nbformat.v4.new_code_cell(
        "import os\nfrom fastvocab import console, notebook\nconsole.warn('it is ' + os.environ['HF_TOKEN'])\n"
        "with console.drawing_on(notebook._canvas), console.progress() as bars:\n"
        "    bars.add_task(os.environ['HF_TOKEN'], total=2, completed=2, note='')"
    )
    notebook = nbformat.v4.new_notebook(cells=[cell])
    client = NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    everything = json.dumps(notebook.cells[0].outputs)
    assert "it is ***" in everything and "hf_abc" not in everything and "2/2" in everything


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would be displayed, as HTML."""
    found: list[str] = []
    monkeypatch.setattr("IPython.display.display", lambda one, **_: found.append(one._repr_html_()))
    return found


def test_fields_that_are_filled_in_become_keys_that_the_command_line_reads() -> None:
    values = {
        "name": "мова", "model.base": "", "corpus.train": "a b/*.txt", "pretrain.minutes": 0.5,
        "instruct.minutes": None, "model.load_in_4bit": False,
        "tokenizer.tokens": ["<a b>", {"token": "<é>", "init": "clone:<s>"}],
    }  # fmt: skip
    typed = shown.keys(values, ["seed=7"])
    config = load_config(None, typed)
    assert (config.name, config.pretrain.minutes, config.seed) == ("мова", 0.5, 7)
    assert config.corpus.train == ("a b/*.txt",) and config.model.load_in_4bit is False
    assert [(one.token, one.init) for one in config.tokenizer.tokens] == [
        ("<a b>", None),
        ("<é>", "clone:<s>"),
    ]
    assert not [key for key in typed if key.startswith(("model.base", "instruct."))]


def test_text_of_others_is_escaped_and_runs_in_its_own_direction(
    tmp_path: Path, displayed: list[str]
) -> None:
    run = made_records.make(tmp_path / "<b>run")
    shown.show_table(run)
    shown.show_samples(run)
    shown.show_stages(run)
    table, samples, stages = displayed
    assert "<th>base</th>" in table and "bits per byte" in table
    assert "<script>alert" not in samples and "&lt;script&gt;alert" in samples
    assert '<td dir="auto">ما هي عاصمة مصر؟</td>' in samples
    assert "<b>run" not in stages and stages.count(">done<") == len(made_records.STAGES)


def test_a_run_that_broke_off_says_where(tmp_path: Path, displayed: list[str]) -> None:
    shown.show_stages(tmp_path / "none")
    assert "nothing is finished yet" in displayed[0] and ">done<" not in displayed[0]
    run = made_records.make(tmp_path / "run", stages=("corpus", "tokenizer", "extend"))
    for step in (5, 120):
        (run / ".saves" / "pretrain" / f"step-{step:08d}").mkdir(parents=True)
    (run / ".saves" / "pretrain" / "step-00000130.new-1a2b3c4d").mkdir()
    shown.show_stages(run)
    assert displayed[1].count(">done<") == 3 and "half way: saved at step 120<" in displayed[1]
    assert displayed[1].count(">not yet<") == 3


def test_what_is_not_there_is_told_without_a_traceback(
    tmp_path: Path, displayed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for work in (shown.show_table, shown.show_report, shown.offer):
        with pytest.raises(shown.NotFinished) as caught:
            work(tmp_path / "gone")  # type: ignore[operator]
        assert caught.value._render_traceback_() == [str(caught.value)] and "exit code 5" in str(caught.value)
        assert "gone" in capsys.readouterr().out
    with pytest.raises(shown.NotFinished):
        shown.offer()
    assert not displayed and not list(tmp_path.iterdir())


def test_files_to_take_home_are_linked_and_folders_packed(tmp_path: Path, displayed: list[str]) -> None:
    (tmp_path / "model" / "deep").mkdir(parents=True)
    (tmp_path / "model" / "deep" / "weights").write_bytes(bytes(2_000_000))
    shown.offer(tmp_path / "model" / "deep" / "weights", tmp_path / "model")
    assert "(2.0 MB)" in displayed[0] and "model-download.zip" in displayed[1]
    with zipfile.ZipFile(tmp_path / "model-download.zip") as archive:
        assert archive.namelist() == ["model/deep/weights"] and archive.testzip() is None
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model-download.zip"}


def test_in_colab_drive_holds_the_run_and_the_browser_takes_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stand-in for the package that only Colab has: what is asked of it, not what it does."""
    assert shown.storage("runs") == Path("runs")
    asked: list[str] = []
    colab = types.ModuleType("google.colab")
    colab.drive = types.SimpleNamespace(mount=asked.append)  # type: ignore[attr-defined]
    colab.files = types.SimpleNamespace(download=asked.append)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    if "google" in sys.modules:
        monkeypatch.setattr(sys.modules["google"], "colab", colab, raising=False)
    else:
        monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    assert shown.storage("my-runs").parts[-4:] == ("content", "drive", "MyDrive", "my-runs")
    (tmp_path / "a.gguf").write_bytes(b"x")
    shown.offer(tmp_path / "a.gguf")
    assert (
        asked == [str(Path(asked[0])), str(tmp_path / "a.gguf")]
        and "a.gguf, 0.0 MB" in capsys.readouterr().out
    )
