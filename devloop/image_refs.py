"""Image references as text: which repository one names, and whether two name the same."""

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


def digest(ref: str) -> str:
    """The fingerprint that a tag of devloop's bears, "" for any other tag (S1)."""
    tag = split(ref)[1]
    return tag.removeprefix(TAG_PREFIX).partition("-")[0] if tag.startswith(TAG_PREFIX) else ""
