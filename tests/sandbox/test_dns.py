"""Cluster DNS: names to addresses, byte by byte, without a socket."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from devloop_sandbox.network.dns import Found, answer, host_resolver, is_ours, name_of, parse, resolve

A, ANY = 1, 255

OBJECTS: dict[tuple[str, str, str], dict[str, Any]] = {
    ("namespaces", "", "shop"): {},
    ("services", "shop", "web"): {"spec": {"clusterIP": "10.96.0.7"}},
    ("services", "shop", "db"): {"spec": {"clusterIP": "None"}},
    ("services", "shop", "away"): {"spec": {"type": "ExternalName", "externalName": "example.org"}},
    ("endpoints", "shop", "db"): {
        "subsets": [
            {
                "addresses": [{"ip": "10.1.0.2", "hostname": "db-0"}, {"ip": "10.1.0.3", "hostname": "db-1"}],
                "notReadyAddresses": [{"ip": "10.1.0.4", "hostname": "db-2"}],
            }
        ]
    },
}


def _find(plural: str, namespace: str, name: str) -> dict[str, Any] | None:
    return OBJECTS.get((plural, namespace, name))


def _query(name: str, kind: int = A) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!HHHHHH", 0x1234, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("web.shop.svc.cluster.local", Found(("10.96.0.7",))),
        ("db.shop.svc.cluster.local", Found(("10.1.0.2", "10.1.0.3"))),
        ("db-1.db.shop.svc.cluster.local", Found(("10.1.0.3",))),
        ("db-2.db.shop.svc.cluster.local", None),  # not ready
        ("away.shop.svc.cluster.local", Found(alias="example.org")),
        ("none.shop.svc.cluster.local", None),
        ("web.none.svc.cluster.local", None),
        ("x.web.shop.svc.cluster.local", None),
        ("web.shop.svc.cluster.local.svc.cluster.local", None),  # a search domain too many
        ("shop.svc.cluster.local", Found()),
        ("cluster.local", None),
    ],
)
def test_names_of_services(name: str, found: Found | None) -> None:
    assert resolve(name, _find) == found


def test_answer_repeats_the_question_and_carries_the_addresses() -> None:
    query = _query("Web.Shop.svc.cluster.local")
    question = parse(query)
    assert name_of(question) == "web.shop.svc.cluster.local"
    reply = answer(question, resolve(name_of(question), _find))
    number, flags, questions, answers, *_ = struct.unpack_from("!HHHHHH", reply)
    assert (number, questions, answers) == (0x1234, 1, 1)
    assert flags & 0x8000
    assert flags & 0xF == 0
    assert reply.endswith(bytes([10, 96, 0, 7]))
    assert query[12:] in reply


def test_ipv6_question_of_a_known_name_is_empty_not_missing() -> None:
    query = _query("web.shop.svc.cluster.local", kind=28)
    reply = answer(parse(query), resolve("web.shop.svc.cluster.local", _find))
    _, flags, _, answers, *_ = struct.unpack_from("!HHHHHH", reply)
    assert (flags & 0xF, answers) == (0, 0)


def test_unknown_name_does_not_exist() -> None:
    query = _query("none.shop.svc.cluster.local", kind=ANY)
    _, flags, _, answers, *_ = struct.unpack_from("!HHHHHH", answer(parse(query), None))
    assert (flags & 0xF, answers) == (3, 0)


@pytest.mark.parametrize("garbage", [b"", b"\0" * 11, _query("a")[:-3], b"\0\0\x80" + _query("a")[3:]])
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(ValueError, match=r"quer|message"):
        parse(garbage)


def test_only_the_cluster_zone_is_ours(tmp_path: Any) -> None:
    assert is_ours("x.cluster.local")
    assert not is_ours("xcluster.local")
    config = tmp_path / "resolv.conf"
    assert host_resolver(config) is None
    config.write_text("# comment\nsearch x\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n")
    assert host_resolver(config) == "192.0.2.1"
