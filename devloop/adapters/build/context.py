"""A service's context for builders that take it as a tar, read in worker threads (S8, S9)."""

from __future__ import annotations

import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio.to_thread

from devloop import scratch
from devloop.adapters.docker.connection import PIECE
from devloop.borders import disk
from devloop.concurrency import Check, check_of, in_thread
from devloop.dockerfile.dockerignore import candidates
from devloop.inputs.archive import (
    copy_context,
    dockerfile_entry,
    read_dockerfile,
    read_ignore_file,
    tar_context,
)
from devloop.inputs.fingerprinter import TreeFingerprinter
from devloop.model import BuildSpec, Fingerprint, Service


class FingerprintedTree:
    """`builder.Tree` over what the fingerprinter saw last."""

    def __init__(self, fingerprinter: TreeFingerprinter) -> None:
        self._fingerprinter = fingerprinter

    async def still_matches(self, service: Service, fingerprint: Fingerprint) -> bool:
        return await self._fingerprinter.still_matches(service, fingerprint)

    async def complete(self, service: Service, fingerprint: Fingerprint) -> bool:
        """The Dockerfile lies in the context, and no rule leaves it out."""
        spec = service.build
        if not spec.dockerfile.is_relative_to(spec.context):
            return False
        name = spec.dockerfile.relative_to(spec.context).as_posix()
        return not fingerprint.rules.matches(name)

    @asynccontextmanager
    async def copy(self, service: Service, fingerprint: Fingerprint) -> AsyncIterator[BuildSpec]:
        """The build again, from a copy of the inputs that is removed afterwards. Raises TreeMovedError."""
        spec, inputs = service.build, fingerprint.inputs
        what = f"the copy of the context of {service.name}"
        with ExitStack() as stack:
            with disk(what):
                folder = stack.enter_context(scratch.folder())
            # buildx knows a context by this part of its path alone: it must be nobody else's
            context, dockerfile = Path(folder, secrets.token_hex(8)), Path(folder, "Dockerfile")

            def work(check: Check) -> None:
                dockerfile.write_bytes(read_dockerfile(spec.dockerfile, inputs))
                ignored = read_ignore_file(spec, inputs)
                if ignored is not None:
                    candidates(context, dockerfile)[0].write_bytes(ignored)
                copy_context(spec.context, inputs, context, check=check)

            with disk(what):
                await in_thread(work)
            yield replace(spec, context=context, dockerfile=dockerfile)

    async def archive(self, service: Service, fingerprint: Fingerprint) -> AsyncIterator[bytes]:
        """The inputs, and the Dockerfile where it is no input. Raises TreeMovedError."""
        abandoned = threading.Event()
        pieces = self._pieces(service, fingerprint, abandoned)
        try:
            while batch := await anyio.to_thread.run_sync(_batch, pieces, abandon_on_cancel=True):
                yield batch
        finally:
            abandoned.set()

    def _pieces(
        self, service: Service, fingerprint: Fingerprint, abandoned: threading.Event
    ) -> Iterator[bytes]:
        spec, inputs = service.build, fingerprint.inputs

        name = spec.dockerfile.relative_to(spec.context).as_posix()
        if name not in inputs.files:
            yield dockerfile_entry(spec.dockerfile, inputs, name)
        yield from tar_context(spec.context, inputs, fingerprint.rules, check=check_of(abandoned))


def _batch(pieces: Iterator[bytes]) -> bytes:
    """About a megabyte, b"" at the end: a hop between threads costs more than a small file."""
    found = bytearray()
    for piece in pieces:
        found += piece
        if len(found) >= PIECE:
            break
    return bytes(found)
