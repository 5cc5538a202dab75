"""`ports.Syncer` over a scripted cluster: what was asked of it, refusals and faults as a test wants them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from devloop.model import Fingerprint, PodToUpdate, Refusal, Service, SyncedFile, SyncFiles
from devloop.synced import SyncedContainers
from tests.support.fakes import FakeWorld, Gate

FILES = SyncFiles(b"", (SyncedFile("app/a.py", "aa"),))


class FakeSyncer:
    """The feed of `world` shows what was synced, as a real one does."""

    def __init__(self, world: FakeWorld, file: Path) -> None:
        self.synced = SyncedContainers(file)
        self.synced.on_change.append(self._show)
        self._world = world
        self.made: SyncFiles | Refusal = FILES
        self.refusal: Refusal | None = None
        self.puts = Gate()
        self.asked: list[tuple[str, str]] = []  # (what the containers hold, what they are to hold)
        self.written: list[tuple[str, str]] = []  # (pod, reload)
        self.held: list[str] = []
        self.ended: set[str] = set()  # uids of pods

    async def files(self, service: Service, fingerprint: Fingerprint, content: str) -> SyncFiles | Refusal:
        self.asked.append((content, fingerprint.digest))
        return self.made

    async def refuse(self, pod: PodToUpdate, files: SyncFiles, reload: str) -> Refusal | None:
        return self.refusal

    async def put(self, pod: PodToUpdate, files: SyncFiles, reload: str) -> None:
        self.written.append((pod.uid, reload))
        await self.puts.pass_through()

    async def runs(self, pod: PodToUpdate) -> bool:
        return pod.uid not in self.ended

    def hold(self, service: Service, fingerprint: Fingerprint, files: SyncFiles) -> None:
        self.held.append(fingerprint.digest)

    def _show(self) -> None:
        feed = self._world.feed_
        feed.show(
            pods=tuple(
                replace(
                    pod,
                    containers=tuple(
                        replace(one, synced=self.synced.content(one.instance)) for one in pod.containers
                    ),
                )
                for pod in feed.latest.pods
            )
        )
