"""What is asked of Helm, whoever Helm is: a port, implemented in adapters/helm/."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from devloop.model import LiveImage, Release, ReleaseView, Target, Values


class Releaser(Protocol):
    """Helm releases, whoever is Helm: the library in a worker process, or the user's command."""

    def exclusive(self, release: Release) -> AbstractAsyncContextManager[None]:
        """The only writer of the release on this host, a helm that outlived its devloop included."""
        ...

    async def find(self, release: Release) -> ReleaseView | None:
        """The newest revision that the cluster has a record of. Raises PlatformError."""
        ...

    async def live(self, targets: Sequence[Target], image: str) -> Sequence[LiveImage | None]:
        """What each target runs of the repository of `image`; None for a target that is not there."""
        ...

    async def ensure_namespace(self, release: Release) -> bool:
        """Make the namespace if it may be made; True if it was. Raises PrerequisiteError, PlatformError."""
        ...

    async def render(self, release: Release, values: Values, *, upgrade: bool) -> str:
        """The manifests, as YAML documents. Raises ReleaseError, PlatformError."""
        ...

    async def check_needs(self, release: Release, manifest: str) -> None:
        """Raises PrerequisiteError for what its pods name, and is neither rendered nor there."""
        ...

    async def install(self, release: Release, values: Values, note: str) -> None:
        """Raises ReleaseError, PlatformError. Cancellation waits for its end: `note` is its description."""
        ...

    async def upgrade(self, release: Release, values: Values, note: str) -> None: ...

    async def uninstall(self, release: Release) -> None: ...

    async def give_up(self, release: Release, view: ReleaseView) -> None:
        """Record a pending revision as failed: whoever made it is dead (S23)."""
        ...
