"""`devloop init` run in a folder, and what devloop's own loader reads of the result."""

from __future__ import annotations

import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from devloop.commands.init import init
from devloop.config.load import load
from devloop.model import Target
from tests.support.project_files import Result


@dataclass(frozen=True, slots=True)
class Ended:
    path: Path
    stdout: str

    @property
    def services(self) -> Result:
        config = load(self.path)
        return {
            one.name: (
                one.image,
                one.build.context.relative_to(self.path.parent).as_posix(),
                " ".join(map(_shown, one.targets)),
            )
            for one in config.services()
        }


def _shown(target: Target) -> str:
    space = "" if target.namespace == "default" else f"@{target.namespace}"
    return f"{target}{f'[{target.container}]' if target.container else ''}{space}"


def init_yes(root: Path, *, show: bool = False, kubeconfig: Path | None = None) -> Ended:
    """`devloop init --yes`, or `--print`, in a folder. Raises what it raises."""
    with redirect_stdout(StringIO()) as out:
        init(root / "config.yaml", None, None, kubeconfig or root.parent / "none", yes=True, show=show)
    return Ended(root / "config.yaml", out.getvalue())


def devloop(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "devloop.cli", *words],
        cwd=root,
        env={
            "HOME": str(root.parent),
            "XDG_STATE_HOME": str(root.parent / "state"),
            "KUBECONFIG": str(root.parent / "none"),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
