"""Image references in the forms that engines, containerd and registries want them."""

from __future__ import annotations

from devloop.image_refs import repository, split


def registry_of(ref: str) -> str:
    """The registry's host, "docker.io" where the reference names none."""
    return repository(ref).partition("/")[0]


def pull_reference(ref: str) -> tuple[str, str]:
    """Repository as written, and tag or digest, as `POST /images/create` takes them."""
    name, tag = split(ref)
    return name, ref.partition("@")[2] or tag or "latest"


def familiar(ref: str) -> str:
    """The reference as people write it: without `docker.io/library/`."""
    return ref.removeprefix("docker.io/").removeprefix("library/") if ref.startswith("docker.io/") else ref


def full(ref: str) -> str:
    """The reference with registry, `library/` and tag: what containerd and the kubelet call it."""
    digest = ref.partition("@")[2]
    return f"{repository(ref)}@{digest}" if digest else f"{repository(ref)}:{split(ref)[1] or 'latest'}"
