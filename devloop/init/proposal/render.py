"""A proposal as the text of config.yaml, a comment with the reason above each part."""

from __future__ import annotations

from collections.abc import Iterator

from devloop.init.found import Note
from devloop.init.proposal.values import Proposal, Release, Service, Target
from devloop.init.proposal.yaml_text import WIDTH, comment, mapping, scalar, sequence, shown, with_comment


def config_text(proposal: Proposal) -> str:
    return "\n".join(_lines(proposal)) + "\n"


def _lines(proposal: Proposal) -> Iterator[str]:
    yield "# Written by `devloop init`: yours to change. docs/config.md has every key."
    yield "version: 1"
    yield from comment(proposal.place.why, "")
    yield f"cluster: {{context: {scalar(proposal.place.context)}, namespace: {scalar(proposal.namespace)}}}"
    yield ""
    if proposal.services:
        yield "services:"
    for service in proposal.services:
        yield from _service(service)
    if proposal.manifests:
        yield ""
        yield "# Applied with devloop's tags put in, and again when they change."
        yield "manifests:"
        paths = [scalar(as_path(entry.path)) for entry in proposal.manifests]
        for path, entry in zip(paths, proposal.manifests, strict=True):
            yield with_comment(f"  - {path:<{max(map(len, paths))}}", entry.why).rstrip()
    if proposal.releases:
        yield ""
        yield "# Helm releases, installed and upgraded by devloop (docs/releases.md)."
        yield "releases:"
    for release in proposal.releases:
        yield from _release(release)
    yield from _remarks(proposal)


def _remarks(proposal: Proposal) -> Iterator[str]:
    if proposal.first:
        yield ""
        yield "# Make these once, before `devloop watch`:"
        yield from (f"#   {shown(command)}" for command in proposal.first)
    if proposal.left_out:
        yield ""
        yield "# Left out:"
        for note in proposal.left_out:
            yield from comment(f"- {note.what}: {note.why}", "", "  ")


def _service(service: Service) -> Iterator[str]:
    for line in service.why:
        yield from comment(line, "  ")
    yield f"  {scalar(service.name)}:"
    yield f"    image: {scalar(service.image)}"
    yield from _build(service)
    if not service.targets:
        yield from comment(_no_target(service), "    ")
    elif len(service.targets) == 1:
        yield f"    deploy: {_target(service.targets[0])}"
    else:
        yield "    deploy:"
        for target in service.targets:
            yield f"      - {_target(target)}"


def _no_target(service: Service) -> str:
    if service.others:
        return "No deploy: here, for that names Deployments and StatefulSets alone."
    return (
        "Built and loaded into the cluster, nothing more: no Deployment or StatefulSet was found that runs "
        "this image. If there is one, add deploy: {deployment: NAME}."
    )


def _build(service: Service) -> Iterator[str]:
    parts = {"context": scalar(as_path(service.context))}
    if service.dockerfile != dockerfile_default(service.context):
        written = service.dockerfile if "/" in service.dockerfile else f"./{service.dockerfile}"
        parts["dockerfile"] = scalar(as_path(written))
    if service.target:
        parts["target"] = scalar(service.target)
    if service.args:
        parts["args"] = mapping(service.args)
    known = [secret for secret in service.secrets if len(secret) > 1]
    if known:
        parts["secrets"] = f"[{', '.join(mapping(secret) for secret in known)}]"
    short = "    build: {" + ", ".join(f"{key}: {value}" for key, value in parts.items()) + "}"
    if len(short) <= WIDTH:
        yield short
    else:
        yield "    build:"
        yield from (f"      {key}: {value}" for key, value in parts.items())
    for secret in service.secrets:
        if len(secret) == 1:
            yield from comment(
                f"the build asks for secret {secret['id']}: "
                f"build: {{…, secrets: [{{id: {secret['id']}, file: PATH}}]}} or {{id: …, env: VARIABLE}}",
                "    ",
            )


def dockerfile_default(context: str) -> str:
    return "Dockerfile" if context == "." else f"{context}/Dockerfile"


def as_path(text: str) -> str:
    """A path as config.yaml has it: "~" in front would be somebody's home."""
    return f"./{text}" if text.startswith("~") else text


def _target(target: Target) -> str:
    parts = {target.kind.lower(): target.name, "container": target.container, "namespace": target.namespace}
    return mapping({key: value for key, value in parts.items() if value})


def _release(release: Release) -> Iterator[str]:
    for line in release.why:
        yield from comment(line, "  ")
    yield f"  {scalar(release.name)}:"
    yield f"    chart: {scalar(as_path(release.chart))}"
    if release.namespace:
        yield f"    namespace: {scalar(release.namespace)}"
    yield "    create_namespace: true"
    if release.values:
        yield f"    values: {sequence([as_path(one) for one in release.values])}"
    if release.set:
        yield f"    set: {mapping(release.set)}"
    if release.images:
        yield f"    images: {mapping(release.images)}"
    else:
        yield "    # images: {SERVICE: path.in.the.values}"


def summary(proposal: Proposal) -> Iterator[str]:
    """What was understood, for the terminal, line by line."""
    yield from map(_line, _summary(proposal))


def _line(text: str) -> str:
    """Nothing in a name of a file may steer the terminal."""
    indent = text[: len(text) - len(text.lstrip(" "))]
    return indent + shown(text)


def _summary(proposal: Proposal) -> Iterator[str]:
    for service in proposal.services:
        runs = ", ".join([*(f"{one.kind} {one.name}" for one in service.targets), *service.others])
        runs = runs or "built and loaded only"
        yield f"service {service.name}: {service.image} -> {runs}"
        yield from (f"    {line}" for line in service.why)
    for entry in proposal.manifests:
        yield f"manifests {entry.path}: {entry.why}"
    for release in proposal.releases:
        yield f"release {release.name}: chart {release.chart}"
        yield from (f"    {line}" for line in release.why)
    yield f"cluster: context {proposal.place.context}, namespace {proposal.namespace}"
    yield f"    {proposal.place.why}"
    if proposal.first:
        yield "to make first:"
        yield from (f"    {command}" for command in proposal.first)
    yield from _notes("left out", proposal.left_out)
    yield from _notes("passed over", proposal.remarks)


def _notes(title: str, notes: tuple[Note, ...]) -> Iterator[str]:
    if notes:
        yield f"{title}:"
        yield from (f"    {note.what}: {note.why}" for note in notes)
