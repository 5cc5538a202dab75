"""Rules on the images that were built: size, user, ports, and what must not lie in a layer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from devloop.checks.facts import LayerFile
from devloop.checks.rule import Found, Rule, View
from devloop.checks.subject import Container, dig

# What packages bring: sample keys of libraries are no secrets of the project.
PACKAGES = re.compile(
    r"^/(?:usr|lib\w*|etc/ssl|opt/venv/lib)/|/(?:node_modules|site-packages|dist-packages)/"
)
ENV_FILE = re.compile(r"(?:^|/)\.env(?:\.(?!(?:example|sample|template|dist|defaults?)$)[^/]+)?$")
KEY_NAMES = re.compile(r"(?:^|/)(?:id_(?:rsa|dsa|ecdsa|ed25519)|[^/]+\.(?:p12|pfx))$")


def image_size(view: View) -> Iterator[Found]:
    for service, image in view.facts.built.items():
        if image.max_size is not None and image.size > image.max_size:
            text = (
                f"{image.ref} has {image.size / 1e6:.1f} MB, max_image_size is {image.max_size / 1e6:.1f} MB"
            )
            yield Found(None, (), text, service)


def image_user(view: View) -> Iterator[Found]:
    for service, image in view.facts.built.items():
        if image.user.partition(":")[0] not in ("", "0", "root"):
            continue
        runs = [one for one in view.containers() if view.service_of(one) == service]
        if not runs or not all(_user(one) for one in runs):
            user = f"USER {image.user}" if image.user else "no USER"
            yield Found(None, (), f"{image.ref} runs as root ({user}); add USER with a UID", service)


def image_port(view: View) -> Iterator[Found]:
    for one in view.containers():
        service = view.service_of(one)
        image = view.facts.built.get(service) if service else None
        if image is None:
            continue
        for index, _, number, _ in one.ports():
            if number not in image.ports:
                listed = ", ".join(map(str, sorted(image.ports))) or "nothing"
                text = f"{one} has port {number}, {image.ref} exposes {listed}"
                yield Found(one.subject, (*one.place, "ports", index), text)


def image_secrets(view: View) -> Iterator[Found]:
    for service, image in view.facts.built.items():
        for file in image.files:
            if suspicious(file):
                what = "a private key" if file.private_key or KEY_NAMES.search(file.path) else "an .env file"
                text = f"{image.ref} has {what} in a layer: {file.path}; name it in .dockerignore"
                yield Found(None, (), text, service)


def suspicious(file: LayerFile) -> bool:
    """Whether it may be a secret of the project; a layer keeps it even where a later one removes it."""
    if PACKAGES.search(file.path):
        return False
    return bool(file.private_key or ENV_FILE.search(file.path) or KEY_NAMES.search(file.path))


def _user(container: Container) -> int:
    """The UID that the pod says, 0 if none."""
    pod = container.subject.at(*(container.subject.pod_place or ()), "spec", "securityContext")
    own = dig(container.item, "securityContext", "runAsUser")
    uid = own if own is not None else dig(pod, "runAsUser")
    return uid if isinstance(uid, int) else 0


RULES = (
    Rule(
        "image-size",
        "error",
        "error",
        "An image is not larger than the service's `max_image_size`.",
        image_size,
        "engine",
    ),
    Rule("image-user", None, "error", "An image does not run as root.", image_user, "engine"),
    Rule(
        "image-port",
        None,
        "error",
        "An image exposes the ports that its containers declare.",
        image_port,
        "engine",
    ),
    Rule(
        "image-secrets",
        "warning",
        "error",
        "No `.env` and no private key lies in a layer of an image.",
        image_secrets,
        "engine",
    ),
)
