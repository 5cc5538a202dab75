"""What doctor says of a service's targets: images, containers that two set, probes that cost time."""

from __future__ import annotations

from pathlib import Path

import pytest

from devloop.checks.origin import from_file
from devloop.checks.subject import Subject
from devloop.doctor.diagnosis import Diagnosis
from devloop.doctor.probes import waits
from devloop.doctor.workloads import Deployed, examine
from devloop.model import BuildSpec, Service, Target
from tests.support.project_files import workload

BUILD = BuildSpec(Path("/src"), Path("/src/Dockerfile"))
WEB = Target("deployment", "web", "default")


def service(name: str, image: str, *targets: Target) -> Service:
    return Service(name, image, BUILD, targets)


def written(folder: Path, text: str) -> list[Subject]:
    (folder / "web.yaml").write_text(text)
    return from_file(folder / "web.yaml", folder, "default")


def bad(found: list[Diagnosis]) -> list[tuple[str, str, str | None]]:
    return [(one.grade, one.found, one.fix) for one in found if one.grade != "ok"]


def test_a_target_that_fits_is_ok_and_says_where_it_is_written(tmp_path: Path) -> None:
    deployed = Deployed(written(tmp_path, workload("web", "shop:1")), {})
    (found,) = examine(service("web", "shop", WEB), (), deployed)
    assert (found.grade, found.what) == ("ok", "service web")
    assert found.found == (
        "deployment/web in namespace default, container web (web.yaml:1), not in the cluster yet"
    )


def test_an_image_that_no_container_runs_is_a_failure_that_names_the_one_that_is_there(
    tmp_path: Path,
) -> None:
    deployed = Deployed(written(tmp_path, workload("web", "app=registry.local/shop-web:2")), {})
    assert bad(examine(service("web", "shop", WEB), (), deployed)) == [
        (
            "failure",
            "no container of deployment/web (web.yaml:1) runs shop; it has: app (registry.local/shop-web:2)",
            "image: registry.local/shop-web for the service in config.yaml, or image: shop in web.yaml:1",
        )
    ]


def test_a_container_that_is_not_there_is_a_failure_that_names_the_likely_one(tmp_path: Path) -> None:
    deployed = Deployed(written(tmp_path, workload("web", "app=shop:1", "proxy=envoy:1")), {})
    target = Target("deployment", "web", "default", "ap")
    assert bad(examine(service("web", "shop", target), (), deployed)) == [
        (
            "failure",
            "deployment/web (web.yaml:1) has no container ap; it has: app (shop:1), proxy (envoy:1)",
            "deploy: {deployment: web, container: app}",
        )
    ]


def test_two_services_on_one_container_are_a_failure_of_both(tmp_path: Path) -> None:
    deployed = Deployed(written(tmp_path, workload("web", "app=shop:1")), {})
    by_image = service("web", "shop", WEB)
    by_name = service("api", "api", Target("deployment", "web", "default", "app"))
    both = (by_image, by_name)
    assert ("failure", "deployment/web: container app is set by web and by api") in [
        one[:2] for one in bad(examine(by_image, both, deployed))
    ]
    assert ("failure", "deployment/web: container app is set by api and by web") in [
        one[:2] for one in bad(examine(by_name, both, deployed))
    ]


def test_a_named_container_whose_manifest_names_another_image_is_a_warning(tmp_path: Path) -> None:
    deployed = Deployed(written(tmp_path, workload("web", "app=nginx:1")), {})
    target = Target("deployment", "web", "default", "app")
    ((grade, text, fix),) = bad(examine(service("web", "shop", target), (), deployed))
    assert (grade, fix) == ("warning", "image: shop in web.yaml:10")
    assert "whenever the manifest is applied, that image starts first" in text


def test_a_second_workload_that_runs_the_image_is_a_warning(tmp_path: Path) -> None:
    text = workload("web", "shop:1") + "---\n" + workload("worker", "shop:1", kind="StatefulSet")
    deployed = Deployed(written(tmp_path, text), {})
    ((grade, found, fix),) = bad(examine(service("web", "shop", WEB), (), deployed))
    assert grade == "warning"
    assert found == "statefulset/worker (web.yaml:12) runs its image too, and no save rolls it out"
    assert fix == "deploy: [{deployment: web}, {statefulset: worker}]"


def test_a_kind_that_cannot_be_a_target_is_named_with_what_can(tmp_path: Path) -> None:
    text = workload("web", "shop:1") + "---\n" + workload("agent", "shop:1", kind="DaemonSet")
    ((grade, found, fix),) = bad(
        examine(service("web", "shop", WEB), (), Deployed(written(tmp_path, text), {}))
    )
    assert grade == "warning"
    assert found.endswith("runs its image too, and no save rolls it out: a DaemonSet cannot be a target")
    assert fix == "make it a Deployment or a StatefulSet to have it in deploy: of web"


@pytest.mark.parametrize(
    ("target", "found", "fix"),
    [
        (
            Target("deployment", "wep", "default"),
            "neither",
            "did you mean web? write deploy: {deployment: web}",
        ),
        (Target("statefulset", "web", "default"), "there is Deployment web", "deploy: {deployment: web}"),
        (
            Target("deployment", "web", "todo"),
            "there is Deployment web in namespace default",
            "deploy: {deployment: web, namespace: default}",
        ),
        (
            Target("deployment", "zzz", "default"),
            "deployment/zzz is neither in the manifests nor in namespace default of the cluster",
            "list its file under manifests: in config.yaml, or kubectl -n default apply -f FILE",
        ),
    ],
)
def test_a_target_that_is_nowhere_is_a_failure(tmp_path: Path, target: Target, found: str, fix: str) -> None:
    deployed = Deployed(written(tmp_path, workload("web", "shop:1")), {})
    ((grade, text, shown),) = bad(examine(service("web", "shop", target), (), deployed))
    assert (grade, shown) == ("failure", fix)
    assert found in text


def test_a_target_that_may_be_in_a_cluster_that_was_not_asked_is_a_warning() -> None:
    ((grade, text, _),) = bad(examine(service("web", "shop", WEB), (), Deployed([], {}, asked=False)))
    assert (grade, text) == (
        "warning",
        "deployment/web is not in the manifests, and the cluster was not asked",
    )


def test_what_is_in_the_cluster_alone_is_judged_too(tmp_path: Path) -> None:
    live = written(tmp_path, workload("web", "other:1"))[0]
    live = Subject(live.item, "default")
    deployed = Deployed([], {("deployment", "default", "web"): live})
    ((grade, text, _),) = bad(examine(service("web", "shop", WEB), (), deployed))
    assert grade == "failure"
    assert text == "no container of deployment/web (in the cluster) runs shop; it has: web (other:1)"


@pytest.mark.parametrize(
    ("more", "seconds", "settings"),
    [
        ("", 0, ()),
        ("readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}", 0, ()),
        ("readinessProbe: {httpGet: {port: 80}}", 10, ("readinessProbe.periodSeconds 10 (the default)",)),
        (
            "readinessProbe: {initialDelaySeconds: 30, periodSeconds: 5}",
            35,
            ("readinessProbe.initialDelaySeconds 30", "readinessProbe.periodSeconds 5"),
        ),
        (
            "startupProbe: {periodSeconds: 1}, readinessProbe: {periodSeconds: 10}",
            0,  # the first look of readiness follows the start at once
            (),
        ),
        (
            "startupProbe: {initialDelaySeconds: 20, periodSeconds: 1}, readinessProbe: {periodSeconds: 10}",
            21,
            ("startupProbe.initialDelaySeconds 20",),
        ),
        (
            "readinessProbe: {periodSeconds: 1, successThreshold: 5}",
            5,
            ("readinessProbe.successThreshold 5",),
        ),
        ("livenessProbe: {initialDelaySeconds: 60}", 0, ()),
        ('readinessProbe: {periodSeconds: "a"}', 10, ("readinessProbe.periodSeconds a (the default)",)),
    ],
)
def test_the_seconds_that_probes_add_to_every_save(
    tmp_path: Path, more: str, seconds: int, settings: tuple[str, ...]
) -> None:
    text = workload("web", "shop:1").replace(
        "{name: web, image: shop:1}", f"{{name: web, image: shop:1, {more}}}"
    )
    found = waits(written(tmp_path, text)[0])
    if '"a"' in more:  # a mistake of type is the schema's to report
        assert [one.seconds for one in found] == [10]
        return
    assert [(one.seconds, one.settings) for one in found] == ([(seconds, settings)] if seconds else [])


def test_slow_probes_are_a_warning_with_what_to_write(tmp_path: Path) -> None:
    probe = "readinessProbe: {initialDelaySeconds: 15}"
    text = workload("web", "shop:1").replace("image: shop:1}", f"image: shop:1, {probe}}}")
    text = text.replace("spec:\n  selector", "spec:\n  minReadySeconds: 5\n  selector")
    ((grade, found, fix),) = bad(
        examine(service("web", "shop", WEB), (), Deployed(written(tmp_path, text), {}))
    )
    assert grade == "warning"
    assert found == (
        "the probes of container web of deployment/web (web.yaml:1) make every save wait up to 30 s: "
        "readinessProbe.initialDelaySeconds 15, readinessProbe.periodSeconds 10 (the default), "
        "minReadySeconds 5"
    )
    assert fix == (
        "readinessProbe: {initialDelaySeconds: 0, periodSeconds: 1}; "
        "for a slow start, startupProbe: {periodSeconds: 1, failureThreshold: 120}; minReadySeconds: 0"
    )
