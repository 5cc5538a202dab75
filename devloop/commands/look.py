"""Commands that look and change nothing: status, doctor, diff, check, explain, verify; and exit codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio

from devloop.adapters.kubernetes.made import Made
from devloop.clock import Clock
from devloop.commands import beside
from devloop.commands.output import secrets_of
from devloop.commands.run import INTERRUPTED
from devloop.config.load import Config
from devloop.deploy.diff import diff as unified
from devloop.deploy.helm_values import Release
from devloop.errors import PlatformError
from devloop.model import Change
from devloop.rollout.service_status import Standing, standings
from devloop.signals import until_interrupted
from devloop.wiring import Fan, opened


def status(config: Config, kubeconfig: Path | None, names: Sequence[str], *, as_json: bool) -> int:
    """Print how every service stands; 0 if each is live."""
    from devloop.sinks.standing import as_json as to_json
    from devloop.sinks.standing import as_table as to_table

    found: dict[str, Standing] = {}

    async def work() -> None:
        async with opened(config, kubeconfig, names, Fan(), Clock()) as session:
            found.update(await standings(session.services, session.world, session.release_status))

    if anyio.run(until_interrupted, work):
        return INTERRUPTED
    stages = _stages(config)
    hide = secrets_of(config, names)
    clean = {
        name: replace(one, message=hide(one.message), hint=hide(one.hint or "") or None)
        for name, one in found.items()
    }
    print(to_json(clean, stages) if as_json else to_table(clean, stages))
    return 0 if all(standing.well for standing in found.values()) else 1


def explain(config: Config, kubeconfig: Path | None, names: Sequence[str]) -> int:
    """Print which edits are deltas, and what stops the others."""
    from devloop.commands import explain as explaining

    told: list[str] = []

    async def work() -> None:
        async with opened(config, kubeconfig, names, Fan(), Clock()) as session:
            for service in session.services:
                found = await session.fingerprinter.take(service, Change.start(session.world.clock.now()))
                plan = session.fingerprinter.plan_of(service)
                assert plan is not None
                groups = explaining.explain(plan, found.inputs.files)
                told.extend(explaining.lines(service, groups))

    if anyio.run(until_interrupted, work):
        return INTERRUPTED
    print("\n".join(map(secrets_of(config, names), told)))
    return 0


def verify(config: Config, kubeconfig: Path | None, names: Sequence[str]) -> int:
    """Print whether each live image is what a full build gives; 1 if one is not."""
    from devloop.commands.verify import verify as compare

    different, hide = False, secrets_of(config, names)

    async def work() -> None:
        nonlocal different
        async with opened(config, kubeconfig, names, Fan(), Clock()) as session:
            for service in session.services:
                found = await compare(session, service, session.full)
                different |= bool(found.different)
                verdict = f"{len(found.different)} differ" if found.different else "equal to a full build"
                print(f"{service.name}: {found.ref}: {found.files} paths, {verdict}")
                for line in found.different:
                    print(f"  {hide(line)}")

    if anyio.run(until_interrupted, work):
        return INTERRUPTED
    return 1 if different else 0


def doctor(config: Config, kubeconfig: Path | None, names: Sequence[str]) -> int:
    """Print what devloop needs and what was found; 3 if something is in the way."""
    from devloop.commands.doctor import Finding, examine

    findings: list[Finding] = []

    async def work() -> None:
        async with opened(config, kubeconfig, names, Fan(), Clock()) as session:
            findings.extend(await examine(session))

    if anyio.run(until_interrupted, work):
        return INTERRUPTED
    hide = secrets_of(config, names)
    marks = {"good": "ok  ", "note": "note", "bad": "BAD "}
    for finding in findings:
        print(f"{marks[finding.grade]}  {finding.what}: {hide(finding.found)}")
        if finding.hint:
            print(f"      -> {hide(finding.hint)}")
    return 3 if any(finding.grade == "bad" for finding in findings) else 0


def diff(config: Config, kubeconfig: Path | None) -> int:
    """Print what `once` would change of objects, as a unified diff; 0 nothing, 1 something."""
    lines: list[str] = []
    left: list[str] = []

    async def work() -> None:
        async with opened(config, kubeconfig, (), Fan(), Clock()) as session:
            lines.extend(unified(await session.previews()))
            left.extend(map(_left_over, await session.removal().find_left()))
            known = {(one.namespace, one.name) for one in session.config.releases()}
            releases = await session.left_releases()
            left.extend(_left_over(one) for one in releases if (one.namespace, one.name) not in known)

    if anyio.run(until_interrupted, work):
        return INTERRUPTED
    conceal = secrets_of(config, ())
    print("\n".join(map(conceal, lines)) if lines else "nothing would change")
    if left:
        print("\n".join(left))
    return 1 if lines else 0


def _left_over(one: Made | Release) -> str:
    where = f" in namespace {one.namespace}" if one.namespace else ""
    return f"# {one}{where}: made by this project, which names it no more; devloop down removes it"


def check(
    config: Config, kubeconfig: Path | None, names: Sequence[str], *, offline: bool, output: str
) -> int:
    """Print what the rules find in what devloop would deploy; the exit code."""
    from devloop.commands.check import Result
    from devloop.commands.check import check as look
    from devloop.sinks.findings import as_github, as_json, as_text

    found: list[Result] = []

    async def work() -> None:
        found.append(await look(config, kubeconfig, names, offline=offline))

    if anyio.run(until_interrupted, work):
        return INTERRUPTED
    told = {"text": as_text, "json": as_json, "github": as_github}[output](found[0].report)
    print(secrets_of(config, names)(told))
    return found[0].exit_code


def _stages(config: Config) -> dict[str, str]:
    """What a running `devloop watch` of this config says: service -> stage or state; {} without one."""
    try:
        cards = beside.ask(config)["services"]
    except PlatformError:
        return {}
    return {name: card.get("stage") or card.get("state") or "" for name, card in cards.items()}
