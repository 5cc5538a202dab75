"""What the settings of a Dockerfile make of an image's config: ENV, USER, CMD and their like, for `first`.

As BuildKit does it; a word or a form that is not plain is NotProvenError, and left to the builder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from devloop.delta.placement import NotProvenError
from devloop.dockerfile.plan import Setting
from devloop.dockerfile.planner import DEFAULT_PATH
from devloop.dockerfile.shell import ExpansionError, UnresolvableError, expand

__all__ = ["Settings", "is_plain"]

_PORT = re.compile(r"(\d{1,5})(/(?:tcp|udp|sctp))?")
_KEPT: tuple[str, ...] = ("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir")
_KEPT += ("Labels", "StopSignal", "Healthcheck", "ArgsEscaped", "StopTimeout", "Shell")


def is_plain(step: Setting) -> bool:
    """Whether `Settings.apply` knows the instruction."""
    return not step.onbuild and step.instruction.keyword in _SETTERS


class Settings:
    """`values`: the "config" of an image's config, beginning with the base's."""

    def __init__(self, base: Mapping[str, Any]) -> None:
        self.values: dict[str, Any] = {key: base[key] for key in _KEPT if base.get(key)}
        env = [str(pair) for pair in self.values.get("Env", ())]
        if not any(pair.startswith("PATH=") for pair in env):
            self.values["Env"] = [*env, f"PATH={DEFAULT_PATH}"]  # as BuildKit does
        self._command_set = False

    def apply(self, step: Setting) -> None:
        """Raises NotProvenError."""
        _SETTERS[step.instruction.keyword](self, step)

    def add_labels(self, labels: Mapping[str, str]) -> None:
        self.values["Labels"] = {**self.values.get("Labels", {}), **labels}

    def _pairs(self, step: Setting) -> Iterator[tuple[str, str]]:
        words = [_plain(word, step) for word in step.instruction.args]
        yield from zip(words[::2], words[1::2], strict=True)

    def _env(self, step: Setting) -> None:
        env = [str(pair) for pair in self.values.get("Env", ())]
        for name, value in self._pairs(step):
            at = next((n for n, pair in enumerate(env) if pair.partition("=")[0] == name), None)
            if at is None:
                env.append(f"{name}={value}")
            else:
                env[at] = f"{name}={value}"
        self.values["Env"] = env

    def _label(self, step: Setting) -> None:
        self.add_labels(dict(self._pairs(step)))

    def _user(self, step: Setting) -> None:
        self.values["User"] = _plain(step.instruction.args[0], step)

    def _expose(self, step: Setting) -> None:
        ports = dict(self.values.get("ExposedPorts", {}))
        for word in step.instruction.args:
            found = _PORT.fullmatch(word)
            if found is None or not 0 < int(found[1]) < 65536:
                raise NotProvenError("NotPlain", f"EXPOSE {word} is not a single port", step.instruction.line)
            ports[f"{int(found[1])}{found[2] or '/tcp'}"] = {}
        self.values["ExposedPorts"] = ports

    def _cmd(self, step: Setting) -> None:
        self.values["Cmd"] = self._command(step)
        self.values["ArgsEscaped"] = True  # BuildKit's mark; it means nothing but on Windows
        self._command_set = True

    def _entrypoint(self, step: Setting) -> None:
        self.values["Entrypoint"] = self._command(step)
        if not self._command_set:
            self.values.pop("Cmd", None)

    def _command(self, step: Setting) -> list[str]:
        if not step.instruction.json or not step.instruction.args:
            raise NotProvenError(
                "NotPlain", "a command without its JSON form is left to the builder", step.instruction.line
            )
        return list(step.instruction.args)

    def _nothing(self, step: Setting) -> None:
        """ARG: the plan has taken its value where one counts."""


_SETTERS: Mapping[str, Callable[[Settings, Setting], None]] = {
    "ARG": Settings._nothing,
    "CMD": Settings._cmd,
    "ENTRYPOINT": Settings._entrypoint,
    "ENV": Settings._env,
    "EXPOSE": Settings._expose,
    "LABEL": Settings._label,
    "USER": Settings._user,
}


def _plain(word: str, step: Setting) -> str:
    """A word without its quotes; one with variables or escapes is left to the builder."""

    def unknown(name: str) -> str:
        raise UnresolvableError(name)

    try:
        if not any(special in word for special in "$\\`"):
            return expand(word, unknown)
    except (ExpansionError, UnresolvableError):
        pass
    raise NotProvenError("NotPlain", f"{word} is left to the builder", step.instruction.line)
