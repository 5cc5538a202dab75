"""The store alone: versions, conflicts, deletion, the stream, and what a kill -9 leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.store.changes import HISTORY
from devloop_sandbox.store.store import Event, Store


@pytest.fixture
def store() -> Store:
    made = Store()
    made.create("namespaces", {"metadata": {"name": "default"}, "status": {"phase": "Active"}})
    return made


def config_map(name: str = "a", **data: str) -> Obj:
    return {"metadata": {"name": name, "namespace": "default"}, "data": data}


def test_create_sets_what_the_server_owns(store: Store) -> None:
    made = store.create("configmaps", config_map())
    assert made["metadata"]["uid"]
    assert made["metadata"]["creationTimestamp"].endswith("Z")
    assert made["metadata"]["resourceVersion"] == str(store.resource_version)
    assert (made["apiVersion"], made["kind"]) == ("v1", "ConfigMap")


def test_generated_names_differ(store: Store) -> None:
    names = {
        store.create("configmaps", {"metadata": {"generateName": "x-"}})["metadata"]["name"] for _ in range(9)
    }
    assert len(names) == 9
    assert all(name.startswith("x-") and len(name) == 7 for name in names)


def test_second_create_is_already_exists(store: Store) -> None:
    store.create("configmaps", config_map())
    with pytest.raises(ApiError) as refusal:
        store.create("configmaps", config_map())
    assert (refusal.value.status, refusal.value.reason) == (409, "AlreadyExists")


def test_stale_version_is_a_conflict(store: Store) -> None:
    first = store.create("configmaps", config_map())
    store.update("configmaps", first | {"data": {"a": "1"}})
    with pytest.raises(ApiError) as refusal:
        store.update("configmaps", first | {"data": {"a": "2"}})
    assert (refusal.value.status, refusal.value.reason) == (409, "Conflict")
    assert store.get("configmaps", "default", "a")["data"] == {"a": "1"}


def test_write_of_the_same_keeps_the_version_and_notifies_nobody(store: Store) -> None:
    made = store.create("configmaps", config_map(a="1"))
    before = store.resource_version
    assert store.update("configmaps", config_map(a="1")) == made
    assert store.resource_version == before
    assert store.since(before) == []


def test_generation_counts_spec_changes_alone(store: Store) -> None:
    made = store.create("deployments", {"metadata": {"name": "d"}, "spec": {"replicas": 1}})
    labelled = store.update(
        "deployments",
        {"metadata": {"name": "d", "namespace": "default", "labels": {"a": "b"}}, "spec": made["spec"]},
    )
    assert labelled["metadata"]["generation"] == 1
    scaled = store.update(
        "deployments", {"metadata": {"name": "d", "namespace": "default"}, "spec": {"replicas": 2}}
    )
    assert scaled["metadata"]["generation"] == 2
    status = store.update("deployments", scaled | {"status": {"replicas": 2}}, subresource="status")
    assert status["metadata"]["generation"] == 2
    assert store.update("deployments", status | {"status": {"replicas": 9}})["status"] == {"replicas": 2}


def test_handed_out_objects_are_not_the_writers(store: Store) -> None:
    mine = config_map(a="1")
    store.create("configmaps", mine)
    mine["data"]["a"] = "2"
    assert store.get("configmaps", "default", "a")["data"] == {"a": "1"}


def test_finalizers_keep_an_object_until_the_last_goes(store: Store) -> None:
    store.create("configmaps", {"metadata": {"name": "a", "finalizers": ["x/y"]}})
    held = store.delete("configmaps", "default", "a")
    assert "deletionTimestamp" in held["metadata"]
    store.mutate("configmaps", "default", "a", lambda obj: obj["metadata"].pop("finalizers"))
    assert store.find("configmaps", "default", "a") is None


def test_pod_on_a_node_waits_for_its_kubelet(store: Store) -> None:
    store.create("pods", {"metadata": {"name": "p"}, "spec": {"nodeName": "n"}})
    leaving = store.delete("pods", "default", "p", grace=5)
    assert leaving["metadata"]["deletionGracePeriodSeconds"] == 5
    again = store.delete("pods", "default", "p", grace=2)
    assert again["metadata"]["deletionGracePeriodSeconds"] == 2
    store.delete("pods", "default", "p", grace=0)
    assert store.find("pods", "default", "p") is None


@pytest.mark.parametrize(
    ("propagation", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")]
)
def test_propagation_is_a_finalizer_for_the_collector(store: Store, propagation: str, finalizer: str) -> None:
    store.create("replicasets", {"metadata": {"name": "r"}, "spec": {}})
    assert store.delete("replicasets", "default", "r", propagation=propagation)["metadata"]["finalizers"] == [
        finalizer
    ]


def test_uid_precondition_spares_the_successor(store: Store) -> None:
    store.create("configmaps", config_map())
    with pytest.raises(ApiError) as refusal:
        store.delete("configmaps", "default", "a", uid="another")
    assert refusal.value.status == 409


async def test_subscription_gives_every_event_in_order(store: Store) -> None:
    with store.subscribe() as events:
        for number in range(3):
            store.create("configmaps", config_map(f"m{number}"))
        store.delete("configmaps", "default", "m0")
        seen: list[Event] = [await anext(events) for _ in range(4)]
    assert [(event.type, event.obj["metadata"]["name"]) for event in seen] == [
        ("ADDED", "m0"),
        ("ADDED", "m1"),
        ("ADDED", "m2"),
        ("DELETED", "m0"),
    ]
    versions = [event.version for event in seen]
    assert versions == sorted(set(versions))


def test_history_serves_a_late_watch_and_is_bounded(store: Store) -> None:
    start = store.resource_version
    store.create("configmaps", config_map(n="0"))
    assert [event.type for event in store.since(start)] == ["ADDED"]
    for number in range(HISTORY):
        store.update("configmaps", config_map(n=str(number + 1)))
    with pytest.raises(ApiError) as refusal:
        store.since(start)
    assert (refusal.value.status, refusal.value.reason) == (410, "Expired")
    assert refusal.value.message.startswith("too old resource version")


def test_nothing_is_created_in_a_leaving_namespace(store: Store) -> None:
    store.create(
        "namespaces",
        {"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}},
    )
    store.delete("namespaces", "", "n")
    with pytest.raises(ApiError) as refusal:
        store.create("configmaps", {"metadata": {"name": "a", "namespace": "n"}})
    assert refusal.value.status == 403


WRITER = """
import sys
from pathlib import Path
from devloop_sandbox.store.store import Store
store = Store(Path(sys.argv[1]))
store.create("namespaces", {"metadata": {"name": "default"}, "status": {"phase": "Active"}})
number = 0
while True:
    made = store.create("configmaps", {"metadata": {"name": f"m{number}"}})
    print(made["metadata"]["resourceVersion"], flush=True)
    number += 1
"""


def test_every_acknowledged_write_survives_kill_9(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    with writer:
        lines = [writer.stdout.readline() for _ in range(50)]
        os.kill(writer.pid, signal.SIGKILL)
        lines += writer.stdout.readlines()
    versions = [int(line) for line in lines if line.endswith("\n")]
    store = Store(file)
    assert {obj["metadata"]["resourceVersion"] for obj in store.list("configmaps")} >= set(map(str, versions))
    assert store.resource_version >= versions[-1]
    made = store.create("configmaps", {"metadata": {"name": "after"}})
    assert int(made["metadata"]["resourceVersion"]) > versions[-1]
    with pytest.raises(ApiError) as refusal:
        store.since(versions[0])
    assert refusal.value.status == 410
    store.close()


def test_a_full_disk_refuses_the_write_and_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    store.create("namespaces", {"metadata": {"name": "one"}, "status": {"phase": "Active"}})
    version = store.resource_version
    store._disk._db.execute("PRAGMA max_page_count = 1")  # SQLite then says what it says of a full disk
    with pytest.raises(ApiError) as refusal:
        store.create("namespaces", {"metadata": {"name": "two", "annotations": {"a": "x" * 100_000}}})
    assert (refusal.value.status, refusal.value.reason) == (500, "InternalError")
    assert "full" in refusal.value.message
    assert store.find("namespaces", "", "two") is None
    assert store.resource_version == version
    store._disk._db.execute("PRAGMA max_page_count = 100000")
    assert store.create("namespaces", {"metadata": {"name": "two"}})["metadata"]["name"] == "two"
    store.close()
