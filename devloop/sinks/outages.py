"""What no single trip says: an engine, the API server or a registry went, and it is back."""

from __future__ import annotations

from devloop.errors import PlatformError
from devloop.events import ConfigReloaded, Emit, Event, Outage, StageEnded, TripEnded
from devloop.model import Failed, Superseded

ANY = ""


class Outages:
    """A sink before all others: it emits an Outage when the first trip fails by it, and when the first of
    those services has got through the stage again that failed."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._waiting: dict[
            str, dict[str, str]
        ] = {}  # what is gone -> service -> the stage that failed by it

    def __call__(self, event: Event) -> None:
        match event:
            case Outage(over=False):
                self._waiting.setdefault(event.what, {})
            case Outage():
                self._waiting.pop(event.what, None)
            case TripEnded(outcome=Failed(error=PlatformError(outage=what) as error, stage=stage)) if what:
                if what not in self._waiting:
                    self._emit(Outage(what, False, error.message, error.hint))
                self._waiting[what][event.service] = stage
            case TripEnded(outcome=Superseded()):
                pass
            case TripEnded():
                self._got_through(event.service)
            case StageEnded(outcome="ok"):
                self._got_through(event.service, event.stage)
            case ConfigReloaded():
                for service in event.gone:
                    self._leave(service)
            case _:
                pass

    def _got_through(self, service: str, stage: str = "") -> None:
        for what, waiting in tuple(self._waiting.items()):
            failed = [waiting[one] for one in (service, ANY) if one in waiting]
            if (service in waiting and not stage) or stage in failed:
                self._emit(Outage(what, over=True))

    def _leave(self, service: str) -> None:
        """It will not show any more that something is back; another one will."""
        for waiting in self._waiting.values():
            if service in waiting:
                waiting[ANY] = waiting.pop(service)
