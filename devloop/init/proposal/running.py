"""What the cluster runs and no file here describes: which of it may be this project's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from devloop.image_refs import same_repository
from devloop.init.found import Found, Note, Workload
from devloop.init.words import slug

_SHOWN = 6  # workloads of others in one line


def candidates(found: Found, described: Sequence[Workload]) -> list[Workload]:
    """Of the cluster's workloads, those that images may be brought to; `described`: those in files.

    Files come first: of a workload or an image that they describe the cluster's part is no candidate. Where a
    build section names an image and no file runs any, only that image counts.
    """
    known = {(one.kind, one.name) for one in described}
    images = [box.image for one in described for box in one.containers]
    left = [one for one in found.cluster if (one.kind, one.name) not in known and not _runs_any(one, images)]
    if described or not any(one.built for one in found.compose):
        return left
    built = [one.image for one in found.builds if one.image]
    return [one for one in left if one.own or _runs_any(one, built)]


def _runs_any(one: Workload, images: Iterable[str]) -> bool:
    return any(same_repository(box.image, image) for image in images for box in one.containers)


def running(targets: Sequence[Workload]) -> list[str]:
    """The reason for targets that are in no file, a line each."""
    return [
        f"{one} is in no file here: it was found in the cluster, "
        f"namespace {one.namespace} of context {one.context}"
        for one in targets
        if one.context
    ]


def left_alone(found: Found, unbuilt: Iterable[Workload]) -> Iterator[Note]:
    """What the cluster runs besides: workloads of other devloop projects, and `unbuilt`, whose images nothing
    here builds."""
    for owner in dict.fromkeys(one.owner for one in found.foreign):
        theirs = [one for one in found.foreign if one.owner == owner]
        yield Note(_listed(theirs), f"of another devloop project ({owner}); left alone")
    if rest := list(dict.fromkeys(unbuilt)):
        where = f"found in the cluster, context {rest[0].context}"
        yield Note(_listed(rest), f"{where}; no Dockerfile here builds what it runs")


def _listed(workloads: Sequence[Workload]) -> str:
    named = ", ".join(f"{one} in namespace {one.namespace}" for one in workloads[:_SHOWN])
    more = len(workloads) - _SHOWN
    return f"{named} and {more} more" if more > 0 else named


def taken(found: Found, namespace: str, targets: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Names that a new Deployment and its Service cannot have in the namespace -> whose they are.

    `targets`: the (name, namespace) of those that are this project's.
    """
    own = set(targets)
    return {
        one.name: f"another devloop project's ({one.owner})" if one.owner else "in no file here"
        for one in (*found.foreign, *found.cluster)
        if one.kind in ("Deployment", "Service")
        and one.namespace == namespace
        and not one.own
        and (one.name, namespace) not in own
    }


def homes(name: str, first: str, *, fixed: bool) -> Iterator[str]:
    """Namespaces for new manifests, the best first; `fixed`: the first is the only one."""
    yield first
    if not fixed:
        own = slug(name)
        yield own
        yield from (f"{own}-{number}" for number in range(2, 100))


def collisions(found: Found, described: Iterable[Workload], namespace: str) -> Iterator[Note]:
    """Workloads in files that another devloop project has brought under the same name."""
    theirs: Mapping[tuple[str, str, str], Workload] = {
        (one.kind, one.name, one.namespace): one for one in found.foreign
    }
    for one in described:
        other = theirs.get((one.kind, one.name, one.namespace or namespace))
        if other is not None:
            why = (
                f"{one.where} describes it, but another devloop project runs it ({other.owner}): "
                "devloop -n NAMESPACE init chooses another namespace"
            )
            yield Note(f"{one} in namespace {other.namespace}", why)
