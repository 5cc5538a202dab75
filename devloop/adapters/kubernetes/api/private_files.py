"""Texts as files, for code that reads nothing else: OpenSSL takes a private key by its path only (S30)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from devloop import scratch
from devloop.borders import disk
from devloop.errors import PlatformError


@contextmanager
def private_files(texts: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """A path for each text, good until the end of the block.

    On Linux the files lie in memory: nothing is left of them after kill -9, and no folder has to be writable.
    Elsewhere they lie in a folder that a later start removes. Raises PlatformError if none can be written.
    """
    with ExitStack() as stack:
        paths = _in_memory(texts, stack)
        yield paths if paths is not None else _on_disk(texts, stack)


def _in_memory(texts: Mapping[str, str], stack: ExitStack) -> dict[str, str] | None:
    """None where the system has no such files, or forbids them (a seccomp profile, vm.memfd_noexec)."""
    if not hasattr(os, "memfd_create"):
        return None
    paths = {}
    try:
        for name, text in texts.items():
            file = stack.enter_context(os.fdopen(os.memfd_create(name), "wb"))
            file.write(text.encode())
            file.flush()
            paths[name] = f"/proc/self/fd/{file.fileno()}"
    except OSError:
        return None
    return paths if all(map(os.path.exists, paths.values())) else None  # there may be no /proc


def _on_disk(texts: Mapping[str, str], stack: ExitStack) -> dict[str, str]:
    with disk("certificates for the API server", PlatformError):
        folder = stack.enter_context(scratch.folder())
        for name, text in texts.items():
            (folder / name).write_text(text)
    return {name: str(Path(folder, name)) for name in texts}
