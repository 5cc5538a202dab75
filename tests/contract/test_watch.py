"""Watches: what is told, from when, and when they end."""

from __future__ import annotations

from collections.abc import Callable

from tests.contract.cluster import Object, Refused, Room, name_of, refused, uid, version_of
from tests.contract.objects import config_map

ONLY = {"fieldSelector": "metadata.name=settings"}


def test_watch_from_a_list_tells_what_came_after(room: Room) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes"""
    room.create(config_map("before"))
    since = version_of(room.collection("ConfigMap"))
    room.create(config_map())
    room.merge("ConfigMap", "settings", {"data": {"a": "2"}})
    room.delete("ConfigMap", "settings")
    with room.watch("ConfigMap", resourceVersion=since, fieldSelector=ONLY["fieldSelector"]) as w:
        seen = w.until(lambda kind, _: kind == "DELETED")
    assert [kind for kind, _ in seen] == ["ADDED", "MODIFIED", "DELETED"]
    assert [thing["data"]["a"] for _, thing in seen] == ["1", "2", "2"]


def test_events_carry_growing_versions(room: Room) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions"""
    since = version_of(room.create(config_map()))
    patched = room.merge("ConfigMap", "settings", {"data": {"a": "2"}})
    room.delete("ConfigMap", "settings")
    with room.watch("ConfigMap", resourceVersion=since, **ONLY) as w:
        seen = w.until(lambda kind, _: kind == "DELETED")
    versions = [int(version_of(thing)) for _, thing in seen]
    assert versions[0] == int(version_of(patched))
    assert int(since) < versions[0] < versions[1]


def test_open_watch_tells_changes_as_they_come(room: Room) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes"""
    since = version_of(room.collection("ConfigMap"))
    with room.watch("ConfigMap", resourceVersion=since, **ONLY) as w:
        made = room.create(config_map())
        assert w.next() == ("ADDED", made)
        patched = room.merge("ConfigMap", "settings", {"data": {"b": "2"}})
        assert w.next() == ("MODIFIED", patched)


def test_watch_without_a_version_begins_with_what_is_there(room: Room) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-watch"""
    made = room.create(config_map())
    with room.watch("ConfigMap", **ONLY) as w:
        assert w.next() == ("ADDED", made)
        room.delete("ConfigMap", "settings")
        kind, thing = w.next()
        assert (kind, uid(thing)) == ("DELETED", uid(made))


def test_watch_of_one_namespace_is_silent_about_others(room: Room, rooms: Callable[[], Room]) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris"""
    since = version_of(room.collection("ConfigMap"))
    rooms().create(config_map("elsewhere"))
    room.create(config_map("here"))
    with room.watch("ConfigMap", resourceVersion=since) as w:
        seen = w.until(lambda _, thing: name_of(thing) == "here")
    assert {thing["metadata"]["namespace"] for _, thing in seen} == {room.name}


def test_object_that_enters_a_selector_is_added_and_one_that_leaves_is_deleted(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#list-and-watch-filtering"""
    since = version_of(room.create(config_map()))
    inside: Object = {"metadata": {"labels": {"in": "yes"}}}
    outside: Object = {"metadata": {"labels": {"in": None}}}
    room.merge("ConfigMap", "settings", inside)
    room.merge("ConfigMap", "settings", {"data": {"a": "2"}})
    room.merge("ConfigMap", "settings", outside)
    room.merge("ConfigMap", "settings", inside)
    with room.watch("ConfigMap", resourceVersion=since, labelSelector="in=yes") as w:
        kinds = [w.next()[0] for _ in range(4)]
    assert kinds == ["ADDED", "MODIFIED", "DELETED", "ADDED"]
    assert room.exists("ConfigMap", "settings")


def test_watch_ends_after_its_timeout(room: Room) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-parameters/common-parameters/#timeoutSeconds"""
    since = version_of(room.create(config_map()))
    with room.watch("ConfigMap", resourceVersion=since, timeoutSeconds=1, **ONLY) as w:
        assert list(w) == []


def test_bookmark_carries_a_version_to_go_on_from(room: Room) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#watch-bookmarks"""
    since = version_of(room.create(config_map()))
    bookmarks = {"allowWatchBookmarks": True, "timeoutSeconds": 4}
    with room.watch("ConfigMap", resourceVersion=since, **ONLY, **bookmarks) as w:
        seen = list(w)  # no more than the bookmarks that the server thinks fit
    assert {kind for kind, _ in seen} <= {"BOOKMARK"}
    last = seen[-1][1] if seen else {"kind": "ConfigMap", "metadata": {"resourceVersion": since}}
    assert last["kind"] == "ConfigMap"
    assert int(version_of(last)) >= int(since)
    assert not last.get("data")
    room.delete("ConfigMap", "settings")
    with room.watch("ConfigMap", resourceVersion=version_of(last), **ONLY) as w:
        assert w.next()[0] == "DELETED"


def test_bookmarks_come_only_on_demand(room: Room) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#watch-bookmarks"""
    since = version_of(room.create(config_map()))
    room.merge("ConfigMap", "settings", {"data": {"a": "2"}})
    with room.watch("ConfigMap", resourceVersion=since, timeoutSeconds=2, **ONLY) as w:
        assert [kind for kind, _ in w] == ["MODIFIED"]


def test_too_old_version_is_gone_and_never_skips_silently(room: Room) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#410-gone-responses"""
    room.create(config_map())
    kind, thing = _first_event_since_one(room)
    if kind == "ERROR":
        assert (thing["kind"], thing["code"]) == ("Status", 410)
        assert thing["reason"] in ("Expired", "Gone")
    else:  # a young cluster still has its whole history
        assert (kind, name_of(thing)) == ("ADDED", "settings")


def _first_event_since_one(room: Room) -> tuple[str, Object]:
    """A refusal before the stream began counts as the ERROR event that it stands for."""
    try:
        with room.watch("ConfigMap", resourceVersion="1", **ONLY) as w:
            return w.next()
    except Refused as error:
        return "ERROR", error.status


def test_broken_selector_of_a_watch_is_a_bad_request(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#api"""
    with refused(400), room.watch("ConfigMap", labelSelector="a in b") as w:
        w.next()


def test_twenty_watchers_all_see_the_same(room: Room) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes"""
    since = version_of(room.collection("ConfigMap"))
    watchers = [room.watch("ConfigMap", resourceVersion=since, **ONLY) for _ in range(20)]
    opened = [watcher.__enter__() for watcher in watchers]
    made = room.create(config_map())
    try:
        assert [watcher.next() for watcher in opened] == [("ADDED", made)] * 20
    finally:
        for watcher in opened:
            watcher.__exit__()
