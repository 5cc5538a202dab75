"""The backend of watching that fits the operating system devloop runs on."""

from __future__ import annotations

import platform

from devloop.adapters.watch.mounts import KernelMountAlarm, silent_below, silent_type, touching
from devloop.watch.source import Backend, EventSource, WatchRoots


def local_backend() -> Backend:
    """Nothing is opened before it is used."""
    return Backend(_native, _polling, silent_type, silent_below, touching, KernelMountAlarm)


def _native(roots: WatchRoots) -> EventSource:
    """Imported here: each belongs to another system, and loads what only that one has."""
    if platform.system() == "Linux":
        from devloop.adapters.watch.inotify import Inotify

        return Inotify(roots)
    from devloop.adapters.watch.watchfiles import Watchfiles

    return Watchfiles(roots)


def _polling(roots: WatchRoots) -> EventSource:
    from devloop.adapters.watch.polling import Polling

    return Polling(roots)
