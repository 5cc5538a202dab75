"""`devloop check`: what devloop would deploy, rendered and judged by the rules of devloop.checks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import anyio.to_thread

from devloop.adapters.checks.images import Scans, built_image
from devloop.adapters.checks.objects import NOWHERE, STAND_IN, of_manifest, of_release
from devloop.adapters.checks.surroundings import look_around, nodes_without
from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.helm.runner_selection import choose
from devloop.adapters.kubernetes.manifests import put_refs
from devloop.checks.facts import BuiltImage, Facts, Need
from devloop.checks.origin import shown
from devloop.checks.rule import Report, View, judge
from devloop.checks.rules import NAMES, RULES
from devloop.checks.schema import kubernetes_schema
from devloop.checks.subject import Subject
from devloop.clock import Clock
from devloop.commands.frame import Project, run
from devloop.commands.output import secrets_of
from devloop.config import load as configs
from devloop.config.load import Config, chosen
from devloop.errors import ConfigError, DevloopError, PlatformError, ReleaseError
from devloop.image_refs import repository
from devloop.model import Change, Release, Service
from devloop.sinks.fan import Fan
from devloop.wiring import Session, opened

OFFLINE = "--offline"
NO_CLUSTER = ("KubeconfigMissing", "ContextMissing")
NO_SCHEMA = "kubernetes-validate is not installed: pip install 'devloop[check]'"


@dataclass(frozen=True, slots=True)
class Result:
    """`unreachable`: what was asked for and could not be asked; the rules that need it did not run."""

    report: Report
    unreachable: str = ""

    @property
    def exit_code(self) -> int:
        return 1 if self.report.errors else 3 if self.unreachable else 0


async def examine(project: Project, names: Sequence[str], *, offline: bool) -> Result:
    """Judge everything, with the cluster's and the engine's facts unless `offline`. Raises ConfigError."""
    config = project.config
    services = chosen(config, names)
    if offline:
        return Result(await _judged(config, services, {}, _unasked(OFFLINE)))
    try:
        async with opened(config, project.kubeconfig, names, Fan(), Clock()) as session:
            return await _asked(config, session)
    except (PlatformError, ConfigError) as error:
        if isinstance(error, ConfigError) and error.reason not in NO_CLUSTER:
            raise
        why = f"the cluster is not reachable: {error.message}"
        return Result(await _judged(config, services, {}, _unasked(why)), error.message)


async def _asked(config: Config, session: Session) -> Result:
    """With a session: tags from the tree, facts from cluster and engine, as far as each answers."""
    absent: dict[Need, str] = {}
    refs, unbuilt = {}, {}
    built: dict[str, BuiltImage] = {}
    scans = Scans(configs.state_dir(config.path) / "layers.json")
    for service in session.services:
        try:
            found = await session.images.fingerprinter.take(service, Change(frozenset(), 0.0, 0.0, "check"))
            refs[service.name] = ref = service.ref(found)
            allowed = config.by_name[service.name].max_image_size
            image = await built_image(session.images.docker, scans, ref, allowed)
        except PlatformError as error:
            absent["engine"] = f"the build engine is not reachable: {error.message}"
            break
        except (DevloopError, EngineRefusedError) as error:
            unbuilt[service.name] = error.message.splitlines()[0]
            continue
        if image is None:
            unbuilt[service.name] = f"{ref} is not in the build engine; devloop once builds it"
        else:
            built[service.name] = image
    facts = _facts(config, replace(Facts(), built=built, unbuilt=unbuilt, absent=absent))
    subjects, facts = await _gathered(config, session.services, refs, facts)
    try:
        own = [(release.namespace, release.name) for release in config.releases()]
        around = await look_around(session.cluster.client, own)
        pulled = {box.image for box in View(subjects, facts).containers() if box.image}
        ours = {service.image for service in config.services()}
        lacking = await nodes_without(
            session.images.loader, [ref for ref in pulled if not _is_one(ref, ours)]
        )
        facts = replace(
            facts,
            nodes=around.nodes,
            taken_ports=around.taken_ports,
            others=around.others,
            lacking=lacking,
        )
        facts = _with_schema(facts, around.version)
    except (DevloopError, EngineRefusedError) as error:
        absent["cluster"] = error.message
        facts = _with_schema(replace(facts, absent=absent), None)
    report = await anyio.to_thread.run_sync(judge, RULES, View(subjects, facts))
    return Result(report, "; ".join(absent[need] for need in ("cluster", "engine") if need in absent))


async def _judged(
    config: Config, services: Sequence[Service], refs: Mapping[str, str], absent: Mapping[Need, str]
) -> Report:
    subjects, facts = await _gathered(config, services, refs, _facts(config, Facts(absent=absent)))
    facts = await anyio.to_thread.run_sync(_with_schema, facts, None)
    return await anyio.to_thread.run_sync(judge, RULES, View(subjects, facts))


def _facts(config: Config, facts: Facts) -> Facts:
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


def _with_schema(facts: Facts, version: str | None) -> Facts:
    try:
        return replace(facts, schema=kubernetes_schema(version))
    except ImportError:
        return replace(facts, absent={**facts.absent, "schema": NO_SCHEMA})


async def _gathered(
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


def _is_one(ref: str, images: set[str]) -> bool:
    return repository(ref) in {repository(image) for image in images}


def _unasked(why: str) -> dict[Need, str]:
    return {"cluster": why, "engine": why}


def check(project: Project, names: Sequence[str], *, offline: bool, output: str) -> int:
    """Print what the rules find in what devloop would deploy; the exit code."""
    from devloop.sinks.findings import as_github, as_json, as_text

    found = run(partial(examine, project, names, offline=offline))
    rendered = {"text": as_text, "json": as_json, "github": as_github}[output](found.report)
    print(secrets_of(project.config, names)(rendered))
    return found.exit_code
