"""The cluster port over the Kubernetes API: feeds, PATCH, logs, manifests. Wires its parts, no more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from devloop.adapters.kubernetes.api.access import Access, open_access
from devloop.adapters.kubernetes.api.answers import ApiRefusedError, Json
from devloop.adapters.kubernetes.api.client import MERGE_PATCH, Client
from devloop.adapters.kubernetes.api.guard import Platform
from devloop.adapters.kubernetes.api.tunnel import PodTunnel, open_tunnel
from devloop.adapters.kubernetes.apply.applier import Applier
from devloop.adapters.kubernetes.apply.removal import delete_pod
from devloop.adapters.kubernetes.evidence import follow_log, read_last_words, read_log
from devloop.adapters.kubernetes.feed import NamespaceView, TargetFeed
from devloop.adapters.kubernetes.in_place import InPlaceUpdate
from devloop.adapters.kubernetes.informer import Health, Informer, ObjectListener
from devloop.adapters.kubernetes.inventory import find_url, images_of, read_images, read_nodes
from devloop.adapters.kubernetes.patch import MANAGER, PATHS, read_workload, refuse, restart, write_image
from devloop.adapters.kubernetes.views import owned_by, revision_of
from devloop.adapters.lock import Owner
from devloop.clock import Clock
from devloop.errors import PatchError, PrerequisiteError, TargetMissingError
from devloop.events import Emit, Notice
from devloop.files import is_there
from devloop.image_refs import same_repository
from devloop.model import Application, LoadedImage, NodeFacts, PodView, Revision, Service, Target, Trouble
from devloop.ports import Feed
from devloop.synced import SyncedContainers


class KubernetesCluster:
    """`async with KubernetesCluster(…) as cluster`: reads the kubeconfig and lets the guard decide (S29),
    without a connection; raises ConfigError, PlatformError. Leaving it ends every watch.

    `files` are those of kubeconfig.find_files; `namespace` is where manifests go that name none; `project` is
    noted on what they make;
    a `patient` one waits for an API server that does not answer yet.
    """

    def __init__(
        self,
        files: Sequence[Path],
        context: str,
        *,
        owner: Owner,
        clock: Clock,
        emit: Emit,
        namespace: str = "default",
        project: str = "",
        allow_remote: bool = False,
        patient: bool = False,
        synced: SyncedContainers | None = None,
    ) -> None:
        self.namespace = namespace
        self.synced = synced or SyncedContainers()  # what no process before this one knows of
        self._patient = patient
        self._owner, self._clock, self._emit = owner, clock, emit
        self._health = Health(emit)
        self._views: dict[str, NamespaceView] = {}
        self._warned: set[tuple[Target, str, str]] = set()
        self._nodes: tuple[NodeFacts, ...] = ()
        self._unserved: set[str] = set()  # paths of kinds that this cluster does not have
        self._turns: dict[tuple[str, str, str], anyio.Lock] = {}

        async def open_it(last: Access | None) -> Access:
            return await open_access(files, context, allow_remote=allow_remote, last=last)

        self.client = Client(open_it)
        self.applier = Applier(self.client, namespace, project)
        self._health.on_back.append(self._forget)
        self._tasks: TaskGroup

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.client)
            self._tasks = await stack.enter_async_context(anyio.create_task_group())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tasks.cancel_scope.cancel()
        await self._stack.__aexit__(kind, error, trace)

    @property
    def platform(self) -> Platform:
        return self.client.access.platform

    @property
    def context(self) -> str:
        return self.platform.context

    def on_reconnect(self, call: Callable[[], None]) -> None:
        """Have `call` called whenever the API server is back after an outage (S13)."""
        self._health.on_back.append(call)

    @asynccontextmanager
    async def feed(self, target: Target) -> AsyncIterator[Feed]:
        view = self._views.get(target.namespace)
        if view is None:
            view = NamespaceView(
                target.namespace,
                self.client,
                self._clock,
                self._health,
                self._tasks,
                self.synced,
                patient=self._patient,
            )
            self._views[target.namespace] = view
        async with view.watching(target.kind):
            yield TargetFeed(view, target)

    async def patch(self, target: Target, service: Service, loaded: LoadedImage) -> Revision:
        view = self._views.get(target.namespace)
        self._warn_of_other(target, view)
        async with self._writing(target):
            return await write_image(
                self.client,
                self._clock,
                target,
                service.image,
                loaded.image.ref,
                self._owner.dump(),
                lambda: view.find(target) if view else None,
            )

    async def restart(self, target: Target, ref: str) -> Revision:
        async with self._writing(target):
            return await restart(self.client, self._clock, target, ref, self._owner.dump())

    @asynccontextmanager
    async def in_place(self, target: Target, service: Service, ref: str) -> AsyncIterator[InPlaceUpdate]:
        self._warn_of_other(target, self._views.get(target.namespace))
        async with self._writing(target):
            owner = self._owner.dump()
            yield InPlaceUpdate(self.client, self._clock, target, service.image, ref, owner, self.synced)

    async def put_image(self, target: Target, image: str, ref: str) -> Revision:
        """As `patch`, to any reference. Raises PatchError, TargetMissingError, PlatformError."""
        async with self._writing(target):
            return await write_image(
                self.client, self._clock, target, image, ref, self._owner.dump(), lambda: None
            )

    def _writing(self, target: Target) -> anyio.Lock:
        """Services that share a workload take turns (S26)."""
        return self._turns.setdefault(target.workload, anyio.Lock())

    async def earlier_images(self, target: Target, image: str) -> tuple[str, ...]:
        """The references of that repository in the Deployment's template and in its ReplicaSets: the
        present one, then back in time, each once. Raises PatchError, PlatformError."""
        item = await read_workload(self.client, target)
        if target.kind != "deployment":
            raise PatchError(f"{target}: only a Deployment can be rolled back", reason="NotADeployment")
        path = f"/apis/apps/v1/namespaces/{target.namespace}/replicasets"
        sets = owned_by((await self.client.get(path)).get("items") or (), {item["metadata"]["uid"]})
        sets.sort(key=_revision, reverse=True)
        refs = (ref for one in (item, *sets) for ref in images_of(one) if same_repository(ref, image))
        return tuple(dict.fromkeys(refs))

    async def annotate(self, target: Target, notes: Mapping[str, str | None]) -> None:
        """Write annotations of the workload itself, None removes one. Rolls nothing (S24).

        Raises PatchError, TargetMissingError, PlatformError.
        """
        path = PATHS[target.kind].format(target.namespace, target.name)
        body = {"metadata": {"annotations": dict(notes)}}
        try:
            await self.client.request(
                "PATCH", path, params={"fieldManager": MANAGER}, body=body, content_type=MERGE_PATCH
            )
        except ApiRefusedError as error:
            raise refuse(error, target, self.client) from error

    async def observe(self, path: str, listener: ObjectListener) -> None:
        """Tell `listener` of every change of the objects at a list's path, until cancelled."""
        await Informer(self.client, path, self._clock, self._health, listener).run()

    async def last_words(self, target: Target, pod: str, container: str, lines: int = 200) -> tuple[str, ...]:
        return await read_last_words(self.client, target.namespace, pod, container, lines)

    async def delete_pod(self, target: Target, pod: str, uid: str) -> None:
        await delete_pod(self.client, target.namespace, pod, uid)

    def logs(
        self, target: Target, pod: str, container: str, *, from_now: bool = False, after: str = ""
    ) -> AsyncIterator[str]:
        return follow_log(self.client, target.namespace, pod, container, from_now=from_now, after=after)

    async def logs_so_far(
        self, target: Target, pod: str, container: str, *, since: float | None, tail: int | None
    ) -> list[tuple[str, str]]:
        """(time stamp, line) of what a container has logged, as read_log gives it. Raises PlatformError."""
        return await read_log(self.client, target.namespace, pod, container, since=since, tail=tail)

    def tunnel(self, pod: PodView, port: int) -> AbstractAsyncContextManager[PodTunnel]:
        """A connection to a port of the pod. Entering raises TunnelError."""
        return open_tunnel(self.client, pod, port)

    async def url(self, target: Target) -> str | None:
        view = self._views.get(target.namespace)
        try:
            item = (view.find(target) if view else None) or await read_workload(self.client, target)
        except TargetMissingError:
            return None
        labels = (((item.get("spec") or {}).get("template") or {}).get("metadata") or {}).get("labels") or {}
        node_ip = next((node.internal_ip for node in await self.nodes() if node.internal_ip), "")
        return await find_url(self.client, self.platform, target.namespace, labels, node_ip, self._unserved)

    async def apply(
        self,
        paths: Sequence[Path],
        refs: Sequence[str],
        withheld: Sequence[str] = (),
        only: Collection[Trouble] | None = None,
    ) -> Application:
        return await self.applier.apply(paths, refs, withheld, only)

    async def prerequisite(self, image: str = "") -> PrerequisiteError | None:
        return await self.applier.prerequisite(image)

    async def nodes(self) -> tuple[NodeFacts, ...]:
        """Every node, read once and again after an outage. Raises PlatformError."""
        if not self._nodes:
            self._nodes = await read_nodes(self.client)
        return self._nodes

    async def images_in_use(self, namespaces: Iterable[str] = ()) -> frozenset[str]:
        """Every image that a ReplicaSet, another workload or a pod of the context names (S25).

        `namespaces` are looked at where the user may not list all. Raises PlatformError.
        """
        return await read_images(self.client, namespaces)

    def _forget(self) -> None:
        self._nodes = ()
        self._unserved.clear()
        self.applier.forget()

    def _warn_of_other(self, target: Target, view: NamespaceView | None) -> None:
        """Another devloop wrote last, and its project is still there: reported once, not refused (S26)."""
        other = Owner.parse(view.snapshot(target).owner if view else "")
        if other is None or (target, other.host, other.path) in self._warned:
            return
        elsewhere = other.host != self._owner.host
        if not elsewhere and (other.path == self._owner.path or not is_there(Path(other.path))):
            return  # a project that was moved, or removed, writes no more
        self._warned.add((target, other.host, other.path))
        where = f"on {other.host} (pid {other.pid}, {other.path})" if elsewhere else f"of {other.path}"
        self._emit(
            Notice(
                "",
                "warning",
                f"{target} was last written by a devloop {where}; now it runs what this project has",
                "two writers of one target undo each other: stop one of them, or give one of the projects a"
                " namespace of its own",
            )
        )


def _revision(item: Json) -> int:
    """0 where the annotation is missing, or is no number: anybody may write it."""
    text = revision_of(item)
    return int(text) if text.isascii() and text.isdigit() else 0
