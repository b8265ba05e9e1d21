"""``extend.init``: what may be written there, and what is said otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from fastvocab.config import load
from fastvocab.config.fields import Init
from fastvocab.errors import ConfigError
from fastvocab.recipes import new_language
from fastvocab.run import Run


@pytest.mark.parametrize("init", [*get_args(Init), "clone:<|im_start|>", "clone: the"])
def test_every_method_can_be_asked_for(init: str) -> None:
    more = ["extend.descriptions=d.json"] if init == "description" else []
    assert load(None, [f"extend.init={init}", *more]).extend.init == init


@pytest.mark.parametrize(
    "overrides, said",
    [
        (["extend.init=asymetric"], "did you mean asymmetric?"),
        (["extend.init=clone"], "did you mean clone:TOKEN?"),
        (["extend.init=clone:"], "did you mean clone:TOKEN?"),
        (["extend.init=3"], "valid string"),
        (["extend.init=description"], "needs a JSON file: extend.descriptions=FILE"),
        (["extend.descriptions=d.json"], "does not read it; choose init description or auto"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_way_out(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(None, overrides)
    assert said in str(error.value)


def test_descriptions_count_by_their_content_not_by_where_they_lie(tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file in files:
        file.write_text(json.dumps({"мова": "language"}))

    def step(file: Path):
        given = [
            "extend.init=description",
            f"extend.descriptions={file}",
            "corpus.train=x",
            f"runs={tmp_path}",
        ]
        (found,) = [s for s in new_language.steps(Run(load(None, given))) if s.name == "extend"]
        return found

    a, b = map(step, files)
    assert a.settings == b.settings
    (first,), (second,) = a.sources(), b.sources()
    assert first["role"] == "descriptions" and first["sha256"] == second["sha256"]
    files[1].write_text(json.dumps({"мова": "tongue"}))
    assert step(files[1]).sources()[0]["sha256"] != first["sha256"]
