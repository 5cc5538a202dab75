"""Bad input of every kind, as tables: what is wrong, the exit code, and what the message has to say."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.support.project_files import shop

Content = str | bytes | Callable[[Path], object] | None
SHOP = shop("kind-none")
CONFIG = SHOP["config.yaml"]
PROJECT: dict[str, Content] = {**SHOP}
AWAY = "https://127.0.0.1:1"  # where nothing listens


@dataclass(frozen=True)
class Case:
    """`files` over PROJECT's, None removes one; `words` instead of those of every command; `code`: the exit
    code; `says`: what stands in the message, `{root}` for the project's folder."""

    says: tuple[str, ...]
    files: dict[str, Content] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    code: int = 2
    environ: dict[str, str] = field(default_factory=dict)


def kubeconfig(path: Path, **entries: object) -> None:
    """With a context `kind-none`; `entries` instead of its own."""
    whole = {
        "current-context": "kind-none",
        "clusters": [{"name": "kind-none", "cluster": {"server": AWAY}}],
        "contexts": [{"name": "kind-none", "context": {"cluster": "kind-none", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        **entries,
    }
    path.write_text(yaml.safe_dump(whole))


def cluster(**entry: object) -> Callable[[Path], object]:
    return lambda path: kubeconfig(path, clusters=[{"name": "kind-none", "cluster": entry}])


def user(**entry: object) -> Callable[[Path], object]:
    return lambda path: kubeconfig(path, users=[{"name": "u", "user": entry}])


def config(old: str, new: str) -> dict[str, Content]:
    assert old in CONFIG, old
    return {"config.yaml": CONFIG.replace(old, new)}


# What every command that reads config.yaml says of it.
CONFIGS = {
    "no config.yaml": Case(("no config.yaml in {root}", "devloop init"), {"config.yaml": None}),
    "a folder": Case(("config.yaml cannot be read: a folder", "-c PATH"), {"config.yaml": Path.mkdir}),
    "a FIFO": Case(("config.yaml cannot be read: a FIFO",), {"config.yaml": os.mkfifo}),
    "a link to nothing": Case(
        ("config.yaml is a link to /nowhere/at/all, which is not there", "rm "),
        {"config.yaml": lambda path: path.symlink_to("/nowhere/at/all")},
    ),
    "a link in a circle": Case(
        ("config.yaml cannot be read: Too many levels of symbolic links",),
        {"config.yaml": lambda path: path.symlink_to(path)},
    ),
    "empty": Case(("the file is empty; write version: 1 and services:",), {"config.yaml": ""}),
    "binary": Case(("byte 7 is not UTF-8; save the file as UTF-8",), {"config.yaml": b"\x7fELF\0\1\2\xff"}),
    "a NUL": Case(("config.yaml:1:1: not valid YAML",), {"config.yaml": "version: 1\0\n"}),
    "a list": Case(("config.yaml:1:1: not a mapping",), {"config.yaml": "- a\n"}),
    "a text": Case(("config.yaml:1:1: not a mapping",), {"config.yaml": "hello\n"}),
    "tabs": Case(("config.yaml:3:1: a tab; YAML",), {"config.yaml": "version: 1\nservices:\n\tweb: 1\n"}),
    "a key twice": Case(
        ("10:1: version: a second time; the first is on line 1",), {"config.yaml": f"{CONFIG}version: 1\n"}
    ),
    "two documents": Case(("10:1: a second document (---)",), {"config.yaml": f"{CONFIG}---\na: 1\n"}),
    "a bracket": Case(
        ("2:18: a value is missing, or a bracket is not",),
        {"config.yaml": "version: 1\nservices: {web: [}\n"},
    ),
    "a quote": Case(("3:1: the text ends within quotes",), {"config.yaml": 'version: 1\nservices: "a\n'}),
    "an unknown key": Case(
        ("services.web.imgae: unknown key; did you mean image?",), config("image:", "imgae:")
    ),
    "a key at the wrong place": Case(("belongs under cluster",), {"config.yaml": f"{CONFIG}context: x\n"}),
    "another version": Case(
        ("this devloop reads version 1, not 2; write version: 1",), config("version: 1", "version: 2")
    ),
    "no version": Case(("version: missing; write version: 1",), config("version: 1\n", "")),
    "services as a list": Case(
        ("services: must be a mapping", "write services: {web: {image: web, build: {context: web}}}"),
        {"config.yaml": "version: 1\nservices: [web]\n"},
    ),
    "no services": Case(("services: must be a mapping",), {"config.yaml": "version: 1\nservices:\n"}),
    "deploy as a text": Case(
        ("deploy: must be a mapping, or a list of them, not 'web'; write deploy: {deployment: web}",),
        config("{deployment: web}", "web"),
    ),
    "deploy as kubectl writes it": Case(
        ("write deploy: {statefulset: db}",), config("{deployment: web}", "statefulset/db")
    ),
    "deploy as a list of texts": Case(
        ("write deploy: [{deployment: web}]",), config("{deployment: web}", "[web]")
    ),
    "a kind that cannot be a target": Case(
        (
            "deploy.daemonset: a DaemonSet cannot be a target, a Deployment or a StatefulSet can",
            "write deployment: NAME or statefulset: NAME",
        ),
        config("{deployment: web}", "{daemonset: web}"),
    ),
    "such a kind as kubectl writes it": Case(
        ("a CronJob cannot be a target",), config("{deployment: web}", "cronjob/web")
    ),
    "a reference as Kubernetes writes it": Case(
        ("deploy.kind: unknown key; write deployment: NAME or statefulset: NAME",),
        config("{deployment: web}", "{kind: Deployment, name: web}"),
    ),
    "two kinds at once": Case(
        ("write either deployment: NAME or statefulset: NAME",),
        config("{deployment: web}", "{deployment: web, statefulset: web}"),
    ),
    "manifests as a text": Case(
        ("manifests: must be a list", 'write manifests: ["k8s/*.yaml"]'),
        config('["k8s/*.yaml"]', "k8s/*.yaml"),
    ),
    "a folder of plain files": Case(("for plain files write k8s/*.yaml",), config("k8s/*.yaml", "k8s")),
    "a manifest that is not there": Case(("nope.yaml is not a file",), config("k8s/*.yaml", "k8s/nope.yaml")),
    "an image with a tag": Case(
        ("devloop adds the tag; write image: shop",), config("image: shop", "image: shop:1")
    ),
    "an image in capitals": Case(
        ('"Shop" is not an image repository',), config("image: shop", "image: Shop")
    ),
    "build as a text": Case(("write build: {context: web}",), config("{context: web}", "web")),
    "no build": Case(
        ("build: missing; write build: {context: FOLDER}",), config("    build: {context: web}\n", "")
    ),
    "a context that is not there": Case(
        ("{root}/wep is not a folder",), config("context: web", "context: wep")
    ),
    "no Dockerfile": Case(
        ("build.dockerfile: {root}/web/Dockerfile is not a file",), {"web/Dockerfile": None, "web/x": ""}
    ),
    "a folder called Dockerfile": Case(("Dockerfile is not a file",), {"web/Dockerfile": Path.mkdir}),
    "a duration": Case(
        ('"soon" is not a duration; write 90s or 10m',),
        config("image: shop", "image: shop\n    rollout_timeout: soon"),
    ),
    "a trap of YAML": Case(
        ("YAML 1.1 reads a bare yes as true",), config("image: shop", "image: shop\n    max_image_size: yes")
    ),
    "a namespace in capitals": Case(
        ("cluster.namespace: must be a name",), config("kind-none", "kind-none, namespace: My_NS")
    ),
    "a chart that is none": Case(
        ("is not a chart",), {"config.yaml": f"{CONFIG}releases: {{web: {{chart: no}}}}\n"}
    ),
    "aliases that explode": Case(
        ("more than 20000 values",),
        {
            "config.yaml": "a: &a [1,1,1,1,1,1,1,1]\n"
            + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 8)}]\n" for a, b in zip("abcd", "bcde", strict=True))
        },
    ),
    "a service that is not there": Case(
        ("no service wep in {root}/config.yaml", "there are: web"), words=("wep",)
    ),
    "a config that is not there": Case(
        ("/nowhere.yaml cannot be read: No such file",), words=("-c", "/nowhere.yaml")
    ),
    "an option that is none": Case(("No such option '--nope'",), words=("--nope",)),
    "an empty context": Case(("--context: must be a non-empty text",), words=("--context", "")),
    "a namespace that is none": Case(("--namespace: must be a name",), words=("-n", "Bad_NS")),
}

# What `once` and `watch` say of the cluster, and `doctor` as its line `cluster`; there with exit code 3.
CLUSTERS = {
    "no kubeconfig": Case(("no kubeconfig for context 'kind-none'", "--kubeconfig FILE"), {"../kube": None}),
    "a folder": Case(("kube cannot be read: a folder", "ls -l"), {"../kube": Path.mkdir}),
    "garbage": Case(("is not UTF-8",), {"../kube": b"\xff\xfe\0garbage"}),
    "broken YAML": Case(("kube:2: a value is missing", "kubectl config view"), {"../kube": "a: ["}),
    "a list": Case(("not a mapping with clusters, contexts and users",), {"../kube": "- a\n"}),
    "empty": Case(("context 'kind-none' is not in", "contexts there: none"), {"../kube": ""}),
    "another context": Case(
        ("contexts there: other",), {"../kube": lambda path: kubeconfig(path, contexts=[{"name": "other"}])}
    ),
    "no such cluster": Case(
        ("names cluster 'kind-none', which",), {"../kube": lambda path: kubeconfig(path, clusters=[])}
    ),
    "a remote cluster": Case(
        ("may be a remote cluster", "cluster.allow_remote: true"),
        {"../kube": cluster(server="https://k8s.example.com")},
    ),
    "a server that is no address": Case(
        ("'what', the server", "is no address", "https://HOST:PORT"), {"../kube": cluster(server="what")}
    ),
    "a certificate that is not there": Case(
        ("/nowhere/ca.crt: No such file or directory",),
        {"../kube": cluster(**{"server": AWAY, "certificate-authority": "/nowhere/ca.crt"})},
    ),
    "a token that is not there": Case(
        ("/nowhere/t: No such file or directory",), {"../kube": user(tokenFile="/nowhere/t")}
    ),
    "a plugin that is not there": Case(
        ("no-such-plugin", "No such file or directory", "by hand"),
        {
            "../kube": user(
                exec={"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin"}
            )
        },
        code=3,
    ),
}

# What `doctor` says of the engine; `once` and `watch` say it in the trip (tests/e2e/test_bad_input.py).
ENGINES = {
    "away": Case(("is not reachable: No such file or directory", "is the engine running?")),
    "a file in its place": Case(("is not reachable: Connection refused",), {"../none.sock": ""}),
    "no address": Case(
        ("engine nonsense (from DOCKER_HOST): no address",), environ={"DOCKER_HOST": "nonsense"}
    ),
    "over ssh": Case(
        ("devloop does not support ssh://", "ssh -nNT -L"), environ={"DOCKER_HOST": "ssh://me@there"}
    ),
    "a port where nobody listens": Case(
        ("engine tcp://127.0.0.1:1 (from DOCKER_HOST) is not reachable: Connection refused",),
        environ={"DOCKER_HOST": "tcp://127.0.0.1:1"},
    ),
    "certificates that are not there": Case(
        ("no certificates in /nowhere: No such file",),
        environ={
            "DOCKER_HOST": "tcp://127.0.0.1:1",
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": "/nowhere",
        },
    ),
    "a context that is not there": Case(
        ("docker context nope: no such context", "docker context ls"),
        environ={"DOCKER_HOST": "", "DOCKER_CONTEXT": "nope"},
    ),
}

# What `once` alone comes to: nothing of these keeps a session from being opened.
ONCE = {
    "an API server that is away": Case(
        (
            "no API server answers at https://127.0.0.1:1 (context kind-none): Connection refused",
            "is the cluster running?",
        ),
        code=3,
    ),
}

INIT = {
    "config.yaml is there": Case(("is there already, and init overwrites nothing", "--print"), {}),
    "a folder in its place": Case(("is there already",), {"config.yaml": Path.mkdir}),
    "nothing to build": Case(
        ("no Dockerfile that can be used",), {"config.yaml": None, "web/Dockerfile": None}
    ),
    "a broken Dockerfile": Case(
        ("web/Dockerfile: broken: Dockerfile:1: FROM requires",),
        {"config.yaml": None, "web/Dockerfile": "FROM\n"},
    ),
    "a Dockerfile that is a FIFO": Case(
        ("web/Dockerfile: cannot be read: a FIFO",), {"config.yaml": None, "web/Dockerfile": os.mkfifo}
    ),
    "a folder that is not there": Case(("/nowhere is no folder",), words=("-c", "/nowhere/config.yaml")),
    "a context that is not there": Case(
        ("context 'nope' is not in",), {"config.yaml": None}, words=("--context", "nope")
    ),
    "an option that is none": Case(("No such option '--nope'",), words=("--nope",)),
    "a broken compose file": Case(
        ("compose.yaml: broken",), {"config.yaml": None, "compose.yaml": "services: ["}, code=0
    ),
    "a broken kubeconfig": Case(("write yours",), {"config.yaml": None, "../kube": "a: ["}, code=0),
    "a manifest that is binary": Case(
        ("k8s/web.yaml: cannot be read: byte 0 is not UTF-8",),
        {"config.yaml": None, "k8s/web.yaml": b"\xff\0"},
        code=0,
    ),
}
