"""What the core asks of the world: one verb or two per port, implemented in adapters/."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from devloop.clock import Clock
from devloop.errors import DevloopError, InternalError, PrerequisiteError
from devloop.events import Emit
from devloop.model import (
    Application,
    Base,
    Change,
    Fingerprint,
    Hook,
    Image,
    InPlacePlan,
    LoadedImage,
    Outcome,
    PodToUpdate,
    Refusal,
    Revision,
    Service,
    Snapshot,
    SyncFiles,
    Target,
    Trouble,
)
from devloop.synced import SyncedContainers

Report = Callable[[str, BaseException], DevloopError]
Waiting = Callable[[tuple[str, ...]], AbstractContextManager[None]]
# Its name, the command, variables beside devloop's own, and what gets each line. Raises HookError.
RunHook = Callable[[str, Hook, Mapping[str, str], Callable[[str], None]], Awaitable[None]]


class Bases(Protocol):
    """The images that Dockerfiles build on."""

    async def resolve(self, service: Service, refs: Sequence[str], platform: str) -> tuple[Base, ...]:
        """Config digest and ONBUILD of each, pulled with progress if absent (S5).

        Raises BuildError (no such image, no access, a pull that hangs), PlatformError (engine gone).
        """


class Fingerprinter(Protocol):
    async def take(self, service: Service, change: Change) -> Fingerprint:
        """Digest of the tree as it is now; reads again only what `change` and the stat cache ask for.

        Raises FingerprintError, BuildError (bases), PlatformError.
        """

    async def still_matches(self, service: Service, fingerprint: Fingerprint) -> bool:
        """Whether the inputs look, by stat, as when this fingerprint, the last one, was taken."""


class Builder(Protocol):
    async def build(self, service: Service, fingerprint: Fingerprint) -> Image:
        """The image of this fingerprint under its tag.

        Cancelling ends the build on the engine too (S10).
        Raises BuildError, TreeMovedError (S8), PlatformError.
        """

    async def build_full(self, service: Service, fingerprint: Fingerprint) -> Image:
        """As `build`, standing on no image before it: the one that `build` made could not be loaded."""


class Loader(Protocol):
    async def find(self, service: Service, fingerprint: Fingerprint) -> Image | None:
        """The image if nodes (asked first) or the builder's engine have it (S12): how="reused"."""

    async def load(self, image: Image) -> LoadedImage:
        """Bring the image to every node, in parallel, and verify it there by id (S2).

        Raises LoadError, LayersMissingError (a full build is due), PlatformError.
        """

    async def end(self, node: str, instance: str, *, deaf: bool) -> bool:
        """Kill a container that is to end; with `deaf` only if its process does not handle SIGTERM
        and would stay for its whole grace period. `instance` as in ContainerView. True if it was killed;
        never raises."""
        ...


class Feed(Protocol):
    """The newest snapshot of one target, kept current by watches (never polled)."""

    @property
    def latest(self) -> Snapshot: ...

    async def next(self, seen: Snapshot) -> Snapshot:
        """Wait until there is a snapshot newer than `seen`, then return the newest."""
        ...


class InPlaceUpdate(Protocol):
    """The writes of an update in place (S33). All raise PlatformError; all but `look` InPlaceError where
    somebody else wrote meanwhile or the user may not: the target is rolled then."""

    async def look(self, *, sync: bool = False) -> InPlacePlan | Refusal:
        """What is to be done, by what the cluster holds now; with `sync` to name what pods run already that
        are not to be touched. Raises PatchError, TargetMissingError."""
        ...

    async def put(self, pod: PodToUpdate) -> bool:
        """Change the image of this pod's container; False where the pod is gone, or on its way out."""
        ...

    async def finish(self) -> Revision:
        """Make Deployment, ReplicaSet, and pods made meanwhile name the image; nothing interrupts it. Pods
        into which its content was synced are left as they are (S37)."""
        ...

    async def undo(self, pod: PodToUpdate) -> None:
        """Bring the pod back to the image that the template names."""
        ...

    async def drop(self, pod: str, uid: str, container: str) -> bool:
        """Delete a pod that runs something else; True if it did. Its ReplicaSet makes the next one."""
        ...

    async def mend(self, pod: str, uid: str, container: str) -> str:
        """Give such a pod the image, in place where it never ran it; what was done, "" = nothing (S37)."""
        ...

    async def bake(self) -> list[str]:
        """Give pods that run synced files the template's image; their names."""
        ...

    async def clear(self) -> list[str]:
        """End what a cut-off update left: a pause, and pods with an image that the template does not name.
        The names of the pods that were deleted."""
        ...


class Cluster(Protocol):
    @property
    def context(self) -> str:
        """The kubeconfig context, for the command lines in hints."""
        ...

    def feed(self, target: Target) -> AbstractAsyncContextManager[Feed]:
        """Watch one target; entering returns when the first snapshot is there.

        Watches are shared by all feeds of a namespace and survive API outages. Raises PlatformError.
        """
        ...

    async def patch(self, target: Target, service: Service, loaded: LoadedImage) -> Revision:
        """Write the image into the pod template (S14, S15), shielded for at most 5 s; a time-out or a
        broken answer is resolved by reading (S16).

        Raises PatchError, TargetMissingError, PlatformError.
        """
        ...

    async def restart(self, target: Target, ref: str) -> Revision:
        """Have the target's pods replaced though its image stays `ref`, as `kubectl rollout restart` does.

        Shielded, and raises, as `patch`.
        """
        ...

    def in_place(
        self, target: Target, service: Service, ref: str
    ) -> AbstractAsyncContextManager[InPlaceUpdate]:
        """Alone with the target, for an update of its pods in place."""
        ...

    async def last_words(self, target: Target, pod: str, container: str, lines: int = 200) -> tuple[str, ...]:
        """The last log lines of the container that died, or of the one that runs: enough to find in them why
        it ended (devloop.causes)."""
        ...

    async def delete_pod(self, target: Target, pod: str, uid: str) -> None:
        """Delete this very pod of the target, if it is still there and the server lets us; its controller
        makes the next one. Raises PlatformError."""
        ...

    def logs(self, target: Target, pod: str, container: str, *, from_now: bool = False) -> AsyncIterator[str]:
        """Follow a container's log until it ends; `from_now` leaves out earlier lines."""
        ...

    async def url(self, target: Target) -> str | None:
        """Where the workload can be reached from this machine, if a Service says so."""
        ...

    async def apply(
        self,
        paths: Sequence[Path],
        refs: Sequence[str],
        withheld: Sequence[str] = (),
        only: Collection[Trouble] | None = None,
    ) -> Application:
        """Apply manifests (server-side, manager devloop) with the live image `refs` put in.

        Objects that name an image of the `withheld` repositories wait (their image is not loaded yet), and
        so do those that ask for what must be there beforehand and is not (see `prerequisite`). `only`: what
        could not be applied before, and nothing else.
        An object that is refused, and a file that cannot be read, is a trouble of its own and stops no other.
        Raises PlatformError.
        """
        ...

    async def prerequisite(self, image: str = "") -> PrerequisiteError | None:
        """What objects that the last `apply` left wait for, looked for again; None where nothing is missing.

        With `image`, only of objects that name an image of this repository. Raises PlatformError.
        """
        ...


class Installer(Protocol):
    """Manifests and releases: what must be in the cluster before there is a target to PATCH."""

    async def install(self, service: Service, ref: str, *, missing: bool = False) -> bool:
        """Write what changed since the last time, or is `missing`, with the live tags, as far as its
        images are loaded; `ref` is loaded from now on. True if anything in the cluster changed.

        Raises ConfigError, PatchError, PlatformError.
        """
        ...

    async def turn(self, service: Service, waiting: Waiting) -> None:
        """Wait for what the service depends on, within `waiting` of its names. Raises DependencyError."""

    def writing(self, service: Service) -> AbstractAsyncContextManager[None]:
        """Alone with the releases that hold the service: its PATCH happens within, never amid an upgrade
        that read the tags before it (S22)."""
        ...

    async def unblocked(self) -> None:
        """Wait until what a PrerequisiteError named may be there."""
        ...


class Syncer(Protocol):
    """Files into running containers (S36). `synced` knows which hold what (S37)."""

    synced: SyncedContainers

    async def files(self, service: Service, fingerprint: Fingerprint, content: str) -> SyncFiles | Refusal:
        """What has to be written into containers that hold `content`, a fingerprint, to make it the tree's.

        Raises TreeMovedError (S8), PlatformError.
        """
        ...

    async def refuse(self, pod: PodToUpdate, files: SyncFiles, reload: str) -> Refusal | None:
        """Why they cannot be written into this pod's container, or its process cannot be made to `reload`.

        Raises LoadError, PlatformError.
        """
        ...

    async def put(self, pod: PodToUpdate, files: SyncFiles, reload: str) -> None:
        """Write them, read each back, have the process reload. Raises SyncError, LoadError, PlatformError."""
        ...

    async def runs(self, pod: PodToUpdate) -> bool:
        """Whether the container has not ended since. Raises LoadError, PlatformError."""
        ...

    def hold(self, service: Service, fingerprint: Fingerprint, files: SyncFiles) -> None:
        """The containers hold the content of `fingerprint` now: the next files stand on it."""


class TripObserver(Protocol):
    """Acts on the trips of services: called by the worker, which has the outcome. Neither may raise."""

    def begun(self, service: Service) -> None:
        """A trip of the service begins."""

    def ended(self, service: Service, outcome: Outcome) -> None:
        """It ended; before its event is emitted."""


@dataclass(frozen=True, slots=True)
class World:
    """All that a trip needs from outside, together: made once (wiring.py)."""

    fingerprinter: Fingerprinter
    builder: Builder
    loader: Loader
    cluster: Cluster
    installer: Installer
    emit: Emit
    clock: Clock
    report: Report = InternalError  # of what nobody expected (safety_net.py)
    reported: set[object] = field(default_factory=set)  # what is reported once in a session
    run_hook: RunHook | None = None
    syncer: Syncer | None = None  # only of a session that looks after what it synced: `watch`
