"""All rules, in the order of reports (docs/checks.md lists them)."""

from __future__ import annotations

from devloop.checks import built, credentials, form, links, ports, references, resources
from devloop.checks.rule import Rule

RULES: tuple[Rule, ...] = (
    *form.RULES,
    *references.RULES,
    *resources.RULES,
    *links.RULES,
    *ports.RULES,
    *credentials.RULES,
    *built.RULES,
)
NAMES = frozenset(rule.name for rule in RULES)
