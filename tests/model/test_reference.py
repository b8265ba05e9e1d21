"""Which base is meant, and where it lies now: moved folders, other commits, caches that cannot be written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fastvocab import files
from fastvocab.errors import CheckpointError, ModelError
from fastvocab.model import checkpoint, reference
from tests.conftest import make_llama


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has seen no base yet."""
    monkeypatch.setenv("FASTVOCAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(reference, "_SEEN", {})
    return tmp_path / "cache"


def test_a_base_that_was_moved_is_found_where_it_is_named_or_was_seen(make, tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base")
    made = make(base)
    moved = base.rename(tmp_path / "moved")
    reference._SEEN.clear()
    with pytest.raises(ModelError, match="there is no folder") as caught:
        checkpoint.load(made.extend)
    assert "base=DIR" in str(caught.value)
    checkpoint.load(made.extend, base=str(moved))
    reference._SEEN.clear()  # another process: it is remembered by its fingerprint
    checkpoint.load(made.extend)


@pytest.mark.parametrize("left", ["nothing", "no model", "another model", "odd config", "a checkpoint"])
def test_whatever_lies_in_its_old_place_a_base_is_found_where_it_was_seen(
    left: str, make, tied_llama: Path, tmp_path: Path
) -> None:
    base = make_llama(tmp_path / "base", seed=6)  # seen nowhere else
    wanted = reference.resolve(str(base))
    reference.resolve(str(shutil.copytree(base, tmp_path / "copy")))
    shutil.rmtree(base)
    if left == "another model":
        make_llama(base, seed=4)
    elif left == "a checkpoint":
        shutil.copytree(make(tied_llama).extend, base)
    elif left != "nothing":
        base.mkdir()
    if left == "odd config":
        (base / "config.json").write_text("[]")
    reference._SEEN.clear()
    found = reference.recorded(wanted.record())
    assert found.folder == tmp_path / "copy" and found.fingerprint == wanted.fingerprint
    shutil.rmtree(tmp_path / "copy")
    with pytest.raises((ModelError, CheckpointError), match="--base DIR"):
        reference.recorded(wanted.record())


def test_a_base_given_by_hand_must_be_the_one(make, tied_llama: Path, tmp_path: Path) -> None:
    made = make(tied_llama)
    other = make_llama(tmp_path / "other", seed=5)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(made.extend, base=str(other))
    for folder in (tied_llama, other):
        assert reference.resolve(str(folder)).fingerprint[:16] in str(caught.value)


def test_what_is_remembered_is_looked_at_again(make, tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base")
    made = make(base)
    make_llama(base, seed=2)
    with pytest.raises(CheckpointError, match="another"):
        checkpoint.load(made.extend)


def test_a_cache_that_cannot_be_read_or_written_is_done_without(
    own_cache: Path, make, tied_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_cache.mkdir(exist_ok=True)
    fingerprint = reference.resolve(str(tied_llama)).fingerprint
    for found in ("[]", "{broken", f'{{"{fingerprint}": 3}}', f'{{"{fingerprint}": [4, "/nowhere"]}}'):
        for name in ("bases.json", "sha256.json"):
            (own_cache / name).write_text(found)
        reference._SEEN.clear()
        assert reference._recall(fingerprint) is None
        reference.resolve(str(tied_llama))
    (own_cache / "bases.json").unlink()
    shutil.rmtree(own_cache)
    own_cache.write_text("a file where the folder should be")
    assert reference.resolve(str(tied_llama)).folder == tied_llama.resolve()


def _fake_hub(root: Path, commits: dict[str, Path], newest: str) -> None:
    """The Hub's cache as ``huggingface_hub`` lays it out: the Hub itself is out of reach here."""
    repo = root / "models--org--tiny"
    for commit, folder in commits.items():
        shutil.copytree(folder, repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(newest)


def test_a_base_that_moved_to_another_commit_is_loaded_at_its_own(
    make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = "a" * 40, "b" * 40
    models = {c: make_llama(tmp_path / c, seed=s) for c, s in ((old, 0), (new, 1))}
    hub = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    _fake_hub(hub, models, newest=new)
    made = make(models[old])
    zero = Path(shutil.copytree(made.extend, tmp_path / "zero"))
    facts = json.loads((zero / "fastvocab.json").read_text())
    facts["base"] |= {"name": "org/tiny", "commit": old}
    from fastvocab.model import manifest

    manifest.write(zero, {k: v for k, v in facts.items() if k not in ("schema", "files", "manifest_sha256")})
    for place in models.values():
        shutil.rmtree(place)
    reference._SEEN.clear()
    files.remove_folder(tmp_path / "cache")
    checkpoint.load(zero)  # refs/main names the new one
    shutil.rmtree(hub / "models--org--tiny" / "snapshots" / old)
    reference._SEEN.clear()
    files.remove_folder(tmp_path / "cache")
    with pytest.raises(ModelError, match="org/tiny") as caught:
        checkpoint.load(zero)
    assert "fingerprint" in str(caught.value)


def test_rows_of_a_sharded_base_in_the_hub_s_cache_are_read_through_its_links(tmp_path: Path) -> None:
    """There, snapshots/COMMIT/FILE is a link into blobs/ of the same model."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    from fastvocab.model.rows import base_matrix

    plain, shards = make_llama(tmp_path / "plain"), tmp_path / "shards"
    AutoModelForCausalLM.from_pretrained(plain).save_pretrained(shards, max_shard_size="100KB")
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / ("a" * 40)
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(shards.iterdir())):
        (snapshot / file.name).symlink_to(file.rename(blobs / str(number)))
    assert len(list(snapshot.glob("*.safetensors"))) > 1
    expected = load_file(plain / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(base_matrix(snapshot, "embed_tokens"), expected)
