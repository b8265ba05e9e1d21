"""Folders are there whole or not at all, whatever happens on the way."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
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


class SafetensorError(Exception):
    """Says it as safetensors does, whose class is no OSError."""


def _no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)


@pytest.mark.parametrize(
    ("error", "room", "expected"),
    [
        (SafetensorError("I/O error: No space left on device (os error 28)"), True, ResourceError),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), False, ResourceError),
        (RuntimeError("basic_ios::clear: iostream error"), False, ResourceError),
        (RuntimeError("shapes do not fit"), True, RuntimeError),
        (SafetensorError("a tensor is not contiguous"), True, SafetensorError),
    ],
)  # fmt: skip
def test_a_full_disk_is_known_by_what_libraries_make_of_it(
    error: Exception, room: bool, expected: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not room:
        _no_room(monkeypatch)
    with pytest.raises(expected), files.atomic_folder(tmp_path / "stage"):
        raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("write", ["folder", "text"])
def test_a_disk_that_refuses_is_a_user_error(
    number: int, write: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "mkdir" if write == "folder" else "open", refused)
    with pytest.raises(ResourceError, match=r"cannot write .*stage"):
        if write == "text":
            files.write_text(tmp_path / "stage", "x")
        else:
            with files.atomic_folder(tmp_path / "stage"):
                pass


def test_a_replacement_that_fails_halfway_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rename = tmp_path / "stage", Path.rename
    path.mkdir()
    _write(path, "old")

    def failing(self: Path, target: Path) -> Path:
        if ".new-" in self.name:
            raise KeyboardInterrupt  # a second signal, between the two renames
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(KeyboardInterrupt), files.atomic_folder(path) as folder:
        _write(folder, "new")
    assert (path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["stage"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_all_is_flushed_before_it_takes_its_place_and_the_place_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def flushed(descriptor: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        told.append(f"flush {place.relative_to(tmp_path)}")
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        told.append(f"rename to {target.relative_to(tmp_path)}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "rename", renamed)
    with files.atomic_folder(tmp_path / "saves" / "pretrain" / "step") as folder:
        _write(folder, "new")
    new = f"saves/pretrain/{folder.name}"
    # the entry of each new folder in its parent, too: in a lost one the flushed folder would be lost
    assert told[:2] == ["flush .", "flush saves"]
    assert set(told[2:5]) == {f"flush {new}", f"flush {new}/a.txt", f"flush {new}/manifest"}
    assert told[5:] == ["rename to saves/pretrain/step", "flush saves/pretrain"]


def test_only_our_own_leftovers_are_cleared_away(tmp_path: Path) -> None:
    for name in (".photos.old-2019", ".x.new-ideas", ".git"):
        (tmp_path / name).mkdir()
    (tmp_path / ".stage.new-0123abcd").mkdir()
    (tmp_path / ".text.new-0123abcd").write_text("half")
    (tmp_path / ".gone.old-0123abcd").mkdir()
    assert files.recover(tmp_path) == [tmp_path / "gone"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".git", ".photos.old-2019", ".x.new-ideas", "gone"]
    assert files.recover(tmp_path / "none") == []


def test_removing_a_link_leaves_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    files.remove_folder(tmp_path / "link")
    files.remove_folder(tmp_path / "link")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


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
