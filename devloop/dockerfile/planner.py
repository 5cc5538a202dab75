"""Reads a Dockerfile into its plan: BuildKit's dockerfile2llb, without the building."""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping

from devloop.dockerfile.arguments import heredoc_name
from devloop.dockerfile.ignore_pattern import go_clean
from devloop.dockerfile.instructions import DockerfileError, Instruction
from devloop.dockerfile.parser import Dockerfile, parse_trigger
from devloop.dockerfile.plan import (
    CONTEXT,
    SCRATCH,
    Base,
    BaseRef,
    Copy,
    CopySource,
    Plan,
    Read,
    Run,
    RunMount,
    Setting,
    StagePlan,
    Step,
    Workdir,
    has_wildcard,
)
from devloop.dockerfile.shell import UnresolvableError
from devloop.dockerfile.variables import Scope, Variables

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KNOWN_FRONTENDS = re.compile(r"(docker\.io/)?docker/dockerfile(-upstream)?([:@].*)?")
_KNOWN_KEYWORDS = frozenset(
    {"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER"}
    | {"ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}
)
_REMOTE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://|git@[^/:]+:")


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
        self._bases = {base.ref: base for base in bases}
        self._stages: dict[int, StagePlan] = {}
        self._scopes: dict[int, Scope] = {}
        self._refs: dict[tuple[str, str], BaseRef] = {}
        self._reads: dict[Read, None] = {}
        self._whole = ""
        self._names: dict[str, int] = {}
        for stage in dockerfile.stages:
            if stage.name:
                self._names[stage.name] = stage.index
        self._target = self._find_target(target)
        target_name = target or dockerfile.stages[self._target].name or "default"
        self._variables = Variables(dockerfile, args, platform, build_platform, target_name)

    def plan(self) -> Plan:
        syntax = self._args.get("BUILDKIT_SYNTAX") or self._dockerfile.syntax
        if syntax and not _KNOWN_FRONTENDS.fullmatch(syntax):
            self._count_whole(f"the frontend {syntax} may read anything", 1)
        self._reach(self._target)
        if self._dockerfile.check_before_escape:
            self._count_whole("versions of Docker differ on # escape= after # check=", 1)
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

    def _reach(self, index: int) -> Scope:
        """Plan a stage once; gives the scope that it ends with."""
        if index in self._scopes:
            return self._scopes[index]
        stage = self._dockerfile.stages[index]
        base = self._variables.expand_global(stage.base, stage.line)
        if not base:
            raise DockerfileError(f"base name ({stage.base}) should not be blank", stage.line)
        base_stage = self._stage_below(base, index)
        base_image, triggers = None, list[Instruction]()
        if base_stage is not None:
            scope = self._reach(base_stage).inherited()
            lower = self._stages[base_stage].stage.instructions
            triggers = [i.trigger for i in lower if i.keyword == "ONBUILD" and i.trigger]
        elif base == SCRATCH:
            scope = Scope({"PATH": DEFAULT_PATH})
        else:
            base_image = base
            self._need(base, self._variables.expand_global(stage.platform, stage.line), stage.line)
            scope, triggers = self._on_image(base)
        steps = [self._step(t, scope, index, onbuild=True) for t in triggers]
        steps += [self._step(i, scope, index, onbuild=False) for i in stage.instructions]
        self._stages[index] = StagePlan(stage, base_stage, base_image, tuple(steps))
        self._scopes[index] = scope
        return scope

    def _stage_below(self, name: str, index: int) -> int | None:
        for stage in reversed(self._dockerfile.stages[:index]):
            if stage.name and stage.name == name.lower():  # up to 26.1 a name in capitals is an image's
                return stage.index
        return None

    def _on_image(self, ref: str) -> tuple[Scope, list[Instruction]]:
        base = self._bases.get(ref)
        if base is None:
            return Scope({}, complete=False, workdir=None, user=None), []
        scope = Scope({}, base.env is not None, base.workdir, base.user)
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

    def _source(self, name: str, index: int, line: int) -> CopySource:
        """What `--from=name` means, and that it is needed."""
        if "$" in name:
            raise DockerfileError(
                f"variable expansion is not supported for --from={name}",
                line,
                hint="define a stage of its own: FROM ${NAME} AS name",
            )
        number = re.fullmatch(r"[+-]?[0-9]+", name, re.ASCII)
        stage = int(name) if number else self._names.get(name.lower())
        if stage is None:
            if name != SCRATCH:
                self._need(name, "", line)
            return CopySource(image=name)
        if not 0 <= stage < index:
            raise DockerfileError(f"stage {name!r} needs to be defined before it is used", line)
        self._reach(stage)
        return CopySource(stage=stage)

    # --- instructions

    def _step(self, instruction: Instruction, scope: Scope, index: int, *, onbuild: bool) -> Step:
        keyword, line = instruction.keyword, instruction.line
        if keyword in ("COPY", "ADD"):
            return self._copy(instruction, scope, index, onbuild=onbuild)
        if keyword == "RUN":
            values = instruction.flag_values("mount")
            return Run(instruction, tuple(self._mount(v, scope, index, line) for v in values), onbuild)
        if keyword == "WORKDIR" and instruction.args:
            path = self._variables.maybe(instruction.args[0], scope, line)
            scope.workdir = _joined(scope.workdir, path)
            return Workdir(instruction, scope.workdir, scope.user, onbuild)
        if keyword == "USER" and instruction.args:
            scope.user = self._variables.maybe(instruction.args[0], scope, line)
        elif keyword == "ENV":
            self._variables.set_environment(instruction, scope)
        elif keyword == "ARG":
            self._variables.set_argument(instruction, scope)
        elif keyword not in _KNOWN_KEYWORDS:
            self._count_whole(f"{keyword} is an instruction that devloop does not know", line)
        return Setting(instruction, onbuild)

    def _copy(self, instruction: Instruction, scope: Scope, index: int, *, onbuild: bool) -> Copy:
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
                path = self._variables.expand(word, scope, line)
            except UnresolvableError as problem:
                unknown = problem.name
                continue
            if instruction.keyword == "ADD" and _REMOTE.match(path):
                remote.append(path)
            else:
                local.append(path)
        parents = instruction.is_set("parents")
        if source.is_context:
            if unknown:
                self._count_whole(f"what ${unknown} holds is known only to the build", line)
            for path in local:
                self._read(path, line, parents=parents)
        destination = self._variables.maybe(instruction.args[-1], scope, line)
        return Copy(
            instruction,
            instruction.keyword == "ADD",
            None if unknown else tuple(go_clean("/" + path)[1:] for path in local),
            tuple(remote),
            instruction.heredocs,
            _destination(scope.workdir, destination),
            source,
            self._variables.maybe(instruction.flag("chown") or "", scope, line),
            self._variables.maybe(instruction.flag("chmod") or "", scope, line),
            instruction.is_set("link"),
            parents,
            instruction.flag_values("exclude"),
            onbuild,
        )

    def _mount(self, text: str, scope: Scope, index: int, line: int) -> RunMount:
        kind, named, path, unknown = "bind", "", "", ""
        for item in next(csv.reader([text])):
            key, _, raw = item.partition("=")
            value = self._variables.maybe(raw, scope, line)
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
        return RunMount(kind.lower(), source, None if unknown else path)

    def _read(self, path: str, line: int, *, parents: bool = False) -> None:
        if parents:  # a/./b/** : from the first wildcard on everything counts
            path = path.replace("/./", "/")
            path = "/".join(_before_wildcards(path))
        self._reads.setdefault(Read(go_clean("/" + path)[1:], line, parents))

    def _count_whole(self, why: str, line: int) -> None:
        self._whole = self._whole or f"line {line}: {why}"
        self._reads.setdefault(Read("", line))


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
