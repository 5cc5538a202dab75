"""Every check, in the order of a trip, and the examination that makes them all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from devloop.checks.subject import Subject
from devloop.clock import Clock
from devloop.doctor import cluster, machine, project, sandboxes
from devloop.doctor.diagnosis import Connected, Diagnoses, Diagnosis, Examined, Machine, failure, ok
from devloop.doctor.file_watching import file_watching
from devloop.doctor.workloads import Deployed, Workload
from devloop.doctor.workloads import examine as examine_service
from devloop.errors import DevloopError
from devloop.fault_reports import error_of
from devloop.sinks.fan import Fan
from devloop.wiring import opened

Scope = TypeVar("Scope")


@dataclass(frozen=True, slots=True)
class Check(Generic[Scope]):
    """`what` names it where the look itself fails."""

    what: str
    look: Callable[[Scope], Awaitable[Diagnoses]]


async def _watching(given: Examined) -> Diagnoses:
    return await file_watching(given.services)


MACHINE: tuple[Check[Machine], ...] = (
    Check("build engine", machine.engine),
    Check("docker command", machine.docker_command),
    Check("disk", machine.disk),
)
PROJECT: tuple[Check[Examined], ...] = (
    Check("file watching", _watching),
    Check("metrics", project.metrics_port),
    Check("Dockerfiles", project.dockerfiles),
    Check("helm", project.helm),
    Check("kubectl", project.kubectl),
    Check("manifests", project.manifests),
)
CLUSTER: tuple[Check[Connected], ...] = (
    Check("cluster", cluster.nodes),
    Check("images", cluster.images),
    Check("kinds", cluster.kinds),
    Check("namespaces", cluster.needs),
    Check("other devloops", cluster.writers),
)


async def examine_machine(given: Machine) -> list[Diagnosis]:
    """What can be looked at without a config.yaml."""
    return await _made(MACHINE, given)


async def examine(given: Examined, kubeconfig: Path | None, names: Sequence[str]) -> list[Diagnosis]:
    """Everything. Raises nothing that a diagnosis can say."""
    config = given.config
    objects, broken = await project.objects_of(config, given.machine.environ)
    given = replace(given, objects=tuple(objects), broken=tuple(broken))
    services = ", ".join(service.name for service in given.services)
    found = [ok("config", f"{config.path}: {services}"), *await examine_machine(given.machine)]
    found += await _made(PROJECT, given)
    async with AsyncExitStack() as stack:
        try:
            session = await stack.enter_async_context(opened(config, kubeconfig, names, Fan(), Clock()))
        except DevloopError as error:
            found.append(failure("cluster", error.message, error.hint))
            found += await sandboxes.unselected(given, None)
            return [*found, *_services(given, None)]
        there = Connected(given, session)
        answers = await _made(CLUSTER[:1], there)
        live: dict[Workload, Subject] | None = None
        if all(one.grade != "failure" for one in answers):  # else all of them would say the same
            answers += await _made(CLUSTER[1:], there)
            with suppress(DevloopError):  # another check reports why
                live = await cluster.workloads(there)
        found += answers
        found += await sandboxes.unselected(given, session.cluster.platform.server)
    return [*found, *_services(given, live)]


def _services(given: Examined, live: dict[Workload, Subject] | None) -> list[Diagnosis]:
    deployed = Deployed(given.objects, live or {}, live is not None, bool(given.broken))
    everybody = given.config.services()
    return [one for service in given.services for one in examine_service(service, everybody, deployed)]


async def _made(checks: Sequence[Check[Scope]], scope: Scope) -> list[Diagnosis]:
    """Each for itself: one that cannot be made is a failure of its own."""
    found: list[Diagnosis] = []
    for check in checks:
        try:
            found += await check.look(scope)
        except DevloopError as error:
            found.append(failure(check.what, error.message, error.hint))
        except Exception as error:  # noqa: BLE001 - a fault in one check hides no other
            known = error_of(f"the check of {check.what}", error)
            found.append(failure(check.what, known.message, known.hint))
    return found
