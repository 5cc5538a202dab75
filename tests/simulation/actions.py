"""The steps of a script, done to the tree, the cluster, the engine, or devloop itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.store.store import Store
from tests.simulation.engine import Engine
from tests.simulation.faults import Faults
from tests.simulation.script import SERVICES, Step, resource_of
from tests.simulation.tree import Tree

Obj = dict[str, Any]
DOCKERFILE = "FROM base:1\nCOPY . /app\n"
LONG_FORMS = {"sync": {"mode": "sync", "reload": "none"}}


def config_of(
    kinds: Mapping[str, str],
    updates: Mapping[str, str],
    services: tuple[str, ...] = SERVICES,
    context: str = "simulation",
) -> str:
    return yaml.safe_dump(
        {
            "version": 1,
            "cluster": {"context": context, "namespace": "default"},
            "services": {
                name: {
                    "image": name,
                    "build": {"context": name, "idle_timeout": "60s"},
                    "deploy": {kinds[name].lower(): name},
                    "update": {"mode": "sync", "reload": "none"}
                    if updates[name] == "sync"
                    else updates[name],
                    **({"rollout_timeout": "60s"} if kinds[name] == "StatefulSet" else {}),
                }
                for name in services
            },
            "manifests": [f"k8s/{name}.yaml" for name in SERVICES],
        }
    )


def manifest_of(kind: str, name: str, env: str = "0") -> str:
    container = {"name": "app", "image": name, "env": [{"name": "SETTING", "value": env}]}
    own = {"serviceName": name} if kind == "StatefulSet" else {"progressDeadlineSeconds": 60}
    return yaml.safe_dump(
        {
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": {
                **own,
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
            },
        }
    )


class Actions:
    """One method per step; `begin` and `kill` are devloop's life, the rest is the world's."""

    def __init__(
        self, kinds: Mapping[str, str], updates: Mapping[str, str], tree: Tree, store: Store, engine: Engine,
        faults: Faults, rng: random.Random, *, kill: Callable[[float], None], stop: Callable[[float], None],
        kill_at_write: Callable[[int, float], None], jump: Callable[[float], None],
        order: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        self._kinds, self._updates = kinds, updates
        self._tree, self._store, self._engine, self._faults, self._rng = tree, store, engine, faults, rng
        self._kill, self._stop, self._kill_at_write, self._jump = kill, stop, kill_at_write, jump
        self._order = order
        self._earlier: dict[str, list[str]] = {}
        self._env = dict.fromkeys(SERVICES, "0")

    def lay_out(self) -> None:
        """The project as it is at first."""
        for name in SERVICES:
            self._tree.write(f"{name}/Dockerfile", DOCKERFILE)
            self._tree.write(f"{name}/.dockerignore", "*.log\n")
            self._tree.write(f"{name}/a.txt", "1")
            self._tree.write(f"k8s/{name}.yaml", manifest_of(self._kinds[name], name))
        self._tree.write("config.yaml", config_of(self._kinds, self._updates))

    def do(self, step: Step) -> None:
        try:
            getattr(self, step.what)(*step.words)
        except (ApiError, FileNotFoundError):
            return  # what it is about is not there

    # --- a user -----------------------------------------------------------------------------------

    def save(self, service: str, file: str, *words: str) -> None:
        path = f"{service}/{file}.txt"
        full = self._tree.root / path
        if not full.parent.exists():
            return
        if full.exists():
            self._earlier.setdefault(path, []).append(full.read_text())
        self._tree.write(path, " ".join(words))

    def revert(self, service: str, file: str) -> None:
        path = f"{service}/{file}.txt"
        earlier = self._earlier.get(path)
        if earlier and (self._tree.root / service).exists():
            self._tree.write(path, earlier.pop())

    def touch(self, service: str, file: str) -> None:
        path = f"{service}/{file}.txt"
        self._tree.write(path, (self._tree.root / path).read_text())

    def ignored(self, service: str, file: str) -> None:
        if (self._tree.root / service).exists():
            self._tree.write(f"{service}/{file}.log", str(self._rng.random()))

    def delete(self, service: str, file: str) -> None:
        self._tree.remove(f"{service}/{file}.txt")

    def rename(self, service: str, file: str) -> None:
        self._tree.rename(f"{service}/{file}.txt", f"{service}/moved/{file}.txt")

    # --- the project's files ----------------------------------------------------------------------

    def leave(self, service: str, _: str) -> None:
        self._tree.write(
            "config.yaml",
            config_of(self._kinds, self._updates, tuple(name for name in SERVICES if name != service)),
        )

    def spoil_config(self, *_: str) -> None:
        self._tree.write("config.yaml", "version: 1\nservices: [")

    def move_cluster(self, *_: str) -> None:
        self._tree.write("config.yaml", config_of(self._kinds, self._updates, context="other"))

    def mend_config(self, *_: str) -> None:
        self._tree.write("config.yaml", config_of(self._kinds, self._updates))

    def env(self, service: str, *words: str) -> None:
        self._env[service] = " ".join(words)
        self.mend_manifest(service)

    def spoil_manifest(self, service: str, *_: str) -> None:
        self._tree.write(f"k8s/{service}.yaml", "kind: [")

    def mend_manifest(self, service: str, *_: str) -> None:
        self._tree.write(
            f"k8s/{service}.yaml", manifest_of(self._kinds[service], service, self._env[service])
        )

    def lose_dockerfile(self, service: str, *_: str) -> None:
        self._tree.remove(f"{service}/Dockerfile")

    def mend_dockerfile(self, service: str, *_: str) -> None:
        if (self._tree.root / service).exists():
            self._tree.write(f"{service}/Dockerfile", DOCKERFILE)

    def move_folder(self, service: str, *_: str) -> None:
        self._tree.rename(service, f"elsewhere/{service}")

    def move_back(self, service: str, *_: str) -> None:
        self._tree.rename(f"elsewhere/{service}", service)

    # --- others who write to the cluster ----------------------------------------------------------

    def _edit(self, service: str, change: Callable[[Obj], None], subresource: str = "") -> None:
        self._store.mutate(
            resource_of(self._kinds[service]), "default", service, change, subresource=subresource
        )

    def set_image(self, service: str, number: str) -> None:
        refs = sorted(ref for ref in self._engine.node.images if ref.startswith(f"{service}:"))

        def change(item: Obj) -> None:
            ref = refs[int(number) % len(refs)] if refs else f"{service}:elsewhere"
            item["spec"]["template"]["spec"]["containers"][0]["image"] = ref

        self._edit(service, change)

    def scale(self, service: str, replicas: str) -> None:
        self._edit(service, lambda item: item["spec"].update(replicas=int(replicas)))

    def delete_target(self, service: str, _: str) -> None:
        self._store.delete(resource_of(self._kinds[service]), "default", service)

    def restart(self, service: str, _: str) -> None:
        def change(item: Obj) -> None:
            notes = item["spec"]["template"]["metadata"].setdefault("annotations", {})
            notes["kubectl.kubernetes.io/restartedAt"] = str(self._rng.random())

        self._edit(service, change)

    def delete_pod(self, service: str, number: str) -> None:
        pods = self._pods(service)
        if pods:
            self._store.delete("pods", "default", pods[int(number) % len(pods)]["metadata"]["name"])

    def annotate(self, service: str, value: str) -> None:
        self._edit(service, lambda item: item["metadata"].setdefault("annotations", {}).update(note=value))

    def _pods(self, service: str) -> list[Obj]:
        return self._store.list(
            "pods", "default", lambda pod: pod["metadata"]["labels"].get("app") == service
        )

    def order(self, service: str, what: str) -> None:
        """`devloop pause`, `resume`, `rebuild` or `restart`, as its running watch gets it."""
        self._order(service, what)

    # --- troubles ---------------------------------------------------------------------------------

    def rough(self, _: str, seconds: str) -> None:
        self._faults.rough_for(0.15, float(seconds))

    def forget_images(self, *_: str) -> None:
        self._engine.forget()

    def prune_node(self, *_: str) -> None:
        self._engine.node.prune()

    def evict(self, service: str, _: str) -> None:
        pods = self._pods(service)
        if pods:
            self._engine.node.evict(pods[0])

    def no_base(self, _: str, seconds: str) -> None:
        self._faults.begin("no base", float(seconds))

    def jump_clock(self, _: str, seconds: str) -> None:
        self._jump(self._rng.choice((-1, 1, 100)) * float(seconds))

    def kill_container(self, service: str, _: str) -> None:
        for pod in self._pods(service)[:1]:
            self._engine.node.kill_container(pod)

    def kill(self, seconds: str) -> None:
        self._kill(float(seconds))

    def stop(self, seconds: str) -> None:
        self._stop(float(seconds))

    def kill_at_write(self, number: str, seconds: str) -> None:
        self._kill_at_write(int(number), float(seconds))

    def __getattr__(self, name: str) -> Callable[..., None]:
        """A trouble of its own name, for a time."""
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda _, seconds: self._faults.begin(name.replace("_", " "), float(seconds))
