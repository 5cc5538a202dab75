"""The one folder of this user for lock files and sockets: the same whatever the environment says (S26)."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devloop.errors import PlatformError

INSIDE_HOME = Path(".local", "state", "devloop", "run")


def private_folder() -> Path:
    """Made if it is not there yet. Raises PlatformError where it cannot be used."""
    folder = place(os.geteuid())
    with opened(folder):
        return folder


def place(uid: int) -> Path:
    """Below the home folder that the user database names. $HOME, $XDG_RUNTIME_DIR and $TMPDIR differ between
    a terminal, sudo, cron and ssh, so none of them decides. Who has no home of his own gets /tmp/devloop-UID.
    """
    try:
        home = Path(pwd.getpwuid(uid).pw_dir)
        own = home.is_dir() and home.stat().st_uid == uid and os.access(home, os.W_OK | os.X_OK)
    except (KeyError, OSError):
        own = False
    return home / INSIDE_HOME if own else Path(f"/tmp/devloop-{uid}")


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """A descriptor of the folder, made if it is missing: nobody else can write to it.

    Raises PlatformError: it is a link, another user's, or open to others.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except PermissionError as error:
        above = next(one for one in folder.parents if one.exists())
        raise _unfit(
            folder,
            f"{above} may not be written to",
            f"sudo chown {os.geteuid()} {above}, if it should be yours",
        ) from error
    except OSError as error:
        raise _unfit(folder, _kind(folder) or error.strerror or str(error)) from error
    try:
        status = os.fstat(handle)
        if status.st_uid != os.geteuid():
            raise _unfit(folder, f"it belongs to the user with the id {status.st_uid}")
        if stat.S_IMODE(status.st_mode) & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise _unfit(folder, f"others can enter it (mode {mode:04o})", f"chmod 700 {folder}")
        yield handle
    finally:
        os.close(handle)


def open_file(folder: Path, inside: int, name: str, flags: int) -> int:
    """Open a file of the folder, `inside` is its descriptor; with O_CREAT make it. Never through a link.

    Raises FileNotFoundError, PlatformError: it is not a plain file of this user's alone.
    """
    try:
        handle = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=inside)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unfit(folder / name, error.strerror or str(error)) from error
    status = os.fstat(handle)
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink <= 1:
        return handle
    os.close(handle)
    raise _unfit(folder / name, "it is not a plain file, or has another owner or a second name")


def _kind(folder: Path) -> str:
    """What stands in the place of the folder, "" if that is not what is wrong."""
    try:
        mode = folder.lstat().st_mode
    except OSError:
        return ""
    return "it is a link" if stat.S_ISLNK(mode) else "" if stat.S_ISDIR(mode) else "it is not a folder"


def _unfit(path: Path, why: str, remedy: str = "") -> PlatformError:
    return PlatformError(
        f"{path} cannot hold devloop's lock files: {why}",
        reason="UnsafeFolder",
        hint=remedy or f"check what it is, then remove it: devloop recreates {path}",
    )
