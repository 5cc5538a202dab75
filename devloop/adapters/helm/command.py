"""The user's `helm`, 3 or 4: values on its stdin, so they are in no argv and in no file (S30)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from devloop.adapters.helm.errors import refusal
from devloop.adapters.helm.runner import KubeTarget, run
from devloop.model import Release, Values

TIMEOUT = "300s"


class CommandRunner:
    def __init__(self, command: str, place: KubeTarget, environ: Mapping[str, str]) -> None:
        self._command, self._place, self._environ = command, place, place.environ(environ)

    def __str__(self) -> str:
        return self._command

    async def render(self, release: Release, values: Values, *, upgrade: bool) -> str:
        more = ["--is-upgrade"] if upgrade else []
        return await self._call("template", release, values, more)

    async def install(self, release: Release, values: Values, note: str, fds: Sequence[int] = ()) -> None:
        await self._call("install", release, values, ["--description", note, "--timeout", TIMEOUT], fds)

    async def upgrade(self, release: Release, values: Values, note: str, fds: Sequence[int] = ()) -> None:
        # What the release had by --set of a hand-run upgrade is not kept: config.yaml is what counts.
        more = ["--description", note, "--timeout", TIMEOUT, "--reset-values", "--history-max", "10"]
        await self._call("upgrade", release, values, more, fds)

    async def uninstall(self, release: Release, fds: Sequence[int] = ()) -> None:
        await self._run("uninstall", release, ["--wait", "--timeout", TIMEOUT, "--ignore-not-found"], "", fds)

    async def _call(
        self, action: str, release: Release, values: Values, more: Sequence[str], fds: Sequence[int] = ()
    ) -> str:
        words = [str(release.chart), "-f", "-", *more]
        return await self._run(action, release, words, json.dumps(values, default=str), fds)

    async def _run(
        self, action: str, release: Release, words: Sequence[str], text: str, fds: Sequence[int] = ()
    ) -> str:
        where = ["--namespace", release.namespace, "--kube-context", self._place.context]
        done = await run([self._command, action, release.name, *words, *where], text, self._environ, fds)
        if done.returncode:
            raise refusal(release, action, done.stderr.decode(errors="replace"))
        return done.stdout.decode(errors="replace")
