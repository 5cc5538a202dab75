"""Commands that run with the trips of a service: a mapping, or the command alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from devloop.config.duration import Duration
from devloop.config.section import Section
from devloop.model import Hook, Hooks

FORM = 'a command; write "make generate" (for sh -c), or [make, generate]'


class HookConfig(Section):
    """One command."""

    command: str | list[str] = Field(
        description="Text for `sh -c`, or a list of the program and its arguments; it runs in the folder of"
        " config.yaml."
    )
    timeout: Duration = Field(default=60.0, description="Then it is ended, with its children: 90s, 5m.")

    @field_validator("command", mode="before")
    @classmethod
    def _is_command(cls, value: object) -> object:
        words = [word for word in (value if isinstance(value, list) else [value]) if isinstance(word, str)]
        if not words or not words[0].strip() or (isinstance(value, list) and len(words) < len(value)):
            raise ValueError(f"not {FORM}")
        return value

    def hook(self, root: Path) -> Hook:
        given = self.command
        command = ("/bin/sh", "-c", given) if isinstance(given, str) else tuple(given)
        return Hook(command, self.timeout, root)


def _as_hook(value: object) -> object:
    return {"command": value} if isinstance(value, str | list) else value


HookField = Annotated[
    HookConfig | None,
    BeforeValidator(_as_hook, json_schema_input_type=str | list[str] | HookConfig | None),
]


class HooksConfig(Section):
    """Commands that run with the trips of the service (docs/hooks.md)."""

    before_build: HookField = Field(
        default=None, description="Runs before the files are read that an image is built of."
    )
    after_live: HookField = Field(
        default=None, description="Runs after a trip that made the service live, beside what comes next."
    )

    def hooks(self, root: Path) -> Hooks:
        before, after = self.before_build, self.after_live
        return Hooks(before.hook(root) if before else None, after.hook(root) if after else None)


HooksField = Annotated[
    HooksConfig,
    BeforeValidator(lambda value: {} if value is None else value, json_schema_input_type=HooksConfig | None),
]
