"""What one build of a Dockerfile will do, as far as that can be told beforehand: which stages the target
reaches, which bases they stand on, what they read from the context (S5).

BuildKit's dockerfile2llb, without the building. Whatever cannot be told (a name that only the base image
may set, a frontend we do not know) is never guessed: `Plan.whole` then says why the whole context counts.
"""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from devloop.dockerfile import (
    Dockerfile,
    DockerfileError,
    Heredoc,
    Instruction,
    Stage,
    heredoc_name,
    parse_trigger,
)
from devloop.expansion import ExpansionError, UnresolvableError, expand
from devloop.ignore import go_clean
from devloop.model import Base

SCRATCH = "scratch"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KNOWN_FRONTENDS = re.compile(r"(docker\.io/)?docker/dockerfile(-upstream)?([:@].*)?")
_KNOWN_KEYWORDS = frozenset(
    {"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER"}
    | {"ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}
)
_REMOTE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://|git@[^/:]+:")


# --- what a plan is made of ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BaseRef:
    """An image that the build needs, by FROM, `--from=` or `from=`. Platform "" = the target's."""

    ref: str
    platform: str
    line: int


@dataclass(frozen=True, slots=True)
class Source:
    """Where a COPY or a mount takes files from: a stage, an image, or the context (both None)."""

    stage: int | None = None
    image: str | None = None

    @property
    def is_context(self) -> bool:
        return self.stage is None and self.image is None


CONTEXT = Source()


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY or ADD. `sources` relative to the context (or the other root), cleaned, may hold wildcards;
    None = cannot be told. `destination`: absolute, with its trailing slash, None = cannot be told."""

    instruction: Instruction
    add: bool
    sources: tuple[str, ...] | None
    remote: tuple[str, ...]
    inline: tuple[Heredoc, ...]
    destination: str | None
    source: Source
    owner: str | None  # of --chown, "" without, None = cannot be told
    mode: str | None  # of --chmod, "" without, None = cannot be told
    link: bool
    parents: bool
    excludes: tuple[str, ...]
    onbuild: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    """One `RUN --mount`. `path` inside its source; None = cannot be told."""

    type: str
    source: Source
    path: str | None


@dataclass(frozen=True, slots=True)
class Run:
    instruction: Instruction
    mounts: tuple[Mount, ...]
    onbuild: bool = False


@dataclass(frozen=True, slots=True)
class Workdir:
    """`path` absolute, None = cannot be told; `user` as of that line (the directory belongs to it)."""

    instruction: Instruction
    path: str | None
    user: str | None
    onbuild: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """An instruction that changes only the image's config (ENV, CMD, USER, LABEL, …)."""

    instruction: Instruction
    onbuild: bool = False


Step = Copy | Run | Workdir | Setting


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One reached stage. Exactly one of `base_stage`, `base_image` is set, neither for scratch."""

    stage: Stage
    base_stage: int | None
    base_image: str | None
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """A context path that a stage reads, wildcards and all; "" = everything. `parents`: the directories
    above count too (`COPY --parents` copies them)."""

    pattern: str
    line: int
    parents: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """`whole` = why the whole context counts, "" where it does not; `target` is an index of `stages`."""

    stages: Mapping[int, StagePlan]
    target: int
    bases: tuple[BaseRef, ...]
    reads: tuple[Read, ...]
    whole: str

    def chain(self) -> tuple[StagePlan, ...]:
        """The target and the stages it is built upon, the lowest first."""
        chain = [self.stages[self.target]]
        while (below := chain[0].base_stage) is not None:
            chain.insert(0, self.stages[below])
        return tuple(chain)


# --- making one ----------------------------------------------------------------------------------


def plan(
    dockerfile: Dockerfile,
    *,
    target: str | None,
    args: Mapping[str, str],
    platform: str,
    build_platform: str = "",
    bases: Iterable[Base] = (),
) -> Plan:
    """What a build of `target` (None = the last stage) does for `platform` ("linux/arm64").

    Called twice: first without `bases` to learn which there are (`Plan.bases`), then with them resolved,
    because their ONBUILD lines read the context too and may bring bases of their own.
    Raises DockerfileError: no such target, a stage that is used before it is defined, bad syntax.
    """
    return _Planner(dockerfile, target, args, platform, build_platform or platform, tuple(bases)).plan()


def _platform_args(prefix: str, platform: str) -> dict[str, str]:
    system, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    return {
        f"{prefix}PLATFORM": platform,
        f"{prefix}OS": system,
        f"{prefix}ARCH": architecture,
        f"{prefix}VARIANT": variant,
    }


class _Doubt:
    """Value of a name on which versions of BuildKit differ, or that could not be worked out."""


_DOUBT = _Doubt()


@dataclass(slots=True)
class _Scope:
    """What holds at one line of one stage."""

    values: dict[str, str | _Doubt] = field(default_factory=dict)
    complete: bool = True  # a name that is not here is unset; False: the base image may set it
    workdir: str | None = "/"
    user: str | None = ""
    arguments: set[str] = field(default_factory=set)

    def lookup(self, name: str) -> str | None:
        value = self.values.get(name)
        if isinstance(value, _Doubt) or (value is None and not self.complete):
            raise UnresolvableError(name)
        return value

    def inherited(self) -> _Scope:
        """For a stage on top: whether ARGs are inherited depends on BuildKit's version."""
        values = {k: _DOUBT if k in self.arguments else v for k, v in self.values.items()}
        return _Scope(values, self.complete, self.workdir, self.user)


class _Planner:
    def __init__(
        self,
        dockerfile: Dockerfile,
        target: str | None,
        args: Mapping[str, str],
        platform: str,
        build_platform: str,
        bases: tuple[Base, ...],
    ) -> None:
        self._dockerfile, self._args, self._platform = dockerfile, args, platform
        self._escape = dockerfile.escape
        self._bases = {base.ref: base for base in bases}
        self._stages: dict[int, StagePlan] = {}
        self._scopes: dict[int, _Scope] = {}
        self._refs: dict[tuple[str, str], BaseRef] = {}
        self._reads: dict[Read, None] = {}
        self._whole = ""
        self._names: dict[str, int] = {}
        for stage in dockerfile.stages:
            if stage.name:
                self._names[stage.name] = stage.index
        self._target = self._find_target(target)
        target_name = target or dockerfile.stages[self._target].name or "default"
        self._globals: dict[str, str] = {
            **_platform_args("BUILD", build_platform),
            **_platform_args("TARGET", platform),
            "TARGETSTAGE": target_name,
        }
        self._globals |= {name: args[name] for name in self._globals if name in args}
        for instruction in dockerfile.arguments:
            self._read_global_argument(instruction)

    def plan(self) -> Plan:
        syntax = self._args.get("BUILDKIT_SYNTAX") or self._dockerfile.syntax
        if syntax and not _KNOWN_FRONTENDS.fullmatch(syntax):
            self._count_whole(f"the frontend {syntax} may read anything", 1)
        self._reach(self._target)
        return Plan(
            dict(sorted(self._stages.items())),
            self._target,
            tuple(self._refs.values()),
            tuple(self._reads),
            self._whole,
        )

    # --- stages and bases

    def _find_target(self, target: str | None) -> int:
        if not target:
            return len(self._dockerfile.stages) - 1
        if target.lower() not in self._names:
            known = ", ".join(self._names) or "none has a name"
            raise DockerfileError(f'target stage "{target}" could not be found', hint=f"stages: {known}")
        return self._names[target.lower()]

    def _reach(self, index: int) -> _Scope:
        """Plan a stage once; gives the scope that it ends with."""
        if index in self._scopes:
            return self._scopes[index]
        stage = self._dockerfile.stages[index]
        base = self._expand_global(stage.base, stage)
        if not base:
            raise DockerfileError(f"base name ({stage.base}) should not be blank", stage.line)
        base_stage = self._stage_below(base, index)
        base_image, triggers = None, list[Instruction]()
        if base_stage is not None:
            scope = self._reach(base_stage).inherited()
            lower = self._stages[base_stage].stage.instructions
            triggers = [i.trigger for i in lower if i.keyword == "ONBUILD" and i.trigger]
        elif base == SCRATCH:
            scope = _Scope({"PATH": DEFAULT_PATH})
        else:
            base_image = base
            self._need(base, self._expand_global(stage.platform, stage), stage.line)
            scope, triggers = self._on_image(base)
        steps = [self._step(t, scope, index, onbuild=True) for t in triggers]
        steps += [self._step(i, scope, index, onbuild=False) for i in stage.instructions]
        self._stages[index] = StagePlan(stage, base_stage, base_image, tuple(steps))
        self._scopes[index] = scope
        return scope

    def _stage_below(self, name: str, index: int) -> int | None:
        for stage in reversed(self._dockerfile.stages[:index]):
            if stage.name == name:
                return stage.index
        return None

    def _on_image(self, ref: str) -> tuple[_Scope, list[Instruction]]:
        base = self._bases.get(ref)
        if base is None:
            return _Scope({}, complete=False, workdir=None, user=None), []
        scope = _Scope({}, base.env is not None, base.workdir, base.user)
        if base.workdir == "":
            scope.workdir = "/"
        if base.env is not None:
            scope.values["PATH"] = DEFAULT_PATH
            for pair in base.env:
                name, _, value = pair.partition("=")
                scope.values[name] = value
        return scope, [parse_trigger(text) for text in base.onbuild]

    def _need(self, ref: str, platform: str, line: int) -> None:
        self._refs.setdefault((ref, platform), BaseRef(ref, platform, line))

    def _source(self, name: str, index: int, line: int) -> Source:
        """What `--from=name` means, and that it is needed."""
        if "$" in name:
            raise DockerfileError(
                f"variable expansion is not supported for --from={name}",
                line,
                hint="define a stage of its own: FROM ${NAME} AS name",
            )
        stage = int(name) if name.isdecimal() else self._names.get(name.lower())
        if stage is None:
            if name != SCRATCH:
                self._need(name, "", line)
            return Source(image=name)
        if stage >= index:
            raise DockerfileError(f"stage {name!r} needs to be defined before it is used", line)
        self._reach(stage)
        return Source(stage=stage)

    # --- variables

    def _read_global_argument(self, instruction: Instruction) -> None:
        for word in instruction.args:
            name, equals, default = word.partition("=")
            if name in self._args:
                self._globals[name] = self._args[name]
            elif equals:
                self._globals[name] = self._expand(default, self._globals_scope(), instruction.line)

    def _globals_scope(self) -> _Scope:
        return _Scope(dict(self._globals))

    def _expand_global(self, word: str, stage: Stage) -> str:
        return self._expand(word, self._globals_scope(), stage.line)

    def _expand(self, word: str, scope: _Scope, line: int) -> str:
        """Raises DockerfileError, UnresolvableError."""
        try:
            return expand(word, scope.lookup, self._escape)
        except ExpansionError as problem:
            raise DockerfileError(f"failed to process {word!r}: {problem}", line) from problem

    def _maybe(self, word: str, scope: _Scope, line: int) -> str | None:
        try:
            return self._expand(word, scope, line)
        except UnresolvableError:
            return None

    def _set_environment(self, instruction: Instruction, scope: _Scope) -> None:
        pairs = zip(instruction.args[::2], instruction.args[1::2], strict=True)
        news = [
            (self._maybe(k, scope, instruction.line), self._maybe(v, scope, instruction.line))
            for k, v in pairs
        ]
        for name, value in news:
            if name is None:  # any name may have changed
                scope.complete = False
                scope.values = dict.fromkeys(scope.values, _DOUBT)
                continue
            scope.values[name] = _DOUBT if value is None else value
            scope.arguments.discard(name)

    def _set_argument(self, instruction: Instruction, scope: _Scope) -> None:
        for word in instruction.args:
            name, equals, default = word.partition("=")
            value: str | _Doubt | None
            if name in self._args:
                value = self._args[name]
            elif equals:
                value = self._maybe(default, scope, instruction.line)
                value = _DOUBT if value is None else value
            else:
                value = self._globals.get(name)
            if value is None:
                continue
            # Newer BuildKits let the last line win, 20.10 the ENV: no telling where they differ.
            if scope.values.get(name, value) != value:
                value = _DOUBT
            scope.values[name] = value
            scope.arguments.add(name)

    # --- instructions

    def _step(self, instruction: Instruction, scope: _Scope, index: int, *, onbuild: bool) -> Step:
        keyword, line = instruction.keyword, instruction.line
        if keyword in ("COPY", "ADD"):
            return self._copy(instruction, scope, index, onbuild=onbuild)
        if keyword == "RUN":
            values = instruction.flag_values("mount")
            return Run(instruction, tuple(self._mount(v, scope, index, line) for v in values), onbuild)
        if keyword == "WORKDIR" and instruction.args:
            path = self._maybe(instruction.args[0], scope, line)
            scope.workdir = _joined(scope.workdir, path)
            return Workdir(instruction, scope.workdir, scope.user, onbuild)
        if keyword == "USER" and instruction.args:
            scope.user = self._maybe(instruction.args[0], scope, line)
        elif keyword == "ENV":
            self._set_environment(instruction, scope)
        elif keyword == "ARG":
            self._set_argument(instruction, scope)
        elif keyword not in _KNOWN_KEYWORDS:
            self._count_whole(f"{keyword} is an instruction that devloop does not know", line)
        return Setting(instruction, onbuild)

    def _copy(self, instruction: Instruction, scope: _Scope, index: int, *, onbuild: bool) -> Copy:
        line = instruction.line
        if len(instruction.args) < 2:
            raise DockerfileError(
                f"{instruction.keyword} requires at least two arguments", line, evidence=instruction.text
            )
        named = instruction.flag("from")
        source = self._source(named, index, line) if named else CONTEXT
        local: list[str] = []
        remote: list[str] = []
        unknown = ""
        for word in instruction.args[:-1]:
            if heredoc_name(word) is not None and not instruction.json:
                continue
            try:
                path = self._expand(word, scope, line)
            except UnresolvableError as problem:
                unknown = problem.name
                continue
            if instruction.keyword == "ADD" and _REMOTE.match(path):
                remote.append(path)
            else:
                local.append(path)
        parents = instruction.flag("parents") == "true"
        if source.is_context:
            if unknown:
                self._count_whole(f"what ${unknown} holds is known only to the build", line)
            for path in local:
                self._read(path, line, parents=parents)
        destination = self._maybe(instruction.args[-1], scope, line)
        return Copy(
            instruction,
            instruction.keyword == "ADD",
            None if unknown else tuple(go_clean("/" + path)[1:] for path in local),
            tuple(remote),
            instruction.heredocs,
            _destination(scope.workdir, destination),
            source,
            self._maybe(instruction.flag("chown") or "", scope, line),
            self._maybe(instruction.flag("chmod") or "", scope, line),
            instruction.flag("link") == "true",
            parents,
            instruction.flag_values("exclude"),
            onbuild,
        )

    def _mount(self, text: str, scope: _Scope, index: int, line: int) -> Mount:
        kind, named, path, unknown = "bind", "", "", ""
        for item in next(csv.reader([text])):
            key, _, raw = item.partition("=")
            value = self._maybe(raw, scope, line)
            match key.lower():
                case "type":
                    kind = value or kind
                    unknown = unknown or (raw if value is None else "")
                case "from":
                    named = raw
                case "source" | "src":
                    path, unknown = value or "", unknown or (raw if value is None else "")
                case _:
                    pass
        source = self._source(named, index, line) if named else CONTEXT
        if source.is_context and unknown:
            self._count_whole(f"what {unknown} holds is known only to the build", line)
        elif source.is_context and kind.lower() == "bind":
            self._read(path, line)
        return Mount(kind.lower(), source, None if unknown else path)

    def _read(self, path: str, line: int, *, parents: bool = False) -> None:
        if parents:  # a/./b/** : from the first wildcard on everything counts
            path = path.replace("/./", "/")
            path = "/".join(_before_wildcards(path))
        self._reads.setdefault(Read(go_clean("/" + path)[1:], line, parents))

    def _count_whole(self, why: str, line: int) -> None:
        self._whole = self._whole or f"line {line}: {why}"
        self._reads.setdefault(Read("", line))


def has_wildcard(name: str) -> bool:
    return re.search(r"(?<!\\)(?:\\\\)*[*?\[]", name) is not None


def _before_wildcards(path: str) -> Iterator[str]:
    for part in path.split("/"):
        if has_wildcard(part):
            return
        yield part


def _joined(workdir: str | None, path: str | None) -> str | None:
    if path is None or (workdir is None and not path.startswith("/")):
        return None
    return go_clean(posixpath.join("/", workdir or "/", path))


def _destination(workdir: str | None, path: str | None) -> str | None:
    """Absolute, and with a slash at the end where the text says "into this directory"."""
    joined = _joined(workdir, path)
    if joined is None or path is None:
        return None
    into = path in ("", ".") or path.endswith(("/", "/."))
    return joined + "/" if into and joined != "/" else joined
