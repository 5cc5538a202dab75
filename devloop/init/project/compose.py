"""A compose project as builds, and as what manifests for its services would need."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from devloop.init.found import Build, ComposeService, Json, Note, Provided
from devloop.init.paths import is_outside, join
from devloop.init.words import slug, tcp_port

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
OVERRIDES = tuple(name.replace(".y", ".override.y") for name in NAMES)
_LONGEST = 10_000  # characters of a text with variables
_PARTS = ("context", "dockerfile", "target")
_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?::?-(?P<default>[^}]*))?[^}]*\}|\$(?P<bare>[A-Za-z_]\w*)")


def merged(below: Any, above: Any) -> Any:
    """An override file over the first one: mappings key by key, all else replaced."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}


def read_compose(
    path: str, folder: str, value: Any, project: str
) -> tuple[list[Build], list[ComposeService], list[Note]]:
    """`value`: the file's content, overrides merged in."""
    services = value.get("services") if isinstance(value, dict) else None
    if not isinstance(services, dict):
        return [], [], [Note(path, "it has no services")]
    named = value.get("name")
    prefix = slug(named if isinstance(named, str) else project)
    secrets, configs = (_mapping(value.get(key)) for key in ("secrets", "configs"))
    builds: list[Build] = []
    found: list[ComposeService] = []
    notes: list[Note] = []
    for name, one in services.items():
        if not isinstance(one, dict):
            continue
        build = _build(str(name), one, path, folder, prefix, secrets)
        if isinstance(build, Note):
            notes.append(build)
        elif build is not None:
            builds.append(build)
        if not isinstance(build, Note):
            provided = (
                *_provided(one.get("secrets"), secrets, folder, is_secret=True),
                *_provided(one.get("configs"), configs, folder, is_secret=False),
            )
            found.append(_service(str(name), one, path, folder, provided, built=build is not None))
    return builds, found, notes


def _build(
    name: str, one: Json, path: str, folder: str, prefix: str, secrets: Mapping[str, Any]
) -> Build | Note | None:
    section = one.get("build")
    if section is None:
        return None
    section = {"context": section} if isinstance(section, str) else section
    if not isinstance(section, dict):
        return Note(f"build of {name}", f"{path}: neither a folder nor a mapping")
    parts = [expanded(str(section.get(key) or "")) for key in _PARTS]
    if unknown := [key for key, (_, is_open) in zip(_PARTS, parts, strict=True) if is_open]:
        return Note(f"build of {name}", f"{path}: no value here for the variable in its {unknown[0]}")
    context, file, target = (text for text, _ in parts)
    if "dockerfile_inline" in section or "://" in context:
        return Note(f"build of {name}", f"{path}: its Dockerfile or its context is no file of this folder")
    context = join(folder, context or ".")
    if is_outside(context):
        return Note(f"build of {name}", f"{path}: its context lies outside of this folder")
    args, unknown_args = _pairs(section.get("args"))
    return Build(
        name,
        _image(one.get("image")) or f"{prefix}-{slug(name)}",
        context,
        join(context, file or "Dockerfile"),
        target,
        args,
        _secrets(section.get("secrets"), secrets, folder),
        path,
        unknown_args,
    )


def _image(value: Any) -> str:
    """Without its tag; variables with their defaults."""
    text, unknown = expanded(str(value or ""))
    if unknown or not text:
        return ""
    name = text.partition("@")[0]
    head, colon, tail = name.rpartition(":")
    return head if colon and "/" not in tail else name


def expanded(text: str) -> tuple[str, bool]:
    """Variables replaced by the defaults that stand beside them; whether one has none.

    The environment and .env are not looked at: what they hold may be a secret.
    """
    unknown = False

    def put(found: re.Match[str]) -> str:
        nonlocal unknown
        if found[0] == "$$":
            return "$"
        if found["default"] is None:
            unknown = True
        return found["default"] or ""

    return (_VARIABLE.sub(put, text), unknown) if len(text) <= _LONGEST else (text, True)


def _secrets(listed: Any, known: Mapping[str, Any], folder: str) -> tuple[dict[str, str], ...]:
    found: list[dict[str, str]] = []
    for one in listed if isinstance(listed, list) else ():
        short = {"source": one} if isinstance(one, str) else _mapping(one)
        source = str(short.get("source") or "")
        secret: dict[str, str] = {"id": str(short.get("target") or source)}
        described = _mapping(known.get(source))
        if "file" in described:
            secret["file"] = join(folder, str(described["file"]))
        elif "environment" in described:
            secret["env"] = str(described["environment"])
        found += [secret] if source else []
    return tuple(found)


def _provided(listed: Any, known: Mapping[str, Any], folder: str, *, is_secret: bool) -> Iterator[Provided]:
    """What a service lists under `secrets` or `configs`; `known`: all of the project's."""
    for one in listed if isinstance(listed, list) else ():
        short = {"source": one} if isinstance(one, str) else _mapping(one)
        name, target = (str(short.get(key) or "") for key in ("source", "target"))
        described = _mapping(known.get(name))
        source, unknown = expanded(str(described.get("file") or ""))
        path = join("/run/secrets" if is_secret else "/", target or name)
        if name:
            yield Provided(
                *(name, path, is_secret, "" if unknown or not source else join(folder, source)),
                str(described.get("environment") or ""),
            )


def _service(
    name: str, one: Json, path: str, folder: str, provided: tuple[Provided, ...], *, built: bool
) -> ComposeService:
    environment, unknown = _pairs(one.get("environment"))
    files = one.get("env_file")
    listed = [files] if isinstance(files, str) else files if isinstance(files, list) else []
    named = [str(file.get("path") or "") if isinstance(file, dict) else str(file) for file in listed]
    image, _ = expanded(str(one.get("image") or ""))
    return ComposeService(
        name,
        image,
        built,
        tuple(
            dict.fromkeys(
                port for text in _texts(one.get("ports"), one.get("expose")) if (port := _port(text))
            )
        ),
        environment,
        unknown,
        tuple(named),
        _words(one.get("command")),
        _words(one.get("entrypoint")),
        tuple(_volumes(one.get("volumes"))),
        provided,
        tuple(_binds(one.get("volumes"), folder)),
        path,
    )


def _pairs(value: Any) -> tuple[dict[str, str], tuple[str, ...]]:
    """A mapping or a list of NAME=value; (what is known, names whose value is not in the file)."""
    if isinstance(value, list):
        value = {
            name: text if equals else None
            for name, equals, text in (str(one).partition("=") for one in value)
        }
    known: dict[str, str] = {}
    unknown: list[str] = []
    for name, one in _mapping(value).items():
        text, open_ended = expanded(str(one).lower() if isinstance(one, bool) else str(one))
        if one is None or open_ended or isinstance(one, dict | list):
            unknown.append(str(name))
        else:
            known[str(name)] = text
    return known, tuple(unknown)


def _texts(*listed: Any) -> list[str]:
    """Ports in their short form."""
    flat = [one for some in listed if isinstance(some, list) for one in some]
    return [str(one.get("target") or "") if isinstance(one, dict) else expanded(str(one))[0] for one in flat]


def _port(text: str) -> int | None:
    """The container's port of "127.0.0.1:8080:80/tcp"."""
    return tcp_port(text.rpartition(":")[2])


def _words(value: Any) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(str(one) for one in value)
    try:
        return tuple(shlex.split(value)) if isinstance(value, str) else ()
    except ValueError:
        return ("sh", "-c", value)


def _volumes(listed: Any) -> list[str]:
    """Where named volumes are mounted; folders of the project are left out: the image has them."""
    found = []
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict):
            found += [str(one.get("target"))] if one.get("type") == "volume" and one.get("target") else []
            continue
        source, colon, rest = str(one).partition(":")
        if colon and not source.startswith((".", "/", "~", "$")):
            found.append(rest.partition(":")[0])
    return found


def _binds(listed: Any, folder: str) -> Iterator[tuple[str, str]]:
    """(path of this machine, path in the container) of what is mounted from here."""
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict):
            source, target = str(one.get("source") or ""), str(one.get("target") or "")
            bind = one.get("type") == "bind"
        else:
            source, _, rest = expanded(str(one))[0].partition(":")
            target = rest.partition(":")[0]
            bind = source.startswith((".", "/", "~"))
        if bind and source and target:
            yield source if source.startswith("~") else join(folder, source), target


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
