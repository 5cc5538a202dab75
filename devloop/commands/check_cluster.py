"""`devloop check` with a cluster: the tree's tags, facts of cluster and engine as far as each answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import anyio.to_thread

from devloop.adapters.checks.images import Scans, built_image
from devloop.adapters.checks.surroundings import look_around, nodes_without
from devloop.adapters.docker.connection import EngineRefusedError
from devloop.checks.facts import BuiltImage, Facts, Need
from devloop.checks.rule import View, judge
from devloop.checks.rules import RULES
from devloop.clock import Clock
from devloop.commands.check_files import Result, facts_of, gathered, judged, unasked, with_schema
from devloop.commands.frame import Project
from devloop.config import load as configs
from devloop.config.load import Config
from devloop.errors import ConfigError, DevloopError, PlatformError
from devloop.image_refs import repository
from devloop.model import Change
from devloop.sinks.fan import Fan
from devloop.wiring import Session, opened

NO_CLUSTER = ("KubeconfigMissing", "ContextMissing")


async def examine(project: Project, names: Sequence[str]) -> Result:
    """Judge everything, with the cluster's and the engine's facts. Raises ConfigError."""
    config = project.config
    services = configs.chosen(config, names)
    try:
        async with opened(config, project.kubeconfig, names, Fan(), Clock()) as session:
            return await _asked(config, session)
    except (PlatformError, ConfigError) as error:
        if isinstance(error, ConfigError) and error.reason not in NO_CLUSTER:
            raise
        why = f"the cluster is not reachable: {error.message}"
        return Result(await judged(config, services, {}, unasked(why)), error.message)


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
    facts = facts_of(config, replace(Facts(), built=built, unbuilt=unbuilt, absent=absent))
    subjects, facts = await gathered(config, session.services, refs, facts)
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
        facts = with_schema(facts, around.version)
    except (DevloopError, EngineRefusedError) as error:
        absent["cluster"] = error.message
        facts = with_schema(replace(facts, absent=absent), None)
    report = await anyio.to_thread.run_sync(judge, RULES, View(subjects, facts))
    return Result(report, "; ".join(absent[need] for need in ("cluster", "engine") if need in absent))


def _is_one(ref: str, images: set[str]) -> bool:
    return repository(ref) in {repository(image) for image in images}
