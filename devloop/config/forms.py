"""How each list and mapping of config.yaml is written: what an error shows for one that is something else."""

from __future__ import annotations

from devloop.config.document import Location

# Location with * for names and numbers -> an example of its value.
FORMS: dict[Location, str] = {
    ("cluster",): "{context: minikube, namespace: default}",
    ("services",): "{web: {image: web, build: {context: web}}}",
    ("services", "*"): "{image: web, build: {context: web}, deploy: {deployment: web}}",
    ("services", "*", "build"): "{context: FOLDER}",
    ("services", "*", "build", "args"): "{NAME: value}",
    ("services", "*", "build", "secrets"): "[{id: NAME, file: PATH}]",
    ("services", "*", "build", "secrets", "*"): "{id: NAME, file: PATH}",
    ("services", "*", "deploy"): "{deployment: web}",
    ("services", "*", "update"): "in-place",
    ("services", "*", "update", "reload"): "{signal: HUP}",
    ("services", "*", "forward"): "{8080: 3000}",
    ("services", "*", "depends_on"): "[db]",
    ("services", "*", "hooks"): "{before_build: make generate}",
    ("services", "*", "hooks", "before_build"): "make generate",
    ("services", "*", "hooks", "before_build", "command"): "make generate",
    ("services", "*", "hooks", "after_live"): "make smoke-test",
    ("services", "*", "hooks", "after_live", "command"): "make smoke-test",
    ("services", "*", "forward", "ports"): "{8080: 3000}",
    ("services", "*", "deploy", "*"): "{deployment: web}",
    ("manifests",): '["k8s/*.yaml"]',
    ("releases",): "{web: {chart: FOLDER}}",
    ("releases", "*"): "{chart: FOLDER, images: {SERVICE: image}}",
    ("releases", "*", "create_namespace"): "true",
    ("releases", "*", "create_namespace", "labels"): "{NAME: value}",
    ("releases", "*", "values"): "[values.yaml]",
    ("releases", "*", "values", "*"): "{file: PATH}",
    ("releases", "*", "set"): "{path.of.value: value}",
    ("releases", "*", "set_env"): "{path.of.value: VARIABLE}",
    ("releases", "*", "images"): "{SERVICE: path.of.image}",
    ("metrics",): '{listen: "127.0.0.1:9100"}',
    ("gc",): "{keep: 5}",
    ("logs",): "{mute: [probes]}",
    ("logs", "mute"): "[probes, access, 'a pattern']",
    ("checks",): "{ignore: [RULE]}",
    ("checks", "ignore"): "[RULE]",
    ("checks", "service_types"): "{SERVICE: NodePort}",
    ("checks", "secret_keys"): "{SECRET: [KEY]}",
    ("checks", "secret_keys", "*"): "[KEY]",
    ("checks", "secret_shapes"): "{KEY: {min_bytes: 32}}",
    ("checks", "secret_shapes", "*"): "{min_bytes: 32}",
    ("checks", "credential_keys"): "[PASSWORD]",
    ("checks", "credential_shapes"): "{a token of ours: 'tok_[a-z]{20}'}",
    ("secrets",): "[VARIABLE]",
}
NAMED = (
    "services",
    "releases",
    "secret_keys",
    "service_types",
    "secret_shapes",
    "credential_shapes",
)  # their keys are names
TARGETS = "deployment: NAME or statefulset: NAME"
# What people write below deploy: by Kubernetes' names, without the two that can be.
NO_TARGETS = {
    name: kind
    for kind in ("DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob", "Pod", "Service")
    for name in (kind.lower(), f"{kind.lower()}s", kind)
}


def place_of(location: Location) -> Location:
    """With * for names and numbers."""
    return tuple(
        "*" if isinstance(part, int) or (number and location[number - 1] in NAMED) else part
        for number, part in enumerate(location)
    )


def form(location: Location, given: object = None) -> str:
    """ "write deploy: {deployment: web}", with what was `given` where that can be meant; "" without one."""
    place = place_of(location)
    example = FORMS.get(place)
    if example is None or not location:
        return ""
    if isinstance(given, str) and given:
        if place[:3] == ("services", "*", "deploy"):
            kind, _, name = given.rpartition("/")
            if kind in NO_TARGETS:
                return no_target(kind)
            example = f"{{{kind if kind == 'statefulset' else 'deployment'}: {name}}}"
        elif place == ("manifests",):
            example = f'["{given}"]'
        elif place == ("services", "*", "build"):
            example = f"{{context: {given}}}"
    if isinstance(location[-1], int):
        example = f"[{example}]"
    key = next(str(part) for part in reversed(location) if isinstance(part, str))
    return f"write {key}: {example}"


def no_target(kind: str) -> str:
    """Of a kind whose pods devloop does not roll out."""
    return f"a {NO_TARGETS[kind]} cannot be a target, a Deployment or a StatefulSet can; write {TARGETS}"
