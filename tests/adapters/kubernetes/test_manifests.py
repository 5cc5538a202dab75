from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from devloop.adapters.kubernetes.apply import applier
from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.adapters.kubernetes.manifests import put_refs, read_manifests
from devloop.adapters.kubernetes.patch import MANAGER
from devloop.deploy.diff import diff
from devloop.errors import ConfigError, PatchError
from devloop.image_refs import repository
from tests.support.kubernetes_objects import (
    DEPLOYMENTS,
    SERVICE,
    TARGET,
    Api,
    applied,
    deployment,
    loaded,
    ref,
)

WEB = f"{DEPLOYMENTS}/web"
CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}}


def write(path: Path, *documents: object) -> Path:
    path.write_text(yaml.safe_dump_all(documents, explicit_start=True))
    return path


def web_image(item: dict[str, Any]) -> str:
    return str(item["spec"]["template"]["spec"]["containers"][0]["image"])


async def test_objects_are_created_then_left_then_configured(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.yaml", deployment(), CONFIG_MAP, None)
    assert await applied(cluster, [path], []) == ("configmap/settings created", "deployment/web created")
    assert await applied(cluster, [path], []) == ()
    write(path, deployment(), {**CONFIG_MAP, "data": {"a": "2"}})
    assert await applied(cluster, [path], []) == ("configmap/settings configured",)


async def test_a_status_that_is_written_while_an_object_is_applied_is_no_change_of_it(
    api: Api, cluster: KubernetesCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.yaml", deployment())
    await applied(cluster, [path], [ref("1")])
    versions = [(await api.get(WEB))["metadata"]["resourceVersion"]]
    real = applier.send

    async def send(*arguments: Any) -> Any:
        await api.merge(f"{WEB}/status", {"status": {"observedGeneration": 99}}, "kube-controller-manager")
        return await real(*arguments)

    monkeypatch.setattr(applier, "send", send)
    assert await applied(cluster, [path], [ref("1")]) == ()
    versions.append((await api.get(WEB))["metadata"]["resourceVersion"])
    assert versions[0] != versions[1]


async def test_our_images_get_the_live_reference(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    spec = {
        "initContainers": [{"name": "migrate", "image": "docker.io/library/todo:1.0"}],
        "containers": [
            {"name": "web", "image": "todo:1.0", "imagePullPolicy": "Always"},
            {"name": "db", "image": "postgres:17", "imagePullPolicy": "Always"},
        ],
    }
    await applied(cluster, [write(tmp_path / "a.yaml", deployment(pod_spec=spec))], [ref("1")])
    found = (await api.get(WEB))["spec"]["template"]["spec"]
    assert found["initContainers"][0]["image"] == ref("1")
    assert [(c["image"], c["imagePullPolicy"]) for c in found["containers"]] == [
        (ref("1"), "IfNotPresent"),
        ("postgres:17", "Always"),
    ]


async def test_applying_again_after_a_patch_of_ours_is_no_conflict(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.yaml", deployment())
    await applied(cluster, [path], [ref("1")])
    await cluster.patch(TARGET, SERVICE, loaded("2"))
    assert await applied(cluster, [path], [ref("2")]) == ()
    assert web_image(await api.get(WEB)) == ref("2")
    await cluster.patch(TARGET, SERVICE, loaded("3"))
    assert await applied(cluster, [path], [ref("4")]) == ("deployment/web configured",)
    assert web_image(await api.get(WEB)) == ref("4")


async def test_the_workload_of_a_service_that_left_config_yaml_keeps_its_image(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    """`todo` without devloop's tag exists nowhere: the changed manifest would break what runs."""
    untagged = {"containers": [{"name": "web", "image": "todo"}]}
    path = write(tmp_path / "a.yaml", deployment(pod_spec=untagged))
    await applied(cluster, [path], [ref("1")])
    assert diff(await cluster.applier.preview(read_manifests([path]), MANAGER, {})) == []
    assert await applied(cluster, [path], []) == ()
    write(path, deployment(pod_spec={**untagged, "terminationGracePeriodSeconds": 1}))
    assert await applied(cluster, [path], []) == ("deployment/web configured",)
    assert web_image(await api.get(WEB)) == ref("1")
    write(path, deployment(pod_spec={"containers": [{"name": "web", "image": "todo:2.0"}]}))
    assert await applied(cluster, [path], []) == ("deployment/web configured",)
    assert web_image(await api.get(WEB)) == "todo:2.0", "the manifest says what it is to run"


async def test_what_kubectl_applied_before_is_taken_over(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    await api.create(DEPLOYMENTS + "?fieldManager=kubectl-client-side-apply", deployment(replicas=2))
    path = write(tmp_path / "a.yaml", deployment(replicas=1))
    assert await applied(cluster, [path], [ref("1")]) == ("deployment/web configured",)
    assert (await api.get(WEB))["spec"]["replicas"] == 1


async def test_a_field_of_another_manager_is_a_patch_error_that_names_both(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.yaml", deployment(replicas=1))
    await applied(cluster, [path], [])
    await api.merge(WEB, {"spec": {"replicas": 5}}, "autoscaler")
    with pytest.raises(PatchError) as caught:
        await applied(cluster, [path], [])
    assert "autoscaler" in caught.value.message
    assert ".spec.replicas" in caught.value.message
    assert f"{path}:2" in caught.value.message
    assert (await api.get(WEB))["spec"]["replicas"] == 5


async def test_s20_an_image_that_somebody_set_by_hand_is_taken_back_by_a_changed_manifest_too(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.yaml", deployment())
    await applied(cluster, [path], [ref("1")])
    containers = [{"name": "web", "image": ref("0")}]
    body = {"spec": {"template": {"spec": {"containers": containers}}}}
    await api.call("PATCH", f"{WEB}?fieldManager=kubectl-set", body, "application/strategic-merge-patch+json")
    write(path, deployment(replicas=3))
    assert await applied(cluster, [path], [ref("2")]) == ("deployment/web configured",)
    assert web_image(await api.get(WEB)) == ref("2")
    assert (await api.get(WEB))["spec"]["replicas"] == 3


async def test_namespaces_come_first_and_a_named_namespace_is_kept(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    elsewhere = {**CONFIG_MAP, "metadata": {"name": "settings", "namespace": "other"}}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}
    path = write(tmp_path / "a.yaml", elsewhere, namespace)
    assert await applied(cluster, [path], []) == ("namespace/other created", "configmap/settings created")
    assert (await api.get("/api/v1/namespaces/other/configmaps/settings"))["data"] == {"a": "1"}


async def test_a_missing_namespace_is_reported(api: Api, cluster: KubernetesCluster, tmp_path: Path) -> None:
    elsewhere = {**CONFIG_MAP, "metadata": {"name": "settings", "namespace": "nowhere"}}
    assert await applied(cluster, [write(tmp_path / "a.yaml", elsewhere, CONFIG_MAP)], []) == (
        "configmap/settings created",
    )
    error = await cluster.prerequisite()
    assert error is not None
    assert error.reason == "MissingNamespace"
    assert "Namespace nowhere (asked for by configmap/settings)" in error.message
    assert error.hint == f"kubectl --context {cluster.context} create namespace nowhere"
    await api.create("/api/v1/namespaces", {"metadata": {"name": "nowhere"}})
    assert await cluster.prerequisite() is None


@pytest.mark.parametrize(
    "version, kind", [("v1", "Depoyment"), ("apps/v1", "Depoyment"), ("acme.io/v1", "Rocket")]
)
async def test_a_kind_that_is_not_served_is_reported_with_its_place(
    api: Api, cluster: KubernetesCluster, tmp_path: Path, version: str, kind: str
) -> None:
    path = write(tmp_path / "a.yaml", {"apiVersion": version, "kind": kind, "metadata": {"name": "x"}})
    assert await applied(cluster, [path], []) == ()
    error = await cluster.prerequisite()
    assert error is not None
    assert error.reason == "UnknownKind"
    assert f"{path}:2: {kind.lower()}/x: " in error.message


async def test_each_object_of_a_kind_that_is_not_served_is_named_and_all_others_are_applied(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    scaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"}}
    second = {**scaler, "metadata": {"name": "api"}}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"}}
    path = write(tmp_path / "a.yaml", scaler, CONFIG_MAP, second, budget)
    assert await applied(cluster, [path], []) == ("configmap/settings created",)
    error = await cluster.prerequisite()
    assert error is not None
    assert sorted(line.partition(": context")[0] for line in error.message.splitlines()) == [
        f"{path}:14: horizontalpodautoscaler/api",
        f"{path}:19: poddisruptionbudget/web",
        f"{path}:2: horizontalpodautoscaler/web",
    ]


async def test_jobs_and_cron_jobs_are_applied_and_keep_their_template(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    """The image is that of a service: its reference is put in, as in every workload."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": SERVICE.image}]}
    spec = {"template": {"spec": pod}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate"}, "spec": spec}
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": spec}},
    }
    path = write(tmp_path / "a.yaml", job, cron)
    assert await applied(cluster, [path], [ref("1")]) == ("job/migrate created", "cronjob/nightly created")
    assert await cluster.prerequisite() is None
    assert await applied(cluster, [path], [ref("1")]) == ()
    # A newer image of the service is for the next Job of that name: this one has run, and stays as it is.
    assert await applied(cluster, [path], [ref("2")]) == ("cronjob/nightly configured",)
    changed = await cluster.applier.preview(
        read_manifests([path]), "devloop", {repository(SERVICE.image): ref("3")}
    )
    assert [one.name for one in changed if one.live != one.wanted] == ["cronjob/nightly"]
    # A service without a target: what is live is what the CronJob has, not the name in its manifest.
    unknown = [repository(SERVICE.image)]
    assert diff(await cluster.applier.preview(read_manifests([path]), "devloop", {}, unknown)) == []
    job["spec"] = {"template": {"spec": {**pod, "hostname": "other"}}}
    with pytest.raises(PatchError, match="field is immutable") as caught:
        await applied(cluster, [write(tmp_path / "a.yaml", job)], [ref("1")])
    assert "kubectl delete job migrate" in (caught.value.hint or "")


async def test_a_changed_image_of_somebody_elses_in_a_job_that_has_run_is_refused_and_reported(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    def job(image: str) -> dict[str, Any]:
        pod = {
            "restartPolicy": "Never",
            "containers": [{"name": "c", "image": image, "imagePullPolicy": "Always"}],
        }
        spec = {"template": {"spec": pod}}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate"}, "spec": spec}

    path = write(tmp_path / "a.yaml", job("migrate/migrate:4.17"))
    assert await applied(cluster, [path], [ref("1")]) == ("job/migrate created",)
    assert await applied(cluster, [path], [ref("1")]) == ()
    with pytest.raises(PatchError, match="field is immutable"):
        await applied(cluster, [write(path, job("migrate/migrate:4.18"))], [ref("1")])


async def test_what_the_server_refuses_is_reported_in_its_words(
    api: Api, cluster: KubernetesCluster, tmp_path: Path
) -> None:
    bad = deployment()
    bad["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    with pytest.raises(PatchError) as caught:
        await applied(cluster, [write(tmp_path / "a.yaml", bad)], [])
    assert "selector" in caught.value.message
    assert f"{tmp_path}/a.yaml:2" in caught.value.message


# --- reading, no server -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, place, expected",
    [
        ("a: 1\nb: [1\n", ":3: ", "a [ or { is not closed"),
        ("kind: X\napiVersion: v1\n---\nfoo: bar\n", ":1: ", "metadata.name is missing"),
        ("{kind: X, apiVersion: v1, metadata: {name: a}}\n---\nfoo: bar\n", ":3: ", "apiVersion is missing"),
        ("- 1\n", ":1: ", "a list where a mapping is expected"),
        ("just text\n", ":1: ", "a text where a mapping is expected"),
        ("kind: List\napiVersion: v1\nitems: 5\n", ":1: ", "items: a number where a list is expected"),
        ("a: *nowhere\n", ":1: ", "unknown anchor 'nowhere'"),
        ("a: 2026-99-99\nkind: X\n", ":1: ", ""),
    ],
)
def test_bad_yaml_is_a_config_error_with_file_and_line(
    tmp_path: Path, text: str, place: str, expected: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_manifests([path])
    assert f"{path}{place}" in caught.value.message
    assert expected in caught.value.message
    assert caught.value.exit_code == 2


def test_a_file_that_is_not_there_or_not_text_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "gone", tmp_path / "binary"):
        with pytest.raises(ConfigError, match=str(path)):
            read_manifests([path])


def test_lists_are_opened_and_the_order_is_helms(tmp_path: Path) -> None:
    def thing(kind: str, version: str = "v1") -> dict[str, object]:
        return {"apiVersion": version, "kind": kind, "metadata": {"name": "x"}}

    listed = {"apiVersion": "v1", "kind": "List", "items": [thing("Deployment", "apps/v1"), thing("Secret")]}
    one = write(tmp_path / "1.yaml", thing("Rocket", "acme.io/v1"), listed)
    two = write(tmp_path / "2.yaml", thing("Service"), thing("Namespace"), None)
    assert [m.name for m in read_manifests([one, two])] == [
        "namespace/x",
        "secret/x",
        "service/x",
        "deployment/x",
        "rocket/x",
    ]


def test_images_are_found_in_every_kind_of_workload() -> None:
    pod_spec = {"containers": [{"name": "a", "image": "todo"}]}
    cron = {"spec": {"jobTemplate": {"spec": {"template": {"spec": pod_spec}}}}}
    for item in ({"spec": pod_spec}, {"spec": {"template": {"spec": pod_spec}}}, cron):
        assert ref("1") in str(put_refs(item, {"docker.io/library/todo": ref("1")}))
    assert put_refs({"data": {"image": "todo"}}, {"docker.io/library/todo": "x"}) == {
        "data": {"image": "todo"}
    }
