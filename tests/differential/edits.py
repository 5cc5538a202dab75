"""Random edits of a tree: what editors, package managers and people do to files."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_OPERATIONS = {
    "write": 30, "create": 14, "delete": 12, "move": 10, "chmod": 8, "mkdir": 6, "link": 8, "file": 8,
    "directory": 8, "hard": 2, "user": 5, "swap": 3,
}  # fmt: skip
_NAMES = (
    "config",
    "new",
    "x.txt",
    "main.py",
    ".env",
    "pkg",
    "a",
    "a-b",
    "a.b",
    "settings.ini",
    "-dash",
    "sub",
)
_MODES = ("600", "644", "755", "700", "4755", "2777")
_TARGETS = ("main.py", "/etc/passwd", "../srv/shared", ".", "nowhere", "pkg", "/srv")
_DIRECTORIES = (
    "",
    "src",
    "src/pkg",
    "src/a",
    "conf",
    "rootfs",
    "rootfs/etc",
    "src/tree",
    "a-b",
    "src/new",
    "src/sub",
)


@dataclass(frozen=True)
class Edit:
    """One change. `path` and `other` are relative to the context; what cannot be done is left undone."""

    operation: str
    path: str
    other: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.operation, self.path, self.other)))

    def apply(self, context: Path) -> None:
        """An edit that does not fit the tree (a directory above that is a file) changes nothing."""
        path = context / self.path
        try:
            _OPERATE[self.operation](path, self.other, context)
        except (OSError, shutil.Error):
            pass


@dataclass(frozen=True)
class _Ground:
    """What the edits of a case are drawn from: paths that are there, most of them those that the Dockerfile
    copies; directories that it copies; names that its destinations end with."""

    paths: list[str]
    copied: list[str]
    roots: list[str]
    names: list[str]

    @classmethod
    def of(cls, tree: Mapping[str, str | None], dockerfile: str) -> _Ground:
        paths, words = sorted(tree), dockerfile.split()
        copied = [path for path in paths if any(_covers(word, path) for word in words)]
        plain = {word.removeprefix("./").rstrip("/.") for word in words if not word.startswith("/")}
        roots = [
            "" if word == "" else word for word in sorted(plain) if any(_in(word, path) for path in paths)
        ]
        names = [word.rstrip("/").rpartition("/")[2] for word in re.findall(r"/[\w./-]+", dockerfile)]
        return cls(
            paths, copied or paths, roots or [""], [name for name in names if name.strip(".")] or ["new"]
        )


def edits(
    chance: random.Random, tree: Mapping[str, str | None], dockerfile: str, meets: list[str]
) -> tuple[Edit, ...]:
    """One to three edits, most of them at paths where the Dockerfile's lines meet."""
    ground = _Ground.of(tree, dockerfile)
    if meets and chance.random() < 0.7:
        return (_edit_at(chance, chance.choice(meets)),)
    return tuple(_edit(chance, ground) for _ in range(chance.choice((1, 1, 1, 2, 3))))


def _in(directory: str, path: str) -> bool:
    return not directory or path.startswith(f"{directory}/")


def _covers(word: str, path: str) -> bool:
    """Roughly: does a COPY of this word take the path? A wildcard takes all that begins as it does."""
    word = word.strip('[]",').removeprefix("./").rstrip("/.")
    fixed = re.split(r"[*?\[$]", word)[0]
    if not word or fixed != word:
        return bool(fixed) and path.startswith(fixed)
    return path == word or path.startswith(f"{word}/")


def _edit_at(chance: random.Random, path: str) -> Edit:
    if path.startswith("rootfs/etc/"):
        return Edit("user", path, str(chance.randrange(2, 5)))
    operation = chance.choice(
        ("write", "create", "create", "delete", "link", "file", "directory", "mkdir", "chmod")
    )
    other = {
        "link": chance.choice(_TARGETS),
        "chmod": chance.choice(_MODES),
        "write": str(chance.randrange(3)),
    }
    return Edit(operation, path, other.get(operation, ""))


def _edit(chance: random.Random, ground: _Ground) -> Edit:
    weights = {**_OPERATIONS, "user": 40} if "rootfs/etc/passwd" in ground.copied else _OPERATIONS
    operation = chance.choices([*weights], [*weights.values()])[0]
    there = chance.choice(ground.copied if chance.random() < 0.85 else ground.paths)
    if chance.random() < 0.15 and "/" in there:
        there = there.rpartition("/")[0]
    above = chance.choice(ground.roots if chance.random() < 0.6 else _DIRECTORIES)
    name = chance.choice(ground.names if chance.random() < 0.6 else _NAMES)
    fresh = f"{above}/{name}".lstrip("/")
    somewhere = there if chance.random() < 0.4 else fresh
    match operation:
        case "create" | "mkdir":
            return Edit(operation, fresh, str(chance.randrange(3)))
        case "move" | "swap" | "hard":
            return Edit(operation, there, fresh)
        case "link":
            return Edit(operation, somewhere, chance.choice(_TARGETS))
        case "file" | "directory":
            return Edit(operation, somewhere)
        case "chmod":
            return Edit(operation, there, chance.choice(_MODES))
        case "user":
            return Edit(
                operation, "rootfs/etc/" + chance.choice(("passwd", "group")), str(chance.randrange(2, 5))
            )
        case _:
            return Edit(operation, there, str(chance.randrange(3)))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write(path: Path, other: str, context: Path) -> None:
    """As an editor that saves to a new file and renames it: a hard link is broken, a link replaced."""
    if path.is_dir() and not path.is_symlink():
        path = path / "written"
    mode = path.stat().st_mode & 0o7777 if path.is_file() else 0o644
    path.unlink(missing_ok=True)
    path.write_text(f"written {other}\n")
    path.chmod(mode)


def _create(path: Path, other: str, context: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() and not path.is_symlink():
        path.write_text(f"created {other}\n")


def _move(path: Path, other: str, context: Path) -> None:
    target = context / other
    if path.exists() and not target.is_relative_to(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() and not target.is_symlink():
            path.rename(target)


def _swap(path: Path, other: str, context: Path) -> None:
    """Two files change places."""
    target, aside = context / other, context / ".aside"
    if path.is_file() and target.is_file():
        path.rename(aside)
        target.rename(path)
        aside.rename(target)


def _chmod(path: Path, other: str, context: Path) -> None:
    if path.exists() and not path.is_symlink():
        path.chmod(int(other, 8))


def _link(path: Path, other: str, context: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(path)
    path.symlink_to(other)


def _file(path: Path, other: str, context: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(path)
    path.write_text("a file now\n")


def _directory(path: Path, other: str, context: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(path)
    path.mkdir(mode=0o750)
    (path / "inside").write_text("inside\n")


def _hard(path: Path, other: str, context: Path) -> None:
    if path.is_file() and not path.is_symlink():
        (context / other).parent.mkdir(parents=True, exist_ok=True)
        (context / other).hardlink_to(path)


def _mkdir(path: Path, other: str, context: Path) -> None:
    path.mkdir(parents=True, mode=0o755 if other != "1" else 0o711)


def _user(path: Path, other: str, context: Path) -> None:
    """Other numbers for the same names."""
    if path.is_file():
        path.write_text(path.read_text().replace(":50", f":{other}0"))


def _same(path: Path, other: str, context: Path) -> None:
    """Another content of the same size, in place, and the time as it was."""
    if path.is_file() and not path.is_symlink():
        before, data = path.stat(), path.read_bytes()
        path.write_bytes(bytes(byte ^ 1 for byte in data))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _mtime(path: Path, other: str, context: Path) -> None:
    if path.exists() or path.is_symlink():
        os.utime(path, ns=(0, 1_234_567_890), follow_symlinks=False)


_OPERATE = {
    "write": _write,
    "create": _create,
    "delete": lambda path, other, context: _remove(path),
    "move": _move,
    "swap": _swap,
    "chmod": _chmod,
    "mkdir": _mkdir,
    "link": _link,
    "file": _file,
    "directory": _directory,
    "hard": _hard,
    "user": _user,
    "same": _same,
    "mtime": _mtime,
}
