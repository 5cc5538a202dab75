"""What happened, as JSON lines in the state directory: for people who ask afterwards (S27)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from devloop import state_file
from devloop.clock import Clock
from devloop.events import Event, Output, PodLog, Progress, StageStarted, WatchBatch
from devloop.sinks.outcomes import describe_event

FILE_NAME = "journal.jsonl"
LARGEST = 50 * 1024 * 1024


class Journal:
    """A sink, and a context manager. One line per event, written at once; a full disk stops it, not devloop.

    What containers and builds print is not kept: it may hold anything (S30).
    """

    def __init__(self, folder: Path, clock: Clock, largest: int = LARGEST) -> None:
        self._path = folder / FILE_NAME
        self._clock, self._largest = clock, largest
        self._file: IO[bytes] | None = None
        self._size = 0
        self.trouble: OSError | ValueError | None = None  # why it stopped writing

    def __enter__(self) -> Journal:
        try:
            state_file.make_private(self._path.parent)
            self._open()
        except OSError as error:
            self.trouble = error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __call__(self, event: Event) -> None:
        if self._file is None or isinstance(event, Output | PodLog | Progress | StageStarted | WatchBatch):
            return
        self._write({"time": self._clock.now(), **_without_prints(describe_event(event))})

    def _write(self, entry: dict[str, object]) -> None:
        line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
        assert self._file is not None
        try:
            if self._size + len(line) > self._largest:
                self._rotate()
            self._file.write(line)  # unbuffered and appending: one line is one write
            self._size += len(line)
        except (OSError, ValueError) as error:  # ValueError: a rotation failed, the file is closed
            self.trouble = error

    def _open(self) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "ab", buffering=0)
        self._size = os.fstat(descriptor).st_size
        if self._size and os.pread(descriptor, 1, self._size - 1) != b"\n":
            self._file.write(b"\n")  # a line that a crash cut short ends here
            self._size += 1

    def _rotate(self) -> None:
        assert self._file is not None
        self._file.close()
        self._path.replace(self._path.with_name(f"{FILE_NAME}.1"))
        self._open()


def _without_prints(entry: dict[str, Any]) -> dict[str, Any]:
    """Without log lines: devloop cannot know what secrets of the cluster a container prints."""
    if isinstance(error := entry.get("error"), dict):
        entry = {**entry, "error": {**error, "cause": None, "evidence": []}}
    return {key: value for key, value in entry.items() if key not in ("log", "cause")}
