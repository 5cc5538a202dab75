"""One place where events come in, and every sink gets them."""

from __future__ import annotations

from collections.abc import Callable

from devloop.events import ConfigReloaded, Emit, Event
from devloop.secrets.redaction import Secrets


class Fan:
    """Hands every event to every sink, in order, and takes out before what none may have (S30); events of a
    service that left config.yaml go to none."""

    def __init__(self, secrets: Secrets | None = None) -> None:
        self.sinks: list[Emit] = []
        self._secrets = secrets or Secrets()
        self._gone: frozenset[str] = frozenset()
        self.fell: Callable[[object, Exception], None] | None = None  # what to do with a sink that raises

    def __call__(self, event: Event) -> None:
        event = self._secrets.event(event)
        if isinstance(event, ConfigReloaded):
            self._gone = (self._gone - set(event.services)) | set(event.gone)
        elif getattr(event, "service", "") in self._gone:
            return  # its last trip is ending yet
        for sink in self.sinks:
            try:
                sink(event)
            except Exception as error:
                if self.fell is None:
                    raise
                self.fell(sink, error)
