"""A proposal that devloop's own reader takes: what it refuses is left out, with a note that says why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from devloop.config.diagnostics import error_of
from devloop.config.document import Location, Problem
from devloop.config.load import checked
from devloop.config.schema import SERVICE
from devloop.config.schema_releases import RELEASE
from devloop.init.found import Note
from devloop.init.proposal.render import config_text
from devloop.init.proposal.values import Proposal, Release, Service

_NAMESPACE, _CONTEXT = "default", "minikube"  # where the one that was found cannot be written


def loadable(proposal: Proposal, path: Path) -> Proposal:
    """What of it `path` may hold. Each turn leaves something out, so it ends.

    Raises ConfigError where no part is to blame.
    """
    while proposal.services:
        _, problems = checked(path, config_text(proposal))
        problems = [one for one in problems if not _is_yet_to_be_written(one, proposal)]
        if not problems:
            break
        problems = [replace(one, text=one.text.replace(f"{path.parent}/", "")) for one in problems]
        smaller = proposal
        for problem in _one_of_each(problems):
            smaller = _without(smaller, problem)
        if smaller == proposal:
            raise error_of(path, problems)
        proposal = smaller
    return proposal


def _is_yet_to_be_written(problem: Problem, proposal: Proposal) -> bool:
    index = _index(problem.at, 1)
    return problem.at[:1] == ("manifests",) and proposal.manifests[index].path in proposal.written


def _one_of_each(problems: list[Problem]) -> Iterator[Problem]:
    """The first problem of each service and release: leaving out a part moves the places of the others."""
    seen: set[Location] = set()
    for one in problems:
        owner = one.at[: 2 if one.at[:1] in (("services",), ("releases",)) else 1]
        if owner not in seen:
            seen.add(owner)
            yield one


def _without(proposal: Proposal, problem: Problem) -> Proposal:
    section = problem.at[0] if problem.at else ""
    if section == "cluster":
        return _other_cluster(proposal, problem)
    if section == "manifests":
        gone = proposal.manifests[_index(problem.at, 1)]
        kept = tuple(one for one in proposal.manifests if one is not gone)
        return _noted(replace(proposal, manifests=kept), f"manifests {gone.path}", problem.text)
    if section == "services":
        return _without_service(proposal, problem)
    if section == "releases":
        return _without_release(proposal, problem)
    return proposal


def _other_cluster(proposal: Proposal, problem: Problem) -> Proposal:
    if problem.at[1:] == ("context",):
        place = replace(proposal.place, context=_CONTEXT)
        return _noted(replace(proposal, place=place), f"context {proposal.place.context}", problem.text)
    was = proposal.namespace
    return _noted(replace(proposal, namespace=_NAMESPACE), f"namespace {was}", problem.text)


def _without_service(proposal: Proposal, problem: Problem) -> Proposal:
    made: list[Service] = []
    for one in proposal.services:
        mine = one.name == problem.at[1] if len(problem.at) > 1 else not SERVICE.match(one.name)
        if not mine:
            made.append(one)
            continue
        smaller, what = _smaller_service(one, problem.at[2:])
        made += [smaller] if smaller else []
        proposal = _noted(proposal, what, problem.text, one.why)
    return replace(proposal, services=tuple(made))


def _smaller_service(service: Service, at: Location) -> tuple[Service | None, str]:
    """(what is left of it, what is gone). `at`: below the service."""
    name = service.name
    if at[:2] == ("build", "args") and service.args:
        key = str(at[2]) if len(at) > 2 and at[2] in service.args else next(iter(service.args))
        kept = {one: value for one, value in service.args.items() if one != key}
        return replace(service, args=kept), f"build argument {key} of {name}"
    if at[:2] == ("build", "secrets"):
        known = [one for one in service.secrets if len(one) > 1]
        gone = known[_index(at, 2)]
        secrets = tuple({"id": one["id"]} if one is gone else one for one in service.secrets)
        return replace(service, secrets=secrets), f"the value of build secret {gone['id']} of {name}"
    if at[:1] == ("deploy",) and service.targets:
        target = service.targets[_index(at, 1)]
        left = tuple(one for one in service.targets if one is not target)
        return replace(service, targets=left), f"{target.kind} {target.name} as a target of {name}"
    return None, f"service {name}, image {service.image}"


def _without_release(proposal: Proposal, problem: Problem) -> Proposal:
    made: list[Release] = []
    for one in proposal.releases:
        mine = one.name == problem.at[1] if len(problem.at) > 1 else not RELEASE.match(one.name)
        if not mine:
            made.append(one)
            continue
        smaller, what = _smaller_release(one, problem.at[2:])
        made += [smaller] if smaller else []
        proposal = _noted(proposal, what, problem.text, one.why)
    return replace(proposal, releases=tuple(made))


def _smaller_release(release: Release, at: Location) -> tuple[Release | None, str]:
    if at[:1] == ("images",) and release.images:
        key = str(at[1]) if len(at) > 1 and at[1] in release.images else next(iter(release.images))
        kept = {one: path for one, path in release.images.items() if one != key}
        return replace(release, images=kept), f"the image of {key} in release {release.name}"
    if at[:1] == ("values",) and release.values:
        gone = release.values[_index(at, 1)]
        left = tuple(one for one in release.values if one != gone)
        return replace(release, values=left), f"values {gone} of release {release.name}"
    if at[:1] == ("set",) and release.set:
        return replace(release, set={}), f"what release {release.name} sets"
    return None, f"release {release.name}, chart {release.chart}"


def _noted(proposal: Proposal, what: str, text: str, why: tuple[str, ...] = ()) -> Proposal:
    """`why`: where the part is from, its first line."""
    note = Note(what, f"{text} ({why[0]})" if why else text)
    return replace(proposal, left_out=(*proposal.left_out, note))


def _index(at: Location, place: int) -> int:
    """The number of an entry, 0 where the location ends before it."""
    return next((one for one in at[place : place + 1] if isinstance(one, int)), 0)
