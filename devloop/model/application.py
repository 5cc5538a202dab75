"""What applying manifests came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from devloop.image_refs import repository
from devloop.model.project import Service

if TYPE_CHECKING:
    from devloop.errors import DevloopError


@dataclass(frozen=True, slots=True)
class Trouble:
    """One object, or one file, that could not be applied. `images`: the repositories that it names."""

    what: str  # "deployment/web", or the file
    namespace: str
    images: frozenset[str]
    error: DevloopError

    def concerns(self, service: Service) -> bool:
        """Whether it is the workload of the service: its trip reports it."""
        names = {(str(target), target.namespace) for target in service.targets}
        return repository(service.image) in self.images or (self.what, self.namespace) in names

    @property
    def unread(self) -> bool:
        """It is a file, or a part of one: which objects it would have been is not known."""
        return not self.namespace


@dataclass(frozen=True, slots=True)
class Application:
    """What applying manifests came to: "deployment/x created", and why the others were not.

    `names`: of all objects that could be read, with their namespaces.
    """

    changed: tuple[str, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    names: frozenset[tuple[str, str]] = frozenset()
