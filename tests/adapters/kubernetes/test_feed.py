"""Feeds over a real API server: the controllers' and the kubelet's part is written by the test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from devloop.adapters.kubernetes import informer
from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.errors import PlatformError
from devloop.events import API_SERVER, Event, Outage
from devloop.model import Progressing, Ready, Snapshot, Target
from devloop.ports import Feed
from devloop.rollout.judge import Expectation, judge
from devloop.rollout.progress import phases
from tests.adapters.kubernetes.conftest import open_cluster, until
from tests.support.faulty_proxy import Answer, Lose, Proxy, through
from tests.support.kubernetes_objects import (
    DEPLOYMENTS,
    EVENTS,
    PODS,
    REPLICASETS,
    SERVICE,
    STATEFULSETS,
    TARGET,
    Api,
    deployment,
    event,
    loaded,
    pod,
    ref,
    replicaset,
    statefulset,
)

WEB = f"{DEPLOYMENTS}/web"
DIGEST = "sha256:" + "a" * 64


async def shown(feed: Feed, wanted: Callable[[Snapshot], object], seconds: float = 20.0) -> Snapshot:
    """The first snapshot that is as wanted."""
    with anyio.fail_after(seconds):
        snapshot = feed.latest
        while not wanted(snapshot):
            snapshot = await feed.next(snapshot)
        return snapshot


def running(image_id: str = f"docker://{DIGEST}") -> dict[str, Any]:
    return {
        "phase": "Running",
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-22T10:00:00Z"},
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-22T10:00:03Z"},
        ],
        "containerStatuses": [
            {
                "name": "web",
                "image": "another/tag:of-the-same-id",
                "imageID": image_id,
                "ready": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": "2026-11-22T10:00:02Z"}},
            }
        ],
    }


async def roll(api: Api, digit: str, revision: str) -> dict[str, Any]:
    """Play the controllers: a ReplicaSet and a ready pod for the template as it is."""
    item = await api.get(WEB)
    image = item["spec"]["template"]["spec"]["containers"][0]["image"]
    suffix = f"hash{digit}"
    made = await api.create(REPLICASETS, replicaset(item, suffix, revision, image))
    new = await api.create(
        PODS, pod(made, f"web-{suffix}-1", image, {"app": "web", "pod-template-hash": suffix})
    )
    await api.status(f"{PODS}/{new['metadata']['name']}", running())
    await api.merge(WEB, {"metadata": {"annotations": {"deployment.kubernetes.io/revision": revision}}})
    await api.status(
        WEB,
        {
            "observedGeneration": item["metadata"]["generation"],
            "replicas": 1,
            "updatedReplicas": 1,
            "readyReplicas": 1,
            "availableReplicas": 1,
        },
    )
    return new


async def test_a_missing_target_has_an_empty_snapshot_until_it_is_there(
    api: Api, cluster: KubernetesCluster
) -> None:
    async with cluster.feed(TARGET) as feed:
        assert not feed.latest.exists
        await api.create(DEPLOYMENTS, deployment())
        assert (await shown(feed, lambda s: s.exists)).images == {"web": "todo:1"}
        await api.delete(WEB)
        await shown(feed, lambda s: not s.exists)


async def test_s18_a_rollout_is_followed_to_its_end_and_timed_by_arrival(
    api: Api, cluster: KubernetesCluster
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    async with cluster.feed(TARGET) as feed:
        await roll(api, "0", "1")
        revision = await cluster.patch(TARGET, SERVICE, loaded("1"))
        expected = Expectation.of("todo", revision, DIGEST)
        await roll(api, "1", "2")
        snapshot = await shown(feed, lambda s: isinstance(judge(s, expected, s.at), Ready))
    assert snapshot.revision == "hash1"
    assert {p.name: p.revision for p in snapshot.pods} == {"web-hash0-1": "hash0", "web-hash1-1": "hash1"}
    reached = list(phases("todo", [(snapshot, revision)]))
    assert [phase for phase, _, _ in reached] == ["scheduled", "started", "serving"]
    assert not any(coarse for _, _, coarse in reached)
    seconds = [s for _, s, _ in reached]
    assert 0 < seconds[0] < 20  # by arrival: the API's own stamps of this test lie far away
    assert seconds == sorted(seconds)


async def test_s18_pods_of_the_template_before_are_not_taken_for_the_new_ones(
    api: Api, cluster: KubernetesCluster
) -> None:
    """Recreate: the controller has seen the new template, and its ReplicaSet is yet to be made."""
    await api.create(DEPLOYMENTS, deployment(ref("0"), strategy={"type": "Recreate"}))
    async with cluster.feed(TARGET) as feed:
        await roll(api, "0", "1")
        revision = await cluster.patch(TARGET, SERVICE, loaded("1"))
        status = {"observedGeneration": revision.generation, "replicas": 1, "availableReplicas": 1}
        await api.merge(f"{WEB}/status", {"status": status})
        snapshot = await shown(feed, lambda s: s.observed_generation == revision.generation)
        assert snapshot.revision == ""
        verdict = judge(snapshot, Expectation.of("todo", revision, DIGEST), snapshot.at)
        assert isinstance(verdict, Progressing), verdict
        await roll(api, "1", "2")
        assert (await shown(feed, lambda s: s.revision)).revision == "hash1"


async def test_s18_what_happened_before_the_watch_is_coarse(api: Api, cluster: KubernetesCluster) -> None:
    await api.create(DEPLOYMENTS, deployment())
    await roll(api, "0", "1")
    async with cluster.feed(TARGET) as feed:
        (view,) = feed.latest.pods
    assert view.coarse
    assert view.ready_at is not None
    assert view.started_at is not None
    assert view.ready_at - view.started_at == 1.0


async def test_s1_the_image_is_the_specs_and_the_id_the_config_digest(
    api: Api, cluster: KubernetesCluster
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    new = await roll(api, "0", "1")
    async with cluster.feed(TARGET) as feed:
        for written, read in (
            (f"docker://{DIGEST}", DIGEST),
            (DIGEST, DIGEST),
            (f"docker-pullable://todo@{DIGEST}", f"todo@{DIGEST}"),
            (f"docker.io/library/todo@{DIGEST}", f"docker.io/library/todo@{DIGEST}"),
            ("", ""),
        ):
            await api.status(f"{PODS}/{new['metadata']['name']}", running(written))
            await shown(feed, lambda s, read=read: s.pods[0].containers[0].image_id == read)  # type: ignore[misc]
        assert feed.latest.pods[0].containers[0].image == "todo:1"


async def test_feeds_of_other_targets_are_not_woken(api: Api, cluster: KubernetesCluster) -> None:
    await api.create(DEPLOYMENTS, deployment())
    await api.create(DEPLOYMENTS, deployment(name="other"))
    other = Target("deployment", "other", "default")
    async with cluster.feed(TARGET) as feed, cluster.feed(other) as beside:
        before = beside.latest
        await api.merge(WEB, {"spec": {"replicas": 3}})
        await shown(feed, lambda s: s.replicas == 3)
        assert beside.latest is before


async def test_watches_are_shared_and_end_with_the_last_feed(
    api: Api, proxy: Proxy, shaky: KubernetesCluster
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    async with shaky.feed(TARGET):
        async with shaky.feed(Target("deployment", "other", "default")), shaky.feed(TARGET):
            pass
        assert sum("/deployments?watch=true" in line for line in proxy.seen) <= 1
        assert sum(line.startswith("GET") and line.endswith("/deployments") for line in proxy.seen) == 1
    await until(lambda: not any(view._informers for view in shaky._views.values()))


async def test_s20_the_writer_of_the_image_is_named(api: Api, cluster: KubernetesCluster) -> None:
    await api.create(DEPLOYMENTS, deployment())
    async with cluster.feed(TARGET) as feed:
        await cluster.patch(TARGET, SERVICE, loaded("1"))
        await shown(feed, lambda s: s.writer == "devloop")
        spec = {"containers": [{"name": "web", "image": "todo:9"}]}
        await api.merge(WEB, {"spec": {"template": {"spec": spec}}}, "argocd-controller")
        assert (await shown(feed, lambda s: s.images["web"] == "todo:9")).writer == "argocd-controller"


async def test_events_of_the_target_and_its_pods_are_in_the_snapshot(
    api: Api, cluster: KubernetesCluster
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    new = await roll(api, "0", "1")
    async with cluster.feed(TARGET) as feed:
        stranger = {**new, "metadata": {**new["metadata"], "name": "stranger"}}
        await api.create(EVENTS, event(stranger, "e0", "Unhealthy", "not ours"))
        await api.create(EVENTS, event({**new, "kind": "Pod"}, "e1", "Unhealthy", "Readiness probe failed"))
        snapshot = await shown(feed, lambda s: s.events)
    assert [(e.about, e.reason, e.message) for e in snapshot.events] == [
        ("Pod/web-hash0-1", "Unhealthy", "Readiness probe failed")
    ]


async def test_s19_a_trouble_is_stamped_when_it_was_first_seen(api: Api, cluster: KubernetesCluster) -> None:
    await api.create(DEPLOYMENTS, deployment())
    new = await roll(api, "0", "1")
    path = f"{PODS}/{new['metadata']['name']}"

    def waits(reason: str) -> dict[str, Any]:
        status = running("")
        status["conditions"][1]["status"] = "False"
        status["containerStatuses"][0] |= {"ready": False, "state": {"waiting": {"reason": reason}}}
        return status

    async with cluster.feed(TARGET) as feed:
        assert feed.latest.pods[0].since is None
        await api.status(path, waits("ErrImagePull"))
        first = (await shown(feed, lambda s: s.pods[0].containers[0].waiting == "ErrImagePull")).pods[0].since
        await api.status(path, waits("ImagePullBackOff"))
        second = await shown(feed, lambda s: s.pods[0].containers[0].waiting == "ImagePullBackOff")
        assert second.pods[0].since == first  # the two take turns: one trouble
        await api.status(path, waits("CreateContainerError"))
        third = await shown(feed, lambda s: s.pods[0].containers[0].waiting == "CreateContainerError")
        assert third.pods[0].since != first
        await api.status(path, running())
        assert (await shown(feed, lambda s: s.pods[0].ready)).pods[0].since is None


async def test_a_statefulset_is_fed_by_its_update_revision(api: Api, cluster: KubernetesCluster) -> None:
    target = Target("statefulset", "web", "default")
    item = await api.create(STATEFULSETS, statefulset(ref("1")))
    await api.create(PODS, pod(item, "web-0", ref("1"), {"controller-revision-hash": "web-77"}))
    await api.status(f"{PODS}/web-0", running())
    await api.status(
        f"{STATEFULSETS}/web",
        {
            "observedGeneration": 1,
            "replicas": 1,
            "readyReplicas": 1,
            "updatedReplicas": 1,
            "updateRevision": "web-77",
        },
    )
    async with cluster.feed(target) as feed:
        snapshot = feed.latest
        assert isinstance(judge(snapshot, Expectation("todo", ref("1"), DIGEST), 0.0), Ready)
        assert snapshot.pods[0].revision == snapshot.revision == "web-77"


async def test_the_probe_note_names_the_setting_that_delays_most(
    api: Api, cluster: KubernetesCluster
) -> None:
    probe = {"httpGet": {"path": "/", "port": 1}, "initialDelaySeconds": 10, "periodSeconds": 5}
    spec = {"containers": [{"name": "web", "image": "todo:1", "readinessProbe": probe}]}
    await api.create(DEPLOYMENTS, deployment(pod_spec=spec))
    async with cluster.feed(TARGET) as feed:
        assert feed.latest.probe_note == "readinessProbe.initialDelaySeconds 10"


@pytest.mark.parametrize(("cpu", "noted"), [("500m", "500m"), ("2", "")])
async def test_a_cpu_limit_below_one_core_is_noted(
    api: Api, cluster: KubernetesCluster, cpu: str, noted: str
) -> None:
    limited = {"name": "web", "image": "todo:1", "resources": {"limits": {"cpu": cpu}}}
    await api.create(DEPLOYMENTS, deployment(pod_spec={"containers": [limited]}))
    async with cluster.feed(TARGET) as feed:
        assert feed.latest.cpu_limit == noted


# --- faults -------------------------------------------------------------------------------------


async def test_a_feed_survives_an_outage_and_misses_nothing(
    api: Api, proxy: Proxy, shaky: KubernetesCluster, events: list[Event]
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    async with shaky.feed(TARGET) as feed:
        await proxy.refuse()
        await until(lambda: any(isinstance(e, Outage) for e in events))
        await api.merge(WEB, {"spec": {"replicas": 4}})
        await proxy.accept()
        await shown(feed, lambda s: s.replicas == 4)
        await api.merge(WEB, {"spec": {"replicas": 5}})
        await shown(feed, lambda s: s.replicas == 5)
        await until(lambda: sum(isinstance(e, Outage) for e in events) == 2)
    gone, back = [e for e in events if isinstance(e, Outage)]
    assert (gone.what, gone.over, back.what, back.over) == (API_SERVER, False, API_SERVER, True)
    assert "127.0.0.1" in gone.message


async def test_a_server_that_is_not_there_at_the_start_is_waited_for_by_the_patient(
    api: Api, proxy: Proxy, tmp_path: Path, events: list[Event]
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    kubeconfig = through(api.kubeconfig, proxy, tmp_path / "through")
    await proxy.refuse()
    async with open_cluster(kubeconfig, events) as cluster:
        with pytest.raises(PlatformError):
            async with cluster.feed(TARGET):
                pass
    async with open_cluster(kubeconfig, events, patient=True) as cluster, anyio.create_task_group() as group:

        async def start_it() -> None:
            await until(lambda: bool(events))
            await proxy.accept()

        group.start_soon(start_it)
        with anyio.fail_after(20):
            async with cluster.feed(TARGET) as feed:
                assert feed.latest.exists
    gone, back = [e for e in events if isinstance(e, Outage)]
    assert (gone.what, gone.over, back.what, back.over) == (API_SERVER, False, API_SERVER, True)
    assert "127.0.0.1" in gone.message


async def test_a_server_that_says_no_at_the_start_is_not_waited_for(
    api: Api, proxy: Proxy, tmp_path: Path, events: list[Event]
) -> None:
    kubeconfig = through(api.kubeconfig, proxy, tmp_path / "through")
    proxy.on("GET", "/deployments", Answer(403, reason="Forbidden"), times=99)
    async with open_cluster(kubeconfig, events, patient=True) as cluster:
        with anyio.fail_after(20), pytest.raises(PlatformError) as caught:
            async with cluster.feed(TARGET):
                pass
    assert caught.value.reason == "Forbidden"


async def test_a_deletion_during_an_outage_is_seen(api: Api, proxy: Proxy, shaky: KubernetesCluster) -> None:
    await api.create(DEPLOYMENTS, deployment())
    async with shaky.feed(TARGET) as feed:
        await proxy.refuse()
        await api.delete(WEB)
        await proxy.accept()
        await shown(feed, lambda s: not s.exists)


async def test_one_cut_connection_is_mended_in_silence(
    api: Api, proxy: Proxy, shaky: KubernetesCluster, events: list[Event]
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    async with shaky.feed(TARGET) as feed:
        await proxy.wait_for("GET", "/deployments?watch=true")
        proxy.cut()
        await api.merge(WEB, {"spec": {"replicas": 4}})
        await shown(feed, lambda s: s.replicas == 4)
    assert events == []


async def test_s13_a_server_that_comes_back_on_another_port_is_found(
    api: Api, proxy: Proxy, shaky: KubernetesCluster, tmp_path: Any
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    calls: list[int] = []
    shaky.on_reconnect(lambda: calls.append(1))
    async with shaky.feed(TARGET) as feed:
        before = proxy.port
        await proxy.refuse()
        await api.merge(WEB, {"spec": {"replicas": 4}})
        await proxy.accept(0)
        assert proxy.port != before
        through(api.kubeconfig, proxy, tmp_path / "through")
        await shown(feed, lambda s: s.replicas == 4)
        assert shaky.platform.server == proxy.url


async def test_410_lists_again(api: Api, proxy: Proxy, shaky: KubernetesCluster) -> None:
    await api.create(DEPLOYMENTS, deployment())
    proxy.on("GET", "/deployments?watch=true", Answer(410, reason="Expired"))
    async with shaky.feed(TARGET) as feed:
        await api.merge(WEB, {"spec": {"replicas": 4}})
        await shown(feed, lambda s: s.replicas == 4)


async def test_410_inside_a_watch_lists_again(api: Api, proxy: Proxy, shaky: KubernetesCluster) -> None:
    line = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}\n'
    await api.create(DEPLOYMENTS, deployment())
    proxy.on("GET", "/deployments?watch=true", Answer(200, body=line))
    async with shaky.feed(TARGET) as feed:
        await proxy.wait_for("GET", "/deployments?watch=true", count=2)
        await api.merge(WEB, {"spec": {"replicas": 4}})
        await shown(feed, lambda s: s.replicas == 4)
    assert sum(line.endswith("/deployments") for line in proxy.seen) == 2


async def test_a_broken_line_of_a_watch_is_mended(api: Api, proxy: Proxy, shaky: KubernetesCluster) -> None:
    await api.create(DEPLOYMENTS, deployment())
    proxy.on("GET", "/deployments?watch=true", Answer(200, body=b'{"type": "ADD'))
    proxy.on("GET", "/pods?watch=true", Lose(keep=20))
    async with shaky.feed(TARGET) as feed:
        await api.merge(WEB, {"spec": {"replicas": 4}})
        await shown(feed, lambda s: s.replicas == 4)


async def test_500s_are_waited_out(
    api: Api, proxy: Proxy, shaky: KubernetesCluster, events: list[Event]
) -> None:
    await api.create(DEPLOYMENTS, deployment())
    async with shaky.feed(TARGET) as feed:
        proxy.on("GET", "/deployments", Answer(500), times=3)
        await proxy.wait_for("GET", "/deployments?watch=true")
        proxy.cut()
        await api.merge(WEB, {"spec": {"replicas": 4}})
        await shown(feed, lambda s: s.replicas == 4)


async def test_a_half_open_connection_ends_by_silence(
    api: Api, proxy: Proxy, tmp_path: Any, events: list[Event], monkeypatch: Any
) -> None:
    monkeypatch.setattr(informer, "SILENCE_SECONDS", 0.5)
    kubeconfig = through(api.kubeconfig, proxy, tmp_path / "half-open")
    await api.create(DEPLOYMENTS, deployment())
    async with open_cluster(kubeconfig, events) as shaky, shaky.feed(TARGET) as feed:
        await proxy.wait_for("GET", "/deployments?watch=true")
        proxy.freeze()
        await api.merge(WEB, {"spec": {"replicas": 4}})
        seen = len(proxy.seen)
        await until(lambda: len(proxy.seen) > seen)
        proxy.thaw()
        await shown(feed, lambda s: s.replicas == 4)


async def test_a_role_that_may_not_see_events_suffices(
    api: Api, proxy: Proxy, shaky: KubernetesCluster
) -> None:
    proxy.on("GET", "/events", Answer(403, reason="Forbidden"), times=99)
    await api.create(DEPLOYMENTS, deployment())
    async with shaky.feed(TARGET) as feed:
        assert feed.latest.exists
