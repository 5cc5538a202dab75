"""The pods' network holders: tiny "pause" containers, a few of them started before they are needed.

A network namespace costs the engine 200 ms, so a pod takes a warm one and only its own containers
have to be made.
"""

from __future__ import annotations

import asyncio
import io
import platform
import secrets
import struct
import tarfile
from dataclasses import dataclass

from devloop_sandbox.engine.bridge import LABEL, Network
from devloop_sandbox.engine.client import Engine, EngineError, to_its_end
from devloop_sandbox.objects.resources import Obj

TYPE = "dev.devloop.sandbox.type"  # podsandbox | container, as the dockershim had it
IMAGE = "devloop-sandbox-pause:1"
SPARE = 3  # warm ones kept: a rolling update of two services needs that many at once
REFILL_AFTER = 2.0  # seconds; making one at once would compete with the pod that took the last

# for (;;) pause();
_CODE = {
    "x86_64": (62, bytes.fromhex("b8220000000f05ebf7")),
    # aarch64 has no pause: ppoll(NULL, 0, NULL, NULL), and again
    "aarch64": (183, bytes.fromhex("000080d2010080d2020080d2030080d2280980d2010000d4faffff17")),
}


def pause_program(machine: str) -> bytes:
    """A static ELF executable that sleeps for ever, for `machine` as uname gives it."""
    number, code = _CODE[machine]
    size = 0x78 + len(code)
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, number, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return head + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, size, size, 0x10000) + code


async def ensure_image(engine: Engine) -> None:
    try:
        await engine.call("GET", f"/images/{IMAGE}/json")
        return
    except EngineError as error:
        if error.status != 404:
            raise
    buffer = io.BytesIO()
    program = pause_program(platform.machine())
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("pause")
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
    name, tag = IMAGE.split(":")
    params = {"fromSrc": "-", "repo": name, "tag": tag, "changes": 'ENTRYPOINT ["/pause"]'}
    await engine.call("POST", "/images/create", params=params, body=buffer.getvalue())


@dataclass(frozen=True, slots=True)
class Holder:
    """A running pause container: its id, its address on the pods' bridge, its process here."""

    container: str
    address: str
    pid: int


async def inspect_holder(engine: Engine, container: str, network: Network) -> Holder | None:
    """The holder, or None if it does not run (any more)."""
    try:
        found = await engine.inspect(container)
    except EngineError as error:
        if error.status == 404:
            return None
        raise
    if not found["State"]["Running"]:
        return None
    address = found["NetworkSettings"]["Networks"][network.name]["IPAddress"]
    return Holder(found["Id"], address, int(found["State"]["Pid"]))


def sandbox_name(pod: Obj) -> str:
    """The dockershim's name for a pod's holder."""
    meta = pod["metadata"]
    return f"k8s_POD_{meta['name']}_{meta['namespace']}_{meta['uid']}"


class Pool:
    """Started holders that no pod has yet. `run` keeps it filled."""

    def __init__(self, engine: Engine, network: Network, project: str) -> None:
        self._engine = engine
        self._network = network
        self._project = project
        self._spare: list[Holder] = []
        self._taken = asyncio.Event()

    def adopt(self, holder: Holder) -> None:
        """Take over what an earlier process left warm."""
        self._spare.append(holder)

    def drop(self, container: str) -> None:
        """A warm one has died."""
        left = [holder for holder in self._spare if holder.container != container]
        if len(left) < len(self._spare):
            self._spare = left
            self._taken.set()

    async def take(self) -> Holder:
        """A holder that ran when it was last seen. EngineError if none can be made."""
        holder = self._spare.pop(0) if self._spare else await to_its_end(self._make())
        self._taken.set()
        return holder

    async def name(self, holder: Holder, pod: Obj) -> None:
        """Give a taken holder its pod's name, for people; it costs the engine too much to wait for it."""
        params = {"name": sandbox_name(pod)}
        await self._engine.call("POST", f"/containers/{holder.container}/rename", params=params)

    async def run(self) -> None:
        while True:
            self._taken.clear()
            for _ in range(SPARE - len(self._spare)):  # a count: ones that die at once make no storm
                try:
                    self._spare.append(await to_its_end(self._make()))
                except EngineError:
                    await asyncio.sleep(5)  # the engine is away; the node says so
            await self._taken.wait()
            await asyncio.sleep(REFILL_AFTER)

    async def _make(self) -> Holder:
        """One more."""
        body = {
            "Image": IMAGE,
            "Labels": {LABEL: self._project, TYPE: "podsandbox"},
            "HostConfig": {
                "NetworkMode": self._network.name,
                "IpcMode": "shareable",
                "LogConfig": {"Type": "none"},
                "SecurityOpt": ["no-new-privileges"],
            },
        }
        name = f"k8s_POD_warm_{self._project}_{secrets.token_hex(4)}"
        container = await self._engine.create(name, body)
        try:
            await self._engine.start(container)
            holder = await inspect_holder(self._engine, container, self._network)
            if holder is None:
                raise EngineError(0, f"the pause container {name} died at its start")
        except EngineError:
            await self._engine.remove(container)
            raise
        return holder
