"""Images into a node's containerd: an OCI layout with only what the node lacks, straight into `ctr` (S2)."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from devloop.adapters.archive import oci_layout as oci
from devloop.adapters.archive.docker_archive import Tally
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.engine import Engine
from devloop.adapters.nodes.containers import Containers
from devloop.adapters.nodes.images import StoredImage, is_tagged, projects_of
from devloop.adapters.nodes.routes import ReportBytes, built, complete, send_to_each
from devloop.adapters.nodes.shells.shell import Body, NodeShell, last_line
from devloop.adapters.nodes.stores import Store
from devloop.borders import COMMAND_OUTPUT
from devloop.concurrency import closed
from devloop.errors import LoadError, PlatformError
from devloop.image_refs import familiar, full
from devloop.model import Image

CTR = "ctr -n k8s.io"
_SHA256 = "sha256:[0-9a-f]{64}"
_CHAIN = re.compile(rf"^({_SHA256})\s", re.MULTILINE)
_TABLE = re.compile(rf"REF\s.*\n\S+\s+\S+\s+({_SHA256})\s")  # of `ctr images ls`, with one image
_ASKED = "devloop-asked"
_CRICTL_THERE = "devloop-crictl"
_KILLED = "devloop-killed"
# An older ctr makes the image before it unpacks it. What a failed import left is taken away, by the
# names that ctr reported: kubelet would find a broken image.
_IMPORT = (
    f"command -v crictl >/dev/null && echo {_CRICTL_THERE}; "
    f'out=$({CTR} images import - 2>&1); s=$?; echo "$out"; [ $s = 0 ] || '
    r'for n in $(echo "$out" | sed -n "s/^unpacking \([^ ]*\) (sha256:.*/\1/p"); do '
    f"{CTR} images rm $n >/dev/null 2>&1; done; (exit $s)"
)


class ContainerdStore:
    """One node's containerd, asked by crictl where the node has it, else by ctr."""

    def __init__(self, node: str, shell: NodeShell) -> None:
        self.node = node
        self.shell = shell
        self._seen: set[str] | None = None  # full references that the node had, and those of imports
        self._reported: dict[str, str] = {}  # what the node reported at the end of an import, once
        self._manifests: dict[str, str] = {}  # manifest digest -> config digest of layouts that were sent
        self._projects: dict[str, tuple[str, str]] = {}  # the same -> config digest and project, as read

    async def digest(self, ref: str) -> str | None:
        if ref in self._reported:
            return self._reported.pop(ref)
        code, output = await self.shell.run(_question(ref))
        return self._answer(ref, code, output)

    async def look(self, ref: str) -> str | None:
        """As `digest`. What the node did not have when it was first looked at, and devloop did not bring,
        counts as absent: nobody else writes devloop's tags, and at worst it is brought once more."""
        if self._seen is None:
            code, output = await self.shell.run(f"{CTR} images ls -q")
            if code != 0:
                return await self.digest(ref)
            self._seen = set(output.split())
        return await self.digest(ref) if full(ref) in self._seen else None

    async def remove(self, ref: str) -> bool:
        code, _ = await self.shell.run(f"({_removal(shlex.quote(full(ref)))}) 2>&1")
        return code == 0

    async def end(self, runtime: str, container: str, *, deaf: bool) -> bool:
        if runtime != "containerd" or not container.isalnum():
            return False
        _, output = await self.shell.run(_ending(container, deaf=deaf))
        return _KILLED in output

    def containers(self, runtime: str) -> Containers | None:
        return None

    async def own(self, project: str, repositories: Sequence[str]) -> Sequence[StoredImage]:
        rows = [line.split() for line in (await self._run(f"{CTR} images ls")).splitlines()[1:]]
        digests = {row[0]: row[2] for row in rows if len(row) > 2 and is_tagged(row[0])}
        for gone in self._projects.keys() - set(digests.values()):
            del self._projects[gone]
        unknown = sorted(set(digests.values()) - self._projects.keys())
        self._projects |= await projects_of(self._run, f"{CTR} content get", unknown)
        known = {ref: self._projects[digest] for ref, digest in digests.items() if digest in self._projects}
        return [
            StoredImage(familiar(ref), config) for ref, (config, owner) in known.items() if owner == project
        ]

    async def _run(self, line: str) -> str:
        code, output = await self.shell.run(line)
        if code != 0:
            raise PlatformError(
                f"node {self.node}: listing images: exit code {code}: {last_line(output)}",
                reason="NodeRefused",
            )
        return output

    async def chains(self) -> frozenset[str]:
        """The chain IDs of the layers that the node has unpacked."""
        _, output = await self.shell.run(f"{CTR} snapshots ls")
        return frozenset(_CHAIN.findall(output))

    async def load(self, ref: str, body: Body, described: bytes = b"") -> None:
        """Import an OCI layout and ask for the image at once. Raises LoadError, PlatformError.

        `described`: the layout's manifest where it is known beforehand; the node then need not print it.
        """
        code, output = await self.shell.run(_IMPORT, body, ahead=True)
        crictl, output = output.startswith(_CRICTL_THERE), output.removeprefix(f"{_CRICTL_THERE}\n")
        if code != 0:
            raise LoadError(
                f"load of {ref} into {self.node}: ctr images import: {last_line(output)}",
                reason="DiskFull" if "no space left" in output else "ImportFailed",
                evidence=tuple(output.splitlines()[-5:]),
                hint="the node's disk is full: crictl rmi --prune frees space"
                if "no space left" in output
                else f"is containerd healthy? {CTR} version on the node",
            )
        if self._seen is not None:
            self._seen.add(full(ref))
        if described:
            self._manifests[oci.sha256(described)] = str(json.loads(described)["config"]["digest"])
            if not crictl and oci.sha256(described) in _imported(output, full(ref)):
                self._reported[ref] = self._manifests[oci.sha256(described)]
                return
        code, output = await self.shell.run(_question_after(ref) if described else _question(ref))
        found = self._answer(ref, code, output)
        if found is not None:
            self._reported[ref] = found

    def _answer(self, ref: str, code: int, output: str) -> str | None:
        """The config digest in the answer to a question."""
        _, asked, answer = output.partition(_ASKED)
        if code == 0 and (table := _TABLE.match(answer.strip())):
            return self._manifests.get(table[1])
        if code != 0 or not asked:
            raise PlatformError(
                f"node {self.node}: asking for {ref}: exit code {code}: {last_line(output)}",
                reason="NodeRefused",
                hint="does containerd run on the node?",
            )
        try:
            inspected = json.loads(answer) if answer.strip() else {}
        except (ValueError, RecursionError):
            return None  # crictl's words for "no such image"
        with COMMAND_OUTPUT(f"node {self.node}: asking for {ref}"):
            status = inspected.get("status") or {}
            found = str(status.get("id") or (inspected.get("config") or {}).get("digest") or "")
        return f"sha256:{found.removeprefix('sha256:')}" if found else None


def _imported(output: str, name: str) -> list[str]:
    """The manifest digests of an image that `ctr images import` reported as unpacked: it reads them
    from containerd's record. Empty from ctr 2 on, which shortens names."""
    return re.findall(rf"^unpacking {re.escape(name)} \(({_SHA256})\)\.\.\.done$", output, re.MULTILINE)


def _question(ref: str) -> str:
    """A line that prints JSON with the config digest, crictl's or the image's manifest; or nothing."""
    name = shlex.quote(full(ref))
    record = f"$({CTR} images ls name=={name} | tail -n +2 | while read -r n t d rest; do echo $d; done)"
    return (
        f'echo {_ASKED}; d={record}; if [ -n "$d" ]; then {_by_crictl_or(f"{CTR} content get $d", name)}; fi'
    )


def _question_after(ref: str) -> str:
    """The same after an import whose manifest is known: the image is there, and ctr's table is enough."""
    name = shlex.quote(full(ref))
    return f"echo {_ASKED}; {_by_crictl_or(f'{CTR} images ls name=={name}', name)}"


def _ending(container: str, *, deaf: bool) -> str:
    """A line that kills the container's first process; with `deaf` only if it has no handler for SIGTERM: bit
    14 of SigCgt in /proc/PID/status (proc(5)), of which the last 32 bits are enough."""
    pid = f'$({CTR} tasks ls | while read -r id pid rest; do [ "$id" = {container} ] && echo "$pid"; done)'
    mask = "s/^SigCgt:[[:space:]]*[0-9a-f]\\{8\\}//p"
    caught = f'c=$(sed -n "{mask}" "/proc/$p/status"); [ -n "$c" ] && [ $((0x$c >> 14 & 1)) = 0 ] && '
    return f'p={pid}; [ -n "$p" ] && {caught if deaf else ""}kill -9 "$p" && echo {_KILLED}'


def _removal(name: str) -> str:
    """A line that takes an image away. CRI calls it by its id too: without crictl that name has to go as well
    once it is the last, or everything stays."""
    of_name = f"$({CTR} images ls name=={name} | tail -n +2 | while read -r n t d rest; do echo $d; done)"
    others = f'$({CTR} images ls | while read -r n t g rest; do [ "$g" = "$d" ] && echo $n; done; true)'
    by_ctr = (
        f'd={of_name}; [ -n "$d" ] || exit 1; {CTR} images rm --sync {name} || exit 1; set -- {others}; '
        f'for n; do case $n in sha256:*) ;; *) exit 0;; esac; done; [ $# = 0 ] || {CTR} images rm --sync "$@"'
    )
    return f"command -v crictl >/dev/null && crictl rmi {name} || {{ {by_ctr}; }}"


def _by_crictl_or(by_ctr: str, name: str) -> str:
    """crictl's word where it speaks to a CRI, which hears of an import a moment later; else ctr's."""
    mute = f"test $i = 2 && ! crictl version >/dev/null 2>&1 && {by_ctr} && break"
    return (
        f"if command -v crictl >/dev/null; then i=0; until crictl inspecti -o json {name} 2>/dev/null; "
        f"do i=$((i+1)); {mute}; test $i -lt 30 || break; sleep 0.03; done; else {by_ctr}; fi"
    )


class ContainerdRoute:
    """Every node's containerd gets the builder's image, all at once, thinned for each."""

    how = "containerd"

    def __init__(self, builder: Engine, digests: Digests, stores: Sequence[ContainerdStore]) -> None:
        self._builder = builder
        self._digests = digests
        self.stores = stores

    async def send(self, image: Image, stores: Sequence[Store], report: ReportBytes) -> Tally:
        own = [store for store in stores if isinstance(store, ContainerdStore)]
        return await send_to_each(own, partial(self._to, image), report)

    async def _to(
        self, image: Image, store: ContainerdStore, total: Tally, report: Callable[[], None]
    ) -> None:
        if image.archive is not None:
            layout = oci.delta(image.archive, image.ref)
            try:
                await store.load(image.ref, layout, oci.described(image.archive))
            except LoadError as error:
                if error.reason == "DiskFull":
                    raise
                # A layer below is gone from the node: all of it, then.
                await complete(self._builder, self._digests, image)
            else:
                total.sent += len(layout)
                total.skipped += max(0, image.size - image.archive.size)
                return
        known = await store.chains()
        try:
            await store.load(image.ref, await self._stream(image, known, total, report))
        except LoadError as error:
            if not known or error.reason == "DiskFull":
                raise
            await store.load(image.ref, await self._stream(image, frozenset(), total, report))

    async def _stream(
        self, image: Image, known: frozenset[str], total: Tally, report: Callable[[], None]
    ) -> AsyncIterator[bytes]:
        """The image as an OCI layout; as `docker save` writes it where its layers cannot be identified."""
        facts, blobs = await built(self._builder, self._digests, image.ref)
        as_it_is = (await self._builder.info()).containerd_store and blobs.keys() < {*facts.diff_ids}
        repacked = oci.Repacked(image.ref, image.id, facts.diff_ids, known, total, blobs)

        async def pieces() -> AsyncIterator[bytes]:
            async with self._builder.save(image.ref) as archive:
                source = archive if as_it_is else repacked.filter(archive)
                try:
                    async for piece in source:
                        if as_it_is:
                            total.sent += len(piece)
                        report()
                        yield piece
                except ValueError as error:
                    raise LoadError(str(error), reason="BrokenArchive") from error
                finally:
                    await closed(source)

        return pieces()
