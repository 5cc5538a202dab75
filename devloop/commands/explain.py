"""`devloop explain`: which files of a build can go as a delta, and the line that stops the others."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devloop.commands.frame import Project
from devloop.commands.output import concealed, dumped, secrets_of
from devloop.commands.session import in_session
from devloop.delta.delta import NotProven, ineligible_because
from devloop.delta.from_run import RUN_AFTER, goes_on
from devloop.delta.from_stage import IN_A_STAGE, not_carried_because
from devloop.dockerfile.plan import Plan
from devloop.model import RESTART, Change, FileEntry, Service
from devloop.wiring import Session

LISTED = 5  # paths per group that are named; the rest is counted


@dataclass(frozen=True, slots=True)
class Group:
    """Paths of the context that share a fate. `why_full` None: an edit of them is a delta."""

    paths: tuple[str, ...]
    why_full: NotProven | None
    goes_on: bool = False  # a build goes on from the RUN that `why_full` names
    by_stages: bool = False  # a delta of what other stages make of them


_RECIPE = NotProven("RecipeChanged", "it says how the image is made")


def grouped(plan: Plan, files: Mapping[str, FileEntry], recipe: Collection[str] = ()) -> tuple[Group, ...]:
    """The inputs by what stops them, delta-able ones first, then the largest group first. `recipe`: the
    paths of the Dockerfile and the ignore files, which may be copied too."""
    groups: dict[tuple[str, int, str, bool], list[str]] = {}
    whys: dict[tuple[str, int, str, bool], tuple[NotProven | None, bool, bool]] = {}
    for path, entry in sorted(files.items()):
        if entry.kind == "dir":
            continue
        found = _RECIPE if path in recipe else ineligible_because(plan, path)
        in_stage = found is not None and found.reason in IN_A_STAGE
        doubt = not_carried_because(plan, path) if in_stage else None
        found = doubt or found
        key = (found.reason, found.line, found.message, in_stage) if found else ("", 0, "", False)
        groups.setdefault(key, []).append(path)
        whys[key] = found, in_stage, in_stage and doubt is None
    order = sorted(groups, key=lambda key: (bool(key[0]), -len(groups[key])))
    return tuple(_group(plan, groups[key], *whys[key]) for key in order)


def _group(plan: Plan, paths: Sequence[str], found: NotProven | None, in_stage: bool, carried: bool) -> Group:
    runs = found is not None and not in_stage and found.reason == RUN_AFTER and goes_on(plan, found.line)
    return Group(tuple(paths), found, runs, carried)


def lines(service: Service, groups: tuple[Group, ...]) -> list[str]:
    """The answer for people; the Dockerfile as seen from the working folder."""
    dockerfile = os.path.relpath(service.build.dockerfile)
    total = sum(len(group.paths) for group in groups)
    able = sum(len(group.paths) for group in groups if group.why_full is None)
    runs = sum(len(group.paths) for group in groups if group.goes_on)
    stages = sum(len(group.paths) for group in groups if group.by_stages)
    shown = [f"{service.name}: an edit of {able} of {total} files is a delta"]
    shown[0] += f", of {runs} a build of the RUNs alone" if runs else ""
    shown[0] += f", of {stages} a delta of what other stages make of them" if stages else ""
    shown[0] += ", of the others a full build" if able + runs + stages < total else ""
    shown[0] += _update(service) if service.targets else ""
    for group in groups:
        named = ", ".join(group.paths[:LISTED])
        more = f" and {len(group.paths) - LISTED} more" if len(group.paths) > LISTED else ""
        if group.why_full is None:
            shown.append(f"  {'sync' if _syncs(service) else 'delta':<11} {named}{more}")
            continue
        where = f"{dockerfile}:{group.why_full.line}: " if group.why_full.line else ""
        kind = "RUNs alone" if group.goes_on else "of stages " if group.by_stages else "full build"
        shown.append(f"  {kind}  {named}{more}")
        shown.append(f"              {where}{group.why_full.message} ({group.why_full.reason})")
        if group.why_full.advice and not group.by_stages:
            shown.append(f"              -> {group.why_full.advice}")
    return shown


def _update(service: Service) -> str:
    """What happens with the pods."""
    if _syncs(service):
        return "; deltas are synced into its containers (a deletion is not), the others go in place"
    return "; its pods are updated in place" if service.update != "roll" else ""


def _syncs(service: Service) -> bool:
    return service.update == "sync" and service.reload != RESTART and bool(service.targets)


def as_object(service: Service, groups: tuple[Group, ...]) -> dict[str, Any]:
    """{"update", "dockerfile", "files": how many, "groups": [{"how": delta, stages, run or full, "paths",
    and what stops a delta, null without: "reason", "line" (of the Dockerfile), "message", "advice"}]}"""
    return {
        "update": service.update,
        "dockerfile": str(service.build.dockerfile),
        "files": sum(len(group.paths) for group in groups),
        "groups": [
            {
                "how": _how(group),
                "paths": list(group.paths),
                "reason": group.why_full.reason if group.why_full else None,
                "line": (group.why_full.line or None) if group.why_full else None,
                "message": group.why_full.message if group.why_full else None,
                "advice": (group.why_full.advice or None) if group.why_full else None,
            }
            for group in groups
        ],
    }


def _how(group: Group) -> str:
    if group.why_full is None:
        return "delta"
    return "stages" if group.by_stages else "run" if group.goes_on else "full"


def explain(project: Project, names: Sequence[str], *, output: str) -> int:
    """Print which edits are deltas, and what stops the others."""
    answers = in_session(project, names, answers_of)
    hide = secrets_of(project.config, names)
    if output:
        services = {service.name: as_object(service, groups) for service, groups in answers}
        print(dumped(concealed({"services": services}, hide), output))
    else:
        print("\n".join(hide(line) for answer in answers for line in lines(*answer)))
    return 0


async def answers_of(session: Session) -> list[tuple[Service, tuple[Group, ...]]]:
    """Each service with its groups. Raises StageError, PlatformError."""
    answers = []
    for service in session.services:
        found = await session.images.fingerprinter.take(service, Change.start(session.world.clock.now()))
        assert found.plan is not None
        answers.append((service, groups_of(service, found.plan, found.inputs.files)))
    return answers


def groups_of(service: Service, plan: Plan, files: Mapping[str, FileEntry]) -> tuple[Group, ...]:
    """`grouped`, with the Dockerfile and the ignore files where the context holds them."""
    build = service.build
    ignoring = (build.context / ".dockerignore", Path(f"{build.dockerfile}.dockerignore"))
    recipe = {os.path.relpath(path, build.context) for path in (build.dockerfile, *ignoring)}
    return grouped(plan, files, recipe)
