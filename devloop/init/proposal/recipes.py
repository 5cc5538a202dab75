"""Every image that the project can build: from build sections and from Dockerfiles that none names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from devloop.image_refs import same_repository
from devloop.init.found import Build, Dockerfile, Found, Note
from devloop.init.paths import last, parent
from devloop.init.proposal.build_context import context_of
from devloop.init.words import basename, dockerfile_names, is_environment, nearness, slug, variant, words

_VARIABLE = re.compile(r"\$\{?(\w+)(?::?-[^}]*)?\}?")


@dataclass(frozen=True, slots=True)
class Recipe:
    """One build. `names`: what it may be called, the best first; `image` "" where nothing names it.

    `services`: those of compose.yaml that it is the build section of.
    """

    names: tuple[str, ...]
    context: str
    dockerfile: str
    image: str = ""
    target: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Mapping[str, str], ...] = ()
    bases: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    stages: tuple[str, ...] = ()
    why: str = ""
    services: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        return self.dockerfile, self.context, self.target


def recipes(found: Found) -> tuple[tuple[Recipe, ...], tuple[Note, ...]]:
    """(builds, what was left out)."""
    made: dict[tuple[object, ...], Recipe] = {}
    notes: list[Note] = []
    by_path = {one.path: one for one in found.dockerfiles}
    for build in found.builds:
        if build.dockerfile not in by_path:
            notes.append(
                Note(
                    f"build of {build.name}",
                    f"{build.where}: {build.dockerfile} cannot be used or is not there",
                )
            )
            continue
        if build.target and build.target.lower() not in _stages(by_path[build.dockerfile]):
            why = f"{build.where}: {build.dockerfile} has no stage {build.target}"
            notes.append(Note(f"build of {build.name}", why))
            continue
        recipe = _explicit(build, by_path[build.dockerfile], found)
        key = (*recipe.key, tuple(sorted(recipe.args.items())))
        made[key] = _joined(made[key], recipe) if key in made else recipe
    explicit = tuple(made.values())
    taken = {one.dockerfile for one in explicit}
    plain, left = _plain(found, taken)
    return (*explicit, *plain), (*notes, *left)


def _stages(dockerfile: Dockerfile) -> set[str]:
    """What --target takes: names, and numbers from 0."""
    return {name.lower() for name in dockerfile.stages} | {str(one) for one in range(dockerfile.count)}


def _explicit(build: Build, dockerfile: Dockerfile, found: Found) -> Recipe:
    names = tuple(dict.fromkeys((slug(build.name), *dockerfile_names(build.dockerfile, found.name))))
    return Recipe(
        names,
        build.context,
        build.dockerfile,
        build.image,
        build.target,
        build.args,
        build.secrets,
        tuple(_filled(base, build.args) for base in dockerfile.bases),
        dockerfile.ports,
        dockerfile.stages,
        f"build of {build.name} in {build.where}{_open_arguments(dockerfile, build.args, build.unknown)}",
        (build.name,) if any(one.where == build.where for one in found.compose) else (),
    )


def _open_arguments(dockerfile: Dockerfile, given: Mapping[str, str], unknown: tuple[str, ...] = ()) -> str:
    left = dict.fromkeys(name for name in (*dockerfile.arguments, *unknown) if name not in given)
    return f"; no value here for ARG {', '.join(left)} (build.args)" if left else ""


def _filled(base: str, args: Mapping[str, str]) -> str:
    """What FROM names, with the arguments of the build; a default that is not given stays unknown."""
    return _VARIABLE.sub(lambda found: args.get(found[1], found[0]), base)


def _joined(one: Recipe, other: Recipe) -> Recipe:
    """Two build sections for one and the same image, as compose has them for a worker."""
    return Recipe(
        tuple(dict.fromkeys((*one.names, *other.names))),
        *(one.context, one.dockerfile, one.image or other.image, one.target, one.args, one.secrets),
        *(one.bases, one.ports, one.stages, f"{one.why}; {other.why}", (*one.services, *other.services)),
    )


def _plain(found: Found, taken: set[str]) -> tuple[list[Recipe], list[Note]]:
    kept: list[Recipe] = []
    notes: list[Note] = []
    for group in _variants(found.dockerfiles):
        if any(one.path in taken for one in group):
            notes += [
                Note(one.path, "a variant that no build section names")
                for one in group
                if one.path not in taken
            ]
            continue
        best = min(group, key=lambda one: (bool(variant(last(one.path))), nearness(one.path)))
        notes += [Note(one.path, f"a variant; {best.path} is taken") for one in group if one is not best]
        kept.append(_from_dockerfile(best, found))
    return kept, notes


def _variants(dockerfiles: tuple[Dockerfile, ...]) -> Iterator[list[Dockerfile]]:
    """Those of one folder that differ only in dev, prod, test."""
    groups: dict[tuple[str, str], list[Dockerfile]] = {}
    for one in dockerfiles:
        own = variant(last(one.path))
        groups.setdefault((parent(one.path), "" if is_environment(own) else own), []).append(one)
    yield from groups.values()


def _from_dockerfile(one: Dockerfile, found: Found) -> Recipe:
    folder, why = context_of(one, found.name, found.folders, found.files)
    shown = "this folder" if folder == "." else folder
    return Recipe(
        dockerfile_names(one.path, found.name),
        folder,
        one.path,
        secrets=tuple({"id": secret} for secret in one.secrets),
        bases=one.bases,
        ports=one.ports,
        stages=one.stages,
        why=f"{one.path}, with {shown} as its context: {why}{_open_arguments(one, {})}",
    )


def with_stages(every: Sequence[Recipe], images: Sequence[str]) -> tuple[Recipe, ...]:
    """A build for each stage that an image is named after, where several are: api and worker of one file."""
    found: list[Recipe] = []
    for one in every:
        stages = [stage for stage in one.stages if any(_ends(image, stage) for image in images)]
        if one.target or len(stages) < 2:
            found.append(one)
            continue
        for stage in stages:
            why = f"{one.why}; its stage {stage}"
            found.append(replace(one, names=(slug(stage), *one.names), target=stage, image="", why=why))
    return tuple(found)


def _ends(image: str, stage: str) -> bool:
    """Whether "shop-api" ends in "api"."""
    last_words = words(image)[-len(words(stage)) :]
    return bool(last_words) and last_words == words(stage)


def base_images(
    every: tuple[Recipe, ...], used: set[tuple[str, str, str]]
) -> dict[tuple[str, str, str], tuple[str, str]]:
    """Builds that no workload runs and another Dockerfile stands on -> (that one, what FROM calls it)."""
    found: dict[tuple[str, str, str], tuple[str, str]] = {}
    for one in every:
        for other in every:
            base = next((base for base in other.bases if _is_of(base, one)), "")
            if one.key not in used and one is not other and base:
                found[one.key] = other.dockerfile, base
    return found


def _is_of(base: str, recipe: Recipe) -> bool:
    if recipe.image:
        return same_repository(base, recipe.image)
    return basename(base) in recipe.names
