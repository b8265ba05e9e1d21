"""What the tests of exports share; makes `made_records`, which those of several folders share, importable."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import make_llama, tiny_run

sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, text_folder: Path) -> Callable[[str], Path]:
    """A finished run on a tiny model, each made once: ``tied``, every row trained and some of padding, or ``untied``,
    new rows alone trained."""
    made: dict[str, Path] = {}

    def run(kind: str) -> Path:
        if kind not in made:
            from fastvocab.recipes import new_language
            from fastvocab.run import Run

            folder = tmp_path_factory.mktemp(kind)
            base = make_llama(folder / "base", tied=kind == "tied")
            more = ["extend.pad_to_multiple_of=64"] if kind == "tied" else ["pretrain.embeddings=new_rows"]
            words = tiny_run(base, text_folder, folder / "runs", f"name={kind}", "instruct.train=[]",
                             "evaluate.sample_tokens=0", "evaluate.heldout_bytes=1000", "evaluate.replay_bytes=1000",
                             *more)  # fmt: skip
            line = Run(new_language.configure(None, words))
            with line.open():
                line.execute(new_language.steps(line))
            made[kind] = line.folder
        return made[kind]

    return run
