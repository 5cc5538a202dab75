"""Builds a shape in full and as a delta on the real engine, and compares what comes out."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import docker

from devloop.adapters.archive.docker_archive import delta as thin_archive
from devloop.delta.delta import Delta, NotProven, Parent, delta, recipe
from devloop.delta.layer_index import Layer, Layers
from devloop.delta.outputs import LayerFile, LayerFiles
from devloop.dockerfile.dockerignore import IgnoreRules
from devloop.dockerfile.parser import Dockerfile
from devloop.dockerfile.plan import Plan
from devloop.dockerfile.planner import plan
from devloop.inputs import snapshot as tree
from devloop.inputs.selection import Selection
from devloop.inputs.stat_cache import StatCache
from devloop.model import Base, BuildSpec, Inputs, Service
from tests.support.buildkit import RefusedError, docker_cli

BASE = "devloop-delta-base:1"
LABEL = "dev.devloop.test"
# What an engine puts into every container, whatever the image says.
_ENGINE_OWN = re.compile(r"(\.dockerenv|dev(/.*)?|proc|sys|etc|etc/(hosts|hostname|resolv\.conf|mtab))")


def busybox() -> Path:
    """A static busybox: the machine's own, or Debian's package unpacked into the temporary directory."""
    found = shutil.which("busybox")
    if (
        found
        and b"statically" in subprocess.run(["file", "-L", found], capture_output=True, check=False).stdout
    ):
        return Path(found)
    home = Path("/var/tmp/devloop-test-busybox")
    binary = home / "root" / "bin" / "busybox"
    if not binary.exists():
        home.mkdir(exist_ok=True)
        subprocess.run(
            ["apt-get", "download", "-q", "busybox-static"], cwd=home, check=True, capture_output=True
        )
        package = next(home.glob("busybox-static*.deb"))
        subprocess.run(["dpkg", "-x", str(package), str(home / "root")], check=True)
    return binary


def make_base(client: docker.APIClient) -> None:
    """A base of 2 MB with what the shapes need: a shell, users, links, a directory of its own."""
    content = {
        "etc/passwd": b"root:x:0:0::/:/bin/sh\napp:x:1001:1002::/:/bin/sh\n",
        "etc/group": b"root:x:0:\napp:x:1002:\n",
        "srv/base.txt": b"from the base\n",
        "srv/sub/base.txt": b"from the base\n",
        "bin/busybox": busybox().read_bytes(),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in ("bin", "etc", "srv", "srv/sub", "odd", "tmp", "proc", "dev", "sys"):
            member = tarfile.TarInfo(path)
            member.type, member.mode = tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755
            if path == "odd":
                member.mode, member.uid, member.gid, member.mtime = 0o2750, 7, 8, 1_000_000_000
            archive.addfile(member)
        for path, data in content.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), 0o755 if path.startswith("bin/") else 0o644
            archive.addfile(member, io.BytesIO(data))
        for path, target in (("bin/sh", "busybox"), ("lnk", "srv"), ("abs", "/odd")):
            member = tarfile.TarInfo(path)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    digest = hashlib.sha256(out.getvalue()).hexdigest()
    with suppress(docker.errors.ImageNotFound):
        if (client.inspect_image(BASE)["Config"]["Labels"] or {}).get(LABEL) == digest:
            return
    changes = ["ENV PATH=/bin", f"LABEL {LABEL}={digest}"]
    client.import_image_from_data(out.getvalue(), repository="devloop-delta-base", tag="1", changes=changes)


@dataclass(frozen=True)
class Item:
    """One file of an image, as `docker export` lists it."""

    type: str
    mode: int
    owner: tuple[int, int]
    mtime: int
    link: str
    digest: str


class Bench:
    """One service on disk, and its images on the engine. Files have fixed times: BuildKit remembers layers
    by content, with the times they had."""

    def __init__(
        self,
        home: Path,
        name: str,
        dockerfile: str,
        ignored: str = "",
        args: Mapping[str, str] = {},
        target: str | None = None,
    ) -> None:
        self.home, self.name, self.dockerfile, self.args, self.target = home, name, dockerfile, args, target
        self.repository = f"devloop-delta-test-{os.getpid()}-{name}"  # tests may run side by side
        self.context = home / "context"
        self.client = docker.from_env(timeout=120).api
        self.rules = IgnoreRules.parse(ignored)
        self.context.mkdir(parents=True)
        (home / "Dockerfile").write_text(dockerfile)
        (home / "Dockerfile.dockerignore").write_text(ignored)
        build = BuildSpec(self.context, home / "Dockerfile", args=dict(args), target=target)
        self.service = Service(name, name, build, ())
        self.plan = self._plan()
        self.tags: dict[str, None] = {}

    def _plan(self) -> Plan:
        parsed = Dockerfile.parse(self.dockerfile)
        first = plan(parsed, target=self.target, args=self.args, platform="linux/amd64")
        self.bases = tuple(self._base(ref.ref) for ref in first.bases)
        return plan(parsed, target=self.target, args=self.args, platform="linux/amd64", bases=self.bases)

    def _base(self, ref: str) -> Base:
        facts = self.client.inspect_image(ref)
        config = facts["Config"]
        return Base(
            ref,
            facts["Id"],
            tuple(config["OnBuild"] or ()),
            tuple(config["Env"] or ()),
            config["WorkingDir"],
            config["User"],
        )

    def inputs(self) -> Inputs:
        cache = StatCache(self.home / "never-written.db")
        selection = Selection.of(self.plan.reads, self.rules)
        files = tree.read(self.context, selection, set(), cache, lambda: None).files
        return Inputs(
            files, self.bases, "linux/amd64", hashlib.sha256(self.dockerfile.encode()).hexdigest(), ""
        )

    def build(self, tag: str) -> str:
        """A full build; the image's reference. Raises RefusedError."""
        ref = f"{self.repository}:{tag}"
        self._docker_build("-q", "-t", ref, "--label", f"{LABEL}={tag}")
        self.tags[ref] = None
        return ref

    def build_files(self) -> dict[str, Item]:
        """The file system that a full build gives, without an image of it."""
        return items(self._docker_build("-o", "-"))

    def export(self, dockerfile: str) -> LayerFiles:
        """What another Dockerfile makes of the same context: its layers. Raises RefusedError."""
        where = self.home / "Dockerfile.export"
        where.write_text(dockerfile)
        where.with_name(f"{where.name}.dockerignore").write_text(
            (self.home / "Dockerfile.dockerignore").read_text()
        )
        ref = f"{self.repository}:export"
        self._docker_build("-q", "-t", ref, file=where)
        self.tags[ref] = None
        try:
            data = b"".join(self.client.get_image(ref, chunk_size=1 << 20))
        finally:
            self.remove(ref)
        layers = []
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for number, name in enumerate(json.load(_member(archive, "manifest.json"))[0]["Layers"]):
                file = self.home / f"{number}.layer"
                file.write_bytes(_member(archive, name).read())
                layers.append(LayerFile(file, 0))
            config = json.load(_member(archive, json.load(_member(archive, "manifest.json"))[0]["Config"]))
        return LayerFiles(tuple(layers), tuple(config["rootfs"]["diff_ids"]))

    def _docker_build(self, *options: str, file: Path | None = None) -> bytes:
        args = [part for name, value in self.args.items() for part in ("--build-arg", f"{name}={value}")]
        args += ["--target", self.target] if self.target else []
        where = str(file or self.home / "Dockerfile")
        done = subprocess.run(
            [docker_cli(), "build", *options, *args, "-f", where, str(self.context)],
            env={**os.environ, "DOCKER_BUILDKIT": "1"},
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise RefusedError(done.stderr.decode(errors="replace"))
        return done.stdout

    def parent(self, ref: str, inputs: Inputs) -> Parent:
        """What a full build leaves behind for deltas, read from `docker save`."""
        data = b"".join(self.client.get_image(ref, chunk_size=1 << 20))
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            manifest = json.load(_member(archive, "manifest.json"))[0]
            config = _member(archive, manifest["Config"]).read()
            layers = tuple(Layer.read(_member(archive, name), digests=True) for name in manifest["Layers"])
        diff_ids = tuple(json.loads(config)["rootfs"]["diff_ids"])
        return Parent(recipe(self.service.build, inputs), config, diff_ids, Layers(layers), len(layers))

    def delta(self, parent: Parent, before: Inputs, after: Inputs, tag: str) -> Delta | NotProven:
        return delta(self.service, parent, before, after, self.plan, self.rules, {LABEL: tag})

    def load(self, made: Delta, tag: str) -> str:
        ref = f"{self.repository}:{tag}"
        for line in self.client.load_image(bytes(thin_archive(made.archive, ref))):
            assert "error" not in line, line
        self.tags[ref] = None
        assert self.client.inspect_image(ref)["Id"] == made.id
        return ref

    def files(self, ref: str) -> dict[str, Item]:
        """The file system of a container of the image, as it was never started."""
        container = self.client.create_container(ref, command=["/none"])["Id"]
        try:
            data = b"".join(self.client.export(container, chunk_size=1 << 20))
        finally:
            self.client.remove_container(container)
        return items(data)

    def config(self, ref: str) -> dict[str, object]:
        """What a container of it would run with; how the layers came about is no part of it."""
        facts = self.client.inspect_image(ref)
        return {
            **{key: facts["Config"][key] for key in facts["Config"] if key not in ("Image", "Hostname")},
            **{key: facts[key] for key in ("Architecture", "Os", "Author")},
        }

    def remove(self, ref: str) -> None:
        self.client.remove_image(ref, force=True)
        del self.tags[ref]

    def close(self) -> None:
        for ref in reversed([*self.tags]):
            self.remove(ref)
        self.client.close()


def _member(archive: tarfile.TarFile, name: str):  # type: ignore[no-untyped-def]
    member = archive.getmember(name)
    if member.issym():  # docker save links layers that occur twice
        name = os.path.normpath(os.path.join(os.path.dirname(name), member.linkname))  # noqa: PTH118, PTH120
        member = archive.getmember(name)
    opened = archive.extractfile(member)
    assert opened is not None
    return opened


def items(data: bytes) -> dict[str, Item]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            path = member.name.strip("/").removeprefix("./")
            if path not in ("", ".") and not _ENGINE_OWN.fullmatch(path):
                found[path] = _item(archive, member)
    return found


def _item(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Item:
    opened = archive.extractfile(member) if member.isreg() or member.islnk() else None
    digest = hashlib.sha256(opened.read()).hexdigest() if opened else ""
    kind = (
        "file"
        if member.islnk()
        else {tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link"}.get(member.type, "file")
    )
    link = member.linkname if member.issym() else ""
    mode = 0o777 if kind == "link" else member.mode & 0o7777  # a link's own says nothing
    return Item(kind, mode, (member.uid, member.gid), int(member.mtime), link, digest)


def differences(full: Mapping[str, Item], made: Mapping[str, Item], changed: tuple[str, ...]) -> list[str]:
    """In words, where the two file systems differ. The time counts of files that the delta wrote."""
    found = [f"{path}: only in the full build" for path in sorted(full.keys() - made.keys())]
    found += [f"{path}: only in the delta" for path in sorted(made.keys() - full.keys())]
    for path in sorted(full.keys() & made.keys()):
        one, other = full[path], made[path]
        for name in ("type", "mode", "owner", "link", "digest"):
            if getattr(one, name) != getattr(other, name):
                found.append(
                    f"{path}: {name} {getattr(one, name)} in full, {getattr(other, name)} in the delta"
                )
        if path in changed and one.type == "file" and one.mtime != other.mtime:
            found.append(f"{path}: time {one.mtime} in full, {other.mtime} in the delta")
    return found


Plant = Mapping[str, str | None]
_EPOCH = 1_700_000_000


def plant(context: Path, files: Plant) -> None:
    """Files by content ("! 755 x" sets a mode), links by "-> target", directories by None."""
    for name, content in files.items():
        path = context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        elif content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            found = re.fullmatch(r"! ([0-7]+) (.*)", content, re.DOTALL)
            path.write_text(found[2] if found else content)
            path.chmod(int(found[1], 8) if found else 0o644)
    fix_times(context)


def fix_times(context: Path) -> None:
    """Times that hang on path and content alone, with a fraction of a second."""
    for path in sorted(context.rglob("*"), reverse=True):
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        seed = f"{path.relative_to(context)} {content!r}"
        offset = int(hashlib.sha256(seed.encode()).hexdigest()[:6], 16)
        when = (_EPOCH + offset) * 1_000_000_000 + 123_456_789
        os.utime(path, ns=(when, when), follow_symlinks=False)
