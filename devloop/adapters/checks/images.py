"""What `devloop check` asks of the build engine: an image's facts, and suspicious files in its layers."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from devloop import state_file
from devloop.adapters.docker.engine import Engine
from devloop.adapters.docker.image_files import suspicious_files
from devloop.borders import LAYER
from devloop.checks.facts import BuiltImage, LayerFile

KEPT = 50  # images whose scan is remembered


class Scans:
    """Which suspicious files an image has, by its id: a look through all layers reads the whole image.

    `memory` is a file in the state directory; one that cannot be read or written only costs time.
    """

    def __init__(self, memory: Path) -> None:
        self._memory = memory

    async def files(self, engine: Engine, ref: str, image: str) -> tuple[LayerFile, ...]:
        known = self._read()
        if image not in known:
            with LAYER(f"the layers of {ref}"):
                found = await suspicious_files(engine, ref)
            known[image] = [*found]
            rows = {
                one: [[file.path, file.private_key] for file in files]
                for one, files in [*known.items()][-KEPT:]
            }
            with suppress(OSError):
                state_file.write(self._memory, json.dumps(rows).encode())
        return tuple(known[image])

    def _read(self) -> dict[str, list[LayerFile]]:
        return state_file.read(self._memory, state_file.by_name(state_file.each(_file)), {})


def _file(row: Any) -> LayerFile:
    path, private_key = row
    return LayerFile(state_file.text(path), bool(private_key))


async def built_image(engine: Engine, scans: Scans, ref: str, max_size: int | None) -> BuiltImage | None:
    """None if the engine does not have it. Raises PlatformError, EngineRefusedError."""
    facts = await engine.inspect(ref)
    if facts is None:
        return None
    ports = frozenset(int(port.partition("/")[0]) for port in facts.ports if port.partition("/")[0].isdigit())
    files = await scans.files(engine, ref, facts.id)
    return BuiltImage(ref, facts.size, facts.user, ports, files, max_size)
