"""devloop's adapters and judgement over a whole cluster, with real pods: the sandbox, or the one that
DEVLOOP_TEST_KUBECONFIG names. The only image needed is DEVLOOP_TEST_IMAGE (a shell, python3)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
import yaml

from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.adapters.lock import Owner
from devloop.clock import Clock
from devloop.image_refs import split
from devloop.model import (
    BuildSpec,
    Fingerprint,
    Image,
    Inputs,
    LoadedImage,
    Ready,
    Revision,
    Service,
    Snapshot,
    Stuck,
    Target,
    Verdict,
)
from devloop.ports import Feed
from devloop.rollout.judge import Expectation, failed_containers, judge, lost_image
from devloop.rollout.progress import phases
from tests.contract.cluster import Namespace
from tests.contract.conftest import cluster as contract_cluster
from tests.contract.conftest import kubeconfig, namespaces, ns
from tests.support.faulty_proxy import make_cert, open_proxy, through, upstream_of

__all__ = ["contract_cluster", "kubeconfig", "namespaces", "ns"]
pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(300)]

IMAGE = os.environ.get("DEVLOOP_TEST_IMAGE", "devloop-base:bookworm")
REPOSITORY = split(IMAGE)[0]
SERVE = ["sh", "-c", "echo serving; exec python3 -m http.server 8000"]
NO_INPUTS = Inputs({}, (), "linux/amd64", "", "")


@pytest.fixture(scope="session")
def cluster(kubeconfig: Path) -> Any:
    """The contract suite's own client, under the name that its fixtures ask for."""
    from tests.contract.cluster import Cluster

    opened = Cluster(kubeconfig)
    yield opened
    opened.close()


@asynccontextmanager
async def open_real(kubeconfig: Path) -> AsyncIterator[KubernetesCluster]:
    context = yaml.safe_load(kubeconfig.read_text())["contexts"][0]["name"]
    async with KubernetesCluster(
        [kubeconfig],
        context,
        owner=Owner.here(Path("/test/config.yaml")),
        clock=Clock(),
        emit=lambda event: None,
        allow_remote=True,
    ) as opened:
        yield opened


@pytest.fixture
async def real(kubeconfig: Path) -> AsyncIterator[KubernetesCluster]:
    async with open_real(kubeconfig) as opened:
        yield opened


class Workload:
    """One Deployment in a ns, and what a test does with it."""

    def __init__(
        self, real: KubernetesCluster, ns: Namespace, kind: Literal["deployment", "statefulset"]
    ) -> None:
        self.real = real
        self.target = Target(kind, "web", ns.name)
        self.path = f"/apis/apps/v1/namespaces/{ns.name}/{kind}s"
        self.service = Service("web", REPOSITORY, BuildSpec(Path("/"), Path("/")), (self.target,))
        self.clock = Clock()

    async def create(self, image: str, command: list[str], **container: Any) -> None:
        spec, pod = container.pop("spec", {}), container.pop("pod", {})
        whole = {
            "name": "web",
            "image": image,
            "imagePullPolicy": "Never",
            "command": command,
            **container,
        }
        body = {
            "apiVersion": "apps/v1",
            "kind": {"deployment": "Deployment", "statefulset": "StatefulSet"}[self.target.kind],
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [whole], "terminationGracePeriodSeconds": 1, **pod},
                },
                **spec,
            },
        }
        await self.real.client.request("POST", self.path, body=body)

    async def patch(self, ref: str) -> Expectation:
        image = Image("web", Fingerprint("0" * 16, NO_INPUTS), ref, "", "cli")
        revision = await self.real.patch(self.target, self.service, LoadedImage(image, (), "shared"))
        return Expectation.of(REPOSITORY, revision, "")

    def standing(self, ref: str = IMAGE) -> Expectation:
        return Expectation(REPOSITORY, ref)

    async def seen(self, feed: Feed, wanted: Callable[[Snapshot], object]) -> Snapshot:
        with anyio.fail_after(120):
            snapshot = feed.latest
            while not wanted(snapshot):
                snapshot = await feed.next(snapshot)
            return snapshot

    async def verdict(self, feed: Feed, expected: Expectation) -> tuple[Snapshot, Verdict]:
        """The first verdict that is an outcome."""
        with anyio.fail_after(120):
            while True:
                snapshot, now = feed.latest, self.clock.now()
                found = judge(snapshot, expected, now)
                if isinstance(found, Ready | Stuck):
                    return snapshot, found
                wait = None if found.deadline is None else max(0.0, found.deadline - now)
                with anyio.move_on_after(wait):
                    await feed.next(snapshot)


@pytest.fixture
def workload(real: KubernetesCluster, ns: Namespace) -> Workload:
    return Workload(real, ns, "deployment")


@pytest.fixture
def stateful(real: KubernetesCluster, ns: Namespace) -> Workload:
    return Workload(real, ns, "statefulset")


async def test_s1_s18_s32_a_patched_image_becomes_live(workload: Workload) -> None:
    probe = {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1}
    await workload.create(f"{REPOSITORY}:not-there", SERVE, readinessProbe=probe)
    async with workload.real.feed(workload.target) as feed:
        expected = await workload.patch(IMAGE)
        snapshot, verdict = await workload.verdict(feed, expected)
        assert isinstance(verdict, Ready), verdict
        (view,) = verdict.pods
        assert view.containers[0].image == IMAGE
        assert view.containers[0].image_id.rpartition("@")[2].startswith("sha256:")
        sent = Revision(workload.target, expected.uid, expected.generation, IMAGE, expected.patched_at)
        reached = list(phases(REPOSITORY, [(snapshot, sent)]))
    assert [phase for phase, _, _ in reached] == ["scheduled", "started", "serving"]
    assert not any(coarse for _, _, coarse in reached)
    assert [seconds for _, seconds, _ in reached] == sorted(seconds for _, seconds, _ in reached)


async def test_s13_s19_an_image_that_no_node_has_is_lost_and_then_stuck(workload: Workload) -> None:
    await workload.create(IMAGE, SERVE)
    missing = f"{REPOSITORY}:dl-00000000deadbeef"
    async with workload.real.feed(workload.target) as feed:
        expected = await workload.patch(missing)
        snapshot = await workload.seen(feed, lambda s: lost_image(s, expected))
        assert not isinstance(judge(snapshot, expected, snapshot.at), Stuck)
        verdict = judge(feed.latest, expected, workload.clock.now() + 11)
        assert isinstance(verdict, Stuck)
        assert verdict.reason == "ErrImageNeverPull"
        assert missing in str(verdict.hint)


async def test_s19_a_crash_is_shown_at_its_first_exit_and_judged_later(workload: Workload) -> None:
    # Without a probe Kubernetes calls the pod ready between its start and its end.
    probe = {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1}
    await workload.create(IMAGE, ["sh", "-c", "echo last; echo words; exit 3"], readinessProbe=probe)
    async with workload.real.feed(workload.target) as feed:
        expected = workload.standing()
        snapshot = await workload.seen(feed, lambda s: list(failed_containers(s, expected)))
        view, container = next(failed_containers(snapshot, expected))
        assert container.exit_code == 3
        assert await workload.real.last_words(workload.target, view.name, "web") == ("last", "words")
        _, verdict = await workload.verdict(feed, expected)
        assert isinstance(verdict, Stuck)
        assert "exited with code 3" in verdict.message
        assert await workload.real.last_words(workload.target, view.name, "web", 1) == ("words",)


async def test_a_log_is_followed_to_its_end(workload: Workload) -> None:
    script = "for i in $(seq 30); do echo line $i; sleep 0.05; done; sleep 600"
    await workload.create(IMAGE, ["sh", "-c", script])
    async with workload.real.feed(workload.target) as feed:
        snapshot = await workload.seen(feed, lambda s: s.pods)
        found = []
        with anyio.fail_after(60):
            async with aclosing(workload.real.logs(workload.target, snapshot.pods[0].name, "web")) as log:
                async for line in log:
                    found.append(line)
                    if len(found) == 30:
                        break
    assert found == [f"line {number}" for number in range(1, 31)]


async def test_a_log_whose_connection_is_cut_goes_on_where_it_was(
    workload: Workload, kubeconfig: Path, tmp_path: Path
) -> None:
    script = "for i in $(seq 60); do echo line $i; sleep 0.1; done; sleep 600"
    await workload.create(IMAGE, ["sh", "-c", script])
    server, tls = upstream_of(kubeconfig)
    async with (
        workload.real.feed(workload.target) as feed,
        open_proxy(server, upstream_tls=tls, cert=make_cert(tmp_path)) as proxy,
        open_real(through(kubeconfig, proxy, tmp_path / "through")) as shaky,
    ):
        snapshot = await workload.seen(feed, lambda s: s.pods and s.pods[0].started_at)
        found: list[str] = []
        with anyio.fail_after(60):
            async with aclosing(shaky.logs(workload.target, snapshot.pods[0].name, "web")) as log:
                async for line in log:
                    found.append(line)
                    if len(found) in (5, 20):
                        proxy.cut()
                    if len(found) == 60:
                        break
        assert sum("/log?" in line for line in proxy.seen) >= 3
    assert found == [f"line {number}" for number in range(1, 61)]


async def test_the_log_of_a_pod_that_goes_away_ends(workload: Workload) -> None:
    await workload.create(IMAGE, ["sh", "-c", "echo here; exec sleep 600"])
    async with workload.real.feed(workload.target) as feed:
        snapshot = await workload.seen(feed, lambda s: s.pods)
        name = snapshot.pods[0].name
        with anyio.fail_after(60):
            async with aclosing(workload.real.logs(workload.target, name, "web")) as log:
                assert await anext(log) == "here"
                await workload.real.client.request("DELETE", f"{workload.path}/web")
                assert [line async for line in log] == []


async def test_s19_a_missing_key_of_a_configmap_is_stuck_at_once(workload: Workload) -> None:
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "a"}}}]
    await workload.create(IMAGE, SERVE, env=env)
    async with workload.real.feed(workload.target) as feed:
        _, verdict = await workload.verdict(feed, workload.standing())
    assert isinstance(verdict, Stuck)
    assert verdict.reason == "CreateContainerConfigError"
    assert "gone" in verdict.message


async def test_s19_a_pod_that_admission_refuses_is_stuck_after_its_grace(workload: Workload) -> None:
    await workload.create(IMAGE, SERVE, pod={"hostPID": True})
    async with workload.real.feed(workload.target) as feed:
        snapshot = await workload.seen(feed, lambda s: "ReplicaFailure" in s.conditions)
        verdict = judge(snapshot, workload.standing(), workload.clock.now() + 11)
    assert isinstance(verdict, Stuck)
    assert verdict.reason == "FailedCreate"
    assert "PodSecurity" in verdict.message


async def test_s18_a_paused_deployment_is_stuck_with_the_resume_line(workload: Workload) -> None:
    await workload.create(f"{REPOSITORY}:not-there", SERVE, spec={"paused": True})
    async with workload.real.feed(workload.target) as feed:
        _, verdict = await workload.verdict(feed, await workload.patch(IMAGE))
    assert isinstance(verdict, Stuck)
    assert verdict.reason == "Paused"
    assert "rollout resume deployment/web" in str(verdict.hint)


async def test_s18_no_replicas_are_live(workload: Workload) -> None:
    await workload.create(f"{REPOSITORY}:not-there", SERVE, spec={"replicas": 0})
    async with workload.real.feed(workload.target) as feed:
        _, verdict = await workload.verdict(feed, await workload.patch(IMAGE))
    assert verdict == Ready(())


async def test_s18_a_return_to_an_earlier_template_is_judged_by_its_pods(workload: Workload) -> None:
    """The stale-deadline trap: the ReplicaSet is an old one, and so is what its conditions say."""
    await workload.create(IMAGE, SERVE, spec={"progressDeadlineSeconds": 5})
    async with workload.real.feed(workload.target) as feed:
        await workload.verdict(feed, workload.standing())
        away = await workload.patch(f"{REPOSITORY}:dl-00000000deadbeef")
        await workload.seen(
            feed, lambda s: s.conditions.get("Progressing", ("", "", ""))[1] == "ProgressDeadlineExceeded"
        )
        assert isinstance(judge(feed.latest, away, workload.clock.now()), Stuck)
        back = await workload.patch(IMAGE)
        _, verdict = await workload.verdict(feed, back)
        assert isinstance(verdict, Ready), verdict


# --- StatefulSets -------------------------------------------------------------------------------


async def test_s18_a_statefulset_is_followed_to_its_end(stateful: Workload) -> None:
    await stateful.create(IMAGE, SERVE, spec={"serviceName": "web"})
    async with stateful.real.feed(stateful.target) as feed:
        _, verdict = await stateful.verdict(feed, stateful.standing())
        assert isinstance(verdict, Ready), verdict
        assert verdict.pods[0].name == "web-0"
        assert verdict.pods[0].revision == feed.latest.revision


async def test_s18_a_statefulset_whose_broken_pod_blocks_the_mend_says_what_to_delete(
    stateful: Workload,
) -> None:
    """With OrderedReady Kubernetes keeps a broken pod of the old template; a newer one may mend that."""
    await stateful.create(f"{REPOSITORY}:not-there", SERVE, spec={"serviceName": "web"})
    async with stateful.real.feed(stateful.target) as feed:
        await stateful.seen(feed, lambda s: s.pods and s.pods[0].since is not None)
        _, verdict = await stateful.verdict(feed, await stateful.patch(IMAGE))
    if isinstance(verdict, Stuck):
        assert verdict.reason == "BrokenPodBlocks"
        assert "kubectl delete pod web-0" in str(verdict.hint)
    else:
        assert [pod.containers[0].image for pod in verdict.pods] == [IMAGE]


async def test_s18_a_partitioned_statefulset_is_stuck_and_says_so(stateful: Workload) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    await stateful.create(
        f"{REPOSITORY}:not-there", SERVE, spec={"serviceName": "web", "updateStrategy": strategy}
    )
    async with stateful.real.feed(stateful.target) as feed:
        _, verdict = await stateful.verdict(feed, await stateful.patch(IMAGE))
    assert isinstance(verdict, Stuck)
    assert verdict.reason == "Partitioned"


async def test_jobs_and_cron_jobs_of_the_manifests_run(
    real: KubernetesCluster, ns: Namespace, tmp_path: Path
) -> None:
    """Manifests that nothing rolls: a Job runs to its end with the service's image, a CronJob waits."""
    pod = {
        "restartPolicy": "Never",
        "containers": [{"name": "c", "image": REPOSITORY, "command": ["sh", "-c", "echo migrated"]}],
    }
    spec = {"template": {"spec": pod}}
    meta = {"namespace": ns.name}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate", **meta}, "spec": spec}
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "nightly", **meta},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": spec}},
    }
    file = tmp_path / "jobs.yaml"
    file.write_text(yaml.safe_dump_all([job, cron]))
    done = await real.apply([file], [IMAGE])
    assert done.changed == ("job/migrate created", "cronjob/nightly created")
    assert done.troubles == ()
    with anyio.fail_after(120):
        while not (await anyio.to_thread.run_sync(ns.read, "Job", "migrate"))["status"].get("succeeded"):
            await anyio.sleep(0.1)
    (ran,) = ns.items("Pod")
    assert ran["spec"]["containers"][0]["image"] == IMAGE
    assert ns.log(ran["metadata"]["name"]) == "migrated\n"
    assert (await real.apply([file], [IMAGE])).changed == ()
