"""What a rule is, how rules are judged, and what comes out: findings, and rules that did not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from devloop.checks.facts import Facts, Need
from devloop.checks.subject import LONG_RUNNING, Container, Place, Subject
from devloop.config.schema_checks import Profile
from devloop.image_refs import repository

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class View:
    """All that is deployed together, and the facts."""

    subjects: tuple[Subject, ...]
    facts: Facts

    def of(self, *kinds: str) -> Iterator[Subject]:
        return (subject for subject in self.subjects if subject.kind in kinds)

    def workloads(self) -> Iterator[Subject]:
        """What makes pods."""
        return (subject for subject in self.subjects if subject.pod_place is not None)

    def servers(self) -> Iterator[Subject]:
        """Workloads whose pods run on."""
        return self.of(*LONG_RUNNING)

    def containers(self) -> Iterator[Container]:
        return (container for subject in self.workloads() for container in subject.containers())

    def service_of(self, container: Container) -> str | None:
        """The configured service whose image the container runs."""
        return self.facts.images.get(repository(container.image))


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule saw: where, and what; `subject` None = no object but the image of `service`."""

    subject: Subject | None
    place: Place
    text: str
    service: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """`file` is relative to config.yaml where it lies below; `line` 0 = not known."""

    rule: str
    severity: Severity
    about: str  # "Deployment todo-backend", "image of backend"
    text: str
    file: str = ""
    line: int = 0
    namespace: str = ""

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


Check = Callable[[View], Iterator[Found]]


@dataclass(frozen=True, slots=True)
class Rule:
    """`default` and `strict`: its severity in each profile, None = it does not run."""

    name: str
    default: Severity | None
    strict: Severity
    sentence: str
    check: Check
    needs: Need | None = None

    def severity(self, profile: Profile) -> Severity | None:
        return self.strict if profile == "strict" else self.default


@dataclass(frozen=True, slots=True)
class Report:
    """`suppressed`: findings that an annotation or checks.ignore switched off. `not_run`: rule -> why."""

    profile: Profile

    findings: tuple[Finding, ...]
    suppressed: tuple[Finding, ...]
    not_run: tuple[tuple[str, str], ...]

    @property
    def errors(self) -> int:
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        return len(self.findings) - self.errors


def judge(rules: Sequence[Rule], view: View) -> Report:
    """Every rule of the profile on everything, in the order of the rules."""
    settings = view.facts.settings
    findings: list[Finding] = []
    suppressed: list[Finding] = []
    not_run: list[tuple[str, str]] = []
    for rule in rules:
        severity = rule.severity(settings.profile)
        if severity is None:
            continue
        why = view.facts.absent.get(rule.needs) if rule.needs else None
        if why is not None:
            not_run.append((rule.name, why))
            continue
        if rule.needs == "engine":
            not_run += [
                (f"{rule.name} on {service}", reason) for service, reason in view.facts.unbuilt.items()
            ]
        for found in rule.check(view):
            off = rule.name in settings.ignore or (found.subject and rule.name in found.subject.ignored)
            (suppressed if off else findings).append(_finding(rule.name, severity, found))
    unique = dict.fromkeys(findings)
    return Report(settings.profile, tuple(unique), tuple(dict.fromkeys(suppressed)), tuple(not_run))


def _finding(rule: str, severity: Severity, found: Found) -> Finding:
    if found.subject is None:
        return Finding(rule, severity, f"image of {found.service}", found.text)
    subject = found.subject
    return Finding(
        rule,
        severity,
        str(subject),
        found.text,
        subject.file,
        subject.line(found.place),
        subject.namespace,
    )
