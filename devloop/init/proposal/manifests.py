"""Minimal manifests for services that have none: which, under what name, and where they are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from devloop.config.schema_services import IMAGE
from devloop.image_refs import split
from devloop.init.found import ComposeService, Found, Note
from devloop.init.proposal.manifest_text import ENVIRONMENT, Mounted, manifest
from devloop.init.proposal.mounts import env_command, mounts
from devloop.init.proposal.recipes import Recipe
from devloop.init.proposal.values import Entry, Service, Target
from devloop.init.proposal.yaml_text import comment, scalar
from devloop.init.words import basename, slug, unique

FOLDERS = ("k8s", "k8s-devloop", "devloop-k8s")
_OWN = "Written by `devloop init`: a namespace of this project's own, since names were taken in the other."
_HEAD = "Written by `devloop init`: yours to change. devloop puts its own tag behind the image."

# What compose lets others reach without a word about it.
USUAL: Mapping[str, tuple[int, ...]] = {
    "postgres": (5432,),
    "mysql": (3306,),
    "mariadb": (3306,),
    "mongo": (27017,),
    "redis": (6379,),
    "valkey": (6379,),
    "memcached": (11211,),
    "rabbitmq": (5672,),
    "nats": (4222,),
    "kafka": (9092,),
    "nginx": (80,),
    "httpd": (80,),
    "mailpit": (8025, 1025),
    "mailhog": (8025, 1025),
    "minio": (9000,),
    "elasticsearch": (9200,),
    "opensearch": (9200,),
    "zookeeper": (2181,),
    "keycloak": (8080,),
}


@dataclass(frozen=True, slots=True)
class Made:
    services: tuple[Service, ...]
    entries: tuple[Entry, ...]
    written: Mapping[str, str]
    left_out: tuple[Note, ...]
    namespace: str = ""  # that the manifests are for
    first: tuple[str, ...] = ()  # commands that make what they refer to


@dataclass(frozen=True, slots=True)
class Home:
    """A namespace for them. `taken`: names of Deployments that are there already -> whose they are; `is_new`:
    a manifest has to make it; `is_implied`: it is what kubectl takes where nothing names one."""

    namespace: str
    taken: Mapping[str, str] = field(default_factory=dict)
    is_new: bool = False
    is_implied: bool = False


def write_manifests(found: Found, recipes: Sequence[Recipe], places: Iterable[Home], *, wanted: bool) -> Made:
    """Services for builds that no workload runs, with a manifest for each if that is `wanted`: in the first
    place where no name is taken. In the last one what has a taken name is left out."""
    refused: list[Note] = []
    for place in places:
        made, clashes = _write_into(found, recipes, place, wanted=wanted)
        if not clashes:
            break
        refused = refused or clashes
    moved = f"this project gets namespace {made.namespace} of its own"
    notes = [replace(one, why=f"{one.why}: {moved}") for one in refused]
    return made if clashes else replace(made, left_out=(*notes, *made.left_out))


def _write_into(
    found: Found, recipes: Sequence[Recipe], place: Home, *, wanted: bool
) -> tuple[Made, list[Note]]:
    """(what is made there, the names that are taken there)."""
    folder, notes = _folder(found)
    work = _Writing(found, folder, _object_names(found.compose), wanted and bool(folder), place)
    for recipe in recipes:
        work.build(recipe)
    if not work.wanted:
        return Made(tuple(work.services), (), {}, (*work.notes, *(notes if wanted else ()))), []
    for one in found.compose:
        if not one.built:
            work.pull(one)
    if place.is_new and work.written:
        work.make_namespace()
    kept = {path: text for path, text in work.written.items() if path not in found.files}
    there = [Note(path, "is there already and is left as it is") for path in work.written if path not in kept]
    named = sorted(kept) if folder in found.folders or not kept else [f"{folder}/*.yaml"]
    entries = tuple(Entry(path, "written by devloop init") for path in named)
    elsewhere = "devloop -n NAMESPACE init chooses another namespace"
    kept_out = [replace(one, why=f"{one.why}: {elsewhere}") for one in work.clashes]
    left = (*notes, *work.notes, *kept_out, *there)
    made = Made(tuple(work.services), entries, kept, left, place.namespace, tuple(work.first))
    return made, work.clashes


def _folder(found: Found) -> tuple[str, list[Note]]:
    """Where to write, "" for nowhere: never through a link, never into what git ignores."""
    notes: list[Note] = []
    for folder in FOLDERS:
        why = found.closed.get(folder) or ("it is a file" if folder in found.files else "")
        if not why:
            return folder, notes
        notes.append(Note(folder, f"no manifests are written there: {why}"))
    return "", notes


def _object_names(services: Sequence[ComposeService]) -> dict[str, str]:
    """Name in compose.yaml -> name in Kubernetes, each once. A Service's begins with a letter."""
    names = {one.name: one.name for one in services if one.name == _object_name(one.name)}
    for one in services:
        if one.name not in names:
            names[one.name] = unique(_object_name(one.name), names.values())
    return names


def _object_name(text: str) -> str:
    called = slug(text)
    return called if called[0].isalpha() else f"app-{called}"


@dataclass(slots=True)
class _Writing:
    """`names`: of compose's services in Kubernetes; `written`: path -> text."""

    found: Found
    folder: str
    names: Mapping[str, str]
    wanted: bool
    place: Home
    services: list[Service] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    first: list[str] = field(default_factory=list)
    clashes: list[Note] = field(default_factory=list)

    def build(self, recipe: Recipe) -> None:
        """A service for a build, and a manifest for each service of compose that runs its image."""
        name = unique(recipe.names[0], [one.name for one in self.services])
        image = self._image(recipe, name)
        runners = _runners(recipe, self.found.compose) or [ComposeService(name, ports=recipe.ports)]
        names = [
            self._write(one, _HEAD, image, one.ports or _ports_of(one, recipe))
            for one in runners
            if self.wanted
        ]
        targets = [Target("Deployment", own) for own in names if own]
        how = f"{', '.join(f'{self.folder}/{one.name}.yaml' for one in targets)}, written by devloop init"
        self.services.append(
            Service(
                *(name, image, recipe.context, recipe.dockerfile, recipe.target, recipe.args, recipe.secrets),
                tuple(targets),
                (recipe.why, f"run by {how}" if targets else "it is built and loaded only"),
            )
        )

    def pull(self, one: ComposeService) -> None:
        """A manifest for a service that compose does not build."""
        if IMAGE.match(split(one.image)[0]):
            head = f"Written by `devloop init` from {one.where}: yours to change."
            self._write(one, head, one.image, one.ports or USUAL.get(basename(one.image), ()))
        else:
            why = (
                f'"{one.image}" is not the name of an image' if one.image else "its image is not in the file"
            )
            self.notes.append(Note(f"{one.name} of {one.where}", why))

    def make_namespace(self) -> None:
        taken = {*self.written, *self.found.files}
        numbers = ("", *range(2, 10_000))
        paths = (f"{self.folder}/namespace{number}.yaml" for number in numbers)
        text = [*comment(_OWN), *_namespace(self.place.namespace)]
        self.written[next(one for one in paths if one not in taken)] = "\n".join(text) + "\n"
        if self.first:  # they run before devloop applies anything
            self.first.insert(0, f"kubectl create namespace {self.place.namespace}")

    def _image(self, recipe: Recipe, name: str) -> str:
        project = slug(self.found.name)
        own = project if name == project else f"{project}-{name}"
        if recipe.image and not IMAGE.match(recipe.image):
            self.notes.append(Note(f"image {recipe.image}", f"not a name that can be built: {own} instead"))
        return recipe.image if IMAGE.match(recipe.image) else own

    def _write(self, one: ComposeService, head: str, image: str, ports: Sequence[int]) -> str:
        """The name of the Deployment, "" where another one has it."""
        name = self.names.get(one.name) or unique(_object_name(one.name), self.names.values())
        if whose := self.place.taken.get(name):
            self.clashes.append(_clash(name, self.place.namespace, whose))
            return ""
        path = f"{self.folder}/{name}.yaml"
        kubectl = "kubectl" if self.place.is_implied else f"kubectl -n {self.place.namespace}"
        commands = [env_command(name, one.env_files, kubectl)] if one.env_files else []
        made = mounts(one, name, self.found, kubectl)
        mounted = [each for each in made if isinstance(each, Mounted)]
        text = manifest(name, image, one, ports, commands, mounted)
        self.written[path] = "\n".join([*comment(head), text])
        self.notes += [*_notes(one, name, path), *(each for each in made if isinstance(each, Note))]
        self.first = list(dict.fromkeys([*self.first, *commands, *(each.command for each in mounted)]))
        return name


def _namespace(name: str) -> list[str]:
    return ["apiVersion: v1", "kind: Namespace", f"metadata: {{name: {scalar(name)}}}"]


def _clash(name: str, namespace: str, whose: str) -> Note:
    why = f"is there already, {whose}, and left alone"
    return Note(f"{name} in namespace {namespace}", why)


def _runners(recipe: Recipe, compose: Sequence[ComposeService]) -> list[ComposeService]:
    """The services of compose that run what it builds: by its own build section, else by name."""
    built = [one for one in compose if one.built]
    own = [one for one in built if one.name in recipe.services]
    return own or [one for one in built if slug(one.name) in recipe.names and not recipe.services]


def _ports_of(one: ComposeService, recipe: Recipe) -> tuple[int, ...]:
    """EXPOSE's, unless another command runs: where it listens to nothing a probe would never succeed."""
    if one.where and (one.command or one.entrypoint):
        return ()
    return recipe.ports or next(
        (USUAL[name] for base in recipe.bases if (name := basename(base)) in USUAL), ()
    )


def _notes(one: ComposeService, name: str, path: str) -> Iterator[Note]:
    if one.where and one.name != name:
        why = f"Kubernetes takes no such name, or it is taken: others reach it as {name}"
        yield Note(f"{one.name} of {one.where}", why)
    if one.unknown:
        what = f"{', '.join(one.unknown)} of {one.name}"
        yield Note(what, f"no value in {one.where}; write it into {path}")
    for odd in (key for key in one.environment if not ENVIRONMENT.match(key)):
        yield Note(f"{odd} of {one.name}", "not a name that Kubernetes takes for a variable")
