"""What is wrong with a config.yaml, with its place and what to write: the errors of load.py."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic_core import ErrorDetails

from devloop.config import document as yamlfile
from devloop.config.document import ConfigDocument, Location, Problem
from devloop.config.forms import NO_TARGETS, TARGETS, form, no_target, place_of
from devloop.config.paths import absolute
from devloop.config.schema import Config, GcConfig, LogsConfig, MetricsConfig
from devloop.config.schema_build import BuildConfig, SecretConfig
from devloop.config.schema_checks import ChecksConfig, ShapeConfig
from devloop.config.schema_cluster import LABEL, ClusterConfig
from devloop.config.schema_forwards import ForwardConfig
from devloop.config.schema_hooks import HookConfig, HooksConfig
from devloop.config.schema_releases import NamespaceConfig, ReleaseConfig, ValuesConfig
from devloop.config.schema_services import OBJECT, DeployConfig, ServiceConfig, SignalConfig, UpdateConfig
from devloop.config.section import Section
from devloop.config.start_order import order_problems
from devloop.deploy.kustomization import is_kustomization
from devloop.errors import ConfigError
from devloop.files import is_file, is_folder
from devloop.image_refs import same_repository
from devloop.model import Forward, Release, Service, Target

SECTIONS: dict[Location, type[Section]] = {
    (): Config,
    ("cluster",): ClusterConfig,
    ("services", "*"): ServiceConfig,
    ("services", "*", "build"): BuildConfig,
    ("services", "*", "build", "secrets", "*"): SecretConfig,
    ("services", "*", "deploy"): DeployConfig,
    ("services", "*", "deploy", "*"): DeployConfig,
    ("services", "*", "update"): UpdateConfig,
    ("services", "*", "update", "reload"): SignalConfig,
    ("services", "*", "forward"): ForwardConfig,
    ("services", "*", "hooks"): HooksConfig,
    ("services", "*", "hooks", "before_build"): HookConfig,
    ("services", "*", "hooks", "after_live"): HookConfig,
    ("releases", "*"): ReleaseConfig,
    ("releases", "*", "create_namespace"): NamespaceConfig,
    ("releases", "*", "values", "*"): ValuesConfig,
    ("metrics",): MetricsConfig,
    ("gc",): GcConfig,
    ("logs",): LogsConfig,
    ("checks",): ChecksConfig,
    ("checks", "secret_shapes", "*"): ShapeConfig,
}
_EXAMPLES = {
    "version": "version: 1",
    "context": "context: FOLDER",
    "image": "image: NAME",
    "chart": "chart: FOLDER",
    "file": "file: PATH",
    "id": "id: NAME",
    "mode": "mode: in-place",
    "command": "command: make generate",
    "signal": "signal: HUP",
}


def known_keys() -> dict[str, type[Section]]:
    """Every key as a dotted path with * for names, "services.*.build.context", and its section."""
    found: dict[str, type[Section]] = {}
    for location, section in SECTIONS.items():
        for key in _keys(section):
            found[yamlfile.dotted((*location, key))] = section
    return found


def _keys(section: type[Section]) -> list[str]:
    return [info.alias or name for name, info in section.model_fields.items()]


def error_of(path: Path, problems: list[Problem]) -> ConfigError:
    lines = []
    for problem in sorted(problems, key=lambda problem: problem.position):
        line, column = problem.position
        lines.append(f"{path}:{line}:{column}: {problem.path}{': ' if problem.path else ''}{problem.text}")
    return ConfigError(
        "\n".join(lines), hint="docs/config.md has every key; `devloop schema` prints a JSON Schema"
    )


def problem_of(document: ConfigDocument, details: ErrorDetails) -> Problem:
    location = _in_file(document, details["loc"])
    return Problem(document.position(location), location, _text(location, details))


def _in_file(document: ConfigDocument, location: Location) -> Location:
    """pydantic's location without what is left out in the file: the index of the only `deploy`, the `ports`
    of a `forward`."""
    short = len(location) > 3 and location[:4] not in document.positions
    if short and (location[2] == "deploy" or location[2:4] == ("forward", "ports")):
        location = (*location[:3], *location[4:])
    return tuple(part for part in location if part != "[key]")


def _text(location: Location, details: ErrorDetails) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(location)
    if kind == "missing":
        key = str(location[-1])
        if len(location) == 3 and location[0] == "services" and key == "image":
            return f"missing; write image: {str(location[1]).lower()}"
        return f"missing; {form(location) or f'write {_EXAMPLES.get(key, key)}'}"
    if kind == "literal_error" and location == ("version",):
        return f"this devloop reads version 1, not {details['input']!r}; write version: 1"
    if kind == "value_error":
        return str(context["error"])
    private = {"args", "secrets", "set", "set_env"}
    shown = "" if private.intersection(location) else f", not {_short(details['input'])}"
    wanted = {
        "literal_error": f"one of {str(context.get('expected', '')).replace(chr(39), '')}",
        "string_type": "text; write it in quotes",
        "string_pattern_mismatch": _pattern_text(str(context.get("pattern", ""))),
        "string_too_short": "a non-empty text",
        "bool_type": "true or false",
        "int_type": "a whole number",
        "greater_than_equal": f"at least {context.get('ge')}",
        "list_type": "a list",
        "dict_type": "a mapping",
        "model_type": "a mapping",
        "too_short": "a mapping with at least one entry",
    }.get(kind)
    if wanted == "a list" and place_of(location) == ("services", "*", "deploy"):
        wanted = "a mapping, or a list of them"
    if kind in ("list_type", "dict_type", "model_type", "too_short"):
        shown += f"; {form(location, details['input'])}" if form(location, details["input"]) else ""
    return f"must be {wanted}{shown}" if wanted else details["msg"]


def _short(value: object) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _pattern_text(pattern: str) -> str:
    if pattern == LABEL:
        return 'a name of a-z, 0-9 and "-", at most 63'
    if pattern == OBJECT:
        return 'a name of a-z, 0-9, "-" and "."'
    return "os/arch, for example linux/amd64"


def _unknown_key(location: Location) -> str:
    *parent, key = location
    place = place_of(tuple(parent))
    if place[:3] == ("services", "*", "deploy"):
        if str(key) in NO_TARGETS:
            return no_target(str(key))
        if str(key) in ("kind", "name"):  # as Kubernetes' own references are written
            return f"unknown key; write {TARGETS}"
    here = _keys(SECTIONS[place]) if place in SECTIONS else []
    if near := difflib.get_close_matches(str(key), here, n=1, cutoff=0.6):
        return f"unknown key; did you mean {near[0]}?"
    if str(key) == "tag":
        return "unknown key; devloop makes the tag from the content"
    for other, section in SECTIONS.items():
        if key in _keys(section) and other != place:
            owner = yamlfile.dotted(other).replace(".*", ".NAME") or "the top level"
            return f"unknown key here; it belongs under {owner}"
    return f"unknown key; known here: {', '.join(here)}"


def tree_problems(document: ConfigDocument, config: Config) -> list[Problem]:
    """What the file says about the tree that is not so."""
    found: list[tuple[Location, str]] = []
    claimed: list[tuple[Service, Target]] = []
    for service in config.services():
        found.extend(_build_problems(config, service))
        for target in service.targets:
            at: Location = ("services", service.name, "deploy")
            problems = (_rivalry(service, target, other, its) for other, its in claimed)
            found.extend((at, problem) for problem in problems if problem)
        claimed += [(service, target) for target in service.targets]
    found.extend(_port_problems(config))
    found.extend(order_problems(config.services(), config.releases()))
    for number, pattern in enumerate(config.manifests):
        path = absolute(config.root, pattern)
        if re.search(r"[*?\[]", pattern) or is_file(path) or is_kustomization(path):
            continue
        text = f"{path} has no kustomization.yaml; for plain files write {pattern.rstrip('/')}/*.yaml"
        found.append((("manifests", number), text if is_folder(path) else f"{path} is not a file"))
    for release in config.releases():
        found.extend(_release_problems(config, release))
    return [Problem(document.position(at), at, text) for at, text in found]


def _rivalry(service: Service, target: Target, other: Service, its: Target) -> str:
    """What is wrong where two services set one container of a workload, "" where each has its own."""
    if target.workload != its.workload:
        return ""
    named = {target.container, its.container}
    if None not in named:
        same = f"{other.name} sets container {target.container} of {target} already"
        return same if len(named) == 1 else ""
    if not same_repository(service.image, other.image):
        return ""
    return f"{other.name} sets the same image on {target} already; name a container: in both"


def _port_problems(config: Config) -> Iterator[tuple[Location, str]]:
    """A port of this machine can be forwarded once, and to a service with pods."""
    first: dict[int, Forward] = {}
    for one in config.forwards():
        at = ("services", one.service, "forward")
        other = first.setdefault(one.port, one)
        if not config.by_name[one.service].deploy:
            yield at, "it leads to pods of the service, which has none; write deploy: {deployment: NAME} too"
        elif other is not one:
            yield at, f"port {one.port} is forwarded to {other.service} already; write another one here"


def _release_problems(config: Config, release: Release) -> list[tuple[Location, str]]:
    at: Location = ("releases", release.name)
    found: list[tuple[Location, str]] = []
    if not is_file(release.chart / "Chart.yaml"):
        text = (
            f"{release.chart} is not a chart: it has no Chart.yaml; write a folder relative to {config.root}"
        )
        found.append(((*at, "chart"), text))
    for number, file in enumerate(release.values):
        if not file.optional and not is_file(file.path):
            text = (
                f"{file.path} is not a file; write {{file: PATH, optional: true}} for one that may be absent"
            )
            found.append(((*at, "values", number), text))
    for service in release.images:
        if service not in config.by_name:
            text = f"no service {service}; there are: {', '.join(config.by_name)}"
            found.append(((*at, "images", service), text))
    return found


def _build_problems(config: Config, service: Service) -> list[tuple[Location, str]]:
    build, at = service.build, ("services", service.name, "build")
    found: list[tuple[Location, str]] = []
    if not is_folder(build.context):
        found.append(
            ((*at, "context"), f"{build.context} is not a folder; write one relative to {config.root}")
        )
    elif not is_file(build.dockerfile):
        found.append(
            ((*at, "dockerfile"), f"{build.dockerfile} is not a file; a bare name lies in the context")
        )
    for number, secret in enumerate(build.secrets):
        if secret.file is not None and not is_file(secret.file):
            text = f"{secret.file} is not a file; it should hold the secret's value"
            found.append(((*at, "secrets", number), text))
    return found
