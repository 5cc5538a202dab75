"""This machine: the engine that builds, the docker command, and the space that disks have left."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import anyio.to_thread

from devloop import state_file
from devloop.adapters.build.build_cli import find_command
from devloop.adapters.docker.endpoint import Endpoint
from devloop.adapters.docker.endpoint import current as current_engine
from devloop.adapters.docker.engine import Engine
from devloop.doctor.diagnosis import Diagnoses, Diagnosis, Machine, failure, ok, warning
from devloop.files import is_folder
from devloop.sinks.wording import size

LOW, TOO_LOW = 2_000_000_000, 200_000_000  # bytes
PROBE = ".doctor"


async def engine(machine: Machine) -> Diagnoses:
    """Whether the engine that builds answers, and has space on its disk if that is one of this machine."""

    async def endpoint() -> Endpoint:
        return current_engine(machine.environ)

    docker = Engine(endpoint)
    try:
        info = await docker.info()
        here = (await docker.endpoint()).socket is not None
    finally:
        await docker.aclose()
    store = "containerd image store" if info.containerd_store else "graph driver"
    found = [ok("build engine", f"{info.name}, Docker {info.version}, {info.platform}, {store}")]
    root = Path(info.root or os.devnull)
    if here and is_folder(root):
        found += [one for one in [free_space(root, "the engine's images")] if one.grade != "ok"]
    return found


async def docker_command(machine: Machine) -> Diagnoses:
    command = await find_command(dict(machine.environ))
    if command is None:
        return [
            warning(
                "docker command",
                "none with BuildKit: the engine's own API builds, without build secrets",
                "install docker-buildx (apt install docker-buildx-plugin)",
            )
        ]
    how = "with buildx" if command.buildx else "with BuildKit built in"
    return [ok("docker command", f"{command.path}, {how}")]


async def disk(machine: Machine) -> Diagnoses:
    """Space for what devloop itself writes: its state, and what it sends while it builds."""
    return await anyio.to_thread.run_sync(_disk, machine.state)


def _disk(state: Path) -> Diagnoses:
    try:
        state_file.write(state / PROBE, b"1" * 4096)
        (state / PROBE).unlink()
    except OSError as error:
        written = warning(
            "disk",
            f"{state} cannot be written ({error.strerror}): every start reads all files again, and nothing"
            " is remembered for a rollback",
            f"ls -ld {state}; df -h {_existing(state)}; XDG_STATE_HOME names another folder",
        )
        return [written, *_free_spaces([Path(tempfile.gettempdir())])]
    return _free_spaces([state, Path(tempfile.gettempdir())])


def _free_spaces(folders: Iterable[Path]) -> list[Diagnosis]:
    """Each disk once; one line where all have space."""
    looked = {os.stat(one).st_dev: free_space(one, "devloop") for one in map(_existing, folders)}  # noqa: PTH116
    short = [one for one in looked.values() if one.grade != "ok"]
    return short or [*looked.values()][:1]


def free_space(folder: Path, whose: str) -> Diagnosis:
    """How much a folder's disk has left."""
    free = shutil.disk_usage(folder).free
    files = os.statvfs(folder)
    if files.f_files and not files.f_favail:
        return failure("disk", f"no file can be made in {folder} any more: no inodes left", f"df -i {folder}")
    text = f"{size(free)} free in {folder}"
    if free >= LOW:
        return ok("disk", text)
    fix = f"df -h {folder}; docker system prune removes what no container needs"
    make = failure if free < TOO_LOW else warning
    return make("disk", f"only {text}, where {whose} writes", fix)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(one for one in (folder, *folder.parents) if one.is_dir())
