"""The variables of a Dockerfile: what ENV and ARG set, and what a word means at one line (S5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from devloop.dockerfile.instructions import DockerfileError, Instruction
from devloop.dockerfile.parser import Dockerfile
from devloop.dockerfile.shell import ExpansionError, UnresolvableError, expand


class Doubt:
    """Value of a name on which versions of BuildKit differ, or that could not be worked out."""


DOUBT = Doubt()


@dataclass(slots=True)
class Scope:
    """What holds at one line of one stage."""

    values: dict[str, str | Doubt] = field(default_factory=dict)
    complete: bool = True  # a name that is not here is unset; False: the base image may set it
    workdir: str | None = "/"
    user: str | None = ""
    arguments: set[str] = field(default_factory=set)

    def lookup(self, name: str) -> str | None:
        value = self.values.get(name)
        if isinstance(value, Doubt) or (value is None and not self.complete):
            raise UnresolvableError(name)
        return value

    def inherited(self) -> Scope:
        """For a stage on top: whether ARGs are inherited depends on BuildKit's version."""
        values = {k: DOUBT if k in self.arguments else v for k, v in self.values.items()}
        return Scope(values, self.complete, self.workdir, self.user)


class Variables:
    """Works out words for one build. `args` are the build's, `target` is the name of the stage to build."""

    def __init__(
        self, dockerfile: Dockerfile, args: Mapping[str, str], platform: str, build_platform: str, target: str
    ) -> None:
        self._args, self._escape = args, dockerfile.escape
        self._globals: dict[str, str] = {
            **_platform_args("BUILD", build_platform),
            **_platform_args("TARGET", platform),
            "TARGETSTAGE": target,
        }
        self._globals |= {name: args[name] for name in self._globals if name in args}
        for instruction in dockerfile.arguments:
            self._read_global_argument(instruction)

    def _read_global_argument(self, instruction: Instruction) -> None:
        for word in instruction.args:
            name, equals, default = word.partition("=")
            if name in self._args:
                self._globals[name] = self._args[name]
            elif equals:
                self._globals[name] = self.expand(default, self.global_scope(), instruction.line)

    def global_scope(self) -> Scope:
        return Scope(dict(self._globals))

    def expand_global(self, word: str, line: int) -> str:
        """As the FROM lines are read. Raises DockerfileError, UnresolvableError."""
        return self.expand(word, self.global_scope(), line)

    def expand(self, word: str, scope: Scope, line: int) -> str:
        """Raises DockerfileError, UnresolvableError."""
        try:
            return expand(word, scope.lookup, self._escape)
        except ExpansionError as problem:
            raise DockerfileError(f"failed to process {word!r}: {problem}", line) from problem

    def maybe(self, word: str, scope: Scope, line: int) -> str | None:
        """As `expand`, None where it is unknown."""
        try:
            return self.expand(word, scope, line)
        except UnresolvableError:
            return None

    def set_environment(self, instruction: Instruction, scope: Scope) -> None:
        """ENV."""
        pairs = zip(instruction.args[::2], instruction.args[1::2], strict=True)
        news = [
            (self.maybe(k, scope, instruction.line), self.maybe(v, scope, instruction.line)) for k, v in pairs
        ]
        for name, value in news:
            if name is None:  # any name may have changed
                scope.complete = False
                scope.values = dict.fromkeys(scope.values, DOUBT)
                continue
            scope.values[name] = DOUBT if value is None else value
            scope.arguments.discard(name)

    def set_argument(self, instruction: Instruction, scope: Scope) -> None:
        """ARG inside of a stage. In a line of several, 20.10 reads each with what held before the line."""
        before = replace(scope, values=dict(scope.values))
        for word in instruction.args:
            name, equals, default = word.partition("=")
            value: str | Doubt | None
            if name in self._args:
                value = self._args[name]
            elif equals:
                value = self.maybe(default, scope, instruction.line)
                if value is None or value != self.maybe(default, before, instruction.line):
                    value = DOUBT
            else:
                value = self._globals.get(name)
            if value is None:
                continue
            # Newer BuildKits let the last line win, 20.10 the ENV: no telling where they differ.
            if scope.values.get(name, value) != value:
                value = DOUBT
            scope.values[name] = value
            scope.arguments.add(name)


def _platform_args(prefix: str, platform: str) -> dict[str, str]:
    system, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    return {
        f"{prefix}PLATFORM": platform,
        f"{prefix}OS": system,
        f"{prefix}ARCH": architecture,
        f"{prefix}VARIANT": variant,
    }
