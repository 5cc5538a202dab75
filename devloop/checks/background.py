"""The rules under `watch`: judged again when a chart, a manifest or config.yaml changed; news are reported.

In a process of its own, for rendering and schemas are large and the daemon stays small.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from subprocess import CompletedProcess
from typing import Any

import anyio

from devloop.config.load import Config
from devloop.errors import DevloopError
from devloop.events import Checked, Emit, Notice
from devloop.model import Outcome, Service

Json = dict[str, Any]
COMMAND = (sys.executable, "-m", "devloop.cli", "check", "--offline", "--format", "json")
Look = Callable[[Config], Awaitable[Json]]
REPORTED_ELSEWHERE = "renders"  # the rule whose findings whoever applies manifests and releases reports too


class CheckFailedError(DevloopError):
    """The rules could not be judged: what the process printed."""


def by_process(names: Sequence[str]) -> Look:
    """Judges the files with `devloop check` as another process would; its JSON. Raises CheckFailedError."""

    async def look(config: Config) -> Json:
        where = ("-c", str(config.path), "-n", config.cluster.namespace)
        there = [name for name in names if name in config.by_name]
        done: CompletedProcess[bytes] = await anyio.run_process(
            [*COMMAND, *where, *there], check=False, start_new_session=True
        )
        if done.returncode not in (0, 1) or not done.stdout:
            stderr = done.stderr.decode(errors="replace").strip().removeprefix("devloop: ").splitlines()
            raise CheckFailedError("\n".join(stderr[-3:]) or f"devloop check ended with {done.returncode}")
        found: Json = json.loads(done.stdout)
        return found

    return look


class CheckWatch:
    """It observes trips: the first judgement is made when the first one is over, to be no burden on it.

    `config` gives None while config.yaml is refused: the reload reports that.
    """

    def __init__(self, config: Callable[[], Config | None], look: Look, emit: Emit) -> None:
        self._config, self._look, self._emit = config, look, emit
        self._failure = ""  # why the last judgement could not be made
        self._woken = anyio.Event()
        self._began = False  # a first trip is over
        self._known: set[tuple[str, ...]] | None = None

    def begun(self, service: Service) -> None:
        """Nothing is judged for that."""

    def ended(self, service: Service, outcome: Outcome) -> None:
        if not self._began:
            self._began = True
            self.wake()

    def wake(self) -> None:
        """Something changed that rules judge."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled; changes during a judgement are one more judgement."""
        while True:
            await self._woken.wait()
            self._woken = anyio.Event()
            config = self._config()
            if config is None or not (config.manifests or config.releases_by_name):
                continue
            try:
                report = await self._look(config)
            except (CheckFailedError, OSError, ValueError) as error:
                if self._config() is None:  # it became invalid meanwhile: the reload reports that
                    continue
                if str(error) != self._failure:
                    self._emit(Notice("", "warning", f"check: {error}"))
                self._failure = str(error)
                self._began = False  # the next trip is the next try
                continue
            self._failure = ""
            self._tell(report)

    def _tell(self, report: Json) -> None:
        findings = {_identity(one): one for one in report["findings"]}
        first, known = self._known is None, self._known or set()
        new = [] if first else [one for key, one in findings.items() if key not in known]
        gone = len(known - findings.keys())
        self._known = set(findings)
        if new or gone or (first and findings):
            lines = tuple((one["severity"], _line(one)) for one in new if one["rule"] != REPORTED_ELSEWHERE)
            self._emit(Checked(lines, gone, report["errors"], report["warnings"]))


def _identity(finding: Json) -> tuple[str, ...]:
    """A finding that only moved to another line is the same."""
    return finding["rule"], finding["about"], finding["file"], finding["text"]


def _line(finding: Json) -> str:
    place = f"{finding['file']}:{finding['line']}: " if finding["line"] else ""
    about = "" if place and finding["about"] == finding["file"] else f"{finding['about']}: "
    return f"{place}{about}{finding['text']} [{finding['rule']}]"
