"""skaffold.yaml as builds, and as what it deploys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devloop.init.found import Build, Chart, Deployed, Json, Note
from devloop.init.paths import is_outside, join, last

NAMES = ("skaffold.yaml", "skaffold.yml")
_OTHERS = ("jib", "jibMaven", "jibGradle", "buildpacks", "bazel", "ko", "custom", "kaniko")


def read_skaffold(path: str, folder: str, values: list[Any]) -> tuple[list[Build], Deployed, list[Note]]:
    """Every config of the file; profiles are not applied."""
    builds: list[Build] = []
    notes: list[Note] = []
    manifests: list[str] = []
    folders: list[str] = []
    releases: list[Chart] = []
    for value in (_mapping(one) for one in values):
        for artifact in _list(_mapping(value.get("build")).get("artifacts")):
            made = _build(_mapping(artifact), path, folder)
            if isinstance(made, Note):
                notes.append(made)
            else:
                builds.append(made)
        for section in (_mapping(value.get("manifests")), *_old(_mapping(value.get("deploy")))):
            manifests += [join(folder, str(one)) for one in _list(section.get("rawYaml"))]
            paths = _mapping(section.get("kustomize")).get("paths")
            folders += [join(folder, str(one)) for one in _list(paths)] or (
                ["."] if "kustomize" in section else []
            )
            for one in _list(_mapping(section.get("helm")).get("releases")):
                chart = _release(_mapping(one), path, folder)
                if isinstance(chart, Note):
                    notes.append(chart)
                else:
                    releases.append(chart)
        notes += [Note(path, "its profiles are not applied")] if value.get("profiles") else []
    releases = list({one.release: one for one in releases}.values())
    if not (manifests or folders or releases) and builds:
        manifests = [join(folder, "k8s/*.yaml")]  # skaffold's own default
    return (
        builds,
        Deployed(tuple(dict.fromkeys(manifests)), tuple(dict.fromkeys(folders)), tuple(releases), path),
        notes,
    )


def _old(deploy: Json) -> list[Json]:
    """`deploy` of older versions in the form of `manifests`."""
    kubectl = _mapping(deploy.get("kubectl")).get("manifests")
    return [{**deploy, "rawYaml": kubectl} if kubectl else deploy]


def _build(one: Json, path: str, folder: str) -> Build | Note:
    image = str(one.get("image") or "")
    other = next((name for name in _OTHERS if name in one), None)
    if other or not image:
        return Note(
            f"artifact {image or '(no image)'}",
            f"{path}: {other or 'it names no image'}; devloop builds Dockerfiles",
        )
    context = join(folder, str(one.get("context") or one.get("workspace") or "."))
    docker = _mapping(one.get("docker"))
    file = str(docker.get("dockerfile") or "Dockerfile")
    if is_outside(context):
        return Note(f"artifact {image}", f"{path}: its context lies outside of this folder")
    given = _mapping(docker.get("buildArgs"))
    args = {str(k): str(v) for k, v in given.items() if _is_value(v)}
    for needed in map(_mapping, _list(one.get("requires"))):  # skaffold passes its image as an argument
        args.setdefault(str(needed.get("alias") or needed.get("image")), str(needed.get("image")))
    return Build(
        last(image),
        image,
        context,
        join(context, file),
        str(docker.get("target") or ""),
        args,
        tuple(_secret(_mapping(secret), context) for secret in _list(docker.get("secrets"))),
        path,
        tuple(str(k) for k, v in given.items() if not _is_value(v)),
    )


def _is_value(value: Any) -> bool:
    """Text that stands here; a template is filled in by skaffold."""
    return value is not None and not isinstance(value, dict | list) and "{{" not in str(value)


def _secret(one: Json, context: str) -> Mapping[str, str]:
    found = {"id": str(one.get("id") or "")}
    if one.get("src"):
        found["file"] = join(context, str(one["src"]))
    elif one.get("env"):
        found["env"] = str(one["env"])
    return found


def _release(one: Json, path: str, folder: str) -> Chart | Note:
    name, chart = str(one.get("name") or ""), one.get("chartPath")
    if not chart or not name or "{{" in name:
        return Note(f"release {name}", f"{path}: its chart is not in this folder")
    images = [
        (str(key).removesuffix(".repository"), _image_of(str(value)))
        for key, value in {
            **_mapping(one.get("artifactOverrides")),
            **_mapping(one.get("setValueTemplates")),
        }.items()
        if not str(key).endswith((".tag", ".digest"))
    ]
    fixed = {
        str(key): value for key, value in _mapping(one.get("setValues")).items() if "{{" not in str(value)
    }
    return Chart(
        join(folder, str(chart)),
        last(str(chart)),
        name,
        str(one.get("namespace") or ""),
        tuple(join(folder, str(file)) for file in _list(one.get("valuesFiles"))),
        fixed,
        tuple((key, image) for key, image in images if image),
        why=f"a release of {path}",
    )


def _image_of(value: str) -> str:
    """The image of `image: acme/api`; a template, {{.IMAGE_REPO_acme_api}}, names it but roughly."""
    return "" if "{{" in value else value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
