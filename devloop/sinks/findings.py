"""What `devloop check` prints: lines for people, one object, or GitHub's annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from devloop.checks.rule import Finding, Report


def as_text(report: Report) -> str:
    """One line per finding, then what did not run, then the sum."""
    lines = [line_of(finding) for finding in report.findings]
    for why, rules in _grouped(report).items():
        lines.append(f"not run: {', '.join(rules)}: {why}")
    off = f", {len(report.suppressed)} switched off" if report.suppressed else ""
    asleep = f", {len(report.not_run)} rules not run" if report.not_run else ""
    lines.append(f"{_count(report.errors, 'error')}, {_count(report.warnings, 'warning')}{off}{asleep}")
    return "\n".join(lines)


def as_object(report: Report) -> dict[str, Any]:
    """{"profile", "errors", "warnings": counts, "findings", "suppressed": [Finding's fields],
    "not_run": {rule: why}}"""
    return {
        "profile": report.profile,
        "errors": report.errors,
        "warnings": report.warnings,
        "findings": [asdict(finding) for finding in report.findings],
        "suppressed": [asdict(finding) for finding in report.suppressed],
        "not_run": dict(report.not_run),
    }


def as_github(report: Report) -> str:
    """Workflow commands: each finding becomes an annotation of its line."""
    lines = [_annotation(finding) for finding in report.findings]
    for why, rules in _grouped(report).items():
        message = f"not run: {', '.join(rules)}: {why}"
        lines.append(f"::notice title=devloop check::{_escaped(message)}")
    return "\n".join(lines)


def line_of(finding: Finding) -> str:
    """ "error  charts/x.yaml:12  Deployment web: no tag  [no-latest]"."""
    where = f"{finding.where}  " if finding.where else ""
    return f"{finding.severity:<7}  {where}{finding.about}: {finding.text}  [{finding.rule}]"


def _annotation(finding: Finding) -> str:
    place = {"file": finding.file, "line": str(finding.line) if finding.line else ""}
    fields = {**place, "title": f"devloop check: {finding.rule}"}
    given = ",".join(f"{key}={_property(value)}" for key, value in fields.items() if value)
    return f"::{finding.severity} {given}::{_escaped(f'{finding.about}: {finding.text}')}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def _grouped(report: Report) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for rule, why in report.not_run:
        found.setdefault(why, []).append(rule)
    return found


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
