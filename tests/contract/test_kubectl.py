"""The real kubectl on PATH, 1.31 or newer: from there on it speaks WebSocket."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import threading
import urllib.request
from pathlib import Path
from typing import IO, Any

import pytest
import yaml

from tests.contract.cluster import PATIENCE_S, Namespace, Object, eventually, is_true, name_of, owners, uid
from tests.contract.objects import IMAGE, config_map, container, deployment, http_server, job, pod, service

NEEDED = (1, 31)


class Kubectl:
    """kubectl in one namespace."""

    def __init__(self, ns: Namespace, home: Path) -> None:
        self.ns = ns
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "KUBECONFIG": str(ns.cluster.kubeconfig),
        }

    def command(self, *arguments: str) -> list[str]:
        return ["kubectl", "--namespace", self.ns.name, *arguments]

    def run(self, *arguments: str, stdin: object = None) -> subprocess.CompletedProcess[str]:
        text = stdin if isinstance(stdin, str | None) else yaml.safe_dump(stdin)
        return subprocess.run(
            self.command(*arguments),
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def __call__(self, *arguments: str, stdin: object = None) -> str:
        """What it prints; it must succeed."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {arguments}: {done.stderr}{done.stdout}"
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


class Lines:
    """The lines that a process prints, one by one, each awaited for a limited time."""

    def __init__(self, stream: IO[str] | None) -> None:
        assert stream
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put(line)
        self._lines.put("")  # the end

    def next(self) -> str:
        """The next line, "" at the end."""
        try:
            return self._lines.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise AssertionError(f"no line within {PATIENCE_S} s") from None


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """kubectl's home, where it keeps what it discovered."""
    done = subprocess.run(
        ["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True, check=True
    )
    known = json.loads(done.stdout)["clientVersion"]
    version = (int(known["major"]), int(known["minor"].rstrip("+")))
    assert version >= NEEDED, f"kubectl on PATH is {known['gitVersion']}; these tests need 1.31 or newer"
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def kubectl(ns: Namespace, home: Path) -> Kubectl:
    return Kubectl(ns, home)


def parts(ns: Namespace) -> list[str]:
    """Every kind and subresource of the core group."""
    return [row["name"] for row in ns.cluster.call("GET", "/api/v1").json()["resources"]]


def ready(ns: Namespace, name: str = "one") -> Object:
    return ns.wait("Pod", name, lambda p: is_true(p, "Ready"))


def changed(thing: Object, **data: Any) -> Object:
    return {**thing, "data": data}


# -- finding ---------------------------------------------------------------------------------------


def test_version(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_version/"""
    version = json.loads(kubectl("version", "-o", "json"))
    assert version["serverVersion"]["major"] == "1"


def test_api_resources(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_api-resources/"""
    names = kubectl("api-resources", "-o", "name").split()
    assert {"pods", "services", "deployments.apps", "statefulsets.apps"} <= set(names)


def test_unknown_resource_type(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_get/"""
    done = kubectl.run("get", "gadgets")
    assert done.returncode == 1
    assert 'the server doesn\'t have a resource type "gadgets"' in done.stderr


def test_get_as_a_table(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_get/"""
    kubectl.ns.create(deployment(replicas=0))
    head, row = kubectl("get", "deploy").splitlines()
    assert head.split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert row.split()[:4] == ["web", "0/0", "0", "0"]
    wide = kubectl("get", "deploy", "-o", "wide").splitlines()[0].split()
    assert wide[-3:] == ["CONTAINERS", "IMAGES", "SELECTOR"]


def test_get_by_path_name_and_label(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/jsonpath/"""
    kubectl.ns.create(config_map("red", labels={"colour": "red"}))
    kubectl.ns.create(config_map("blue", labels={"colour": "blue"}))
    assert kubectl("get", "cm", "red", "-o", "jsonpath={.data.a}") == "1"
    assert kubectl("get", "cm", "-l", "colour=red", "-o", "name").split() == ["configmap/red"]
    seen = yaml.safe_load(kubectl("get", "cm", "blue", "-o", "yaml"))
    assert seen["data"] == {"a": "1"}


def test_get_all(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_get/"""
    kubectl.ns.create(deployment(replicas=0))
    kubectl.ns.create(service())
    kubectl.ns.wait_items("ReplicaSet", lambda sets: len(sets) == 1)
    names = kubectl("get", "all", "-o", "name").split()
    assert {"deployment.apps/web", "service/web"} <= set(names)
    assert any(name.startswith("replicaset.apps/web-") for name in names)


def test_get_watch(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_get/"""
    kubectl.ns.create(config_map(labels={"look": "here"}))
    # By label: the watch goes on from the list's version. By name, kubectl drops the first event.
    form = "jsonpath={.data.a}{'\\n'}"
    process = kubectl.start("get", "cm", "-l", "look=here", "-o", form, "--watch")
    lines = Lines(process.stdout)
    try:
        assert lines.next() == "1\n"
        kubectl.ns.merge("ConfigMap", "settings", {"data": {"a": "2"}})
        assert lines.next() == "2\n"
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_describe(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_describe/"""
    kubectl.ns.create(pod(container(env=[{"name": "COLOUR", "value": "red"}])))
    ready(kubectl.ns)
    kubectl.ns.wait_event("Started", "Pod", "one")
    text = kubectl("describe", "pod", "one")
    assert re.search(r"^Name:\s+one$", text, re.M)
    assert re.search(r"COLOUR:\s+red", text)
    assert "Started" in text.split("Events:")[1]


def test_describe_deployment(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#updating-a-deployment"""
    kubectl.ns.create(deployment(replicas=0))
    kubectl.ns.wait_items("ReplicaSet", lambda sets: len(sets) == 1)
    text = kubectl("describe", "deployment", "web")
    assert re.search(r"^StrategyType:\s+RollingUpdate$", text, re.M)
    assert re.search(r"^NewReplicaSet:\s+web-\w+ \(0/0 replicas created\)$", text, re.M)


# -- writing -----------------------------------------------------------------------------------------


def test_apply_creates_configures_and_leaves_unchanged(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/"""
    wish = config_map(data={"a": "1", "b": "2"})
    assert kubectl("apply", "-f", "-", stdin=wish) == "configmap/settings created\n"
    assert kubectl("apply", "-f", "-", stdin=wish) == "configmap/settings unchanged\n"
    less = changed(wish, a="9")
    assert kubectl("apply", "-f", "-", stdin=less) == "configmap/settings configured\n"
    assert kubectl.ns.read("ConfigMap", "settings")["data"] == {"a": "9"}


def test_apply_leaves_what_others_set(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/#how-different-types-of-fields-are-merged"""
    wish = deployment(replicas=0)
    kubectl("apply", "-f", "-", stdin=wish)
    kubectl.ns.merge("Deployment", "web", {"spec": {"minReadySeconds": 2}})
    kubectl("apply", "-f", "-", stdin={**wish, "spec": {**wish["spec"], "revisionHistoryLimit": 3}})
    spec = kubectl.ns.read("Deployment", "web")["spec"]
    assert (spec["minReadySeconds"], spec["revisionHistoryLimit"]) == (2, 3)


def test_apply_on_the_server_asks_before_it_takes_a_field(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts"""
    wish = config_map()
    server_side = ("apply", "--server-side", "-f", "-")
    kubectl(*server_side, stdin=wish)
    kubectl.ns.merge("ConfigMap", "settings", {"data": {"a": "2"}}, fieldManager="other")
    done = kubectl.run(*server_side, stdin=wish)
    assert done.returncode == 1
    assert 'conflict with "other"' in done.stderr
    kubectl(*server_side, "--force-conflicts", stdin=wish)
    assert kubectl.ns.read("ConfigMap", "settings")["data"] == {"a": "1"}


def test_apply_of_something_invalid(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_apply/"""
    done = kubectl.run("apply", "-f", "-", stdin=deployment(replicas=-1))
    assert done.returncode == 1
    assert 'The Deployment "web" is invalid: spec.replicas' in done.stderr


@pytest.mark.parametrize("verb", [("apply",), ("create",), ("apply", "--dry-run=server"), ("delete",)])
def test_a_kind_that_is_not_served_is_named(kubectl: Kubectl, verb: tuple[str, ...]) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_apply/"""
    thing = {"apiVersion": "gadgets.example/v1", "kind": "Gadget", "metadata": {"name": "one"}}
    done = kubectl.run(*verb, "-f", "-", stdin=thing)
    assert done.returncode == 1
    assert 'no matches for kind "Gadget" in version "gadgets.example/v1"' in done.stderr
    core = {**thing, "apiVersion": "v1"}
    done = kubectl.run(*verb, "-f", "-", stdin=core)
    assert 'no matches for kind "Gadget" in version "v1"' in done.stderr


def test_dry_run_on_the_server(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run"""
    out = kubectl("apply", "--dry-run=server", "-f", "-", stdin=config_map())
    assert out == "configmap/settings created (server dry run)\n"
    assert not kubectl.ns.exists("ConfigMap", "settings")


def test_diff_shows_by_its_exit_code(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_diff/"""
    wish = config_map()
    kubectl("apply", "-f", "-", stdin=wish)
    assert kubectl("diff", "-f", "-", stdin=wish) == ""
    done = kubectl.run("diff", "-f", "-", stdin=changed(wish, a="2"))
    assert done.returncode == 1, done.stderr
    assert re.search(r'^-  a: "1"$', done.stdout, re.M)
    assert re.search(r'^\+  a: "2"$', done.stdout, re.M)
    assert kubectl.ns.read("ConfigMap", "settings")["data"] == {"a": "1"}


def test_label_annotate_and_patch(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_patch/"""
    kubectl.ns.create(config_map())
    kubectl("label", "cm", "settings", "tier=front")
    kubectl("annotate", "cm", "settings", "contract.example/note=x")
    kubectl("patch", "cm", "settings", "-p", '{"data": {"b": "2"}}')
    kubectl("patch", "cm", "settings", "--type=json", "-p", '[{"op":"remove","path":"/data/a"}]')
    seen = kubectl.ns.read("ConfigMap", "settings")
    assert seen["metadata"]["labels"] == {"tier": "front"}
    assert seen["data"] == {"b": "2"}


# -- rollouts ----------------------------------------------------------------------------------------


def test_rollout_status_waits_for_the_end(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_rollout/kubectl_rollout_status/"""
    kubectl.ns.create(deployment(replicas=2))
    out = kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    assert out.splitlines()[-1] == 'deployment "web" successfully rolled out'
    assert kubectl.ns.read("Deployment", "web")["status"]["availableReplicas"] == 2


def test_rollout_status_fails_with_the_deadline(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#failed-deployment"""
    missing = container(image="contract-none:1", imagePullPolicy="Never")
    kubectl.ns.create(deployment(missing, progressDeadlineSeconds=2))
    done = kubectl.run("rollout", "status", "deployment/web", "--timeout=90s")
    assert done.returncode == 1
    assert "exceeded its progress deadline" in done.stderr


def test_set_image_history_and_undo(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-back-to-a-previous-revision"""
    ns = kubectl.ns
    kubectl("apply", "-f", "-", stdin=deployment(container(image="a:1"), replicas=0))
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert kubectl("set", "image", "deployment/web", "main=a:2") == ("deployment.apps/web image updated\n")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    history = kubectl("rollout", "history", "deployment/web")
    assert re.findall(r"^(\d+)\s", history, re.M) == ["1", "2"]
    assert "a:1" in kubectl("rollout", "history", "deployment/web", "--revision=1")
    assert "rolled back" in kubectl("rollout", "undo", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    template = ns.read("Deployment", "web")["spec"]["template"]
    assert template["spec"]["containers"][0]["image"] == "a:1"
    assert re.findall(r"^(\d+)\s", kubectl("rollout", "history", "deployment/web"), re.M) == [
        "2",
        "3",
    ]
    assert len(ns.items("ReplicaSet")) == 2


def test_rollout_restart_pause_and_resume(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_rollout/"""
    ns = kubectl.ns
    ns.create(deployment(replicas=0))
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    kubectl("rollout", "pause", "deployment/web")
    assert ns.read("Deployment", "web")["spec"]["paused"] is True
    kubectl("rollout", "resume", "deployment/web")
    kubectl("rollout", "restart", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert len(ns.items("ReplicaSet")) == 2


def test_rollout_status_of_a_stateful_set(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_rollout/kubectl_rollout_status/"""
    thing = deployment(name="db")
    thing["kind"] = "StatefulSet"
    thing["spec"]["serviceName"] = "db"
    kubectl("apply", "-f", "-", stdin=thing)
    assert "complete" in kubectl("rollout", "status", "statefulset/db", "--timeout=90s")


def test_scale(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_scale/"""
    kubectl.ns.create(deployment(replicas=1, paused=True))
    kubectl("scale", "deployment/web", "--replicas=0")
    assert kubectl.ns.read("Deployment", "web")["spec"]["replicas"] == 0


def test_wait_for_a_condition(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_wait/"""
    ns = kubectl.ns
    ns.create(deployment())
    kubectl("wait", "--for=condition=available", "deployment/web", "--timeout=90s")
    (made,) = ns.items("Pod")
    kubectl("wait", "--for=condition=ready", f"pod/{name_of(made)}", "--timeout=60s")


def test_wait_for_the_end(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_wait/"""
    ns = kubectl.ns
    ns.create(config_map(finalizers=["contract.example/hold"]))
    ns.delete("ConfigMap", "settings")
    process = kubectl.start("wait", "--for=delete", "cm/settings", "--timeout=60s", "-v=6")
    lines = Lines(process.stderr)
    while "/configmaps" not in (line := lines.next()):  # it must see the object before that is gone
        assert line, "kubectl ended"
    ns.merge("ConfigMap", "settings", {"metadata": {"finalizers": None}})
    assert process.wait(timeout=90) == 0


def test_wait_gives_up(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_wait/"""
    kubectl.ns.create(pod(nodeSelector={"contract.example/none": "yes"}))
    done = kubectl.run("wait", "--for=condition=ready", "pod/one", "--timeout=1s")
    assert done.returncode == 1
    assert "timed out waiting for the condition" in done.stderr


# -- pods --------------------------------------------------------------------------------------------


def test_logs(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_logs/"""
    kubectl.ns.create(job("echo one; echo two; echo three"))
    kubectl.ns.wait_log("one", "three")
    assert kubectl("logs", "one") == "one\ntwo\nthree\n"
    assert kubectl("logs", "one", "--tail=1") == "three\n"
    assert kubectl("logs", "-f", "one") == "one\ntwo\nthree\n"


def test_logs_of_a_deployment(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_logs/"""
    kubectl.ns.create(deployment(container("echo hello; sleep 3600 & wait")))
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    (made,) = kubectl.ns.items("Pod")
    kubectl.ns.wait_log(name_of(made), "hello")
    assert kubectl("logs", "deployment/web") == "hello\n"
    assert kubectl("logs", "-l", "app=web") == "hello\n"


def test_exec_gives_output_and_exit_code(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_exec/"""
    kubectl.ns.create(pod())
    ready(kubectl.ns)
    assert kubectl("exec", "one", "--", "echo", "hello") == "hello\n"
    done = kubectl.run("exec", "one", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert done.returncode == 3
    assert done.stdout == "out\n"
    assert done.stderr.startswith("err\n")


def test_exec_takes_input(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_exec/"""
    kubectl.ns.create(pod())
    ready(kubectl.ns)
    assert kubectl("exec", "-i", "one", "--", "cat", stdin="hello\n") == "hello\n"


def test_debug_says_that_there_are_no_ephemeral_containers(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_debug/"""
    if any("ephemeralcontainers" in name for name in parts(kubectl.ns)):
        return  # a cluster that has them attaches one, which the sandbox need not show
    kubectl.ns.create(pod())
    done = kubectl.run("debug", "one", "--image=a:1", "--profile=general")
    assert done.returncode == 1
    assert "ephemeral containers are disabled" in done.stderr


def _forwarded_port(process: subprocess.Popen[str]) -> str:
    line = Lines(process.stdout).next()
    found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) -> 8080", line)
    assert found, line or (process.stderr and process.stderr.read())
    return found[1]


@pytest.mark.parametrize("target", ["pod/one", "service/web"])
def test_port_forward(kubectl: Kubectl, target: str) -> None:
    """https://kubernetes.io/docs/tasks/access-application-cluster/port-forward-access-application-cluster/"""
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    kubectl.ns.create(pod(http_server("hello", readinessProbe=probe), labels={"app": "web"}))
    kubectl.ns.create(service())
    ready(kubectl.ns)
    remote = "8080" if target.startswith("pod") else "80"
    process = kubectl.start("port-forward", target, f":{remote}")
    try:
        port = _forwarded_port(process)
        for _ in range(3):  # each request is a connection of its own
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
                assert page.read() == b"hello\n"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


# -- deleting ----------------------------------------------------------------------------------------


def test_delete_waits_until_it_is_gone(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_delete/"""
    kubectl.ns.create(pod())
    ready(kubectl.ns)
    assert 'pod "one" deleted' in kubectl("delete", "pod", "one")
    assert not kubectl.ns.exists("Pod", "one")
    done = kubectl.run("delete", "pod", "one")
    assert done.returncode == 1
    assert 'pods "one" not found' in done.stderr
    kubectl("delete", "pod", "one", "--ignore-not-found")


def test_delete_by_label_and_by_file(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_delete/"""
    ns = kubectl.ns
    ns.create(config_map("a", labels={"go": "yes"}))
    ns.create(config_map("b"))
    kubectl("delete", "cm", "-l", "go=yes")
    assert not ns.exists("ConfigMap", "a")
    kubectl("delete", "-f", "-", stdin=config_map("b"))
    assert not ns.exists("ConfigMap", "b")


def test_delete_leaves_orphans_on_demand(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/tasks/administer-cluster/use-cascading-deletion/#set-orphan-deletion-policy"""
    ns = kubectl.ns
    ns.create(deployment(replicas=0))
    (herd,) = ns.wait_items("ReplicaSet", lambda sets: len(sets) == 1)
    kubectl("delete", "deployment", "web", "--cascade=orphan")
    eventually(lambda: not owners(ns.read("ReplicaSet", name_of(herd))), "it still has an owner")
    assert uid(ns.read("ReplicaSet", name_of(herd))) == uid(herd)


def test_delete_by_force(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination-forced"""
    stubborn = container('trap "" TERM; while :; do sleep 0.2; done')
    kubectl.ns.create(pod(stubborn, terminationGracePeriodSeconds=300))
    ready(kubectl.ns)
    kubectl("delete", "pod", "one", "--grace-period=0", "--force")
    assert not kubectl.ns.exists("Pod", "one")


def test_create_job_from_an_image_and_from_a_cron_job(kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/reference/kubectl/generated/kubectl_create/kubectl_create_job/"""
    kubectl("create", "cronjob", "yearly", "--image", IMAGE, "--schedule", "0 0 1 1 *", "--", "true")
    kubectl("create", "job", "now", "--from", "cronjob/yearly")
    kubectl("create", "job", "plain", "--image", IMAGE, "--", "true")
    kubectl("wait", "--for=condition=complete", "job/now", "job/plain", "--timeout=60s")
    head, *rows = kubectl("get", "jobs").splitlines()
    assert head.split() == ["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"]
    assert [row.split()[:3] for row in rows] == [["now", "Complete", "1/1"], ["plain", "Complete", "1/1"]]
    cron = kubectl("get", "cronjobs").splitlines()[1].split()
    assert cron[0] == "yearly"
    assert cron[-3:-1] == ["0", "<none>"]
