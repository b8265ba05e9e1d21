"""Where it comes from: data and licences, base, checkpoints, machine, versions, settings."""

from __future__ import annotations

from io import StringIO
from typing import Any

from fastvocab import facts, files
from fastvocab.config import STAGES
from fastvocab.facts import Records
from fastvocab.numbers import ABSENT, count, duration, number


def section(records: Records, config: str | None) -> dict[str, Any]:
    """What the run stands on."""
    return {
        **_environment(records),
        "base": facts.base(records),
        "chat": facts.chat_vector(records),
        "lineage": _lineage(records),
        "config": config or _settings(records),
    }


def _environment(records: Records) -> dict[str, Any]:
    stages = [
        {
            "name": name,
            "device": str(record.data.get("device") or ABSENT),
            "seconds": duration(value) if (value := number(record.data, "seconds")) is not None else ABSENT,
            "ended": str(record.data.get("ended") or ""),
        }
        for name, record in records.items()
    ]
    versions: dict[
        str, dict[str, None]
    ] = {}  # a dictionary for an ordered set: stages may differ in versions
    for record in records.values():
        for package, version in (record.data.get("versions") or {}).items():
            versions.setdefault(str(package), {})[str(version)] = None
    last = [*records.values()][-1].data
    total = sum(number(record.data, "seconds") or 0.0 for record in records.values())
    return {
        "stages": stages,
        "total": duration(total),
        "versions": {package: ", then ".join(found) for package, found in versions.items()},
        "system": (last.get("machine") or {}).get("system"),
        "cores": (last.get("machine") or {}).get("cores"),
        "seed": last.get("seed"),
        "git": last.get("git"),
        "code": last.get("code"),
    }


def _lineage(records: Records) -> list[dict[str, str]]:
    """The checkpoints that lie in the run folder, each with the digest of its manifest."""
    out = []
    for stage in STAGES:
        manifest = records[stage].folder / "fastvocab.json" if stage in records else None
        if manifest is not None and manifest.is_file():
            tokens = number(records[stage].figures, "tokens") if stage in ("pretrain", "instruct") else None
            trained = f"{count(tokens)} tokens" if tokens else ""
            out.append({"stage": stage, "digest": files.sha256_file(manifest), "trained": trained})
    return out


def _settings(records: Records) -> str:
    from ruamel.yaml import YAML

    out = StringIO()
    yaml = YAML(pure=True)
    yaml.allow_unicode = True
    yaml.width = 4096
    yaml.dump({name: record.data.get("config") or {} for name, record in records.items()}, out)
    return out.getvalue()
