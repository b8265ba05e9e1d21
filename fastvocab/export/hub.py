"""A model folder on the Hugging Face Hub: private unless asked otherwise, listed first, in one commit.

The token is the one of the environment or of ``hf auth login`` and is never named, shown or kept. Whether it may write
is asked before anything is made (``whoami``). An upload that breaks off leaves the repository as it was: the files go
up first, the commit comes last, and what had arrived is not sent again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastvocab import console
from fastvocab.errors import ConfigError, DataError, ResourceError
from fastvocab.numbers import size

#: All that goes up; anything else in the folder (records of stages, trainer states, logs, pickles) stays.
PATTERNS = (
    "README.md", "config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json",
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja",
    "tokenization_extended.py", "item_tokens.json",
)  # fmt: skip
#: What a token, or a member of an organization, needs.
_WRITES = ("repo.write", "repo.content.write")
_ROLES = ("admin", "write", "contributor")
_TOKENS = "https://huggingface.co/settings/tokens"
#: What every repository begins with.
_EMPTY = frozenset({".gitattributes"})
#: In seconds: a look at the Hub, not an upload.
_TIMEOUT = 30


@dataclass(frozen=True)
class Repository:
    """Where a model goes.

    Attributes:
        name: ``namespace/name``.
        public: for everyone to see, if it is made now.
        update: may write over what another upload left.
    """

    name: str
    public: bool = False
    update: bool = False


def check_name(name: str) -> None:
    """Is it a name that the Hub can have?

    Raises:
        ConfigError: it is none.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        whole = name.count("/") == 1
    except HFValidationError:
        whole = False
    if not whole:
        raise ConfigError(
            f"{name!r} is no name of a repository",
            rule="user/name or organization/name, of letters, digits, '-', '_' and '.', at most 96 characters",
            fix="--repo NAMESPACE/NAME (export.repo in a run)",
        )


def check_token() -> None:
    """Is there a token? No network is needed to tell.

    Raises:
        ConfigError: there is none, or the Hub is switched off.
    """
    from huggingface_hub import constants, get_token

    if constants.is_offline_mode():
        raise ConfigError("HF_HUB_OFFLINE is set, and an upload needs the Hub", fix="unset HF_HUB_OFFLINE")
    if get_token() is None:
        raise ConfigError(
            "there is no Hugging Face token",
            rule="it is read from HF_TOKEN or from a login, and is no option: options end up in logs",
            fix=f"make one that may write on {_TOKENS}, then: hf auth login (or set HF_TOKEN)",
        )


def check(wanted: Repository, *, reach: bool = True) -> None:
    """Is the name one, and with ``reach`` is there a token that may write, and nothing there yet?

    Raises:
        ConfigError, ResourceError: as `check_access`.
    """
    check_name(wanted.name)
    if reach:
        check_access(wanted)


def check_access(wanted: Repository) -> None:
    """May this token write there, and is the place free?

    Raises:
        ConfigError: it may not, or there is something already.
        ResourceError: the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    check_token()
    api = HfApi()
    with _explained(f"asking the Hub about {wanted.name}"):
        _may_write(api.whoami(), wanted.name)
        found = _look(api, wanted.name)
    if found is None:
        return
    there = sorted({s.rfilename for s in found.siblings or ()} - _EMPTY)
    if there and not wanted.update:
        raise ConfigError(
            f"{wanted.name} is on the Hub already and has {len(there)} files, such as {there[0]}",
            rule="what is there is not written over unasked",
            fix="choose another name, or --update to write a new commit on top",
        )
    if not found.private and not wanted.public:
        raise ConfigError(
            f"{wanted.name} is on the Hub already and is public",
            rule="an upload is private unless asked otherwise",
            fix="choose another name, or --public (export.public=true)",
        )
    if found.private and wanted.public:
        console.warn(
            f"{wanted.name} is on the Hub already and is private; it stays so: see its settings there"
        )


def _may_write(account: dict[str, Any], name: str) -> None:
    """Raise unless the token of `whoami`'s answer may write to ``name``."""
    namespace, user = name.partition("/")[0], str(account.get("name"))
    orgs = {str(o.get("name")): o.get("roleInOrg") for o in account.get("orgs") or () if isinstance(o, dict)}
    if namespace != user and namespace not in orgs:
        places = ", ".join([user, *sorted(orgs)])
        raise ConfigError(
            f"{name}: the token is of {user}, who is no member of {namespace}",
            fix=f"choose one of {places} in front of the '/'",
        )
    if (role := orgs.get(namespace)) is not None and role not in _ROLES:
        raise ConfigError(
            f"{name}: {user} may only read in {namespace}", fix="ask an admin of it for the role write"
        )
    token = (account.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read" or (token.get("role") == "fineGrained" and not _scoped(token, name)):
        raise ConfigError(
            f"{name}: the token may not write there",
            rule="a token has the role write, or is a fine-grained one with write access to that user, organization "
            "or repository",
            fix=f"make such a token on {_TOKENS}, then: hf auth login (or set HF_TOKEN)",
        )


def _scoped(token: dict[str, Any], name: str) -> bool:
    """Does a fine-grained token write to the repository, or to everything of its namespace?"""
    scopes = (token.get("fineGrained") or {}).get("scoped") or ()
    places = {name, name.partition("/")[0]}
    return any(
        (scope.get("entity") or {}).get("name") in places
        and any(right in _WRITES for right in scope.get("permissions") or ())
        for scope in scopes
    )


def _look(api: Any, name: str) -> Any:
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.repo_info(name, timeout=_TIMEOUT)
    except RepositoryNotFoundError:
        return None


def listing(folder: Path, more: Mapping[str, Path] | None = None) -> dict[str, Path]:
    """What goes up of a model folder: path in the repository -> file, sorted.

    Args:
        more: files from elsewhere, by their path in the repository.
    """
    found = {f.relative_to(folder).as_posix(): f for p in (*PATTERNS, "*.gguf") for f in folder.glob(p)}
    return dict(sorted((found | dict(more or {})).items()))


def show(files: Mapping[str, Path], wanted: Repository) -> None:
    """The listing on the console: path, size, total, and who will see it."""
    sizes = {name: file.stat().st_size for name, file in files.items()}
    width = max(map(len, sizes), default=0)
    for name, count in sizes.items():
        console.say(f"  {name:{width}}  {size(count):>10}")
    seen = "public" if wanted.public else "private"
    console.say(f"  {len(sizes)} files, {size(sum(sizes.values()))}, to {wanted.name} ({seen})")


def upload(
    files: Mapping[str, Path], wanted: Repository, *, card: str | None = None, again: str = ""
) -> dict[str, Any]:
    """Make the repository if there is none, and put the files up in one commit.

    Args:
        files: as `listing` gives them.
        card: README.md in place of the listed one.
        again: what to type after an upload that broke off.

    Returns:
        ``{"repo", "url", "commit", "private", "bytes"}``.

    Raises:
        ResourceError: it broke off.
        ConfigError: the Hub refuses the token, or the card.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    contents: dict[str, Any] = {name: str(file) for name, file in files.items()}
    if card is not None:
        contents["README.md"] = card.encode()
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=c) for name, c in contents.items()]
    with _explained(f"the upload to {wanted.name} broke off", again):
        url = api.create_repo(wanted.name, private=not wanted.public, exist_ok=True)
        private = bool(api.repo_info(wanted.name, timeout=_TIMEOUT).private)
        # last: what fails before it has committed nothing
        done = api.create_commit(wanted.name, operations, commit_message="Upload by fastvocab")
    return {
        "repo": wanted.name,
        "url": str(url),
        "commit": done.oid,
        "private": private,
        "bytes": sum(file.stat().st_size for file in files.values()),
    }


@contextmanager
def _explained(what: str, again: str = "") -> Iterator[None]:
    """The Hub's own errors as ours, without the token in any of them."""
    from httpx import HTTPError
    from huggingface_hub.errors import HfHubHTTPError

    go_on = {
        "rule": "nothing was committed: the repository is as it was, and large files that arrived are not sent again",
        "fix": again or "type the same command again",
    }
    try:
        yield
    except HfHubHTTPError as error:
        code = error.response.status_code
        message = f"{what}: {_plain(error)}"
        if code in (401, 402, 403):
            raise ConfigError(message, fix=f"see the token and its rights on {_TOKENS}") from None
        raise ResourceError(message, **go_on) from None
    except (HTTPError, OSError, RuntimeError) as error:  # hf_xet raises RuntimeError for all that goes wrong
        raise ResourceError(f"{what}: {_plain(error)}", **go_on) from None
    except ValueError as error:
        if "README.md" not in str(error):
            raise
        raise DataError(f"{what}: {_plain(error)}", fix="mend the front matter of README.md") from None


def _plain(error: Exception) -> str:
    """The first lines of an error, on one line, without secrets."""
    from huggingface_hub import get_token

    text = re.sub(r"\s+", " ", str(error).strip())[:300] or type(error).__name__
    token = get_token()
    return console.hide_secrets(text.replace(token, "***") if token else text)
