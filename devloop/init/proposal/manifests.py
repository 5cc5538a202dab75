"""A minimal manifest for a service that has none: a Deployment, a Service and a probe on its first port."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from devloop.init.found import ComposeService, Found, Note
from devloop.init.proposal.recipes import Recipe
from devloop.init.proposal.values import Entry, Service, Target
from devloop.init.words import basename, slug

FOLDER = "k8s"
_HEAD = "# Written by `devloop init`: yours to change. devloop puts its own tag behind the image.\n"
_PULLED = "# Written by `devloop init` from {}: yours to change.\n"

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


def write_manifests(found: Found, recipes: Sequence[Recipe], *, wanted: bool) -> Made:
    """Services for builds that no workload runs, with a manifest for each if that is `wanted`."""
    compose = {slug(one.name): one for one in found.compose}
    services: list[Service] = []
    written: dict[str, str] = {}
    left: list[Note] = []
    for recipe in recipes:
        name = _unique(recipe.names[0], services)
        image = _image(recipe, name, found.name)
        runners = (
            [one for key, one in compose.items() if one.built and key in recipe.names]
            if recipe.image or compose
            else []
        )
        runners = runners or [ComposeService(name, ports=recipe.ports)]
        targets = []
        for one in runners:
            own = slug(one.name)
            targets.append(Target("Deployment", own))
            ports = one.ports or _ports_of(one, recipe)
            written[f"{FOLDER}/{own}.yaml"] = _HEAD + manifest(own, image, one, ports)
            left += _unknown(one)
        services.append(
            Service(
                *(name, image, recipe.context, recipe.dockerfile, recipe.target, recipe.args, recipe.secrets),
                tuple(targets) if wanted else (),
                (
                    recipe.why,
                    f"its manifest is {FOLDER}/{name}.yaml" if wanted else "it is built and loaded only",
                ),
            )
        )
    for one in found.compose:
        if not one.built and one.image:
            own = slug(one.name)
            written[f"{FOLDER}/{own}.yaml"] = _PULLED.format(one.where) + manifest(
                own, one.image, one, one.ports
            )
            left += _unknown(one)
    if not wanted:
        return Made(tuple(services), (), {}, ())
    kept = {path: text for path, text in written.items() if path not in found.files}
    left += [Note(path, "is there already and is left as it is") for path in written if path not in kept]
    alone = FOLDER not in found.folders
    entries = (
        [Entry(f"{FOLDER}/*.yaml", "written by devloop init")]
        if alone
        else [Entry(p, "written by devloop init") for p in kept]
    )
    return Made(tuple(services), tuple(entries), kept, tuple(left))


def _unique(name: str, services: Sequence[Service]) -> str:
    taken = {one.name for one in services}
    return next(
        one for number in range(1, 1000) if (one := name if number == 1 else f"{name}-{number}") not in taken
    )


def _image(recipe: Recipe, name: str, project: str) -> str:
    return recipe.image or (slug(project) if name == slug(project) else f"{slug(project)}-{name}")


def _ports_of(one: ComposeService, recipe: Recipe) -> tuple[int, ...]:
    """EXPOSE's, unless another command runs: where it listens to nothing a probe would never succeed."""
    if one.where and (one.command or one.entrypoint):
        return ()
    return recipe.ports or next(
        (USUAL[name] for base in recipe.bases if (name := basename(base)) in USUAL), ()
    )


def _unknown(one: ComposeService) -> list[Note]:
    name = slug(one.name)
    files = [Note(f"{file} of {one.name}", _secret_command(name, file)) for file in one.env_files]
    if not one.unknown:
        return files
    what = f"{', '.join(one.unknown)} of {one.name}"
    return [*files, Note(what, f"no value in {one.where}; write it into {FOLDER}/{name}.yaml")]


def _secret_command(name: str, file: str) -> str:
    """Values of an env_file are copied into no manifest: they may be secrets (S30)."""
    return f"kubectl create secret generic {name}-env --from-env-file={file}"


def manifest(name: str, image: str, compose: ComposeService, ports: Sequence[int]) -> str:
    """The text. Without a port: no probe and no Service."""
    lines = [
        "apiVersion: apps/v1",
        "kind: Deployment",
        f"metadata: {{name: {name}}}",
        "spec:",
        "  replicas: 1",
        *(["  strategy: {type: Recreate}"] if compose.volumes else []),
        f"  selector: {{matchLabels: {{app: {name}}}}}",
        "  template:",
        f"    metadata: {{labels: {{app: {name}}}}}",
        "    spec:",
        "      containers:",
        f"        - name: {name}",
        f"          image: {json.dumps(image)}",
        *_command(compose),
        *_environment(compose),
        *_environment_files(name, compose),
        *_ports(ports),
        *_mounts(compose.volumes),
    ]
    return "\n".join([*lines, *_volumes(compose.volumes), *_service(name, ports)]) + "\n"


def _command(compose: ComposeService) -> list[str]:
    found = []
    for key, value in (("command", compose.entrypoint), ("args", compose.command)):
        found += [f"          {key}: {json.dumps(list(value))}"] if value else []
    return found


def _environment(compose: ComposeService) -> list[str]:
    if not compose.environment and not compose.unknown:
        return []
    pairs = [
        f"            - {{name: {json.dumps(name)}, value: {json.dumps(value.replace('$(', '$$('))}}}"
        for name, value in compose.environment.items()
    ]
    unknown = [
        f"            # - {{name: {name}, value: …}}  # its value is not in {compose.where}"
        for name in compose.unknown
    ]
    return ["          env:" if pairs else "          # env:", *pairs, *unknown]


def _environment_files(name: str, compose: ComposeService) -> list[str]:
    if not compose.env_files:
        return []
    commands = [f"          # {_secret_command(name, file)}" for file in compose.env_files[:1]]
    return [*commands, "          envFrom:", f"            - secretRef: {{name: {name}-env, optional: true}}"]


def _ports(ports: Sequence[int]) -> list[str]:
    if not ports:
        return [
            "          # no port is known: with EXPOSE in the Dockerfile there would be a probe and a Service"
        ]
    return [
        "          ports:",
        *(f"            - {{containerPort: {port}}}" for port in ports),
        "          readinessProbe:  # a rollout is over when this answers",
        f"            tcpSocket: {{port: {ports[0]}}}",
        "            periodSeconds: 1",
    ]


def _mounts(volumes: Sequence[str]) -> list[str]:
    mounts = [
        f"            - {{name: data-{number}, mountPath: {json.dumps(path)}}}"
        for number, path in enumerate(volumes)
    ]
    return ["          volumeMounts:", *mounts] if mounts else []


def _volumes(volumes: Sequence[str]) -> list[str]:
    listed = [
        f"        - {{name: data-{number}, emptyDir: {{}}}}  # gone with the pod"
        for number, _ in enumerate(volumes)
    ]
    return ["      volumes:", *listed] if listed else []


def _service(name: str, ports: Sequence[int]) -> list[str]:
    if not ports:
        return []
    listed = [f"    - {{name: port-{port}, port: {port}, targetPort: {port}}}" for port in ports]
    return [
        "---",
        "apiVersion: v1",
        "kind: Service",
        f"metadata: {{name: {name}}}",
        "spec:",
        f"  selector: {{app: {name}}}",
        "  ports:",
        *listed,
    ]
