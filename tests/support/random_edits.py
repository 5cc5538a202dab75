"""Seeded random work of a developer on both services of the sample: edits, reverts, bursts, mistakes."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

from tests.support.sample_project import Project

BURST = 12  # files of a `git checkout`
BROKEN = "GREETING = (\n"


class Developer:
    """Each `step` does one thing to one service and says what it was."""

    def __init__(self, project: Project, chance: random.Random) -> None:
        self._project, self._chance = project, chance
        self._number = 0
        self._before: dict[Path, list[str]] = {}  # what a revert may bring back
        self.greeting = project.greeting
        self.page = project.root / "frontend" / "src" / "page.js"
        self.stamp = project.root / "frontend" / "public" / "stamp.txt"
        self._page = self.page.read_text()
        self.write(self.stamp, "stamp 0\n")

    def step(self) -> str:
        self._number += 1
        kinds = (self.edit, self.edit, self.edit, self.atomic, self.revert, self.burst, self.touch, self.slip)
        return self._chance.choice(kinds)()

    def edit(self) -> str:
        file = self._any()
        self.write(file, self._text(file))
        return f"edit {file.name}"

    def atomic(self) -> str:
        """As vim and most editors save: a new file renamed over the old one."""
        file = self._any()
        new = file.with_name(f"{file.name}~")
        new.write_text(self._text(file))
        self._remember(file)
        new.rename(file)
        return f"save {file.name} by rename"

    def revert(self) -> str:
        file = self._any()
        earlier = self._before.get(file)
        if not earlier:
            return self.edit()
        self.write(file, self._chance.choice(earlier))
        return f"revert {file.name}"

    def burst(self) -> str:
        """As `git checkout` does: many files of both services at once, some of them gone."""
        for number in range(BURST):
            module = self._project.root / "backend" / "src" / f"extra_{number}.py"
            public = self._project.root / "frontend" / "public" / f"extra_{number}.txt"
            for file in (module, public):
                if self._chance.random() < 0.2:
                    file.unlink(missing_ok=True)
                else:
                    file.write_text(f"# {self._number}\n")
        self.write(self.greeting, self._text(self.greeting))
        return f"burst over {2 * BURST} files"

    def touch(self) -> str:
        file = self._any()
        os.utime(file)
        return f"touch {file.name}"

    def slip(self) -> str:
        """A half-written program: the new pod cannot start."""
        self.write(self.greeting, BROKEN)
        return "syntax error in greeting.py"

    def finish(self) -> None:
        """Nobody stops at a syntax error."""
        if self.greeting.read_text() == BROKEN:
            self._number += 1
            self.write(self.greeting, self._text(self.greeting))

    def write(self, file: Path, text: str) -> None:
        self._remember(file)
        file.write_text(text)

    def _remember(self, file: Path) -> None:
        if file.exists() and (text := file.read_text()) != BROKEN:
            self._before.setdefault(file, []).append(text)

    def _any(self) -> Path:
        return self._chance.choice((self.greeting, self.page, self.stamp))

    def _text(self, file: Path) -> str:
        if file == self.greeting:
            return f'GREETING = "greeting {self._number}"\n'
        if file == self.page:
            return self._page.replace('"Todo"', f'"Todo {self._number}"', 1)
        return f"stamp {self._number}\n"


def differences(project: Project, developer: Developer) -> list[str]:
    """What the cluster serves or holds otherwise than the disk; [] when it runs the tree."""
    found = []
    greeting = developer.greeting.read_text().partition('"')[2].rpartition('"')[0]
    if (served := project.served_greeting()) != greeting:
        found.append(f"backend serves greeting {served!r}, disk {greeting!r}")
    if (served := project.http("/stamp.txt")) != (disk := developer.stamp.read_text()):
        found.append(f"frontend serves stamp {served!r}, disk {disk!r}")
    headline = developer.page.read_text().partition('HEADLINE = "')[2].partition('"')[0]
    if f"<h1>{headline}</h1>" not in (project.http("/") or ""):
        found.append(f"frontend does not serve the headline {headline!r}")
    if found:
        return found
    root = project.root
    backend = {f"/app/src/{f.name}": f for f in (root / "backend" / "src").glob("*.py")}
    frontend = {f"/app/public/{f.name}": f for f in (root / "frontend" / "public").iterdir()}
    frontend |= {f"/app/{name}": root / "frontend" / "src" / name for name in ("page.js", "server.js")}
    return _by_digest(project, "todo-backend", "/app/src/*.py", backend) + _by_digest(
        project, "todo-frontend", "/app/public/* /app/page.js /app/server.js", frontend
    )


def _by_digest(project: Project, deployment: str, pattern: str, files: dict[str, Path]) -> list[str]:
    """Files whose sha256 in any pod of the Deployment is not the disk's, or that are only on one side."""
    disk = subprocess.run(
        ("sha256sum", *map(str, files.values())), capture_output=True, text=True, check=True
    ).stdout
    wanted = dict(zip(files, (line.split()[0] for line in disk.splitlines()), strict=True))
    name = deployment.removeprefix("todo-")
    pods = project.sandbox.pods(project.namespace, f"app.kubernetes.io/name={name}")
    running = [p["metadata"]["name"] for p in pods if not p["metadata"].get("deletionTimestamp")]
    found = [] if running else [f"{deployment} has no pod"]
    for pod in running:
        out = project.sandbox.kubectl(
            "exec", "-n", project.namespace, pod, "--", "sh", "-c", f"sha256sum {pattern}", check=False
        )
        held = {line.split()[1]: line.split()[0] for line in out.splitlines() if line.strip()}
        found += [
            f"{pod} {path}: {held.get(path, 'absent')}, disk {wanted.get(path, 'absent')}"
            for path in sorted(held.keys() | wanted.keys())
            if held.get(path) != wanted.get(path)
        ]
    return found
