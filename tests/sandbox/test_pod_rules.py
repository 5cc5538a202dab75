"""The kubelet's rules that need no engine: back-off, probes, environment, container bodies, statuses."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from devloop_sandbox.engine.holders import pause_program
from devloop_sandbox.engine.images import is_reference, pull_policy
from devloop_sandbox.engine.problem import Problem
from devloop_sandbox.node.attempts import Attempts, Backoff, go_duration
from devloop_sandbox.node.container import create_body
from devloop_sandbox.node.environment import environment, expand, field, service_links
from devloop_sandbox.node.pod import Worker
from devloop_sandbox.node.probes import Streak, next_due, port_number
from devloop_sandbox.node.status import Record, build
from devloop_sandbox.node.volumes import write_atomically
from devloop_sandbox.objects.quantity import to_int, to_milli
from devloop_sandbox.options import Options
from devloop_sandbox.store.store import Store

POD: dict[str, Any] = {
    "metadata": {
        "name": "web-1",
        "namespace": "shop",
        "uid": "u-1",
        "labels": {"app": "web", "tier": "x"},
        "annotations": {"note": "hi"},
    },
    "spec": {"nodeName": "n", "containers": [{"name": "web", "image": "img:1"}]},
    "status": {"podIP": "10.0.0.9", "hostIP": "10.0.0.1"},
}
IMAGE = {"Id": "sha256:abc", "Config": {"User": ""}}


def test_backoff_doubles_from_ten_seconds_to_five_minutes() -> None:
    backoff, moment, waits = Backoff(), 0.0, []
    for _ in range(8):
        assert backoff.remaining(moment, moment) == backoff.seconds
        backoff.advance(moment, moment)
        waits.append(backoff.seconds)
        moment += backoff.seconds
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]


def test_backoff_is_forgotten_after_ten_minutes_of_running() -> None:
    backoff = Backoff()
    for moment in (0.0, 1.0, 2.0):
        backoff.advance(moment, moment)
    assert backoff.seconds == 40
    assert backoff.remaining(700.0, 700.0) == 0
    backoff.advance(700.0, 700.0)
    assert backoff.seconds == 10


def test_backoff_scale_shortens_the_wait_but_not_the_message() -> None:
    backoff = Backoff(scale=0.1)
    backoff.advance(0.0, 0.0)
    assert backoff.remaining(100.0 - 99.5, 0.5) == 1.0
    assert go_duration(backoff.seconds) == "10s"


@pytest.mark.parametrize(("seconds", "text"), [(10, "10s"), (80, "1m20s"), (160, "2m40s"), (300, "5m0s")])
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


@pytest.mark.parametrize(
    ("results", "verdicts"),
    [
        ("+", [True]),
        ("--+", [None, None, True]),
        ("---", [None, None, False]),
        ("--+--", [None, None, True, None, None]),
    ],
)
def test_probe_needs_its_threshold_in_a_row(results: str, verdicts: list[bool | None]) -> None:
    streak = Streak(1, 3)
    assert [streak.feed(result == "+") for result in results] == verdicts


def test_probe_ticks_count_from_when_the_pod_came() -> None:
    assert next_due(100.0, 100.3, 1.0) == 101.0
    assert next_due(100.0, 101.0, 1.0) == 102.0
    assert next_due(100.0, 127.0, 10.0) == 130.0


def test_probe_port_may_be_a_name() -> None:
    container = {"ports": [{"name": "http", "containerPort": 8001}]}
    assert port_number("http", container) == 8001
    assert port_number(80, container) == 80
    with pytest.raises(ValueError, match="couldn't find port: grpc"):
        port_number("grpc", container)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)-$(B)", "1-$(B)"),
        ("$$(A)", "$(A)"),
        ("$A", "$A"),
        ("$$$(A)", "$1"),
        ("$(A", "$(A"),
    ],
)
def test_references_in_values_and_arguments(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded


def _find(plural: str, _namespace: str, name: str) -> dict[str, Any] | None:
    secret = {"data": {"password": base64.b64encode(b"hunter2").decode()}}
    known = {
        ("configmaps", "settings"): {"data": {"MODE": "fast", "1bad key": "x"}},
        ("secrets", "keys"): secret,
    }
    return known.get((plural, name))


def test_environment_in_order_later_wins_and_references_expand() -> None:
    container = {
        "name": "web",
        "envFrom": [{"configMapRef": {"name": "settings"}, "prefix": "P_"}, {"secretRef": {"name": "keys"}}],
        "env": [
            {"name": "P_MODE", "value": "slow"},
            {"name": "URL", "value": "http://$(POD)/$(P_MODE)"},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "AGAIN", "value": "$(POD)"},
            {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k", "optional": True}}},
            {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {
                "name": "MIB",
                "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}},
            },
        ],
        "resources": {"limits": {"memory": "64Mi"}},
    }
    found = environment(POD, container, _find, {"cpu": "2", "memory": "1Gi"})
    assert found == {
        "P_MODE": "slow",
        "password": "hunter2",
        "URL": "http://$(POD)/slow",  # a name that comes later is not known yet
        "POD": "web-1",
        "AGAIN": "web-1",
        "CPUS": "2",
        "MIB": "64",
    }


def test_services_are_in_the_environment() -> None:
    ports = [{"name": "web-ui", "port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "TCP"}]
    found = service_links(
        [
            {"metadata": {"name": "my-db"}, "spec": {"clusterIP": "10.96.0.5", "ports": ports}},
            {"metadata": {"name": "headless"}, "spec": {"clusterIP": "None", "ports": ports}},
        ]
    )
    assert found["MY_DB_SERVICE_HOST"] == "10.96.0.5"
    assert found["MY_DB_SERVICE_PORT"] == found["MY_DB_SERVICE_PORT_WEB_UI"] == "80"
    assert found["MY_DB_PORT"] == found["MY_DB_PORT_80_TCP"] == "tcp://10.96.0.5:80"
    assert found["MY_DB_PORT_81_TCP_PORT"] == "81"
    assert not any(name.startswith("HEADLESS") for name in found)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "no", "key": "k"}}, 'configmap "no" not found'),
        ({"secretKeyRef": {"name": "no", "key": "k"}}, 'secret "no" not found'),
        (
            {"configMapKeyRef": {"name": "settings", "key": "k"}},
            "couldn't find key k in ConfigMap shop/settings",
        ),
        ({"secretKeyRef": {"name": "keys", "key": "k"}}, "couldn't find key k in Secret shop/keys"),
    ],
)
def test_missing_reference_is_a_config_error(source: dict[str, Any], message: str) -> None:
    container = {"name": "web", "env": [{"name": "X", "valueFrom": source}]}
    with pytest.raises(Problem) as caught:
        environment(POD, container, _find, {})
    assert (caught.value.reason, caught.value.message) == ("CreateContainerConfigError", message)


def test_downward_api_fields() -> None:
    assert field(POD, "metadata.labels['app']") == "web"
    assert field(POD, "metadata.annotations['none']") == ""
    assert field(POD, "metadata.labels") == 'app="web"\ntier="x"'
    assert field(POD, "status.podIP") == "10.0.0.9"


def _body(container: dict[str, Any], spec: dict[str, Any] | None = None, user: str = "") -> dict[str, Any]:
    pod = {**POD, "spec": {**POD["spec"], **(spec or {})}}
    image = {"Id": "sha256:abc", "Config": {"User": user}}
    return create_body(
        pod,
        {"name": "web", "image": "img:1", **container},
        image=image,
        holder="holder",
        values={"A": "1"},
        mounts=[],
        attempt=2,
        project="p",
    )


def test_limits_become_the_engines() -> None:
    resources = {"limits": {"memory": "64Mi", "cpu": "250m"}, "requests": {"cpu": "100m"}}
    host = _body({"resources": resources})["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (64 << 20, 64 << 20)
    assert (host["CpuQuota"], host["CpuPeriod"], host["CpuShares"]) == (25_000, 100_000, 102)


def test_command_replaces_the_entrypoint_and_args_the_command() -> None:
    body = _body({"command": ["run", "$(A)"], "args": ["$(B)"]})
    assert (body["Entrypoint"], body["Cmd"]) == (["run", "1"], ["$(B)"])
    assert "Entrypoint" not in _body({"args": ["x"]})
    assert body["Env"] == ["HOSTNAME=web-1", "A=1"]


def test_users_of_pod_and_container() -> None:
    pod_wide = {"securityContext": {"runAsUser": 7, "fsGroup": 9}}
    assert _body({}, pod_wide)["User"] == "7"
    assert _body({}, pod_wide)["HostConfig"]["GroupAdd"] == ["9"]
    assert _body({"securityContext": {"runAsUser": 8, "runAsGroup": 3}}, pod_wide)["User"] == "8:3"


@pytest.mark.parametrize(
    ("security", "user", "reason"),
    [
        ({"runAsNonRoot": True}, "", "image will run as root"),
        ({"runAsNonRoot": True}, "app", "non-numeric user"),
        ({"runAsNonRoot": True, "runAsUser": 0}, "1001", "breaks non-root policy"),
    ],
)
def test_root_is_refused_where_it_must_not_be(security: dict[str, Any], user: str, reason: str) -> None:
    with pytest.raises(Problem, match=reason):
        _body({"securityContext": security}, user=user)
    assert "User" not in _body({"securityContext": {"runAsNonRoot": True}}, user="1001")


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("a", "Always"),
        ("a:latest", "Always"),
        ("a:1", "IfNotPresent"),
        ("host:5000/a", "Always"),
        ("host:5000/a:1", "IfNotPresent"),
    ],
)
def test_pull_policy_by_tag(image: str, policy: str) -> None:
    assert pull_policy({"image": image}) == policy
    assert pull_policy({"image": image, "imagePullPolicy": "Never"}) == "Never"


def test_image_names() -> None:
    assert all(map(is_reference, ("a", "a:1", "r.io/a/b_c:x-1", "localhost:5000/a", f"a@sha256:{'0' * 64}")))
    assert not any(map(is_reference, ("", "A", "a b", "a:", "-a", "a//b", "a:b:c")))


def test_quantities() -> None:
    assert [to_milli(text) for text in ("500m", "2", "0.1", "1k")] == [500, 2000, 100, 1_000_000]
    assert [to_int(text) for text in ("64Mi", "1e3", "1500m", "2G")] == [64 << 20, 1000, 2, 2_000_000_000]
    with pytest.raises(ValueError, match="not a quantity"):
        to_int("12 MB")


def _inspection(
    code: int | None, *, oom: bool = False, started: bool = True, attempt: int = 0
) -> dict[str, Any]:
    never = "0001-01-01T00:00:00Z"
    return {
        "Id": f"c{attempt}",
        "Image": "sha256:abc",
        "Created": "2026-01-01T00:00:00.5Z",
        "Config": {"Labels": {"annotation.io.kubernetes.container.restartCount": str(attempt)}},
        "State": {
            "Running": code is None,
            "ExitCode": code or 0,
            "OOMKilled": oom,
            "Error": "" if started else "exec: no such file",
            "StartedAt": "2026-01-01T00:00:01.5Z" if started else never,
            "FinishedAt": never if code is None or not started else "2026-01-01T00:00:02.5Z",
        },
    }


@pytest.mark.parametrize(
    ("inspection", "reason", "code"),
    [
        (_inspection(0), "Completed", 0),
        (_inspection(3), "Error", 3),
        (_inspection(137, oom=True), "OOMKilled", 137),
        (_inspection(127, started=False), "ContainerCannotRun", 127),
    ],
)
def test_reasons_of_an_end(inspection: dict[str, Any], reason: str, code: int) -> None:
    record = Record(POD["spec"]["containers"][0], current=inspection)
    pod = {**POD, "spec": {**POD["spec"], "restartPolicy": "Never"}}
    status = build(pod, [], [record], {}, "2026-01-01T00:00:09Z")
    found = status["containerStatuses"][0]["state"]["terminated"]
    assert (found["reason"], found["exitCode"]) == (reason, code)
    assert status["phase"] == ("Succeeded" if code == 0 else "Failed")


def test_backing_off_container_shows_why_and_how_it_ended() -> None:
    record = Record(POD["spec"]["containers"][0], current=_inspection(1, attempt=2))
    record.waiting = ("CrashLoopBackOff", "back-off 20s")
    found = build(POD, [], [record], {}, "2026-01-01T00:00:09Z")
    status = found["containerStatuses"][0]
    assert status["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}}
    assert status["lastState"]["terminated"]["exitCode"] == 1
    assert (status["restartCount"], found["phase"]) == (2, "Running")
    assert status["imageID"] == "docker://sha256:abc"


@pytest.mark.parametrize(
    ("named", "repository"),
    [("img:1", "img"), ("host:5000/img", "host:5000/img"), ("a/img:1@sha256:d", "a/img")],
)
def test_an_image_of_the_containerd_store_is_known_by_its_repository_digest(
    named: str, repository: str
) -> None:
    """As cri-dockerd does for an image that has one, and there every image has."""
    inspection = _inspection(None) | {"ImageManifestDescriptor": {}}
    inspection["Config"] = {**inspection["Config"], "Image": named}
    record = Record(POD["spec"]["containers"][0], current=inspection)
    status = build(POD, [], [record], {}, "2026-01-01T00:00:01Z")["containerStatuses"][0]
    assert status["imageID"] == f"docker-pullable://{repository}@sha256:abc"


def _died(image: str, seconds_ago: float, attempt: int = 0) -> dict[str, Any]:
    """A container of `web` that has ended so long ago."""
    dead = _inspection(0, attempt=attempt)
    dead["State"]["FinishedAt"] = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat()
    dead["Config"]["Labels"]["dev.devloop.sandbox.image"] = image
    return dead


def _attempts() -> Attempts:
    parts = SimpleNamespace(options=SimpleNamespace(backoff_scale=1.0), report=lambda *_: None)
    return Attempts(cast(Any, parts))


def test_status_names_the_image_of_the_container_and_not_of_the_spec() -> None:
    running = _inspection(None)
    running["Config"]["Labels"]["dev.devloop.sandbox.image"] = "img:1"
    record = Record({"name": "web", "image": "img:2"}, current=running)
    assert record.outdated
    status = build(POD, [], [record], {}, "2026-01-01T00:00:01Z")["containerStatuses"][0]
    assert status["image"] == "img:1"
    record.current = _inspection(None)  # an older version of the sandbox made it
    assert not record.outdated


def test_backoff_is_reckoned_per_image() -> None:
    attempts = _attempts()
    record = Record({"name": "web", "image": "img:1"}, current=_died("img:1", 0))
    waits = [attempts.wait_for_restart(POD, record) for _ in range(2)]
    assert waits[0] == 0
    assert 9 < waits[1] <= 10
    assert (record.waiting or ("",))[0] == "CrashLoopBackOff"
    record.spec = {"name": "web", "image": "img:2"}
    assert attempts.wait_for_restart(POD, record) == 0
    record.spec = {"name": "web", "image": "img:1"}
    assert attempts.wait_for_restart(POD, record) > 9


def _change(attempts: Attempts, record: Record, image: str, *, ran: float = 0) -> float:
    """The wait when the running container gives way to `image` after it ran so many seconds."""
    record.spec = {"name": "web", "image": image}
    if record.previous is not None:
        record.previous = _died("", ran)
    attempts.will_replace(record)
    allowed = attempts.may_replace(record)
    record.current = _died("", 0)
    wait = attempts.wait_for_restart(POD, record)
    assert allowed == (wait == 0)
    record.previous = record.current
    return wait


def test_images_that_take_turns_wait_longer_each_time() -> None:
    """The first change finds no dead container and so makes no entry for its image, as in the kubelet."""
    attempts = _attempts()
    record = Record({"name": "web", "image": "img:1"}, current=_inspection(None))
    assert [_change(attempts, record, f"img:{n}") for n in (2, 3, 2)] == [0, 0, 0]
    assert 9 < _change(attempts, record, "img:3") <= 10
    assert _change(attempts, record, "img:4") == 0
    assert _change(attempts, record, "img:2", ran=11) == 0  # the container before it ended long enough ago
    assert 19 < _change(attempts, record, "img:2") <= 20


def test_killed_container_that_is_allowed_another_image_is_not_asked_twice() -> None:
    attempts = _attempts()
    record = Record({"name": "web", "image": "img:2"}, current=_inspection(None))
    attempts.will_replace(record)
    record.current = _died("img:1", 0)
    assert attempts.wait_for_restart(POD, record) == 0
    assert not attempts.may_replace(record)  # the next end is a crash like any other


def test_transition_time_moves_only_with_the_status() -> None:
    record = Record(POD["spec"]["containers"][0], current=_inspection(None))
    first = build(POD, [], [record], {}, "2026-01-01T00:00:01Z")
    record.ready = True
    second = build({**POD, "status": first}, [], [record], {}, "2026-01-01T00:00:05Z")
    times = {entry["type"]: entry["lastTransitionTime"][-3:] for entry in second["conditions"]}
    assert times["Ready"] == "05Z"
    assert times["Initialized"] == "01Z"


def test_pod_is_pending_until_its_init_containers_are_done() -> None:
    init = Record({"name": "init", "image": "i"}, init=True, current=_inspection(None))
    main = Record(POD["spec"]["containers"][0])
    status = build(POD, [init], [main], {}, "2026-01-01T00:00:01Z")
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    by_type = {entry["type"]: entry for entry in status["conditions"]}
    assert by_type["Initialized"]["message"] == "containers with incomplete status: [init]"


def test_volume_files_change_all_at_once(tmp_path: Path) -> None:
    assert write_atomically(tmp_path, {"a": (b"1", 0o644), "d/b": (b"2", 0o600)})
    first = (tmp_path / "..data").resolve()
    assert not write_atomically(tmp_path, {"a": (b"1", 0o644), "d/b": (b"2", 0o600)})
    assert (tmp_path / "d" / "b").read_bytes() == b"2"
    assert (tmp_path / "d" / "b").stat().st_mode & 0o777 == 0o600
    assert write_atomically(tmp_path, {"a": (b"3", 0o644)})
    assert (tmp_path / "a").read_bytes() == b"3"
    assert not (tmp_path / "d").exists()
    assert not first.exists()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_pause_program_is_a_static_elf_of_its_machine(machine: str) -> None:
    program = pause_program(machine)
    assert program[:4] == b"\x7fELF"
    assert len(program) < 256
    assert int.from_bytes(program[18:20], "little") == {"x86_64": 62, "aarch64": 183}[machine]


async def test_a_pod_whose_holder_dies_between_two_containers_starts_again() -> None:
    """The engine was killed while the first was made; the server ended with the second."""
    pod = object.__new__(Worker)
    pod.pod = {"spec": {"restartPolicy": "Always", "containers": []}, "metadata": {}}
    pod.housing = cast(Any, SimpleNamespace(holder=None))
    pod._attempts = cast(Any, SimpleNamespace(wait_for_restart=lambda *_: 0.0))
    record = SimpleNamespace(running=False, current=None, init=False, succeeded=False)
    assert await pod._keep(cast(Any, record)) == 0.0


async def test_image_that_changed_while_the_node_writes_a_status_is_not_missed(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    store.create("namespaces", {"metadata": {"name": "shop"}, "status": {"phase": "Active"}})
    pod = store.create("pods", {"metadata": {"name": "web-1", "namespace": "shop"}, "spec": POD["spec"]})
    network = SimpleNamespace(gateway="10.0.0.1")
    parts = SimpleNamespace(store=store, options=Options("t", tmp_path), network=network, capacity={})
    worker = Worker(cast(Any, parts), pod)

    def change(pod: dict[str, Any]) -> None:
        pod["spec"]["containers"][0]["image"] = "img:2"

    changed = store.mutate("pods", "shop", "web-1", change)
    worker.publish()  # on top of the new spec, before the node sees it
    worker.update(changed)
    assert worker._wake.is_set()
    assert worker.pod == store.get("pods", "shop", "web-1")
    worker._wake.clear()
    worker.update(worker.pod)  # its own status comes back
    assert not worker._wake.is_set()
    store.close()
