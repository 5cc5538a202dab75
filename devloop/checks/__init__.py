"""Rendered objects and facts in, findings out: pure rules, each with an id and a severity (docs/checks.md).
Imported by adapters, sinks and commands.
"""
