"""`depends_on` of the services: an order of the first start that exists, or what is wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from devloop.config.document import Location
from devloop.model import Release, Service


def order_problems(
    services: Sequence[Service], releases: Sequence[Release]
) -> Iterator[tuple[Location, str]]:
    """What starts together (containers of one workload, images of one release) cannot wait for each other."""
    by_name = {service.name: service for service in services}
    together = _together(services, releases)
    found = False
    for service in services:
        for number, name in enumerate(service.depends_on):
            problem = _problem(service.name, name, by_name, together)
            if problem:
                found = True
                yield ("services", service.name, "depends_on", number), problem
    if not found and (circle := _circle(services, together)):
        yield ("services", circle[0], "depends_on"), f"a circle: {' -> '.join(circle)}; leave one of them out"


def _problem(name: str, other: str, by_name: Mapping[str, Service], together: Mapping[str, str]) -> str:
    if other not in by_name:
        return f"no service {other}; there are: {', '.join(by_name)}"
    if other == name:
        return "a service cannot wait for itself"
    if together[name] == together[other]:
        return f"{other} starts together with {name}: they are in one workload or release"
    return ""


def _together(services: Sequence[Service], releases: Sequence[Release]) -> Mapping[str, str]:
    """Service -> the first of those that it starts together with."""
    first = {service.name: service.name for service in services}
    users: dict[object, list[str]] = {}
    for service in services:
        for target in service.targets:
            users.setdefault(target.workload, []).append(service.name)
    for release in releases:
        users.setdefault(release.name, []).extend(name for name in release.images if name in first)
    for names in users.values():
        groups = {first[name] for name in names}
        for name, group in first.items():
            if group in groups:
                first[name] = min(groups, key=list(first).index)
    return first


def _circle(services: Sequence[Service], together: Mapping[str, str]) -> Sequence[str]:
    """Services that wait for each other, the first one again at the end; () where none do."""
    waits: dict[str, list[tuple[str, str]]] = {}  # group -> (who waits, for whom)
    for service in services:
        edges = ((service.name, name) for name in service.depends_on)
        waits.setdefault(together[service.name], []).extend(edges)
    done: set[str] = set()

    def walk(group: str, way: tuple[tuple[str, str], ...]) -> Sequence[str]:
        for who, whom in waits.get(group, ()):
            onto = together[whom]
            groups = [together[name] for name, _ in way] + [group]
            if onto in groups:
                circle = (*way, (who, whom))[groups.index(onto) :]
                return [name for name, _ in circle] + [circle[-1][1]]
            if onto not in done and (found := walk(onto, (*way, (who, whom)))):
                return found
        done.add(group)
        return ()

    return next((found for group in waits if group not in done and (found := walk(group, ()))), ())
