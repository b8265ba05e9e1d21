"""The catalogue of recipes: published sizes, the plan's figures in the comments, and files that are current."""

from __future__ import annotations

import importlib
import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from fastvocab import cli
from fastvocab.architecture import Architecture
from fastvocab.config import load
from fastvocab.plan import device

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
catalogue = importlib.import_module("catalogue")
write_catalogue = importlib.import_module("write_catalogue")

FILES = {recipe.name: recipe for recipe in catalogue.RECIPES}


@pytest.mark.parametrize("key", catalogue.BASES)
def test_a_base_of_these_sizes_has_as_many_parameters_as_its_published_files(key: str) -> None:
    base = catalogue.BASES[key]
    found = Architecture.read(base.config)
    assert found.exact
    twice = found.rows * found.width if base.stored_twice else 0
    assert found.parameters + twice == base.published


def test_bases_are_names_that_unsloth_knows() -> None:
    """Read as a file: to import it takes 12 s."""
    spec = find_spec("unsloth")
    assert spec is not None and spec.submodule_search_locations
    known = (Path(next(iter(spec.submodule_search_locations))) / "models" / "mapper.py").read_text("utf-8")
    for base in catalogue.BASES.values():
        assert f'"{base.name}"' in known


@pytest.mark.parametrize("name", FILES)
def test_the_comment_says_what_the_plan_says(name: str, tmp_path: Path, capsys: Any) -> None:
    """Reckoned from the file as a person would, with `fastvocab plan` and a folder that has the base's config.json."""
    path = ROOT / "recipes" / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    said = re.search(
        r"^# plan: ([\d.]+) GB of ([\d.]+) GB on an? (\S+)  \(fastvocab plan (\S+) --gpu (\S+)\)$", text, re.M
    )
    assert said is not None
    assert (said[3], said[4], said[5]) == (FILES[name].gpu, f"recipes/{name}.yaml", FILES[name].gpu)
    base = next(base for base in catalogue.BASES.values() if base.name == load(path).model.base)
    (tmp_path / "config.json").write_text(json.dumps(base.config), encoding="utf-8")

    def plan(*keys: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as stopped:
            given = [str(path), f"model.base={tmp_path}", f"runs={tmp_path}", "corpus.train=[]", *keys]
            cli.main(["plan", *given, "--gpu", said[5], "--json"])
        assert not stopped.value.code
        return dict(json.loads(capsys.readouterr().out))

    chats = tmp_path / "chat.jsonl"
    chats.write_text(
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    )
    found = plan()
    own = found["modes"][found["mode"]]
    assert own["fits"] == "yes"
    assert f"{own['memory_bytes']['total'] / 1e9:.1f}" == said[1]
    assert f"{found['device']['memory'] / 1e9:.1f}" == said[2]
    assert f"up to {found['disk_bytes']['total'] / 1e9:.0f} GB of disk" in text.replace("\n# ", " ")
    # with chats, the figure is still the most that the run takes
    assert plan(f"instruct.train={chats}")["instruct_memory_bytes"]["total"] <= own["memory_bytes"]["total"]


@pytest.mark.parametrize("name", FILES)
def test_settings_are_what_the_table_promises(name: str) -> None:
    recipe, config = FILES[name], load(ROOT / "recipes" / f"{name}.yaml")
    base = Architecture.read(catalogue.BASES[recipe.base].config)
    own = config.pretrain
    assert own.batch and own.batch * own.block * own.accumulate == 16384
    # a merge on a GPU holds the model in 16 bits, and what it reads back to compare
    room = 4 * base.parameters < 0.95 * device.find(recipe.gpu).memory
    assert config.export.to == (("hf",) if room else ())
    if base.model_type == "gemma3_text":
        assert device.find(recipe.gpu).bfloat16


def test_files_are_current_and_a_stale_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert write_catalogue.main(["--check"]) == 0
    # of one recipe, in a folder of its own, changed by hand
    monkeypatch.setattr(catalogue, "RECIPES", catalogue.RECIPES[:1])
    monkeypatch.setattr(write_catalogue, "FOLDER", tmp_path)
    assert write_catalogue.main([]) == 0 == write_catalogue.main(["--check"])
    first = tmp_path / f"{catalogue.RECIPES[0].name}.yaml"
    first.write_text(first.read_text("utf-8").replace("minutes: 120", "minutes: 90"), "utf-8")
    assert write_catalogue.main(["--check"]) == 1
    assert (
        f"recipes/{first.name} is not current: python scripts/write_catalogue.py" in capsys.readouterr().err
    )


def test_there_is_no_recipe_beside_the_table_and_no_page_beside_the_list() -> None:
    folder = ROOT / "recipes"
    by_hand = {"new_language", "special_tokens", "item_tokens"}
    assert {path.stem for path in folder.glob("*.yaml")} == by_hand | set(FILES)
    listed = (folder / "README.md").read_text(encoding="utf-8")
    assert all(f"]({path.name})" in listed for path in folder.iterdir() if path.name != "README.md")
