"""Folders are there whole or not at all, whatever happens on the way."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from fastvocab import files
from fastvocab.errors import CheckpointError, ResourceError


def _write(folder: Path, text: str) -> None:
    (folder / "a.txt").write_text(text)
    (folder / "manifest").write_text(text)


def _replace_and_die(path: Path, moment: int) -> None:
    """Replace ``path`` and be killed before the ``moment``-th rename, fsync, mkdir or removal."""
    calls = 0

    def counted(function):
        def call(*args, **kwargs):
            nonlocal calls
            if calls == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1
            return function(*args, **kwargs)

        return call

    os.fsync = counted(os.fsync)
    Path.rename = counted(Path.rename)  # type: ignore[method-assign]
    Path.mkdir = counted(Path.mkdir)  # type: ignore[method-assign]
    files.shutil.rmtree = counted(files.shutil.rmtree)
    with files.atomic_folder(path) as folder:
        _write(folder, "new")


def test_a_kill_at_any_moment_leaves_the_old_folder_or_the_new_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    seen = set()
    for moment in range(40):
        parent = tmp_path / str(moment)
        path = parent / "stage"
        path.mkdir(parents=True)
        _write(path, "old")
        process = context.Process(target=_replace_and_die, args=(path, moment))
        process.start()
        process.join()
        files.recover(parent)
        assert [p.name for p in parent.iterdir()] == ["stage"], f"leftovers after moment {moment}"
        content = {p.name: p.read_text() for p in path.iterdir()}
        assert content in ({"a.txt": "old", "manifest": "old"}, {"a.txt": "new", "manifest": "new"})
        seen.add((content["a.txt"], process.exitcode))
        if process.exitcode == 0:
            break
    assert ("old", -signal.SIGKILL) in seen and ("new", -signal.SIGKILL) in seen and ("new", 0) in seen


def test_an_error_inside_leaves_the_old_folder_and_no_leftovers(tmp_path: Path) -> None:
    path = tmp_path / "stage"
    path.mkdir()
    _write(path, "old")
    with pytest.raises(RuntimeError), files.atomic_folder(path) as folder:
        _write(folder, "new")
        raise RuntimeError
    assert (path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["stage"]


def test_a_full_disk_is_a_user_error_that_keeps_the_old(tmp_path: Path) -> None:
    path = tmp_path / "stage"
    with pytest.raises(ResourceError, match="disk is full"), files.atomic_folder(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_more_space_than_there_is_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"needs 1000000000\.00 GB"):
        files.require_space(tmp_path / "not" / "yet", 10**18, "the run")


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_damage_is_found_and_named(tmp_path: Path, damage: str) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(range(256)) * 64)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x").write_text("x")
    entries = files.describe(tmp_path)
    assert files.verify(tmp_path, entries) == []
    raw = bytearray((tmp_path / "w.bin").read_bytes())
    if damage == "flip":
        raw[5000] ^= 1
        (tmp_path / "w.bin").write_bytes(raw)
    elif damage == "truncate":
        (tmp_path / "w.bin").write_bytes(raw[:-1])
    else:
        (tmp_path / "w.bin").unlink()
    faults = files.verify(tmp_path, entries)
    assert len(faults) == 1 and faults[0].startswith("w.bin")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "sub/../../x", "link"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="leads out"):
        files.inside(folder, name)


def test_damaged_json_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "stage.json").write_text('{"a": ')
    with pytest.raises(CheckpointError, match=r"stage\.json is damaged"):
        files.read_json(tmp_path / "stage.json")


def test_a_remembered_hash_follows_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVOCAB_CACHE", str(tmp_path / "cache"))
    big = tmp_path / "big"
    big.write_bytes(b"a" * 11_000_000)
    first = files.sha256_remembered(big)
    assert first == files.sha256_file(big) == files.sha256_remembered(big)
    big.write_bytes(b"b" * 11_000_001)
    assert files.sha256_remembered(big) == files.sha256_file(big) != first
