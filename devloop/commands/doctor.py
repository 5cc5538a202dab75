"""`devloop doctor`: what devloop needs, looked at one by one, each with what was found and what to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from devloop.adapters.kubernetes.api.kubeconfig import find_files
from devloop.commands.frame import Project, load_project, run
from devloop.commands.output import dumped, secrets_of
from devloop.commands.watch_addresses import addresses
from devloop.config import load as configs
from devloop.doctor.diagnosis import Diagnosis, Examined, Machine, failure
from devloop.doctor.table import examine, examine_machine
from devloop.errors import ConfigError
from devloop.fault_reports import state_folder

COLOURS = {"ok": "green", "warning": "yellow", "failure": "red"}
GRADES = tuple(COLOURS)
WIDTH = max(map(len, GRADES)) + 2
IN_THE_WAY = 3


def doctor(
    config_path: Path | None,
    context: str | None,
    namespace: str | None,
    kubeconfig: Path | None,
    *,
    names: Sequence[str],
    output: str,
) -> int:
    """Print what devloop needs and what was found; 3 if something is missing, 2 if that is config.yaml."""
    machine = Machine(dict(os.environ), state_folder().parent)
    try:
        project = load_project(config_path, context, namespace, kubeconfig)
        configs.chosen(project.config, names)
    except ConfigError as error:
        if error.reason == "UnknownService":
            raise
        found = [failure("config", error.message, error.hint), *run(partial(examine_machine, machine))]
        print(dumped(as_object(found), output) if output else _as_text(found))
        return error.exit_code
    found = _concealed(
        project, names, run(partial(examine, _examined(project, machine, names), kubeconfig, names))
    )
    print(dumped(as_object(found), output) if output else _as_text(found))
    return IN_THE_WAY if any(one.grade == "failure" for one in found) else 0


def _examined(project: Project, machine: Machine, names: Sequence[str]) -> Examined:
    config = project.config
    files = find_files(str(project.kubeconfig) if project.kubeconfig else None, machine.environ)
    watches = tuple(one.url or f"off (pid {one.pid})" for one in addresses(config) if one.pid)
    return Examined(machine, config, configs.chosen(config, names), files, watches)


def _concealed(project: Project, names: Sequence[str], found: Sequence[Diagnosis]) -> list[Diagnosis]:
    hide = secrets_of(project.config, names)
    return [
        Diagnosis(one.grade, one.what, hide(one.found), hide(one.fix) if one.fix else None) for one in found
    ]


def _as_text(found: Sequence[Diagnosis]) -> str:
    """A line for each, what to do below it, and the sum."""
    lines: list[str] = []
    for one in found:
        first, *more = f"{one.what}: {one.found}".splitlines()
        lines.append(f"{_coloured(one.grade)}{first}")
        lines += [f"{'':<{WIDTH}}{text}" for text in more]
        lines += [f"{'':<{WIDTH}}-> {one.fix}"] if one.fix else []
    sums = {grade: sum(one.grade == grade for one in found) for grade in GRADES}
    total = ", ".join(f"{number} {grade}{_plural(grade, number)}" for grade, number in sums.items())
    return "\n".join((*lines, "", total))


def as_object(found: Sequence[Diagnosis]) -> dict[str, Any]:
    """{"checks": [{"grade", "check", "found", "fix"}], "failures": 1}"""
    checks: list[dict[str, Any]] = [
        {"grade": one.grade, "check": one.what, "found": one.found, "fix": one.fix} for one in found
    ]
    return {"checks": checks, "failures": sum(one.grade == "failure" for one in found)}


def _coloured(grade: str) -> str:
    """The first column, in colour on a terminal."""
    text = f"{grade:<{WIDTH}}"
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return click.style(text, fg=COLOURS[grade])


def _plural(grade: str, number: int) -> str:
    return "" if grade == "ok" or number == 1 else "s"
