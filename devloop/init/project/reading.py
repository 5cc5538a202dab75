"""Files of the project as texts and as YAML: one that cannot be read is a note, and read as nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from devloop.errors import ConfigError
from devloop.files import read_text
from devloop.init.found import Note
from devloop.init.project.tree import Tree
from devloop.kubernetes_yaml.documents import documents

LARGEST = 1 << 20  # bytes of a file that people wrote


@dataclass(slots=True)
class Reading:
    """What is being read, and what was wrong with it."""

    tree: Tree
    notes: list[Note] = field(default_factory=list)
    unusable: list[Note] = field(default_factory=list)  # what looks like Kubernetes files

    def text(self, path: str) -> str | None:
        """None, and a note, for a file that cannot be read, or that nobody wrote by hand."""
        try:
            text = read_text(self.tree.root / path)
        except OSError as error:
            self.notes.append(Note(path, f"cannot be read: {error.strerror}"))
            return None
        if len(text) > LARGEST:
            self.notes.append(Note(path, f"larger than {LARGEST >> 20} MB: not looked at"))
            return None
        return text

    def values(self, path: str, text: str | None = None) -> list[Any] | None:
        """The documents of a YAML file; None, and a note, for one that is broken."""
        text = self.text(path) if text is None else text
        if text is None:
            return None
        try:
            return [one.value for one in documents(text, path)]
        except ConfigError as error:
            self.notes.append(Note(path, f"broken: {_in_file(error.message, path)}"))
            return None

    def first(self, path: str) -> Any:
        """The value of its first document, None for none."""
        return next(iter(self.values(path) or ()), None)


def _in_file(message: str, path: str) -> str:
    """ "k8s/a.yaml:3: what" -> "line 3: what"."""
    return re.sub(r"^(\d+):", r"line \1:", message.removeprefix(path).lstrip(": "))
