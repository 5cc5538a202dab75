"""Every error that a user may meet, in one tree, split by consequence.

DevloopError             what was tried and what came back; `hint` says what to do
+- ConfigError           exit 2: config.yaml or the command line is wrong
+- PlatformError         exit 3: engine, cluster or node not reachable; worth another try later
|  +- HeldError          exit 3: another devloop holds this service
|  +- TunnelError        no exit: a forwarded connection
+- StageError            exit 1: one stage of one trip failed; a new change may mend it
|  +- FingerprintError, BuildError, LoadError, PatchError, RolloutError
+- HookError             exit 1: a command of `hooks` in config.yaml
+- InternalError         exit 70: a fault of devloop itself; a file holds the report

Beside that, `outside_tree` says whether another look later may help though nobody saves a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar

_NUMBER = re.compile(r"\[Errno -?\d+\] ")  # what Python puts in front of an OSError's own words


LONGEST = 8_000  # characters of a message: what answers on a wrong port may be of any length


class DevloopError(Exception):
    """Base of all expected errors.

    `reason` is one CamelCase word for machines, `message` one or more lines for people, `evidence`
    the lines that prove it (log tail, failing instruction), `hint` what to do next. `cause`: the one line of
    the program itself that says why it failed, "" where the message says it. `outside_tree`: what
    has to change lies where no file event reports it (registry, engine, node, cluster).
    """

    exit_code: ClassVar[int] = 1
    default_reason: ClassVar[str] = "Error"
    default_outside: ClassVar[bool] = False
    about = ""  # whose it is where that is no service: "manifests"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        evidence: tuple[str, ...] = (),
        hint: str | None = None,
        cause: str = "",
        outside_tree: bool | None = None,
    ) -> None:
        message = _shortened(_NUMBER.sub("", message))
        super().__init__(message)
        self.message = message
        # A server may give any text as its reason: it becomes a label of metrics.
        self.reason = reason if reason and reason.isidentifier() else self.default_reason
        self.evidence = evidence
        self.hint = hint
        self.cause = cause
        self.outside_tree = self.default_outside if outside_tree is None else outside_tree

    @property
    def in_short(self) -> str:
        """The cause; where the message says it, the message's first line."""
        return self.cause or self.message.partition("\n")[0]

    def __copy__(self) -> DevloopError:
        made = type(self).__new__(type(self), *self.args)
        made.__dict__.update(self.__dict__)
        return made

    def conceal(self, conceal: Callable[[str], str]) -> None:
        """Put every text through `conceal`: what a foreign tool printed may hold a secret (S30)."""
        self.message = conceal(self.message)
        self.args = (self.message,)
        self.evidence = tuple(map(conceal, self.evidence))
        self.cause = conceal(self.cause)
        self.hint = conceal(self.hint) if self.hint else None


class ConfigError(DevloopError):
    exit_code = 2
    default_reason = "InvalidConfig"
    default_outside = True  # in a trip it speaks of manifests and charts


class PlatformError(DevloopError):
    """An engine, an API server or a node does not answer. Nothing is wrong with the tree."""

    exit_code = 3
    default_reason = "Unreachable"
    default_outside = True

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        evidence: tuple[str, ...] = (),
        hint: str | None = None,
        outage: str = "",
    ) -> None:
        """`outage`: what is gone, where every service that needs it fails: the name in "… is back"."""
        super().__init__(message, reason=reason, evidence=evidence, hint=hint)
        self.outage = outage


class TunnelError(PlatformError):
    """A connection to a port of a pod did not come about, or broke. `reached` False: nothing of what was sent
    reached the pod, so it may be sent to another one."""

    default_reason = "PortForward"

    def __init__(
        self, message: str, *, reached: bool, reason: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, reason=reason, hint=hint)
        self.reached = reached


class HeldError(PlatformError):
    default_reason = "HeldByAnother"


class StageError(DevloopError):
    """A stage refused. `stage` names it; the tree or the cluster has to change for it to pass."""

    stage: ClassVar[str] = "trip"
    default_reason = "Failed"


class FingerprintError(StageError):
    stage = "fingerprint"


class BuildError(StageError):
    stage = "build"


class TreeMovedError(BuildError):
    """The inputs changed while they were read (S8): not a failure, the trip starts again."""

    default_reason = "TreeMoved"


class LoadError(StageError):
    stage = "load"
    default_outside = True


class LayersMissingError(LoadError):
    """A delta's lower layers are not where it was to be loaded: the image has to be built in full."""


class PatchError(StageError):
    stage = "patch"
    default_outside = True


class InPlaceError(PatchError):
    """An update in place cannot go on (S34): the target is rolled instead. `reason` is the metric's word."""

    default_reason = "conflict"


class SyncError(PatchError):
    """Files could not be written into a running container, or are not what was written (S36)."""

    default_reason = "SyncFailed"


class TargetMissingError(PatchError):
    """The Deployment or StatefulSet does not exist (S17): `watch` waits for it, `once` fails."""

    default_reason = "TargetMissing"


class ReleaseError(PatchError):
    """Helm refused: a chart, its values, or the cluster has to change."""

    default_reason = "ReleaseFailed"
    default_outside = False  # each try leaves a failed revision, and Helm keeps but ten


class PrerequisiteError(PatchError):
    """A Secret, ConfigMap or namespace that must be there beforehand is not."""

    default_reason = "MissingPrerequisite"


class DependencyError(StageError):
    """A service that this one depends on failed: `watch` waits for it, `once` fails."""

    stage = "depends_on"
    default_reason = "DependencyFailed"
    default_outside = True


class ReleaseWaitsError(TargetMissingError):
    """A release is not installed yet, for an image of another service failed (S22)."""

    default_reason = "WaitsForImage"


class RolloutError(StageError):
    stage = "rollout"


class OvertakenError(RolloutError):
    """Somebody wrote another template, or recreated the target: the trip starts over (S18, S20)."""

    default_reason = "TemplateChanged"


class HookError(DevloopError):
    """A command of `hooks` failed: the tree has to change, or the command."""

    default_reason = "HookFailed"


class InternalError(DevloopError):
    """What no part of devloop expected. `message` is one line; `raised` is the exception."""

    exit_code = 70  # EX_SOFTWARE of sysexits.h
    default_reason = "InternalError"

    def __init__(self, where: str, raised: BaseException, report: str = "") -> None:
        named = f"; report: {report}" if report else ""
        super().__init__(
            f"internal error in {where}: {one_line(raised)}{named}", hint="please file the report"
        )
        self.raised = raised


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text) - LONGEST} more characters)"


def one_line(error: BaseException, longest: int = 300) -> str:
    """An exception's message, in one line that names its class: `TypeError: no such thing`."""
    message = " ".join(str(error).split())
    name = type(error).__name__
    text = f"{name}: {message}" if message else name
    return text if len(text) <= longest else f"{text[:longest]}..."
