"""`devloop sandbox`: the commands of devloop_sandbox, where its extra is installed."""

from __future__ import annotations

import importlib.util

import click

from devloop.errors import ConfigError

EXTRA = ("cryptography", "dns", "google.protobuf")  # by the names that are imported


def sandbox_command() -> click.Command:
    """The commands of devloop_sandbox; where its extra is not installed, one that says how to install it."""
    missing = [package for package in EXTRA if not _is_installed(package)]
    if not missing:
        from devloop_sandbox.cli import sandbox

        return sandbox

    @click.command("sandbox", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
    def how_to_install() -> None:
        """A small cluster on the local engine. Not installed: pip install 'devloop[sandbox]'"""
        raise ConfigError(
            f"devloop sandbox needs Python packages that are not installed: {', '.join(missing)}",
            reason="MissingDependency",
            hint="pip install 'devloop[sandbox]'",
        )

    return how_to_install


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # not even the package that it lies in
        return False
