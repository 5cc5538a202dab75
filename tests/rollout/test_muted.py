"""Which lines `logs.mute` leaves out."""

from __future__ import annotations

import pytest

from devloop.rollout.muted import muted_by

PROBES = (
    '10.42.0.1 - - [30/Nov/2026:17:10:00 +0000] "GET /healthz HTTP/1.1" 200 2 "-" "kube-probe/1.33"',
    '10.42.0.1 - - [30/Nov/2026:17:10:00 +0000] "GET / HTTP/1.1" 200 2 "-" "kube-probe/1.33"',
    'INFO:     10.42.0.1:41234 - "GET /health HTTP/1.1" 200 OK',
    '[GIN] 2026/11/30 - 17:10:00 | 200 |      31.2µs |       10.42.0.1 | GET      "/readyz"',
    "GET /ping 204 0.312 ms - -",
)
REQUESTS = (
    '10.42.0.9 - - [30/Nov/2026:17:10:00 +0000] "GET /todos?page=2 HTTP/1.1" 200 812 "-" "curl/8.5.0"',
    'INFO:     10.42.0.9:41234 - "POST /todos HTTP/1.1" 201 Created',
    "DELETE /todos/3 404 1.204 ms - 19",
)
OTHERS = (
    "listening on :8080",
    "GET is not allowed for /todos",
    'INFO:     10.42.0.1:41234 - "GET /health HTTP/1.1" 503 Service Unavailable',
    "Traceback (most recent call last):",
    "",
)


@pytest.mark.parametrize(
    ("rules", "left_out"),
    [
        ((), ()),
        (("probes",), PROBES),
        (("access",), (*PROBES, *REQUESTS)),
        (("listening", "^Trace"), (OTHERS[0], OTHERS[3])),
        (("probes", "DELETE"), (*PROBES, REQUESTS[2])),
    ],
)
def test_what_is_muted(rules: tuple[str, ...], left_out: tuple[str, ...]) -> None:
    is_muted = muted_by(rules)
    assert [line for line in (*PROBES, *REQUESTS, *OTHERS) if is_muted(line)] == sorted(
        left_out, key=(*PROBES, *REQUESTS, *OTHERS).index
    )
