"""What an edit costs in memory: 64 MB at most, however large the file (measured in a process of its own)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MOST = 64  # MB beyond what the process had

SCRIPT = """
import hashlib, json, resource, sys
from pathlib import Path

import anyio
from aiohttp import web

from devloop.adapters.archive import docker_archive as thin, oci_layout as oci
from devloop.adapters.docker.endpoint import Endpoint
from devloop.adapters.docker.engine import Engine
from devloop.adapters.archive.load_proof import changed_file
from devloop.adapters.archive.delta_load import deliver
from devloop.delta.delta import NotProven, Parent, delta, recipe
from devloop.dockerfile.parser import Dockerfile
from devloop.dockerfile.dockerignore import NO_RULES
from devloop.delta.layer_index import Layer, LayerNode, Layers
from devloop.model import Base, BuildSpec, FileEntry, Inputs, Service
from devloop.dockerfile.planner import plan

home, socket = Path(sys.argv[1]), sys.argv[2]
text = "FROM base\\nCOPY . /app/\\n"
bases = (Base("base", "sha256:1", (), (), "", ""),)
planned = plan(Dockerfile.parse(text), target=None, args={}, platform="linux/amd64", bases=bases)
service = Service("s", "s", BuildSpec(home, home / "Dockerfile"), ())
status = (home / "model.bin").stat()
digest = hashlib.sha256()
with (home / "model.bin").open("rb") as file:
    while chunk := file.read(1 << 20):
        digest.update(chunk)


def inputs(content):
    mode, size = status.st_mode & 0o7777, status.st_size
    entry = FileEntry("model.bin", "file", mode, size, status.st_mtime_ns, content)
    return Inputs({"model.bin": entry}, bases, "linux/amd64", "d", "")


there = LayerNode("file", status.st_mode & 0o7777, 0, 0, 0, status.st_size)
folder = LayerNode("dir", 0o755, 0, 0)
layers = Layers((Layer({"bin": folder}), Layer({"app": folder, "app/model.bin": there})))
history = [{"created_by": "base"}, {"created_by": "COPY . /app/"}]
config = json.dumps({"config": {}, "rootfs": {"diff_ids": ["a", "b"]}, "history": history}).encode()
before, after = inputs("0" * 64), inputs(digest.hexdigest())


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


async def load(archive):
    engine = Engine.at(Endpoint(f"unix://{socket}"), role="engine")
    try:
        await deliver(engine, archive)
    finally:
        await engine.aclose()


begun = peak()
parent = Parent(recipe(service.build, before), config, ("a", "b"), layers, 2)
made = delta(service, parent, before, after, planned, NO_RULES, {})
if isinstance(made, NotProven):
    print(json.dumps([made.reason, peak() - begun]))
else:
    for shape in (thin.delta, oci.delta):
        anyio.run(load, shape(made.archive, "s:1"))
    assert changed_file(made.archive)[0] == "app/model.bin"
    print(json.dumps(["delta", peak() - begun]))
"""

SERVER = """
import sys
from aiohttp import web


async def load(request):
    total = 0
    async for piece in request.content.iter_any():
        total += len(piece)
    return web.json_response({"stream": str(total)})


app = web.Application()
app.router.add_post("/images/load", load)
web.run_app(app, path=sys.argv[1], print=lambda *_: print("ready", flush=True))
"""


def measured(folder: Path, megabytes: int) -> tuple[str, int]:
    """What became of the edit of a file of this size, and by how many MB the process grew for it."""
    home = folder / "context"
    home.mkdir()
    with (home / "model.bin").open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))
    socket = folder / "engine.sock"
    argv = [sys.executable, "-c", SERVER, str(socket)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline()
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT, str(home), str(socket)], capture_output=True, text=True
            )
        finally:
            server.terminate()
    assert done.returncode == 0, done.stderr
    how, grown = json.loads(done.stdout)
    return how, grown


@pytest.mark.parametrize("megabytes, how", [(30, "delta"), (300, "TooLarge")])
def test_a_changed_file_costs_64_mb_at_most(tmp_path: Path, megabytes: int, how: str) -> None:
    found, grown = measured(tmp_path, megabytes)
    assert found == how
    assert grown <= MOST, f"{grown} MB"
