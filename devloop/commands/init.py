"""`devloop init`: reads a project's folder and writes a config.yaml for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import click

from devloop.adapters.kubernetes.api.guard import identify
from devloop.adapters.kubernetes.api.kubeconfig import current_context, find_files, read_context
from devloop.commands.frame import run
from devloop.commands.init_facts import with_cluster, with_helm
from devloop.config import load as configs
from devloop.errors import ConfigError
from devloop.files import is_folder, is_link, is_there
from devloop.init.found import Found
from devloop.init.project.scan import scan
from devloop.init.proposal.propose import propose
from devloop.init.proposal.render import config_text, summary
from devloop.init.proposal.valid import loadable
from devloop.init.proposal.values import Place, Proposal, Question
from devloop.init.proposal.yaml_text import shown


def init(
    config_path: Path | None,
    context: str | None,
    namespace: str | None,
    kubeconfig: Path | None,
    *,
    yes: bool,
    show: bool,
) -> int:
    """Write config.yaml, and manifests where there are none; 0."""
    path = Path(os.path.normpath((config_path or Path(configs.FILE_NAME)).absolute()))
    if is_there(path) and not show:
        raise ConfigError(
            f"{path} is there already, and init overwrites nothing",
            reason="ConfigExists",
            hint="devloop init --print shows what init would write; -c PATH writes another file",
        )
    if not is_folder(path.parent):
        raise ConfigError(f"{path.parent} is no folder", reason="NoConfig")
    place = place_of(context, namespace, kubeconfig, os.environ)
    found = run(partial(_facts, path, place, kubeconfig))
    asks = not yes and not show and sys.stdin.isatty() and sys.stderr.isatty()
    answers: dict[str, str] = {}
    proposal = propose(found, place, answers)
    while asks and (open_ones := [one for one in proposal.questions if one.key not in answers]):
        answers[open_ones[0].key] = _ask(open_ones[0])
        proposal = propose(found, place, answers)
    proposal = loadable(proposal, path)
    if not proposal.services:
        raise nothing(proposal, path)
    if show:
        click.echo(config_text(proposal), nl=False)
    else:
        _write(path, proposal)
    return 0


async def _facts(config: Path, place: Place, kubeconfig: Path | None) -> Found:
    found = await anyio.to_thread.run_sync(scan, config.parent)
    found = await with_helm(found, config.parent, place.namespace or "default")
    files = find_files(str(kubeconfig) if kubeconfig else None, os.environ)
    return await with_cluster(found, place, files, config, asks=place.local)


def nothing(proposal: Proposal, path: Path) -> ConfigError:
    lines = tuple(shown(f"{note.what}: {note.why}") for note in (*proposal.left_out, *proposal.remarks))
    return ConfigError(
        f"nothing in {path.parent} that devloop could build: no Dockerfile that can be used",
        reason="NothingFound",
        evidence=lines[:20],
        hint="run devloop init in the folder that holds the Dockerfiles, or write one first",
    )


def place_of(
    context: str | None, namespace: str | None, kubeconfig: Path | None, environ: Mapping[str, str]
) -> Place:
    """The context by its name: the one given, else the current one if it is local (S29). Opens no connection.

    Raises ConfigError for a context that was given and is not there, or not local.
    """
    files = find_files(str(kubeconfig) if kubeconfig else None, environ)
    given = namespace is not None
    if context is not None:
        source = "DEVLOOP_CONTEXT" if environ.get("DEVLOOP_CONTEXT") == context else "--context"
        found = read_context(files, context)
        if not identify(found).local:
            why = f"named by {source}; not taken for a local cluster: allow_remote: true would be needed"
            return Place(context, why, namespace or found.namespace, given)
        return Place(context, f"named by {source}", namespace or found.namespace, given, local=True)
    try:
        current = current_context(files)
        found_current = read_context(files, current) if current else None
    except ConfigError as error:
        why = f"no context could be read ({error.message}): write yours"
        return Place("minikube", why, namespace or "", given)
    if found_current is None:
        why = "there is no current context in the kubeconfig: write yours"
        return Place("minikube", why, namespace or "", given)
    if not identify(found_current).local:
        why = f"the current context, {found_current.name}, is no local cluster and was not asked: write yours"
        return Place("minikube", why, namespace or "", given)
    why = "the context that was current"
    return Place(found_current.name, why, namespace or found_current.namespace, given, local=True)


def _ask(question: Question) -> str:
    click.echo(shown(question.text), err=True)
    for number, (_, text) in enumerate(question.options, 1):
        click.echo(f"  {number}  {shown(text)}", err=True)
    keys = [key for key, _ in question.options]
    chosen = click.prompt(
        "",
        prompt_suffix="> ",
        type=click.IntRange(1, len(keys)),
        default=keys.index(question.default) + 1,
        err=True,
    )
    return keys[chosen - 1]


def _write(path: Path, proposal: Proposal) -> None:
    """All of the files or none. Raises ConfigError."""
    files = {path.parent / name: text for name, text in proposal.written.items()}
    files[path] = config_text(proposal)
    for file in files:
        if is_there(file):
            raise ConfigError(f"{file} is there already, and init overwrites nothing", reason="ConfigExists")
    made: list[Path] = []
    try:
        for file, text in files.items():
            _new(path.parent, file, text, made)
    except BaseException:  # also Ctrl-C
        _remove(made)
        raise
    for line in summary(proposal):
        click.echo(line)
    click.echo("wrote " + ", ".join([path.name, *proposal.written]))
    click.echo("next: devloop doctor, then devloop watch")


def _new(root: Path, path: Path, text: str, made: list[Path]) -> None:
    """Write a file that is not there yet, in the project itself: through no link. Raises ConfigError.

    `made` gets each folder and file as soon as it is there, also where what follows fails.
    """
    try:
        with suppress(FileExistsError):
            path.parent.mkdir()
            made.append(path.parent)
        if path.parent != root and is_link(path.parent):
            raise ConfigError(f"{path.parent} is a link: init writes nothing through it", reason="NotWritten")
        with path.open("x", encoding="utf-8") as file:
            made.append(path)
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", reason="NotWritten") from error


def _remove(made: list[Path]) -> None:
    """What lies in a folder is in the list after it. A folder that got something else stays."""
    for path in reversed(made):
        with suppress(OSError):
            if is_folder(path):
                path.rmdir()
            else:
                path.unlink()
