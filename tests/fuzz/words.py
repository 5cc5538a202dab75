"""What every fuzzer here is made of: odd values, texts that were damaged, and the property that must hold.

`sound | damaged(sound)`: most faults lie near what is right, so fuzzers change valid input in a few places
instead of making it up.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, AnyStr, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from devloop.errors import DevloopError, InternalError

TIMES = int(os.environ.get("DEVLOOP_FUZZ_TIMES", "1"))  # `python -m tests.fuzz` takes more cases in a round
NEVER = 30.0  # seconds of CPU: what takes this long for one input has no end
T = TypeVar("T")

ODD: tuple[Any, ...] = (
    None, 0, 5, -1, 1.5, True, False, "", "x", "~", "a b", "a\nb", "\x00", "\x1b[31m", "é", "\ud800",
    "x" * 5000,
    "${A}", "/", "..", "sha256:", "5", "1e9999", 2**31, 2**63, 2**64, 10**30, -(10**30), 10**400, 1e308,
    float("nan"), float("inf"), float("-inf"), [], {}, [None], [[]], [[[[[[]]]]]], {"a": None}, {"": []},
    ["x"], [5], [{}], {"name": 5}, {"a": {"a": {"a": {}}}}, {"\x00": "x"}, "2024-13-45T99:99:99Z",
)  # fmt: skip


def cases(count: int) -> settings:
    """So many cases with every run of the tests; what is slow is not what is looked for here."""
    return settings(
        max_examples=count * TIMES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        print_blob=False,
    )


# --- input ---------------------------------------------------------------------------------------------


@st.composite
def changed(draw: st.DrawFn, sound: Any, most: int = 3) -> Any:
    """The JSON value with some places, at whatever depth, replaced, taken away, doubled or renamed."""
    value = sound
    for _ in range(draw(st.integers(1, most))):
        value = _change(draw, value)
    return value


def _change(draw: st.DrawFn, value: Any) -> Any:
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(ODD))
    if isinstance(value, list):
        number = draw(st.integers(0, len(value) - 1))
        inner = (
            [value[number], value[number]] if draw(st.integers(0, 9)) == 0 else [_change(draw, value[number])]
        )
        return [*value[:number], *inner, *value[number + 1 :]]
    key = draw(st.sampled_from(list(value)))
    what = draw(st.integers(0, 11))
    if what == 0:
        return {name: one for name, one in value.items() if name != key}
    if what == 1:
        return {**value, draw(st.sampled_from(("", "x", "a.b", "\x00", key + "x", "5"))): value[key]}
    return {**value, key: _change(draw, value[key])}


CUTS = range(3)


def _cut(draw: st.DrawFn, sound: AnyStr, start: int, what: int, new: st.SearchStrategy[AnyStr]) -> AnyStr:
    """Cut off at `start`, with a piece taken out there, or with a new one put in."""
    if what == 0:
        return sound[:start]
    if what == 1:
        return sound[:start] + sound[start + draw(st.integers(1, 20)) :]
    return sound[:start] + draw(new) + sound[start:]


@st.composite
def damaged(draw: st.DrawFn, sound: Sequence[str], words: Sequence[str]) -> str:
    """A text of `sound` with up to four cuts, and words put in."""
    text = draw(st.sampled_from(sound))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        what = draw(st.integers(0, 5))
        if what in CUTS:
            text = _cut(draw, text, start, what, st.text(max_size=4))
        elif what == 3:
            lines = text.splitlines(keepends=True) or [""]
            number = draw(st.integers(0, len(lines) - 1))
            lines.insert(draw(st.integers(0, len(lines))), lines[number])
            text = "".join(lines)
        else:
            text = text[:start] + draw(st.sampled_from(words)) + text[start:]
    return text


@st.composite
def broken_bytes(draw: st.DrawFn, sound: bytes) -> bytes:
    """The bytes cut off, with some of them changed, or put in."""
    data = sound
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        what = draw(st.integers(0, 3))
        if what in CUTS:
            data = _cut(draw, data, start, what, st.binary(max_size=6))
        else:
            new = draw(st.binary(min_size=1, max_size=4))
            data = data[:start] + new + data[start + len(new) :]
    return data


NASTY = (
    b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf{}", b"null", b"[]", b"{}", b"5", b'"x"',
    b"NaN", b"[NaN]", b"-Infinity",
    b"1e99999",
    b"9" * 4000, b"9" * 5000, b"[" * 20_000, b'{"a":' * 20_000, b'"\\ud800"',
    b'{"a": 1, "a": 2}', b"{} {}",
    b"\x00" * 4096, b"{\n", b"'", b"<html>",
)  # fmt: skip


def json_texts(sound: Any) -> st.SearchStrategy[bytes]:
    """What may stand where this JSON value is expected."""
    text = json.dumps(sound).encode()
    values = changed(sound) | st.sampled_from(ODD)
    return values.map(lambda value: json.dumps(value).encode()) | broken_bytes(text) | st.sampled_from(NASTY)


# --- the property --------------------------------------------------------------------------------------


class NeverEndsError(BaseException):
    """One input took NEVER seconds of CPU."""


def _stop(_: int, __: FrameType | None) -> None:
    raise NeverEndsError


@contextmanager
def bounded() -> Iterator[None]:
    """Around one case: it ends."""
    before = signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, NEVER)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def named(error: DevloopError, *where: str) -> None:
    """An error that a user can do something with: it has a reason for machines, and says what and where."""
    assert not isinstance(error, InternalError), error
    assert re.fullmatch(r"[A-Z][A-Za-z0-9]*", error.reason), error.reason
    assert error.message.strip(), error.reason
    assert "Traceback" not in error.message
    assert "object at 0x" not in error.message, error.message
    assert len(error.message) < 9_000, f"{len(error.message)} characters: {error.message[:300]}"
    assert not where or any(one in error.message for one in where), f"{where} not in: {error.message}"


def well(call: Callable[[], T], *where: str) -> T | None:
    """What the call gives; None if it ended in an error with a name. Anything else passes through.

    `where`: one of these is in the error's message.
    """
    try:
        with bounded():
            return call()
    except DevloopError as error:
        named(error, *where)
        return None
