"""What one build of a Dockerfile will do, as far as can be known beforehand: which stages the target
reaches, which bases they stand on, what they read from the context (S5). planner.py makes it.

Whatever is unknown (a name that only the base image may set, a frontend we do not know) is never
guessed: `Plan.whole` then says why the whole context counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from devloop.dockerfile.instructions import Heredoc, Instruction, Stage

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class Base:
    """One image that the Dockerfile builds on: reference as written, config digest, ONBUILD lines.

    `env` ("NAME=value"), `workdir` ("" = none) and `user` of its config; None = nobody looked, and what
    hangs on them then counts as the whole context.
    """

    ref: str
    id: str
    onbuild: tuple[str, ...] = ()
    env: tuple[str, ...] | None = None
    workdir: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class BaseRef:
    """An image that the build needs, by FROM, `--from=` or `from=`. Platform "" = the target's."""

    ref: str
    platform: str
    line: int


@dataclass(frozen=True, slots=True)
class CopySource:
    """Where a COPY or a mount takes files from: a stage, an image, or the context (both None)."""

    stage: int | None = None
    image: str | None = None

    @property
    def is_context(self) -> bool:
        return self.stage is None and self.image is None


CONTEXT = CopySource()


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY or ADD. `sources` relative to the context (or the other root), cleaned, may hold wildcards;
    None = unknown. `destination`: absolute, with its trailing slash, None = unknown."""

    instruction: Instruction
    add: bool
    sources: tuple[str, ...] | None
    remote: tuple[str, ...]
    inline: tuple[Heredoc, ...]
    destination: str | None
    source: CopySource
    owner: str | None  # of --chown, "" without, None = unknown
    mode: str | None  # of --chmod, "" without, None = unknown
    link: bool
    parents: bool
    excludes: tuple[str, ...]
    onbuild: bool = False


@dataclass(frozen=True, slots=True)
class RunMount:
    """One `RUN --mount`. `path` inside its source; None = unknown."""

    type: str
    source: CopySource
    path: str | None


@dataclass(frozen=True, slots=True)
class Run:
    instruction: Instruction
    mounts: tuple[RunMount, ...]
    onbuild: bool = False


@dataclass(frozen=True, slots=True)
class Workdir:
    """`path` absolute, None = unknown; `user` as of that line (the directory belongs to it)."""

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


def has_wildcard(name: str) -> bool:
    """Whether COPY takes it for a pattern."""
    return re.search(r"(?<!\\)(?:\\\\)*[*?\[]", name) is not None
