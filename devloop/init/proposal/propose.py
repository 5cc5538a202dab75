"""Found things to a proposal: services for images that are built here, and what brings their workloads."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from devloop.config.schema_services import IMAGE
from devloop.image_refs import same_repository
from devloop.init.found import Chart, Found, Note, Workload
from devloop.init.proposal.manifests import Home, Made, write_manifests
from devloop.init.proposal.matching import Match, Use, match, uses
from devloop.init.proposal.plain import troubled
from devloop.init.proposal.recipes import Recipe, base_images, recipes, with_stages
from devloop.init.proposal.render import dockerfile_default
from devloop.init.proposal.running import candidates, collisions, homes, left_alone, running, taken
from devloop.init.proposal.sources import choose
from devloop.init.proposal.values import Place, Proposal, Question, Release, Service, Target
from devloop.init.words import basename, slug, unique

WRITE = "write"
_WRITE = Question(
    WRITE,
    "There are no Kubernetes files here. Write a minimal manifest for each service into k8s/?",
    (("yes", "yes"), ("no", "no: only build the images")),
    "yes",
)


def propose(found: Found, place: Place, answers: Mapping[str, str]) -> Proposal:
    """Pure. `answers`: key of a question -> the answer; what is not answered takes its default."""
    sources = choose(found, answers)
    workloads = [*sources.workloads, *candidates(found, sources.workloads)]
    usable, odd = _usable(uses(workloads))
    every, notes = recipes(found)
    every = with_stages(every, [basename(use.image) for use in usable])
    matched = match(usable, every, answers)
    services, unmatched = _services(matched.matches, every, slug(found.name))
    unmatched, bases, commands = _without_bases(unmatched, every, matched.matches)
    blocked = [*troubled(found), *found.unusable]
    pulled = {one.where for one in found.compose} - {one.where for one in found.builds}
    nothing = [Note(path, "it builds nothing: all of its images are pulled") for path in sorted(pulled)]
    home = _home(services, place, sources.charts)
    more, asked = _unmatched(
        unmatched,
        found,
        answers,
        _homes(found, services, home, place),
        alone=not services,
        bare=not sources.workloads and not blocked,
    )
    namespace = more.namespace or home
    services = _namespaces(_containers([*services, *more.services], workloads), namespace)
    left = (*matched.left_out, *sources.left_out, *notes, *odd, *bases, *blocked, *nothing, *more.left_out)
    cluster = (*collisions(found, sources.workloads, namespace), *left_alone(found, matched.unbuilt))
    return Proposal(
        place,
        namespace,
        tuple(services),
        (*sources.entries, *more.entries),
        tuple(_release(one, services, workloads) for one in sources.charts),
        more.written,
        (*commands, *more.first),
        (*left, *cluster),
        found.notes,
        (*matched.questions, *sources.questions, *asked),
    )


def _usable(every: Sequence[Use]) -> tuple[list[Use], list[Note]]:
    usable = [use for use in every if IMAGE.match(use.image)]
    odd = [use for use in every if not IMAGE.match(use.image)]
    return usable, [
        Note(use.image or "an image", f"not a name that can be built ({use.runners})") for use in odd
    ]


def _without_bases(
    unmatched: Sequence[Recipe], every: tuple[Recipe, ...], matches: Sequence[Match]
) -> tuple[list[Recipe], list[Note], list[str]]:
    """(those that are no base, notes of the bases, commands that build them)."""
    bases = base_images(every, {one.recipe.key for one in matches})
    kept = [one for one in unmatched if one.key not in bases]
    notes, commands = [], []
    for one in unmatched:
        if one.key in bases:
            other, name = bases[one.key]
            why = f"the base of {other}; build it first, and again when it changes"
            notes.append(Note(one.dockerfile, why))
            commands.append(_build_command(one, name))
    return kept, notes, commands


def _build_command(one: Recipe, name: str) -> str:
    words = ["docker", "build", "-t", name]
    words += ["-f", one.dockerfile] if one.dockerfile != dockerfile_default(one.context) else []
    words += ["--target", one.target] if one.target else []
    words += [word for key, value in one.args.items() for word in ("--build-arg", f"{key}={value}")]
    return shlex.join([*words, one.context])


def _unmatched(
    unmatched: Sequence[Recipe],
    found: Found,
    answers: Mapping[str, str],
    places: Iterable[Home],
    *,
    bare: bool,
    alone: bool,
) -> tuple[Made, list[Question]]:
    """What becomes of builds that no workload runs. `bare`: nothing here is for Kubernetes; `alone`: there is
    no other service, and a config.yaml needs one."""
    if unmatched and bare:
        unnamed = [one for one in unmatched if not one.image] if found.builds else []
        named = [one for one in unmatched if one not in unnamed]
        made = write_manifests(found, named, places, wanted=answers.get(WRITE, "yes") == "yes")
        notes = (*(Note(one.dockerfile, "no build section names it") for one in unnamed), *made.left_out)
        return replace(made, left_out=notes), [] if WRITE in answers else [_WRITE]
    if alone:
        return write_manifests(found, unmatched, places, wanted=False), []
    why = "no workload was found that runs its image"
    return Made((), (), {}, tuple(Note(one.dockerfile, why) for one in unmatched)), []


def _services(
    matches: Sequence[Match], every: Sequence[Recipe], project: str
) -> tuple[list[Service], list[Recipe]]:
    """In the order of the builds, with unique names; the image names what would be called as the project."""
    order = {one.key: number for number, one in enumerate(every)}
    made: list[Service] = []
    for one in sorted(matches, key=lambda found: order.get(found.recipe.key, len(order))):
        image = slug(basename(one.use.image))
        name = image if one.recipe.names[0] == project else one.recipe.names[0]
        names = {service.name for service in made}
        name = image if name in names and image not in names else unique(name, names)
        made.append(_service(one, name))
    used = {one.recipe.key for one in matches}
    return made, [one for one in every if one.key not in used]


def _service(one: Match, name: str) -> Service:
    runs = [workload for workload, _ in one.use.places if workload.is_target]
    others = [
        str(workload) for workload, _ in one.use.places if not workload.is_target and workload.kind != "Chart"
    ]
    why = [one.recipe.why, one.why]
    if others:
        how = (
            "gets this image when its manifest or release is applied; devloop follows no rollout of it"
            if len(others) == 1
            else "get this image when their manifests or releases are applied; devloop follows no rollout of"
            " them"
        )
        why.append(f"{', '.join(others)} {how}")
    why += running(runs)
    targets = {
        (one.kind, one.name, one.namespace): Target(one.kind, one.name, "", one.namespace) for one in runs
    }
    return service_of(
        one.recipe, name, one.use.image, tuple(targets.values()), tuple(dict.fromkeys(why)), tuple(others)
    )


def service_of(
    recipe: Recipe,
    name: str,
    image: str,
    targets: tuple[Target, ...],
    why: tuple[str, ...],
    others: tuple[str, ...] = (),
) -> Service:
    return Service(
        name,
        image,
        recipe.context,
        recipe.dockerfile,
        recipe.target,
        recipe.args,
        recipe.secrets,
        targets,
        why,
        others,
    )


def _containers(services: Sequence[Service], workloads: Sequence[Workload]) -> list[Service]:
    """Where two services share a workload each names its container."""
    shared: dict[tuple[str, str, str], list[str]] = {}
    for service in services:
        for target in service.targets:
            shared.setdefault((target.kind, target.name, target.namespace), []).append(service.image)
    boxes = {(one.kind, one.name, one.namespace): one.containers for one in workloads}
    made: list[Service] = []
    for service in services:
        targets: list[Target] = []
        for target in service.targets:
            key = (target.kind, target.name, target.namespace)
            own = [
                box.name
                for box in boxes.get(key, ())
                if same_repository(box.image, service.image) and box.name
            ]
            several = len(shared[key]) > 1 and own
            targets += [replace(target, container=name) for name in own] if several else [target]
        made.append(replace(service, targets=tuple(targets)))
    return made


def _home(services: Sequence[Service], place: Place, charts: Sequence[Chart]) -> str:
    """cluster.namespace: the one that was asked for, else the only one that is named, else the context's."""
    named = {target.namespace for service in services for target in service.targets}
    named |= {chart.namespace for chart in charts}
    if len(named) == 1 and "" not in named and not place.given:
        return named.pop()
    return place.namespace or "default"


def _homes(found: Found, services: Sequence[Service], first: str, place: Place) -> Iterator[Home]:
    targets = {(one.name, one.namespace or first) for service in services for one in service.targets}
    for name in homes(found.name, first, fixed=place.given):
        implied = name == "default" == (place.namespace or "default") and not place.given
        yield Home(name, taken(found, name, targets), is_new=name != first, is_implied=implied)


def _namespaces(services: Sequence[Service], default: str) -> list[Service]:
    """With the namespace only at targets whose is another one."""
    return [
        replace(
            service,
            targets=tuple(
                replace(target, namespace="") if target.namespace == default else target
                for target in service.targets
            ),
        )
        for service in services
    ]


def _release(chart: Chart, services: Sequence[Service], workloads: Sequence[Workload]) -> Release:
    images: dict[str, str] = {}
    why = [one for one in (chart.why, chart.trouble) if one]
    paths = [(box.values, box.image) for one in chart.workloads for box in one.containers if box.values]
    for path, image in [*paths, *chart.images]:
        owner = next((one.name for one in services if image and same_repository(one.image, image)), None)
        if owner is None or path in images.values():
            continue
        if owner in images:
            why.append(f"{path} holds the image of {owner} too; devloop sets {images[owner]}")
        else:
            images[owner] = path
    if not images and any(
        same_repository(one.image, box.image)
        for one in services
        for w in chart.workloads
        for box in w.containers
    ):
        why.append("no value takes the image's whole repository: devloop sets the image on the workload")
    if chart.subcharts:
        why.append(f"with its subcharts {', '.join(chart.subcharts)}")
    return Release(chart.release, chart.folder, chart.namespace, chart.values, chart.set, images, tuple(why))
