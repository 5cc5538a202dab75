"""`once`, `watch`, `init` and `doctor` on bad input: what they say of it, and how they end."""

from __future__ import annotations

import asyncio
import errno
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args, get_origin

import pytest
from pydantic import BaseModel

from devloop import cli
from devloop.config.diagnostics import SECTIONS
from devloop.config.forms import FORMS, form
from devloop.errors import PlatformError
from tests.commands.bad_input import CLUSTERS, CONFIGS, ENGINES, INIT, ONCE, PROJECT, Case, kubeconfig

Run = Callable[..., tuple[int, str, str]]
KINDS = len(CONFIGS) + len(CLUSTERS) + len(ENGINES) + len(ONCE) + len(INIT)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """A command in this process, in a project of its own: (exit code, standard output, standard error)."""
    root = tmp_path / "project"
    hooks = sys.excepthook, sys.unraisablehook
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kube"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("DEVLOOP_CONTEXT", raising=False)
    monkeypatch.setattr("devloop.adapters.build.build_cli._USUAL", ())

    def ended(case: Case, *words: str) -> tuple[int, str, str]:
        make(root, case)
        monkeypatch.chdir(root)
        for name, value in case.environ.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as end:
            cli.main.main(args=[*words, *case.words], prog_name="devloop")
        out, err = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, out, err

    yield ended
    sys.excepthook, sys.unraisablehook = hooks


def make(root: Path, case: Case) -> None:
    root.mkdir(exist_ok=True)
    kubeconfig(root.parent / "kube")
    for name, content in {**PROJECT, **case.files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if content is None:
            continue
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def check(case: Case, text: str, root: Path) -> None:
    """What holds for every message; and what this one has to say."""
    for raw in ("Traceback", "Errno", "internal error", "Exception", "ssl:default"):
        assert raw not in text, text
    for words in case.says:
        assert words.replace("{root}", str(root)) in text, text


def test_the_tables_have_at_least_fifty_kinds() -> None:
    assert KINDS >= 50, KINDS


@pytest.mark.parametrize("command", ["once", "watch"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_wrong_config_ends_a_command_with_exit_code_2(
    run: Run, tmp_path: Path, command: str, name: str
) -> None:
    case = CONFIGS[name]
    code, out, err = run(case, command)
    check(case, err, tmp_path / "project")
    assert (code, out) == (case.code, "")
    usage = "Usage:" in err
    assert usage or err.startswith("devloop: ")
    assert usage or case.words or re.search(r"\n  -> \S", err), "it does not say what to do"


@pytest.mark.parametrize("name", [name for name, case in CONFIGS.items() if not case.words])
def test_doctor_says_the_same_of_it_and_looks_at_the_machine(run: Run, tmp_path: Path, name: str) -> None:
    case = CONFIGS[name]
    code, out, err = run(case, "doctor")
    check(case, out, tmp_path / "project")
    assert (code, err) == (2, "")
    assert out.startswith("failure  config: ")
    assert "failure  build engine: " in out


@pytest.mark.parametrize("command", ["once", "watch"])
@pytest.mark.parametrize("name", CLUSTERS)
def test_a_kubeconfig_that_cannot_be_used(run: Run, tmp_path: Path, command: str, name: str) -> None:
    case = CLUSTERS[name]
    code, _, err = run(case, command)
    check(case, err, tmp_path / "project")
    assert code == case.code
    assert re.search(r"\n  -> \S", err), "it does not say what to do"


@pytest.mark.parametrize("name", CLUSTERS)
def test_doctor_has_it_in_its_line(run: Run, tmp_path: Path, name: str) -> None:
    case = CLUSTERS[name]
    code, out, err = run(case, "doctor")
    check(case, out, tmp_path / "project")
    assert (code, err) == (3, "")
    assert "failure  cluster: " in out


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_that_cannot_be_used(run: Run, tmp_path: Path, name: str) -> None:
    case = ENGINES[name]
    code, out, err = run(case, "doctor")
    check(case, out, tmp_path / "project")
    assert (code, err) == (3, "")
    assert "failure  build engine: " in out


def test_an_engine_whose_socket_this_user_may_not_use(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")  # root may always: forced

    monkeypatch.setattr(asyncio.SelectorEventLoop, "create_unix_connection", refused)
    case = Case(("is not reachable: Permission denied", "sudo usermod -aG docker $USER"))
    code, out, _ = run(case, "doctor")
    check(case, out, tmp_path / "project")
    assert code == 3


def test_the_sandbox_that_has_the_context_is_named(run: Run, tmp_path: Path) -> None:
    """Whoever starts a sandbox and forgets to select it: devloop knows its own."""
    own = tmp_path / "state" / "devloop" / "sandbox" / "default" / "kubeconfig"
    own.parent.mkdir(parents=True)
    kubeconfig(own)
    case = Case((f"a sandbox of yours has it: export KUBECONFIG={own}",), {"../kube": None})
    for command in ("once", "watch"):
        code, _, err = run(case, command)
        check(case, err, tmp_path / "project")
        assert code == 2


@pytest.mark.parametrize("name", ONCE)
def test_what_ends_once(run: Run, tmp_path: Path, name: str) -> None:
    case = ONCE[name]
    code, _, err = run(case, "once")
    check(case, err, tmp_path / "project")
    assert code == case.code


@pytest.mark.parametrize("name", INIT)
def test_init_on_bad_input(run: Run, tmp_path: Path, name: str) -> None:
    case = INIT[name]
    code, out, err = run(case, "init", "--yes")
    check(case, out + err, tmp_path / "project")
    assert code == case.code
    assert (tmp_path / "project" / "config.yaml").is_file() == (code == 0 or "config.yaml" not in case.files)


def test_every_list_and_mapping_of_config_yaml_has_a_form_that_errors_show() -> None:
    wanted = set()
    for location, section in SECTIONS.items():
        for key, info in section.model_fields.items():
            if _is_collection(info.annotation):
                wanted.add((*location, info.alias or key))
    assert wanted <= FORMS.keys(), wanted - FORMS.keys()
    assert form(("services", "web", "deploy", 0), 3) == "write deploy: [{deployment: web}]"


def _is_collection(annotation: object) -> bool:
    if get_origin(annotation) in (list, dict):
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return True
    return any(_is_collection(one) for one in get_args(annotation))


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("[Errno 2] No such file or directory: '/x'", "No such file or directory: '/x'"),
        ("a: [Errno 111] Connect call failed", "a: Connect call failed"),
        ("a: [Errno -2] Name or service not known", "a: Name or service not known"),
    ],
)
def test_no_error_shows_the_number_that_python_puts_in_front(raw: str, shown: str) -> None:
    assert PlatformError(raw).message == shown
    assert str(PlatformError(raw)) == shown
