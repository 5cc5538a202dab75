"""What rendered objects need and do not bring, and the line that makes each."""

from __future__ import annotations

import pytest

from devloop.deploy.needs import Need, needs_of, objects_of

KEY = "{valueFrom: {secretKeyRef: {name: x, key: %s}}}"
POD = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {template: {spec: %s}}
"""


def needs(manifest: str) -> list[Need]:
    return needs_of(objects_of(manifest), "shop")


@pytest.mark.parametrize(
    "spec, kind, keys, words",
    [
        ("{containers: [{envFrom: [{secretRef: {name: x}}]}]}", "Secret", (), "generic x --from-literal=KEY"),
        (
            "{containers: [{env: [" + KEY % "A" + ", " + KEY % "B" + "]}]}",
            "Secret", ("A", "B"), "generic x --from-literal=A=… --from-literal=B=…",
        ),
        ("{initContainers: [{envFrom: [{configMapRef: {name: x}}]}]}", "ConfigMap", (), "configmap x --from"),
        ("{volumes: [{secret: {secretName: x, items: [{key: k, path: p}]}}]}", "Secret", ("k",), "generic x"),
        ("{volumes: [{configMap: {name: x}}]}", "ConfigMap", (), "configmap x"),
        ("{volumes: [{projected: {sources: [{secret: {name: x}}]}}]}", "Secret", (), "generic x"),
        ("{imagePullSecrets: [{name: x}]}", "Secret", (), "docker-registry x --docker-server=…"),
    ],
)  # fmt: skip
def test_what_a_pod_names(spec: str, kind: str, keys: tuple[str, ...], words: str) -> None:
    (found,) = needs(POD % spec)
    assert (found.kind, found.name, found.namespace, found.wanted_by) == (kind, "x", "shop", "deployment/web")
    assert found.keys == keys
    line = found.make("minikube")
    assert line.startswith("kubectl --context minikube -n shop create ")
    assert words in line


def test_tls_of_an_ingress_and_a_jobs_template() -> None:
    ingress = "kind: Ingress\nmetadata: {name: in}\nspec: {tls: [{secretName: cert}]}\n"
    assert needs(ingress)[0].make("c").endswith("secret tls cert --cert=tls.crt --key=tls.key")
    spec = "{template: {spec: {imagePullSecrets: [{name: x}]}}}"
    job = f"kind: CronJob\nmetadata: {{name: j}}\nspec: {{jobTemplate: {{spec: {spec}}}}}\n"
    assert [need.name for need in needs(job)] == ["x"]


@pytest.mark.parametrize(
    "manifest",
    [
        POD % "{containers: [{envFrom: [{secretRef: {name: x, optional: true}}]}]}",
        POD % "{volumes: [{secret: {secretName: x, optional: true}}]}",
        POD % "{imagePullSecrets: [{name: x}]}" + "---\nkind: Secret\nmetadata: {name: x}\n",
        POD % "{imagePullSecrets: [{name: x}]}"
        + "---\nkind: List\nitems: [{kind: Secret, metadata: {name: x, namespace: shop}}]\n",
        "# only a comment\n---\n",
    ],
)
def test_what_is_optional_or_brought_along_is_no_need(manifest: str) -> None:
    assert needs(manifest) == []


def test_a_secret_of_another_namespace_does_not_count() -> None:
    other = "---\nkind: Secret\nmetadata: {name: x, namespace: elsewhere}\n"
    assert [need.name for need in needs(POD % "{imagePullSecrets: [{name: x}]}" + other)] == ["x"]
