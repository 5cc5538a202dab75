"""ConfigMaps and Secrets as objects; how pods use them is in test_pod_environment and test_volumes."""

from __future__ import annotations

import base64

from tests.contract.cluster import Namespace, refused
from tests.contract.objects import config_map, secret


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_string_data_becomes_data(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/configuration/secret/#restriction-names-data"""
    made = ns.create(secret(data={"a": encoded("1"), "b": encoded("2")}, stringData={"b": "3"}))
    assert made["data"] == {"a": encoded("1"), "b": encoded("3")}
    assert "stringData" not in made


def test_string_data_of_a_patch_becomes_data(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configmap-secret/managing-secret-using-config-file/"""
    ns.create(secret(data={"a": encoded("1")}))
    patched = ns.merge("Secret", "keys", {"stringData": {"b": "2"}})
    assert patched["data"] == {"a": encoded("1"), "b": encoded("2")}


def test_secret_data_must_be_base64(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/configuration/secret/#restriction-names-data"""
    with refused(400, "BadRequest"):
        ns.create(secret(data={"a": "!!!"}))


def test_secret_type_cannot_change(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/configuration/secret/#secret-types"""
    ns.create(secret())
    with refused(422, "Invalid") as refusal:
        ns.merge("Secret", "keys", {"type": "example.com/other"})
    assert refusal.causes == {"type": "FieldValueInvalid"}


def test_immutable_config_map_keeps_its_data(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/configuration/configmap/#configmap-immutable"""
    ns.create({**config_map(), "immutable": True})
    with refused(422, "Invalid"):
        ns.merge("ConfigMap", "settings", {"data": {"a": "2"}})
    with refused(422, "Invalid"):
        ns.merge("ConfigMap", "settings", {"immutable": None})
    labelled = ns.merge("ConfigMap", "settings", {"metadata": {"labels": {"a": "b"}}})
    assert labelled["metadata"]["labels"] == {"a": "b"}


def test_immutable_secret_keeps_its_data(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/configuration/secret/#secret-immutable"""
    ns.create(secret(stringData={"a": "1"}, immutable=True))
    with refused(422, "Invalid"):
        ns.merge("Secret", "keys", {"stringData": {"a": "2"}})


def test_binary_data_and_data_share_no_key(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/configuration/configmap/#configmap-object"""
    with refused(422, "Invalid"):
        ns.create({**config_map(data={"a": "1"}), "binaryData": {"a": encoded("1")}})
