"""The routes of the Hub's API that an upload goes through, on this machine, for the real `huggingface_hub` client.

The Hub itself cannot be reached where these tests run. What is in here follows the client's own requests
(huggingface_hub 1.33: `HfApi.whoami`, `create_repo`, `create_commit`) and git-lfs' batch API; Xet storage is not.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LFS = (".safetensors", ".gguf", "tokenizer.json")


@dataclass
class Repo:
    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b""})


class Hub(ThreadingHTTPServer):
    """Accounts by token, repositories by name, large files by digest; ``broken`` makes the next commit fail."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Routes)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.accounts: dict[str, dict[str, Any]] = {}
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.broken = False


class _Routes(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _say(self, data: Any, code: int = 200, **headers: str) -> None:
        body = json.dumps(data).encode()
        self.send_response(code)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **headers,
        }.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _answer(self) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.calls.append(f"{self.command} {path}")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if path.startswith("/lfs/"):
            assert hashlib.sha256(body).hexdigest() == path.removeprefix("/lfs/")
            hub.large[path.removeprefix("/lfs/")] = body
            return self._say({})
        if token not in hub.accounts:
            return self._say({"error": "Invalid username or password."}, 401)
        if path == "/api/whoami-v2":
            return self._say(hub.accounts[token])
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or hub.accounts[token]['name']}/{asked['name']}"
            code = 409 if name in hub.repos else 200
            hub.repos.setdefault(name, Repo(asked.get("visibility") == "private"))
            return self._say({"url": f"{hub.url}/{name}"}, code)
        if path == "/api/validate-yaml":
            fine = json.loads(body)["content"].startswith("---\n")
            return self._say({"errors": [] if fine else [{"message": "no metadata"}]}, 200 if fine else 400)
        if found := re.fullmatch(r"/(\S+?)\.git/info/lfs/objects/batch", path):
            return self._say({"objects": [self._object(o) for o in json.loads(body)["objects"]]})
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(preupload|commit)/main)?", path)
        if found is None or found[1] not in hub.repos:
            return self._say({"error": "not found"}, 404, X_Error_Code="RepoNotFound")
        repo = hub.repos[found[1]]
        if found[2] == "preupload":
            paths = [f["path"] for f in json.loads(body)["files"]]
            modes = [{"path": p, "uploadMode": "lfs" if p.endswith(LFS) else "regular", "shouldIgnore": False}
                     for p in paths]  # fmt: skip
            return self._say({"files": modes})
        if found[2] == "commit":
            if hub.broken:
                return self._say({"error": "try later"}, 500)
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    repo.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    repo.files[value["path"]] = hub.large[value["oid"]]
            return self._say({"commitUrl": f"{hub.url}/{found[1]}/commit/1", "commitOid": "c" * 40})
        siblings = [{"rfilename": name} for name in repo.files]
        return self._say({"id": found[1], "private": repo.private, "sha": "c" * 40, "siblings": siblings})

    def _object(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["oid"] in self.server.large:
            return asked  # without actions: it is there
        return asked | {"actions": {"upload": {"href": f"{self.server.url}/lfs/{asked['oid']}"}}}

    do_GET = do_POST = do_PUT = _answer


def account(name: str = "me", role: str = "write", scoped: list[Any] | None = None) -> dict[str, Any]:
    """What ``whoami`` answers; ``me`` is in two organizations, of which one lets it write."""
    token: dict[str, Any] = {"displayName": "t", "role": role}
    if scoped is not None:
        token["fineGrained"] = {"canReadGatedRepos": False, "global": [], "scoped": scoped}
    orgs = [{"name": "team", "roleInOrg": "write"}, {"name": "readers", "roleInOrg": "read"}]
    return {
        "type": "user",
        "name": name,
        "orgs": orgs,
        "auth": {"type": "access_token", "accessToken": token},
    }
