"""What every write passes, from a client or a controller: defaults, addresses, validation, quota."""

from __future__ import annotations

from devloop.sandbox import defaults
from devloop.sandbox.options import Options
from devloop.sandbox.resources import Obj, Resource
from devloop.sandbox.store import Store


class Gate:
    """The store's Admission."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def admit(self, store: Store, resource: Resource, obj: Obj, old: Obj | None, subresource: str) -> None:
        if subresource == "status":
            return
        defaults.fill(resource, obj)
