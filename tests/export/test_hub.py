"""Uploads. The Hub is out of reach here: a local server (`hub_server`) stands in for it, under the real client."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, constants

from fastvocab import cli
from fastvocab.export import deliver, hub
from fastvocab.run import read_records
from tests.export.hub_server import Hub, Repo, account

TOKEN = "hf_" + "SecretOfMine" * 3


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    found = Hub()
    found.accounts[TOKEN] = account()
    threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", found.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def run(finished: Callable[[str], Path], tmp_path: Path) -> Path:
    return shutil.copytree(finished("tied"), tmp_path / "runs" / "tied")


@pytest.fixture
def export(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def call(*words: Any) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            cli.main(["export", *map(str, words)])
        said = capsys.readouterr()
        assert TOKEN not in said.out + said.err
        return int(left.value.code or 0), said.err

    return call


def test_what_goes_up_is_listed_and_is_what_arrives(server: Hub, run: Path, export) -> None:
    code, said = export(run, "--to", "hub", "--repo", "team/tied-uk")
    assert code == 0, said
    repo = server.repos["team/tied-uk"]
    assert repo.private
    exported = run / "70-export"
    there = {name: content for name, content in repo.files.items() if name != ".gitattributes"}
    listed = {line.split()[0] for line in said.splitlines() if line.startswith("  ") and "files," not in line}
    assert listed - {"the"} == set(there)
    assert there == {name: (exported / name).read_bytes() for name in there}
    # all that a loader reads, and nothing of the run
    wanted = {"README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
              "tokenizer_config.json", "chat_template.jinja"}  # fmt: skip
    assert set(there) == wanted and (exported / "stage.json").is_file()
    assert f"{server.url}/team/tied-uk" in said
    told = json.loads((run / "exports" / "made.json").read_text("utf-8"))["hub"]
    assert told["private"] and told["repo"] == "team/tied-uk" and TOKEN not in json.dumps(told)
    assert all(str(run.parent) not in c.decode("utf-8", "ignore") for c in there.values()), (
        "no path of the machine"
    )


def test_a_dry_run_asks_nobody(server: Hub, run: Path, export, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    code, said = export(run, "--to", "hub", "--repo", "team/tied-uk", "--dry-run")
    assert code == 0 and "model.safetensors" in said and "7 files" in said and "(private)" in said
    assert not server.calls and not (run / "exports").exists()


READ_ONLY = account(role="read")
NO_SCOPE = account(role="fineGrained", scoped=[{"entity": {"type": "user", "name": "me"}, "permissions":
                                                ["repo.content.read", "discussion.write"]}])  # fmt: skip
OTHER_SCOPE = account(role="fineGrained", scoped=[{"entity": {"type": "model", "name": "me/other"}, "permissions":
                                                   ["repo.write"]}])  # fmt: skip


@pytest.mark.parametrize(
    ("who", "repo", "why"),
    [
        (READ_ONLY, "me/x", "the token may not write there"),
        (NO_SCOPE, "me/x", "the token may not write there"),
        (OTHER_SCOPE, "me/x", "the token may not write there"),
        (account(), "strangers/x", "no member of strangers"),
        (account(), "readers/x", "may only read in readers"),
        (None, "me/x", "Invalid user token"),
        (account(), "no-namespace", "no name of a repository"),
        (account(), "me/..", "no name of a repository"),
    ],
)
def test_what_may_not_be_written_is_said_before_any_work(
    who: Any, repo: str, why: str, server: Hub, run: Path, export
) -> None:
    server.accounts = {TOKEN: who} if who else {}
    shutil.rmtree(run / "70-export")  # merging would be the first work
    code, said = export(run, "--to", "hub", "--repo", repo)
    assert code == 2 and why in said and "do:" in said
    assert not server.repos and not (run / "exports").exists()


def test_a_fine_grained_token_of_the_namespace_will_do(server: Hub, run: Path, export) -> None:
    scope = {"entity": {"type": "org", "name": "team"}, "permissions": ["repo.content.read", "repo.write"]}
    server.accounts[TOKEN] = account(role="fineGrained", scoped=[scope])
    assert export(run, "--to", "hub", "--repo", "team/x")[0] == 0
    code, said = export(run, "--to", "hub", "--repo", "me/x")
    assert code == 2 and "may not write there" in said


def test_a_missing_token_is_said_with_the_way_to_one(
    server: Hub, run: Path, export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    code, said = export(run, "--to", "hub", "--repo", "me/x")
    assert code == 2 and "no Hugging Face token" in said and "hf auth login" in said
    assert not server.calls


def test_a_repository_with_something_in_it_is_left_alone(server: Hub, run: Path, export) -> None:
    server.repos["me/x"] = Repo(private=True)
    server.repos["me/x"].files["theirs.txt"] = b"kept"
    code, said = export(run, "--to", "hub", "--repo", "me/x")
    assert code == 2 and "theirs.txt" in said and "--update" in said
    assert set(server.repos["me/x"].files) == {".gitattributes", "theirs.txt"}
    assert export(run, "--to", "hub", "--repo", "me/x", "--update")[0] == 0
    assert server.repos["me/x"].files["theirs.txt"] == b"kept" and "config.json" in server.repos["me/x"].files


def test_a_public_repository_is_filled_only_if_that_is_meant(server: Hub, run: Path, export) -> None:
    server.repos["me/x"] = Repo(private=False)
    code, said = export(run, "--to", "hub", "--repo", "me/x")
    assert code == 2 and "is public" in said
    assert export(run, "--to", "hub", "--repo", "me/x", "--public")[0] == 0
    assert export(run, "--to", "hub", "--repo", "me/y", "--public")[0] == 0
    assert not server.repos["me/y"].private


def test_an_upload_that_broke_off_goes_on(server: Hub, run: Path, export) -> None:
    server.broken = True
    code, said = export(run, "--to", "hub", "--repo", "me/x")
    assert code == 6 and "broke off" in said and "--to hub --repo me/x" in said and "Traceback" not in said
    assert set(server.repos["me/x"].files) == {".gitattributes"}, "the commit comes last"
    sent = [call for call in server.calls if call.startswith("PUT")]
    assert len(sent) == 2
    server.broken = False
    assert export(run, "--to", "hub", "--repo", "me/x")[0] == 0
    assert [call for call in server.calls if call.startswith("PUT")] == sent, (
        "what had arrived is not sent again"
    )
    assert "model.safetensors" in server.repos["me/x"].files


def test_a_run_uploads_once_and_then_says_so(
    server: Hub, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = deliver.publish(run, "me/x", public=False)
    assert url == deliver.published(run, "me/x") == f"{server.url}/me/x"
    assert deliver.published(run, "me/other") is None, "another repository has nothing yet"
    before = len(server.calls)
    assert deliver.publish(run, "me/x", public=False) == url
    assert len(server.calls) == before and "uploaded already" in capsys.readouterr().err
    # made anew, it is another upload, to what is the run's own repository
    (run / "70-export" / "README.md").write_text("---\nlicense: mit\n---\n# another\n", "utf-8")
    record = read_records(run)["export"].data
    for entry in record["outputs"]:
        if entry["path"] == "README.md":
            from fastvocab import files

            entry |= {"bytes": 30, "sha256": files.sha256_file(run / "70-export" / "README.md")}
            entry["bytes"] = (run / "70-export" / "README.md").stat().st_size
    (run / "70-export" / "stage.json").write_text(json.dumps(record), "utf-8")
    assert deliver.published(run, "me/x") is None
    deliver.publish(run, "me/x", public=False)
    assert b"# another" in server.repos["me/x"].files["README.md"]


def test_a_gguf_file_beside_the_model_goes_up_and_is_tagged(
    server: Hub, finished: Callable[[str], Path], tmp_path: Path
) -> None:
    exported = finished("tied") / "70-export"
    file = tmp_path / "tied-Q8_0.gguf"
    file.write_bytes(b"GGUF")
    listed = hub.listing(exported, {file.name: file})
    card = deliver._tagged((exported / "README.md").read_text("utf-8"))
    hub.upload(listed, hub.Repository("me/x"), card=card)
    repo = server.repos["me/x"]
    assert repo.files[file.name] == b"GGUF"
    sent = ModelCard(repo.files["README.md"].decode()).data
    assert "gguf" in sent.tags and sent.base_model_relation == "finetune"


def test_only_known_files_are_listed(tmp_path: Path) -> None:
    for name in ("config.json", "README.md", "model.safetensors", "stage.json", "optimizer.pt", "model.bin",
                 "log.jsonl", "training_args.bin", ".env", "fastvocab.json",
                 "adapter/adapter_model.safetensors"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x", "utf-8")
    assert list(hub.listing(tmp_path)) == ["README.md", "config.json", "model.safetensors"]
