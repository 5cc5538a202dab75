"""What a service's targets would run: the containers that get its image, and who else sets them. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from devloop.checks.subject import LONG_RUNNING, Container, Subject
from devloop.doctor.diagnosis import Diagnosis, failure, ok, warning
from devloop.doctor.probes import waits
from devloop.image_refs import same_repository, split
from devloop.model import Service, Target

TARGETS = ("Deployment", "StatefulSet")
Workload = tuple[str, str, str]  # as Target.workload


@dataclass(frozen=True, slots=True)
class Deployed:
    """All workloads that are known. `written`: of manifests and releases; `live`: of the cluster.

    `asked` False: the cluster did not answer. `incomplete`: some manifests gave nothing.
    """

    written: Sequence[Subject]
    live: Mapping[Workload, Subject]
    asked: bool = True
    incomplete: bool = False

    def of(self, target: Target) -> Subject | None:
        """What will run: as it is written, else as it is in the cluster."""
        key = target.workload
        return next((one for one in self.written if key_of(one) == key), self.live.get(key))


def key_of(subject: Subject) -> Workload:
    return subject.kind.lower(), subject.namespace, subject.name


def place_of(subject: Subject, *place: str | int) -> str:
    """ "k8s/web.yaml:12", or that it is in the cluster."""
    line = subject.line(place)
    return f"{subject.file}:{line}" if subject.file and line else subject.file or "in the cluster"


def examine(service: Service, services: Sequence[Service], deployed: Deployed) -> list[Diagnosis]:
    """Of one service: each target, with what its containers run and how long its probes take."""
    what = f"service {service.name}"
    if not service.targets:
        loose = list(_elsewhere(what, service, deployed))
        return loose or [ok(what, f"{service.image} is built and loaded only: it has no deploy:")]
    found: list[Diagnosis] = []
    for target in service.targets:
        found += _target(what, service, target, services, deployed)
    if all(deployed.of(target) for target in service.targets):
        found += _elsewhere(what, service, deployed)
    return found


def _target(
    what: str, service: Service, target: Target, services: Sequence[Service], deployed: Deployed
) -> Iterator[Diagnosis]:
    subject = deployed.of(target)
    if subject is None:
        yield _absent(what, target, deployed)
        return
    own = owned(subject, target, service.image)
    if not own:
        yield _no_container(what, service, target, subject)
        return
    wrong = [
        *_shared(what, service, target, subject, own, services),
        *_foreign_image(what, service, subject, own),
    ]
    yield from wrong
    if not wrong:
        names = ", ".join(one.name for one in own)
        absent = subject.file and deployed.asked and target.workload not in deployed.live
        later = ", not in the cluster yet" if absent else ""
        yield ok(
            what, f"{target} in namespace {target.namespace}, container {names} ({place_of(subject)}){later}"
        )
    yield from _probes(what, target, subject)


def owned(subject: Subject, target: Target, image: str) -> list[Container]:
    """The containers that the PATCH will set (S14)."""
    if target.container is not None:
        return [one for one in subject.containers() if one.name == target.container]
    return [one for one in subject.containers() if same_repository(one.image, image)]


def _absent(what: str, target: Target, deployed: Deployed) -> Diagnosis:
    text = f"{target} is neither in the manifests nor in namespace {target.namespace} of the cluster"
    if not deployed.asked or deployed.incomplete:
        unknown = "some manifests gave nothing" if deployed.incomplete else "the cluster was not asked"
        return warning(what, f"{target} is not in the manifests, and {unknown}")
    known = [one for one in (*deployed.written, *deployed.live.values()) if one.kind in TARGETS]
    same = [one for one in known if one.name == target.name]
    if same:
        other = same[0]
        fix = f"deploy: {{{other.kind.lower()}: {other.name}"
        fix += f", namespace: {other.namespace}}}" if other.namespace != target.namespace else "}"
        return failure(
            what, f"{text}; there is {other.kind} {other.name} in namespace {other.namespace}", fix
        )
    near = difflib.get_close_matches(target.name, [one.name for one in known], n=1)
    if near:
        return failure(what, text, f"did you mean {near[0]}? write deploy: {{{target.kind}: {near[0]}}}")
    fix = f"list its file under manifests: in config.yaml, or kubectl -n {target.namespace} apply -f FILE"
    return failure(what, text, fix)


def _no_container(what: str, service: Service, target: Target, subject: Subject) -> Diagnosis:
    there = [*subject.containers()]
    listed = ", ".join(f"{one.name} ({one.image or 'no image'})" for one in there) or "none"
    if target.container is not None:
        text = f"{target} ({place_of(subject)}) has no container {target.container}; it has: {listed}"
        near = difflib.get_close_matches(target.container, [one.name for one in there], n=1, cutoff=0.0)
        return failure(
            what, text, f"deploy: {{{target.kind}: {target.name}, container: {near[0]}}}" if near else None
        )
    text = f"no container of {target} ({place_of(subject)}) runs {service.image}; it has: {listed}"
    if len(there) == 1 and there[0].image:
        fix = f"image: {split(there[0].image)[0]} for the service in config.yaml"
    else:
        fix = "give the service the image of the container that it builds"
    at = f"in {place_of(subject)}" if subject.file else place_of(subject)
    return failure(what, text, f"{fix}, or image: {service.image} {at}")


def _shared(
    what: str,
    service: Service,
    target: Target,
    subject: Subject,
    own: Sequence[Container],
    services: Sequence[Service],
) -> Iterator[Diagnosis]:
    """Two services on one container: each save of one undoes the other's."""
    names = {one.name for one in own}
    for other in services:
        for its in other.targets:
            if other.name == service.name or its.workload != target.workload:
                continue
            both = sorted(names & {one.name for one in owned(subject, its, other.image)})
            if both:
                text = f"{target}: container {both[0]} is set by {service.name} and by {other.name}"
                yield failure(what, text, "name another container: for one of them in deploy:")


def _foreign_image(
    what: str, service: Service, subject: Subject, own: Sequence[Container]
) -> Iterator[Diagnosis]:
    """A container that is named, in a manifest that names another image: applying it starts that first."""
    for one in own:
        if subject.file and not same_repository(one.image, service.image):
            at = place_of(subject, *one.place, "image")
            text = f"container {one.name} runs {one.image or 'no image'} in {at}, not {service.image}"
            yield warning(
                what,
                f"{text}: whenever the manifest is applied, that image starts first",
                f"image: {service.image} in {at}",
            )


def _probes(what: str, target: Target, subject: Subject) -> Iterator[Diagnosis]:
    for one in waits(subject):
        where = f"container {one.container} of {target} ({place_of(subject)})"
        text = f"the probes of {where} make every save wait up to {one.seconds} s: {', '.join(one.settings)}"
        yield warning(what, text, one.fix)


def _elsewhere(what: str, service: Service, deployed: Deployed) -> Iterator[Diagnosis]:
    """Other workloads of the manifests that run the image: what is saved does not reach them."""
    named = {target.workload for target in service.targets}
    for subject in deployed.written:
        runs = any(same_repository(one.image, service.image) for one in subject.containers())
        if not runs or subject.kind not in LONG_RUNNING or key_of(subject) in named:
            continue
        kind = subject.kind.lower()
        text = f"{kind}/{subject.name} ({place_of(subject)}) runs its image too, and no save rolls it out"
        if subject.kind not in TARGETS:
            text += f": a {subject.kind} cannot be a target"
            yield warning(
                what, text, f"make it a Deployment or a StatefulSet to have it in deploy: of {service.name}"
            )
        else:
            listed = [f"{{{target.kind}: {target.name}}}" for target in service.targets]
            yield warning(what, text, f"deploy: [{', '.join((*listed, f'{{{kind}: {subject.name}}}'))}]")
