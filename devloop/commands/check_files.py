"""`devloop check` without a cluster: what the files would deploy, rendered and judged."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import anyio.to_thread

from devloop.adapters.checks.objects import NOWHERE, STAND_IN, of_manifest, of_release
from devloop.adapters.helm.runner_selection import choose
from devloop.adapters.kubernetes.manifests import put_refs
from devloop.checks.facts import Facts, Need
from devloop.checks.origin import shown
from devloop.checks.rule import Report, View, judge
from devloop.checks.rules import NAMES, RULES
from devloop.checks.schema import kubernetes_schema
from devloop.checks.subject import Subject
from devloop.commands.frame import Project
from devloop.config.load import Config, chosen
from devloop.errors import ConfigError, PlatformError, ReleaseError
from devloop.image_refs import repository
from devloop.model import Release, Service

NO_SCHEMA = "kubernetes-validate is not installed: pip install 'devloop[check]'"
OFFLINE = "--offline"


@dataclass(frozen=True, slots=True)
class Result:
    """`unreachable`: what was asked for and could not be asked; the rules that need it did not run."""

    report: Report
    unreachable: str = ""

    @property
    def exit_code(self) -> int:
        return 1 if self.report.errors else 3 if self.unreachable else 0


async def examine_files(project: Project, names: Sequence[str]) -> Result:
    """Judge the files alone. Raises ConfigError."""
    return Result(await judged(project.config, chosen(project.config, names), {}, unasked(OFFLINE)))


def unasked(why: str) -> dict[Need, str]:
    """What a look at the files alone lacks."""
    return {"cluster": why, "engine": why}


async def judged(
    config: Config, services: Sequence[Service], refs: Mapping[str, str], absent: Mapping[Need, str]
) -> Report:
    """By the rules that need nothing of `absent`: what was not asked, and why. `refs`: service -> tag."""
    subjects, facts = await gathered(config, services, refs, facts_of(config, Facts(absent=absent)))
    facts = await anyio.to_thread.run_sync(with_schema, facts, None)
    return await anyio.to_thread.run_sync(judge, RULES, View(subjects, facts))


def facts_of(config: Config, facts: Facts) -> Facts:
    """With what config.yaml says. Raises ConfigError for a rule that does not exist."""
    unknown = sorted(set(config.checks.ignore) - NAMES)
    if unknown:
        raise ConfigError(
            f"{config.path}: checks.ignore: no rule {', '.join(unknown)}",
            hint="docs/checks.md lists the rules",
        )
    return replace(
        facts,
        images={repository(service.image): service.name for service in config.services()},
        settings=config.checks,
    )


def with_schema(facts: Facts, version: str | None) -> Facts:
    """With the schemas of a Kubernetes version, the newest for None; or why there are none."""
    try:
        return replace(facts, schema=kubernetes_schema(version))
    except ImportError:
        return replace(facts, absent={**facts.absent, "schema": NO_SCHEMA})


async def gathered(
    config: Config, services: Sequence[Service], refs: Mapping[str, str], facts: Facts
) -> tuple[tuple[Subject, ...], Facts]:
    """What would be deployed for these services, the content tags in place; what gave nothing is `broken`."""
    every = {one.name: refs.get(one.name, f"{one.image}:{STAND_IN}") for one in config.services()}
    subjects: list[Subject] = []
    broken: list[tuple[str, str]] = []
    table = {repository(ref): ref for ref in every.values()}
    for path in config.manifest_files():
        try:
            found = await of_manifest(path, config)
        except ConfigError as error:
            broken.append((shown(path, config.root), error.message))
            continue
        subjects += [replace(one, item=put_refs(one.item, table)) for one in found]
    releases = [one for one in config.releases() if _concerns(one, services)]
    runner = choose(NOWHERE, os.environ) if releases else None
    for release in releases:
        assert runner is not None
        try:
            subjects += await of_release(runner, release, every, config.root)
        except (ReleaseError, PlatformError) as error:
            broken.append((shown(release.chart, config.root), "\n".join((error.message, *error.evidence))))
    return tuple(subjects), replace(facts, broken=tuple(broken))


def _concerns(release: Release, services: Sequence[Service]) -> bool:
    return not release.images or any(service.name in release.images for service in services)
