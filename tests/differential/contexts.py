"""A build context on disk: its layout, what a user's edits make of it, devloop's looks at it, Docker's
copies."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from devloop.errors import BuildError
from devloop.inputs.fingerprinter import TreeFingerprinter
from devloop.inputs.stat_cache import StatCache
from devloop.model import Base, BuildSpec, Change, Fingerprint, Service
from tests.differential.oracle import Oracle
from tests.differential.texts import BASES, Theirs
from tests.support.delta_bench import plant

Seen = Mapping[str, tuple[object, ...]]
EVERYTHING = Change(frozenset(), 0, 0)
LONG_AGO = 1_000_000_000_000_000_000  # nanoseconds: what is that old is settled for the stat cache
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link"}


class KnownBases:
    async def resolve(self, service: Service, refs: Sequence[str], platform: str) -> tuple[Base, ...]:
        known = {one.ref: one for one in BASES}
        if missing := [ref for ref in refs if ref not in known]:
            raise BuildError(f"no image {missing[0]}", reason="NoBase", outside_tree=True)
        return tuple(known[ref] for ref in refs)


async def _platform() -> str:
    return "linux/amd64"


def listing(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything below: path -> (kind, mode, content or target)."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            full = os.path.join(folder, name)  # noqa: PTH118
            status = os.lstat(full)
            kind = _KINDS[stat.S_IFMT(status.st_mode)]
            content: object = ""
            if kind == "file":
                content = hashlib.sha256(Path(full).read_bytes()).hexdigest()
            elif kind == "link":
                content = os.readlink(full)  # noqa: PTH115
            mode = 0o777 if kind == "link" else stat.S_IMODE(status.st_mode)
            found[os.path.relpath(full, root)] = (kind, mode, content)
    return found


@dataclass(frozen=True)
class Layout:
    """Where the files of a case lie. `ignore_file` None: there is none; `decoy`: one that does not count."""

    context: Path
    dockerfile: Path
    ignore_file: Path | None
    decoy: Path | None

    @classmethod
    def drawn(cls, chance: random.Random, home: Path) -> Layout:
        context = home / "context"
        dockerfile = chance.choice(
            (home / "Dockerfile", context / "api.Dockerfile", context / "build" / "Dockerfile")
        )
        own, common = dockerfile.with_name(dockerfile.name + ".dockerignore"), context / ".dockerignore"
        kind = chance.random()
        if kind < 0.45:
            return cls(context, dockerfile, common, None)
        return cls(context, dockerfile, own, common if kind < 0.6 else None)


@dataclass(frozen=True)
class Built:
    """The context at one moment: all that lies there, what the command sends of it, what each COPY makes of
    that."""

    tree: Seen
    sent: Mapping[str, str]
    taken: Sequence[Sequence[str]]
    mirrored: bool = False  # there was no oracle: devloop's own inputs

    @property
    def content(self) -> dict[str, tuple[object, ...]]:
        return {path: self.tree[path] for path in self.sent}


class Context:
    """One case's files, and devloop's look at them that lives on."""

    def __init__(
        self, layout: Layout, dockerfile: str, rules: str, args: Mapping[str, str], chance: random.Random
    ) -> None:
        self.layout, self._text, self.rules_text, self.chance = layout, dockerfile, rules, chance
        spec = BuildSpec(layout.context, layout.dockerfile, args=dict(args))
        self.service = Service("api", "api", spec, ())
        self.cache = StatCache(layout.context.parent / "state" / "stats.db")
        self.live = self._fingerprinter(self.cache)
        self._seen: Fingerprint | None = None  # by the last fresh look

    def plant(self, tree: Mapping[str, str | None]) -> None:
        layout = self.layout
        layout.context.mkdir(parents=True)
        hard = {path: text[3:] for path, text in tree.items() if text and text.startswith("=> ")}
        plant(layout.context, {path: text for path, text in tree.items() if path not in hard})
        for path, target in hard.items():
            (layout.context / path).parent.mkdir(parents=True, exist_ok=True)
            (layout.context / path).hardlink_to(layout.context / target)
        self.write_recipe()

    def write_recipe(self) -> None:
        """The Dockerfile and the ignore files, whatever an edit put in their place."""
        layout = self.layout
        for file, text in (
            (layout.dockerfile, self._text),
            (layout.ignore_file, self.rules_text),
            (layout.decoy, "*\n"),
        ):
            if file is None or (file is layout.ignore_file and not text and layout.decoy is None):
                continue
            for there in (file.parent, file):
                if there.is_symlink() or (there is file.parent and there.is_file()):
                    there.unlink()
            if file.is_dir():
                shutil.rmtree(file)
            file.parent.mkdir(parents=True, exist_ok=True)
            if not file.exists() or file.read_bytes() != text.encode():
                file.write_bytes(text.encode())

    # --- devloop

    def _fingerprinter(self, cache: StatCache) -> TreeFingerprinter:
        return TreeFingerprinter(KnownBases(), cache, _platform)

    async def fresh(self) -> Fingerprint:
        """By a devloop that has never been here, to which directories are listed in another order."""
        names = os.listdir

        def mixed(where: str) -> list[str]:
            found = sorted(names(where))
            self.chance.shuffle(found)
            return found

        with patch("devloop.inputs.walk.os.listdir", mixed):
            prints = self._fingerprinter(StatCache(Path("/nowhere/stats.db")))
            self._seen = await prints.take(self.service, EVERYTHING)
        return self._seen

    async def restarted(self) -> Fingerprint:
        """By a devloop that remembers digests, and hears of no paths."""
        return await self._fingerprinter(self.cache).take(self.service, EVERYTHING)

    async def kept_current(self, before: Fingerprint, paths: Sequence[str]) -> Fingerprint:
        """By the devloop that lives on, to which a watcher gives these paths as far as they concern it."""
        full = {self.layout.context / path for path in paths}
        concerned = frozenset(path for path in full if self.live.concerns(self.service, path))
        if not concerned:
            return before
        return await self.live.take(self.service, Change(concerned, 0, 0))

    # --- Docker

    def built(self, oracle: Oracle | None, theirs: Theirs) -> Built:
        """Without an oracle devloop's own inputs stand for what is sent: then a fingerprint is held against
        them."""
        layout = self.layout
        if oracle is None:
            assert self._seen is not None
            mine = {path: entry.kind for path, entry in self._seen.inputs.files.items()}
            tree = listing(layout.context)
            return Built(tree, mine, [sorted(f"{path} {tree[path]}" for path in mine)], mirrored=True)
        rules = self.rules_text if layout.ignore_file else ""
        sent, taken = oracle.copied(
            str(layout.context), rules, theirs.reads, theirs.copies, str(layout.context.parent)
        )
        return Built(listing(layout.context), sent, taken)


def events(before: Seen, after: Seen, chance: random.Random) -> list[str]:
    """The paths that a watcher names: what came, went or changed; a directory that was moved as a whole by
    its own name alone, or with all below it."""
    changed = [path for path in {*before, *after} if before.get(path) != after.get(path)]
    if chance.random() < 0.5:
        whole = {path for path in changed if path not in before or path not in after}
        changed = [path for path in changed if os.path.dirname(path) not in whole or path not in whole]  # noqa: PTH120
    chance.shuffle(changed)
    return changed
