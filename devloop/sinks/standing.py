"""What `devloop status` prints: a table for people, or one object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from devloop.rollout.service_status import Standing

COLUMNS = ("SERVICE", "STATE", "DEPLOYMENT", "READY", "TREE", "CLUSTER", "WATCH", "URL")


def as_object(standings: Mapping[str, Standing], stages: Mapping[str, str]) -> dict[str, Any]:
    """{"services": {NAME: the fields of Standing, and `stage`: what a running watch does, or null}}"""
    services = {name: {**asdict(one), "stage": stages.get(name)} for name, one in standings.items()}
    return {"services": services}


def as_table(standings: Mapping[str, Standing], stages: Mapping[str, str]) -> str:
    """One row per service, and below it what is wrong and what to do."""
    rows = [COLUMNS]
    for name, one in standings.items():
        running = ", ".join(sorted({_tag(ref) for ref in one.running})) or "-"
        ready = f"{one.ready}/{one.replicas}"
        rows.append(
            (
                name,
                one.state,
                one.deployment or "-",
                ready,
                _tag(one.image) or "-",
                running,
                stages.get(name, "-"),
                "  ".join((*one.forwards, *filter(None, [one.url]))),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    for name, one in standings.items():
        lines += [f"{name}: {one.cause}"] if one.cause and one.cause not in one.message else []
        if one.message:
            lines.append(f"{name}: {one.message}")
        if one.hint:
            lines.append(f"  -> {one.hint}")
    return "\n".join(lines)


def _tag(ref: str) -> str:
    return ref.rpartition(":")[2]
