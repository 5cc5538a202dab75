"""The protobuf bodies that Helm 4 and `kubectl create` insist on sending, as objects."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import cache
from typing import Any

from devloop_sandbox.objects.resources import Obj

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"

# message -> {field number: (name, kind)}; a kind is str, int, bool, bytes, a message, or one of these
# in [] (a list) or {} (a map by string). Any other field must be empty, or the body is refused.
_MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    "Unknown": {1: ("typeMeta", "TypeMeta"), 2: ("raw", "bytes")},
    "TypeMeta": {1: ("apiVersion", "str"), 2: ("kind", "str")},
    "ObjectMeta": {
        1: ("name", "str"), 2: ("generateName", "str"), 3: ("namespace", "str"),
        5: ("uid", "str"), 6: ("resourceVersion", "str"),
        11: ("labels", "{str}"), 12: ("annotations", "{str}"),
        13: ("ownerReferences", "[OwnerReference]"), 14: ("finalizers", "[str]"),
    },
    "OwnerReference": {
        1: ("kind", "str"), 3: ("name", "str"), 4: ("uid", "str"), 5: ("apiVersion", "str"),
        6: ("controller", "bool"), 7: ("blockOwnerDeletion", "bool"),
    },
    "DeleteOptions": {
        1: ("gracePeriodSeconds", "int"), 2: ("preconditions", "Preconditions"),
        3: ("orphanDependents", "bool"), 4: ("propagationPolicy", "str"), 5: ("dryRun", "[str]"),
    },
    "Preconditions": {1: ("uid", "str"), 2: ("resourceVersion", "str")},
    "Secret": {
        1: ("metadata", "ObjectMeta"), 2: ("data", "{bytes}"), 3: ("type", "str"),
        4: ("stringData", "{str}"), 5: ("immutable", "bool"),
    },
    "ConfigMap": {
        1: ("metadata", "ObjectMeta"), 2: ("data", "{str}"), 3: ("binaryData", "{bytes}"),
        4: ("immutable", "bool"),
    },
    "Namespace": {1: ("metadata", "ObjectMeta"), 2: ("spec", "NamespaceSpec")},
    "NamespaceSpec": {1: ("finalizers", "[str]")},
    "ServiceAccount": {1: ("metadata", "ObjectMeta")},
    "Service": {1: ("metadata", "ObjectMeta"), 2: ("spec", "ServiceSpec")},
    "ServiceSpec": {
        1: ("ports", "[ServicePort]"), 2: ("selector", "{str}"), 3: ("clusterIP", "str"),
        4: ("type", "str"), 10: ("externalName", "str"),
    },
    "ServicePort": {
        1: ("name", "str"), 2: ("protocol", "str"), 3: ("port", "int"),
        4: ("targetPort", "IntOrString"), 5: ("nodePort", "int"),
    },
    "IntOrString": {1: ("type", "int"), 2: ("int", "int"), 3: ("str", "str")},
    "Deployment": {1: ("metadata", "ObjectMeta"), 2: ("spec", "DeploymentSpec")},
    "DeploymentSpec": {
        1: ("replicas", "int"), 2: ("selector", "LabelSelector"), 3: ("template", "PodTemplateSpec"),
    },
    "LabelSelector": {1: ("matchLabels", "{str}")},
    "PodTemplateSpec": {1: ("metadata", "ObjectMeta"), 2: ("spec", "PodSpec")},
    "PodSpec": {
        2: ("containers", "[Container]"), 3: ("restartPolicy", "str"),
        4: ("terminationGracePeriodSeconds", "int"), 6: ("dnsPolicy", "str"), 19: ("schedulerName", "str"),
    },
    "Container": {
        1: ("name", "str"), 2: ("image", "str"), 3: ("command", "[str]"), 4: ("args", "[str]"),
        5: ("workingDir", "str"), 6: ("ports", "[ContainerPort]"), 7: ("env", "[EnvVar]"),
        13: ("terminationMessagePath", "str"), 14: ("imagePullPolicy", "str"),
        20: ("terminationMessagePolicy", "str"),
    },
    "EnvVar": {1: ("name", "str"), 2: ("value", "str")},
    "Job": {1: ("metadata", "ObjectMeta"), 2: ("spec", "JobSpec")},
    "JobSpec": {
        1: ("parallelism", "int"), 2: ("completions", "int"), 3: ("activeDeadlineSeconds", "int"),
        4: ("selector", "LabelSelector"), 5: ("manualSelector", "bool"), 6: ("template", "PodTemplateSpec"),
        7: ("backoffLimit", "int"), 8: ("ttlSecondsAfterFinished", "int"), 9: ("completionMode", "str"),
        10: ("suspend", "bool"),
    },
    "CronJob": {1: ("metadata", "ObjectMeta"), 2: ("spec", "CronJobSpec")},
    "CronJobSpec": {
        1: ("schedule", "str"), 2: ("startingDeadlineSeconds", "int"), 3: ("concurrencyPolicy", "str"),
        4: ("suspend", "bool"), 5: ("jobTemplate", "JobTemplateSpec"),
        6: ("successfulJobsHistoryLimit", "int"), 7: ("failedJobsHistoryLimit", "int"),
        8: ("timeZone", "str"),
    },
    "JobTemplateSpec": {1: ("metadata", "ObjectMeta"), 2: ("spec", "JobSpec")},
    "ContainerPort": {
        1: ("name", "str"), 3: ("containerPort", "int"), 4: ("protocol", "str"),
    },
}  # fmt: skip
_MAPS = {"{str}": "StringEntry", "{bytes}": "BytesEntry"}
_ENTRIES = {
    "StringEntry": {1: ("key", "str"), 2: ("value", "str")},
    "BytesEntry": {1: ("key", "str"), 2: ("value", "bytes")},
    "Nothing": {},
}  # fmt: skip
_KINDS = (
    "Secret",
    "ConfigMap",
    "Namespace",
    "ServiceAccount",
    "Service",
    "Deployment",
    "Job",
    "CronJob",
    "DeleteOptions",
)


def decode(body: bytes) -> Obj:
    """The object in a `k8s\\0` envelope; ValueError for another kind or a field that would be lost."""
    if not body.startswith(_MAGIC):
        raise ValueError("no Kubernetes protobuf envelope")
    envelope = _parsed("Unknown", body[len(_MAGIC) :])
    kind = _object("TypeMeta", envelope.typeMeta)
    if str(kind.get("kind")).endswith("Review"):  # answered alike, whatever it asks
        return kind
    if kind.get("kind") not in _KINDS:
        raise ValueError(f"{kind.get('kind')} is not taken as protobuf; send JSON")
    return {**kind, **_object(kind["kind"], _parsed(kind["kind"], envelope.raw))}


@cache
def _classes() -> dict[str, Callable[[], Any]]:
    """A class of the library for each message. It is loaded with the first such body: few need it."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    scalars = {
        "str": kinds.TYPE_STRING,
        "int": kinds.TYPE_INT64,
        "bool": kinds.TYPE_BOOL,
        "bytes": kinds.TYPE_BYTES,
    }
    file = descriptor_pb2.FileDescriptorProto(name="sandbox.proto", package="sandbox", syntax="proto2")
    for name, fields in (_MESSAGES | _ENTRIES).items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in fields.items():
            inner = _MAPS.get(kind) or kind.strip("[]")
            label = kinds.LABEL_OPTIONAL if inner == kind else kinds.LABEL_REPEATED
            row = message.field.add(name=field, number=number, label=label)
            if inner in scalars:
                row.type = scalars[inner]
            else:
                row.type, row.type_name = kinds.TYPE_MESSAGE, f".sandbox.{inner}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = {row.name: pool.FindMessageTypeByName(f"sandbox.{row.name}") for row in file.message_type}
    return {name: message_factory.GetMessageClass(found) for name, found in names.items()}


def _parsed(name: str, raw: bytes) -> Any:
    from google.protobuf.message import DecodeError

    message = _classes()[name]()
    try:
        message.ParseFromString(raw)
    except DecodeError as error:
        raise ValueError(f"the protobuf body is no {name}: {error}") from error
    return message


def _object(name: str, message: Any) -> Obj:
    """The fields that are set, strings only if they are not empty."""
    _check_unknown(name, message)
    found: Obj = {}
    for field, kind in _MESSAGES[name].values():
        value = getattr(message, field)
        if kind in _MAPS:
            entries = {_value("str", entry.key): _value(kind[1:-1], entry.value) for entry in value}
            found |= {field: entries} if entries else {}
        elif kind.startswith("["):
            found |= {field: [_value(kind[1:-1], one) for one in value]} if value else {}
        elif message.HasField(field) and value != "":
            found[field] = _value(kind, value)
    return found


def _value(kind: str, value: Any) -> Any:
    if kind == "str" and not isinstance(value, str):
        raise ValueError(f"{value!r} is not UTF-8")
    if kind == "bytes":
        return base64.b64encode(value).decode()
    if kind == "IntOrString":
        return value.str if value.type else value.int
    return _object(kind, value) if kind in _MESSAGES else value


def _check_unknown(name: str, message: Any) -> None:
    """Go writes fields that were never set, as 0, nothing, or a message of only such fields."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    for field in UnknownFieldSet(message):
        if not _is_empty(field.data):
            raise ValueError(f"field {field.field_number} of {name} is not taken as protobuf; send JSON")


def _is_empty(data: Any) -> bool:
    if not isinstance(data, bytes) or not data:
        return not data
    try:
        _check_unknown("Nothing", _parsed("Nothing", data))
    except ValueError:
        return False
    return True
