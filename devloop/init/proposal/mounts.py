"""What compose puts into a container beside its image, as Secrets and ConfigMaps: no content is copied."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from devloop.init.found import ComposeService, Found, Note, Provided
from devloop.init.paths import is_outside, last, parent
from devloop.init.proposal.manifest_text import Mounted
from devloop.init.words import slug, unique

_KEY = re.compile(r"^[-._a-zA-Z0-9]{1,253}$")  # what Kubernetes takes for a key


def mounts(one: ComposeService, name: str, found: Found, kubectl: str) -> list[Mounted | Note]:
    """Each is mounted, or is a note why not. What a service that is built mounts from here is in its image.

    `name`: of the Deployment; `kubectl`: with its options.
    """
    made: list[Mounted | Note] = [_provided(each, one, kubectl) for each in one.provided]
    return made if one.built else [*made, *_binds(one, name, found, kubectl)]


def env_command(name: str, files: Sequence[str], kubectl: str) -> str:
    """Values of an env_file are copied into no manifest: they may be secrets (S30)."""
    given = " ".join(f"--from-env-file={shlex.quote(file)}" for file in files)
    return f"{kubectl} create secret generic {name}-env {given}"


def _provided(each: Provided, one: ComposeService, kubectl: str) -> Mounted | Note:
    key = each.name if _KEY.match(each.name) else slug(each.name)
    if each.source and not is_outside(each.source):
        source = f"--from-file={shlex.quote(f'{key}={each.source}')}"
    elif each.variable:
        source = f'--from-literal={key}="${each.variable}"'
    else:
        what = f"{'secret' if each.is_secret else 'config'} {each.name} of {one.name}"
        return Note(what, f"its content is not in {one.where}")
    kind = "secret generic" if each.is_secret else "configmap"
    command = f"{kubectl} create {kind} {slug(each.name)} {source}"
    return Mounted(slug(each.name), each.path, key, command, each.is_secret)


def _binds(one: ComposeService, name: str, found: Found, kubectl: str) -> Iterator[Mounted | Note]:
    names: dict[str, str] = {}  # by source: files of several folders may be called the same
    for source, path in one.binds:
        if source not in names:
            names[source] = unique(f"{name}-{slug(last(source))}", names.values())
        called = names[source]
        command = f"{kubectl} create configmap {called}"
        if source in found.files and _KEY.match(key := last(source)):
            yield Mounted(called, path, key, f"{command} --from-file={shlex.quote(source)}")
        elif source in found.folders and not any(parent(folder) == source for folder in found.folders):
            yield Mounted(called, path, "", f"{command} --from-file={shlex.quote(source)}")
        else:
            why = f"no pod sees this machine's files; {path} needs an image or a volume that has them"
            yield Note(f"{source} of {one.name}", why)
