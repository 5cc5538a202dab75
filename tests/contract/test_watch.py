"""Watches: what is sent, from when, and when they end."""

from __future__ import annotations

from collections.abc import Callable

from tests.contract.cluster import Namespace, Object, Refused, name_of, refused, uid, version_of
from tests.contract.objects import config_map

ONLY = {"fieldSelector": "metadata.name=settings"}


def test_watch_from_a_list_sends_what_came_after(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes"""
    ns.create(config_map("before"))
    since = version_of(ns.collection("ConfigMap"))
    ns.create(config_map())
    ns.merge("ConfigMap", "settings", {"data": {"a": "2"}})
    ns.delete("ConfigMap", "settings")
    with ns.watch("ConfigMap", resourceVersion=since, fieldSelector=ONLY["fieldSelector"]) as w:
        seen = w.until(lambda kind, _: kind == "DELETED")
    assert [kind for kind, _ in seen] == ["ADDED", "MODIFIED", "DELETED"]
    assert [thing["data"]["a"] for _, thing in seen] == ["1", "2", "2"]


def test_events_carry_growing_versions(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions"""
    since = version_of(ns.create(config_map()))
    patched = ns.merge("ConfigMap", "settings", {"data": {"a": "2"}})
    ns.delete("ConfigMap", "settings")
    with ns.watch("ConfigMap", resourceVersion=since, **ONLY) as w:
        seen = w.until(lambda kind, _: kind == "DELETED")
    versions = [int(version_of(thing)) for _, thing in seen]
    assert versions[0] == int(version_of(patched))
    assert int(since) < versions[0] < versions[1]


def test_open_watch_sends_changes_as_they_come(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes"""
    since = version_of(ns.collection("ConfigMap"))
    with ns.watch("ConfigMap", resourceVersion=since, **ONLY) as w:
        made = ns.create(config_map())
        assert w.next() == ("ADDED", made)
        patched = ns.merge("ConfigMap", "settings", {"data": {"b": "2"}})
        assert w.next() == ("MODIFIED", patched)


def test_watch_without_a_version_begins_with_what_is_there(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-watch"""
    made = ns.create(config_map())
    with ns.watch("ConfigMap", **ONLY) as w:
        assert w.next() == ("ADDED", made)
        ns.delete("ConfigMap", "settings")
        kind, thing = w.next()
        assert (kind, uid(thing)) == ("DELETED", uid(made))


def test_watch_of_one_namespace_is_silent_about_others(
    ns: Namespace, namespaces: Callable[[], Namespace]
) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris"""
    since = version_of(ns.collection("ConfigMap"))
    namespaces().create(config_map("elsewhere"))
    ns.create(config_map("here"))
    with ns.watch("ConfigMap", resourceVersion=since) as w:
        seen = w.until(lambda _, thing: name_of(thing) == "here")
    assert {thing["metadata"]["namespace"] for _, thing in seen} == {ns.name}


def test_object_that_enters_a_selector_is_added_and_one_that_leaves_is_deleted(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#list-and-watch-filtering"""
    since = version_of(ns.create(config_map()))
    inside: Object = {"metadata": {"labels": {"in": "yes"}}}
    outside: Object = {"metadata": {"labels": {"in": None}}}
    ns.merge("ConfigMap", "settings", inside)
    ns.merge("ConfigMap", "settings", {"data": {"a": "2"}})
    ns.merge("ConfigMap", "settings", outside)
    ns.merge("ConfigMap", "settings", inside)
    with ns.watch("ConfigMap", resourceVersion=since, labelSelector="in=yes") as w:
        kinds = [w.next()[0] for _ in range(4)]
    assert kinds == ["ADDED", "MODIFIED", "DELETED", "ADDED"]
    assert ns.exists("ConfigMap", "settings")


def test_watch_ends_after_its_timeout(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-parameters/common-parameters/#timeoutSeconds"""
    since = version_of(ns.create(config_map()))
    with ns.watch("ConfigMap", resourceVersion=since, timeoutSeconds=1, **ONLY) as w:
        assert list(w) == []


def test_bookmark_carries_a_version_to_go_on_from(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#watch-bookmarks"""
    since = version_of(ns.create(config_map()))
    bookmarks = {"allowWatchBookmarks": True, "timeoutSeconds": 4}
    with ns.watch("ConfigMap", resourceVersion=since, **ONLY, **bookmarks) as w:
        seen = list(w)  # no more than the bookmarks that the server thinks fit
    assert {kind for kind, _ in seen} <= {"BOOKMARK"}
    last = seen[-1][1] if seen else {"kind": "ConfigMap", "metadata": {"resourceVersion": since}}
    assert last["kind"] == "ConfigMap"
    assert int(version_of(last)) >= int(since)
    assert not last.get("data")
    ns.delete("ConfigMap", "settings")
    with ns.watch("ConfigMap", resourceVersion=version_of(last), **ONLY) as w:
        assert w.next()[0] == "DELETED"


def test_bookmarks_come_only_on_demand(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#watch-bookmarks"""
    since = version_of(ns.create(config_map()))
    ns.merge("ConfigMap", "settings", {"data": {"a": "2"}})
    with ns.watch("ConfigMap", resourceVersion=since, timeoutSeconds=2, **ONLY) as w:
        assert [kind for kind, _ in w] == ["MODIFIED"]


def test_too_old_version_is_gone_and_never_skips_silently(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#410-gone-responses"""
    ns.create(config_map())
    kind, thing = _first_event_since_one(ns)
    if kind == "ERROR":
        assert (thing["kind"], thing["code"]) == ("Status", 410)
        assert thing["reason"] in ("Expired", "Gone")
    else:  # a young cluster still has its whole history
        assert (kind, name_of(thing)) == ("ADDED", "settings")


def _first_event_since_one(ns: Namespace) -> tuple[str, Object]:
    """A refusal before the stream began counts as the ERROR event that it stands for."""
    try:
        with ns.watch("ConfigMap", resourceVersion="1", **ONLY) as w:
            return w.next()
    except Refused as error:
        return "ERROR", error.status


def test_broken_selector_of_a_watch_is_a_bad_request(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#api"""
    with refused(400), ns.watch("ConfigMap", labelSelector="a in b") as w:
        w.next()


def test_twenty_watchers_all_see_the_same(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes"""
    since = version_of(ns.collection("ConfigMap"))
    watchers = [ns.watch("ConfigMap", resourceVersion=since, **ONLY) for _ in range(20)]
    opened = [watcher.__enter__() for watcher in watchers]
    made = ns.create(config_map())
    try:
        assert [watcher.next() for watcher in opened] == [("ADDED", made)] * 20
    finally:
        for watcher in opened:
            watcher.__exit__()
