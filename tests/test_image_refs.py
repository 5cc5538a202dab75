from __future__ import annotations

import pytest

from devloop.image_refs import digest, is_another_build, repository, same, same_repository, split


@pytest.mark.parametrize(
    "ref, name, tag",
    [
        ("todo", "docker.io/library/todo", ""),
        ("todo:1", "docker.io/library/todo", "1"),
        ("docker.io/todo:1", "docker.io/library/todo", "1"),
        ("index.docker.io/library/todo", "docker.io/library/todo", ""),
        ("me/todo:1", "docker.io/me/todo", "1"),
        ("localhost/todo:1", "localhost/todo", "1"),
        ("localhost:5000/todo", "localhost:5000/todo", ""),
        ("localhost:5000/a/b:dl-0011", "localhost:5000/a/b", "dl-0011"),
        ("ghcr.io/me/todo@sha256:00ff", "ghcr.io/me/todo", ""),
        ("todo:1@sha256:00ff", "docker.io/library/todo", "1"),
    ],
)
def test_s14_a_repository_is_the_same_however_it_is_written(ref: str, name: str, tag: str) -> None:
    assert repository(ref) == name
    assert split(ref)[1] == tag


def test_s14_other_repositories_are_not_the_same() -> None:
    assert not same_repository("todo", "me/todo")
    assert not same_repository("todo", "localhost:5000/todo")
    assert not same_repository("todo", "todo-backend")
    assert same_repository("todo:2", "docker.io/library/todo:1")


def test_s1_the_same_reference_has_the_same_tag_and_digest() -> None:
    assert same("todo:1", "docker.io/library/todo:1")
    assert not same("todo:1", "todo:2")
    assert not same("todo:1", "todo:1@sha256:00ff")


@pytest.mark.parametrize(
    "ref, expected",
    [
        ("todo:dl-0011223344556677", "0011223344556677"),
        ("todo:dl-0011223344556677-base", "0011223344556677"),
        ("todo:1.0", ""),
        ("todo", ""),
        ("dl-host:5000/todo", ""),
    ],
)
def test_s1_the_fingerprint_is_read_off_the_tag(ref: str, expected: str) -> None:
    assert digest(ref) == expected


@pytest.mark.parametrize(
    ("one", "other", "another"),
    [
        ("web:dl-0000000000000001", "web:dl-0000000000000002", True),
        ("docker.io/library/web:dl-0000000000000001", "web:1.0", True),
        ("web:dl-0000000000000001", "docker.io/library/web:dl-0000000000000001", False),
        ("web:dl-0000000000000001", "mirror.local/web:dl-0000000000000002", False),
        ("web:by-hand", "web:dl-0000000000000002", False),
        ("web:dl-0000000000000001@sha256:00ff", "web:dl-0000000000000001", False),
        ("web:dl-0000000000000001-2", "web:dl-0000000000000001", True),
        ("", "web:dl-0000000000000002", False),
        ("web:dl-0000000000000001", "", False),
    ],
)
def test_another_build_is_an_image_of_devloops_in_the_same_repository(
    one: str, other: str, *, another: bool
) -> None:
    assert is_another_build(one, other) is another
