"""From an empty cluster to a rolling service, in a real terminal: `init --yes`, `doctor`, `watch`, an edit.

    python bench/five_minutes.py [--page docs/five-minutes.md] [LAYOUT...]

For each layout of tests/init/layouts.py whose programs run: the files in a new folder, a sandbox without
anything in it, and a shell in tmux that is typed into as a person would. Nothing else is written but an edit.
Measured from the Return key to the next prompt, to the last service being live, and from the save to "live";
then the container is asked for the new text. --page writes the screens as they were; "~" is the home there.

Needs tmux, kubectl, a Docker Engine and scripts/base-image: a public image that cannot be pulled is replaced
by one of Debian's packages, under its name and for as long as this runs.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.init import layouts
from tests.support.project_files import Files, write
from tests.support.sample_project import BASE, Sandbox, until

WIDTH, HEIGHT = 180, 50
BIN = Path(sys.executable).parent
PUBLIC = {  # image -> how its stand-in is made
    "python:3.12-slim": "",
    "python:3.12": "",
    "nginx:1.27": "",
    "postgres:16": 'CMD ["python3", "-m", "http.server", "5432"]',  # something that listens
}


@dataclass(frozen=True)
class Run:
    """A layout; the file that is edited, its service, and where it lies in the cluster."""

    title: str
    files: Files
    services: tuple[str, ...]
    edited: str
    service: str
    namespace: str
    workload: str
    container: str
    inside: str = "/app/main.py"


RUNS = {
    "compose": Run(
        *("A compose project", layouts.COMPOSE, ("api", "web"), "src/main.py", "api"),
        *("default", "deployment/api", "api", "/app/src/main.py"),
    ),
    "sidecar": Run(
        *("An app and its own sidecar", layouts.SIDECAR, ("backend", "proxy"), "backend/main.py", "backend"),
        *("default", "deployment/shop", "app"),
    ),
    "statefulset": Run(
        *("A StatefulSet with a volume", layouts.STATEFUL, ("store",), "store/main.py", "store"),
        *("default", "statefulset/store", "store"),
    ),
    "umbrella": Run(
        *("An umbrella chart", layouts.UMBRELLA, ("backend", "frontend")),
        *("services/backend/main.py", "backend", "default", "deployment/shop-backend", "main"),
    ),
    "kustomize": Run(
        *("Overlays of kustomize", layouts.KUSTOMIZE, ("api",), "api/main.py", "api"),
        *("shop", "deployment/dev-api", "api"),
    ),
    "dockerfiles": Run(
        *("Nothing but two Dockerfiles", layouts.BARE, ("api", "web"), "web/main.py", "web"),
        *("default", "deployment/web", "web"),
    ),
}
INTRODUCTION = """
Layouts of projects from an empty cluster to a rolling service, as they went in a terminal. The three commands
that are shown were typed, and one line of a program was edited; no other file was written by hand.
"""
COLUMNS = """
Seconds from the Return key to the next prompt (`init`, `doctor`), until the last service was live (`watch`,
with its first builds), and from the save of the edited file until its service was live again. Its container
was asked for the new text then.
"""
MADE = """
Made by `python bench/five_minutes.py --page docs/five-minutes.md` on {day}, with the sandbox
(`devloop sandbox up`) on {machine}.
"""
LIVE = re.compile(r"^(\S+) +\| live in", re.MULTILINE)


@dataclass
class Measured:
    """Seconds of each step; `screen`: the terminal at the end."""

    run: Run
    seconds: dict[str, float] = field(default_factory=dict)
    screen: str = ""


class Terminal:
    """A shell in tmux. Prompts leave the time they came at in a file: that shows nothing on the screen."""

    def __init__(self, home: Path, project: Path, environ: dict[str, str]) -> None:
        self.name = f"five-minutes-{os.getpid()}"
        self.prompts = home / ".prompts"
        self.prompts.touch()
        variables = {
            "HOME": str(home),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "PS1": "$ ",
            "PROMPT_COMMAND": f"echo >>{self.prompts}",
            **environ,
        }
        words = [f"{name}={value}" for name, value in variables.items()]
        size = ("-x", str(WIDTH), "-y", str(HEIGHT), "-c", str(project))
        shell = ("env", "-i", "TERM=screen-256color", *words, "bash", "--noprofile", "--norc", "-i")
        self.tmux("-f", os.devnull, "new-session", "-d", *size, *shell)
        self.tmux("set-option", "-g", "history-limit", "5000")
        until("the first prompt", lambda: self.shown_prompts() == 1)

    def tmux(self, *words: str) -> str:
        command = ("tmux", "-L", self.name, *words)
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    def shown_prompts(self) -> int:
        return len(self.prompts.read_text().splitlines())

    def type(self, text: str) -> None:
        self.tmux("send-keys", "-l", text)
        self.tmux("send-keys", "Enter")

    def command(self, text: str) -> float:
        """Seconds until the next prompt."""
        before, began = self.shown_prompts(), monotonic()
        self.type(text)
        until(text, lambda: self.shown_prompts() > before)
        return monotonic() - began

    def screen(self) -> str:
        """All of it, also what has scrolled off."""
        lines = self.tmux("capture-pane", "-p", "-S", "-").splitlines()
        return "\n".join(line.rstrip() for line in lines).strip("\n")

    def close(self) -> None:
        before = self.shown_prompts()
        self.tmux("send-keys", "C-c")
        until("the prompt after Ctrl-C", lambda: self.shown_prompts() > before)
        self.tmux("kill-server")


def measure(run: Run, home: Path, sandbox: Sandbox) -> Measured:
    project = write(home / "shop", run.files)
    given = {name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ}
    environ = {"KUBECONFIG": str(sandbox.kubeconfig), "XDG_STATE_HOME": str(sandbox.state), **given}
    terminal = Terminal(home, project, environ)
    measured = Measured(run)
    try:
        for words in ("init --yes", "doctor"):
            measured.seconds[words] = terminal.command(f"devloop {words}")
        began = monotonic()
        terminal.type("devloop watch")
        until("live", lambda: set(LIVE.findall(terminal.screen())) == set(run.services), 300)
        measured.seconds["watch"] = monotonic() - began
        before = lives(terminal, run)
        file = project / run.edited
        file.write_text(file.read_text().replace(": one", ": two"))
        began = monotonic()
        until("live again", lambda: lives(terminal, run) > before, 120)
        measured.seconds["edit"] = monotonic() - began
        prove(run, sandbox)
        measured.screen = terminal.screen().replace(str(home), "~").replace(platform.node(), "laptop")
    finally:
        terminal.close()
    return measured


def lives(terminal: Terminal, run: Run) -> int:
    return LIVE.findall(terminal.screen()).count(run.service)


def prove(run: Run, sandbox: Sandbox) -> None:
    """The file of the edit is in the running container."""
    where = ("-n", run.namespace, run.workload, "-c", run.container)
    text = sandbox.kubectl("exec", *where, "--", "cat", run.inside)
    assert ": two" in text, text


@contextmanager
def bases() -> Iterator[list[str]]:
    """The images that were stood in for; their names are gone at the end."""
    made: list[str] = []
    for image, line in PUBLIC.items():
        if docker("image", "inspect", image) and (made or docker("pull", image, seconds=20)):
            dockerfile = f"FROM {BASE}\n{line}\n"
            assert docker("build", "-q", "-t", image, "-", stdin=dockerfile) == 0, image
            made.append(image)
    try:
        yield made
    finally:
        for image in made:
            docker("rmi", image)


def docker(*words: str, stdin: str = "", seconds: float = 120) -> int:
    """The exit code; 1 where it takes longer."""
    try:
        done = subprocess.run(
            ("docker", *words), input=stdin, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return 1
    return done.returncode


@contextmanager
def empty_cluster(folder: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox("five-minutes", folder)
    sandbox.up()
    try:
        yield sandbox
    finally:
        sandbox.down()
        images = docker_lines("images", "-q", "--filter", "label=dev.devloop.project")
        if images:
            docker("rmi", "-f", *images)


def docker_lines(*words: str) -> list[str]:
    done = subprocess.run(("docker", *words), capture_output=True, text=True, check=True, timeout=60)
    return list(dict.fromkeys(done.stdout.split()))


def page(results: Sequence[Measured], stand_ins: Sequence[str]) -> str:
    today = datetime.datetime.now(datetime.UTC)
    lines = [
        "# Five minutes",
        "",
        *prose(INTRODUCTION),
        "",
        *table(results),
        "",
        *prose(COLUMNS),
        "",
        *prose(MADE.format(day=f"{today:%Y-%m-%d}", machine=machine()) + replaced(stand_ins)),
    ]
    for one in results:
        lines += ["", f"## {one.run.title}", "", "```", *sorted(one.run.files), "```", ""]
        lines += [f"Edited while `watch` runs: `{one.run.edited}`.", "", "```console", one.screen, "```"]
    return "\n".join(lines) + "\n"


def prose(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), 140, break_long_words=False, break_on_hyphens=False)


def replaced(stand_ins: Sequence[str]) -> str:
    if not stand_ins:
        return ""
    named = ", ".join(f"`{one}`" for one in stand_ins)
    return f" No registry could be reached: an image of Debian's packages stood in for {named}."


def machine() -> str:
    cores, load = os.cpu_count() or 1, os.getloadavg()[1]
    busy = f" that other work kept busy (load average {load:.0f})" if load > 2 * cores else ""
    return f"{cores} cores of {platform.machine()}{busy}"


def table(results: Sequence[Measured]) -> list[str]:
    columns = ("init --yes", "doctor", "watch", "edit")
    rows = ["| layout | `init --yes` | `doctor` | `watch` until live | save until live | all until live |"]
    rows += ["|---|---:|---:|---:|---:|---:|"]
    for one in results:
        numbers = [one.seconds[column] for column in columns]
        cells = " | ".join(f"{number:.1f} s" for number in (*numbers, sum(numbers[:3])))
        rows.append(f"| {one.run.title} | {cells} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("layouts", nargs="*", metavar="LAYOUT", help=f"of {', '.join(RUNS)}; all if none")
    parser.add_argument("--page", type=Path, help="write the screens and the table there")
    given = parser.parse_args()
    results = []
    with bases() as stand_ins:
        for name in given.layouts or RUNS:
            folder = Path(tempfile.mkdtemp(prefix="five-minutes-"))
            try:
                with empty_cluster(folder) as sandbox:
                    results.append(measure(RUNS[name], folder, sandbox))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            print("\n".join(table(results[-1:])[-1:]), flush=True)
    print("\n".join(table(results)))
    if given.page:
        given.page.write_text(page(results, stand_ins))


if __name__ == "__main__":
    main()
