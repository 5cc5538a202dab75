"""What the control socket can be asked for: each name with what does it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict

from devloop import __version__, state_file
from devloop.control.actions import Actions, Result
from devloop.control.protocol import Handler, Json, Send
from devloop.secrets.redaction import Hide

MOST_NAMES = 1000
Act = Callable[[Sequence[str]], Awaitable[Sequence[Result]]]


def handlers_of(actions: Actions, place: Callable[[], tuple[str, str]], hide: Hide) -> Mapping[str, Handler]:
    """`place`: context and namespace that the watch works on; `hide` takes secrets out of texts (S30)."""

    async def hello(_: Json, send: Send) -> Json:
        context, namespace = place()
        return {
            "pid": os.getpid(),
            "devloop": __version__,
            "context": context,
            "namespace": namespace,
            "services": list(actions.services),
        }

    return {
        "hello": hello,
        "rebuild": _acting(actions.rebuild, hide),
        "restart": _acting(actions.restart, hide),
        "trigger": _acting(actions.trigger, hide),
        "pause": _acting(actions.pause, hide),
        "resume": _acting(actions.resume, hide),
    }


def names_in(request: Json) -> tuple[str, ...]:
    """The services that are named, none for all. Raises ValueError."""
    names = state_file.each(state_file.text)(request.get("services", []))
    if len(names) > MOST_NAMES:
        raise ValueError(f"more than {MOST_NAMES} services")
    return tuple(names)


def _acting(act: Act, hide: Hide) -> Handler:
    """{"services": {NAME: the fields of Result without its service}}"""

    async def handle(request: Json, send: Send) -> Json:
        found = {}
        for result in await act(names_in(request)):
            fields = asdict(result)
            fields.pop("service")
            hint = None if result.hint is None else hide(result.hint)
            found[result.service] = {**fields, "message": hide(result.message), "hint": hint}
        return {"services": found}

    return handle
