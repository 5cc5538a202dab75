"""Image references as text: their parts, whether two name the same, and the forms that engines,
containerd and registries want."""

from __future__ import annotations

TAG_PREFIX = "dl-"


def split(ref: str) -> tuple[str, str]:
    """(repository as written, tag or "") of a reference; a digest is cut off."""
    name = ref.partition("@")[0]
    head, colon, tail = name.rpartition(":")
    if colon and "/" not in tail:
        return head, tail
    return name, ""


def repository(ref: str) -> str:
    """The full name of the repository: `todo` and `docker.io/library/todo:1` are the same."""
    name, _ = split(ref)
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = "docker.io", name
    if first == "index.docker.io":
        first = "docker.io"
    if first == "docker.io" and "/" not in rest:
        rest = f"library/{rest}"
    return f"{first}/{rest}"


def same_repository(one: str, other: str) -> bool:
    return repository(one) == repository(other)


def same(one: str, other: str) -> bool:
    """Both references name the same tag of the same repository, however they are written."""
    return one == other or (
        same_repository(one, other)
        and split(one)[1] == split(other)[1]
        and one.partition("@")[2] == other.partition("@")[2]
    )


def is_another_build(one: str, other: str) -> bool:
    """`one` is an image that devloop built, of the repository of `other`, under another tag (S35). The same
    tag with a digest behind it, as a webhook that pins images writes it, is no other build."""
    return bool(digest(one)) and same_repository(one, other) and split(one)[1] != split(other)[1]


def digest(ref: str) -> str:
    """The fingerprint that a tag of devloop's has, "" for any other tag (S1)."""
    tag = split(ref)[1]
    return tag.removeprefix(TAG_PREFIX).partition("-")[0] if tag.startswith(TAG_PREFIX) else ""


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
