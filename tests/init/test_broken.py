"""`devloop init --yes` on projects with faults: nothing overwritten, and what is written loads."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devloop.commands.init import _write as write_files
from devloop.config.load import load
from devloop.errors import ConfigError
from devloop.files import read_text
from devloop.init.project.scan import scan
from devloop.init.proposal.propose import propose
from devloop.init.proposal.valid import loadable
from devloop.init.proposal.values import Place, Proposal
from tests.init.support import init_yes
from tests.support.project_files import Files, dockerfile, workload, write

API = {"api/Dockerfile": dockerfile(". .")}
CHART = "apiVersion: v2\nname: c\nversion: 1.0.0\n"
NAMELESS = "kind: Deployment\nmetadata:\n  name: {}\nspec:\n"


def compose(text: str) -> Files:
    return {**API, "compose.yaml": text}


# What is there, and a part of the note on what was left out of it.
LEFT_OUT: dict[str, tuple[Files, str]] = {
    "a namespace to be filled in": (
        {**API, "k8s/api.yaml": workload("api", "api", namespace='"${NS}"')},
        'k8s/api.yaml: namespace "${NS}" of Deployment api',
    ),
    "a name to be filled in": (
        {**API, "k8s/api.yaml": workload('"<name>"', "api")},
        'k8s/api.yaml: "<name>" is no name for a Deployment',
    ),
    "an image to be filled in": (
        {**API, "k8s/api.yaml": workload("api", 'api="${REGISTRY}/api:1"')},
        'k8s/api.yaml: image "${REGISTRY}/api:1" of Deployment api',
    ),
    "a namespace of a kustomization": (
        {
            **API,
            "k/kustomization.yaml": "namespace: ${NS}\nresources: [api.yaml]\n",
            "k/api.yaml": workload("api", "api"),
        },
        "namespace ${NS}: must be a name",
    ),
    "an argument's name": (
        compose("services: {api: {build: {context: api, args: {'a b': 1, OK: 2}}}}"),
        "build argument a b of api: a name of a build argument is one word",
    ),
    "an argument without a value": (
        compose("services: {api: {build: {context: api, args: {A: '${A}', B: {c: 1}}}}}"),
        "no value here for ARG A, B",
    ),
    "an image's name": (
        compose("services: {api: {image: Acme/Api, build: api}}"),
        "image Acme/Api: not a name that can be built: project-api instead",
    ),
    "a pulled image's name": (
        compose("services: {api: {build: api}, db: {image: '${DB}'}}"),
        "db of compose.yaml: its image is not in the file",
    ),
    "a secret's file": (
        compose("services: {api: {build: {context: api, secrets: [s]}}}\nsecrets: {s: {file: ./no}}"),
        "the value of build secret s of api: no is not a file",
    ),
    "a stage": (
        compose("services: {api: {build: {context: api, target: nowhere}}, web: {build: api}}"),
        "build of api: compose.yaml: api/Dockerfile has no stage nowhere",
    ),
    "a release's name": (
        {
            **API,
            "skaffold.yaml": "deploy: {helm: {releases: [{name: A B, chartPath: c}]}}",
            "c/Chart.yaml": CHART,
        },
        'release A B, chart c: "A B" is not a release name',
    ),
    "values that are not there": (
        {
            **API,
            "skaffold.yaml": "deploy: {helm: {releases: [{name: c, chartPath: c, valuesFiles: [no.yaml]}]}}",
            "c/Chart.yaml": CHART,
        },
        "values no.yaml of release c: no.yaml is not a file",
    ),
    "paths of values": (
        {
            **API,
            "skaffold.yaml": "deploy: {helm: {releases: [{name: c, chartPath: c, setValues: {a..b: 1}}]}}",
            "c/Chart.yaml": CHART,
        },
        'what release c sets: "a..b" is not a path in the values',
    ),
    "a folder that git ignores": (
        {**API, ".gitignore": "k8s/\n", "k8s/api.yaml": "mine"},
        "k8s: no manifests are written there: .gitignore names it",
    ),
    "a file in the folder's place": (
        {**API, "k8s": "mine"},
        "k8s: no manifests are written there: it is a file",
    ),
    "a large file": ({**API, "k8s/all.yaml": "kind: x\n" * (1 << 18)}, "k8s/all.yaml: larger than 1 MB"),
}


@pytest.mark.parametrize(("files", "note"), LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_what_cannot_be_written_is_left_out_and_the_rest_loads(
    tmp_path: Path, files: Files, note: str
) -> None:
    made = init_yes(write(tmp_path / "project", files))
    assert load(made.path).services()
    assert note in " ".join(made.stdout.split())
    assert all((tmp_path / "project" / name).read_text() == text for name, text in files.items())


# Each of these once ended in a traceback, or in no end at all.
SURVIVED: dict[str, Files] = {
    "a port that is a digit and no number": {"api/Dockerfile": "FROM x\nEXPOSE ²\n"},
    "ports of compose": compose("services: {api: {build: api, ports: ['²', '99999999', '0', '1-2', '::']}}"),
    "a brace in printf": {
        **API,
        "c/Chart.yaml": CHART,
        "c/templates/a.yaml": NAMELESS.format('{{ printf "{%s" .Release.Name }}'),
    },
    "a template in itself": {
        **API,
        "c/Chart.yaml": CHART,
        "c/templates/_h.tpl": '{{ define "x" }}' + '{{ include "x" . }}' * 20 + "{{ end }}",
        "c/templates/a.yaml": NAMELESS.format('{{ include "x" . }}'),
    },
    "blank lines in a template": {
        **API,
        "c/Chart.yaml": CHART,
        "c/templates/a.yaml": "kind: Deployment\nmetadata:\n" + " \n" * 40_000 + "x",
    },
    "charts in a circle": {
        **API,
        "c/Chart.yaml": "name: c\ndependencies: [{name: d, repository: 'file://../d'}]",
        "d/Chart.yaml": "name: d\ndependencies: [{name: c, repository: 'file://../c'}]",
        "c/templates/a.yaml": NAMELESS.format("x"),
    },
    "a chart of nothing": {**API, "c/Chart.yaml": "[]", "c/values.yaml": "- a\n", "c/templates/a.yaml": ""},
    "a chart with odd parts": {
        **API,
        "c/Chart.yaml": "name: {}\ndependencies: 3",
        "c/values.yaml": "image: {repository: [api]}\na..b: {repository: api}",
    },
    "a kustomization of itself": {
        **API,
        "k/kustomization.yaml": f"resources: [{', '.join(['.', '../k'] * 15)}, api.yaml]",
        "k/api.yaml": workload("api", "api"),
    },
    "an alias in itself": {**API, "k8s/a.yaml": "apiVersion: v1\nkind: &a [*a]\n", "compose.yaml": "&a [*a]"},
    "aliases of aliases": {
        **API,
        "compose.yaml": "a0: &a0 [x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
    },
    "empty documents": {**API, "k8s/a.yaml": "---\n---\n# nothing\n---\n", "compose.yaml": ""},
    "a list at the top": {**API, "compose.yaml": "- a", "skaffold.yaml": "- b", "kustomization.yaml": "- c"},
}


@pytest.mark.parametrize("files", SURVIVED.values(), ids=SURVIVED.keys())
def test_an_odd_file_stops_nothing(tmp_path: Path, files: Files) -> None:
    assert load(init_yes(write(tmp_path / "project", files)).path).services()


def test_paths_that_config_yaml_reads_as_something_else(tmp_path: Path) -> None:
    """A home, a glob: the file and the folder themselves are meant."""
    files = {
        "~root/Dockerfile": dockerfile(". ."),
        "~root/k8s/a.yaml": workload("a", "root"),
        "k[1]/a.yaml": workload("b", "root"),
        "o[1]/kustomization.yaml": "resources: [b.yaml]\n",
        "o[1]/b.yaml": workload("c", "other"),
    }
    made = init_yes(write(tmp_path / "project", files))
    config = load(made.path)
    read = {file.relative_to(made.path.parent).as_posix() for file in config.manifest_files()}
    assert read == {"~root/k8s/a.yaml", "k[1]/a.yaml"}
    assert config.services()[0].build.dockerfile == made.path.parent / "~root/Dockerfile"
    assert "o[1]: config.yaml reads such a name as a glob" in made.stdout


def test_two_services_of_compose_that_come_to_one_name_keep_their_manifests(tmp_path: Path) -> None:
    text = (
        "services: {my_app: {build: api}, my-app: {image: 'redis:7'}, '2048': {image: nginx, ports: ['80']}}"
    )
    made = init_yes(write(tmp_path / "project", compose(text)))
    written = {path.stem: path.read_text() for path in (made.path.parent / "k8s").iterdir()}
    assert set(written) == {"my-app", "my-app-2", "app-2048"}
    assert "image: redis:7" in written["my-app"]
    assert "others reach it as my-app-2" in made.stdout
    assert made.services == {"my-app": ("project-my-app", "api", "deployment/my-app-2")}


@pytest.mark.parametrize("name", ["k8s", "k8s/api.yaml"])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str) -> None:
    root = write(tmp_path / "project", API)
    (tmp_path / "elsewhere").mkdir()
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).symlink_to(tmp_path / "elsewhere" / ("" if name == "k8s" else "new.yaml"))
    made = init_yes(root)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert "k8s" in made.stdout
    load(made.path)


def test_a_config_yaml_that_is_a_link_to_nowhere_is_there_already(tmp_path: Path) -> None:
    root = write(tmp_path / "project", API)
    (root / "config.yaml").symlink_to(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="is there already"):
        init_yes(root)
    assert not (tmp_path / "nowhere.yaml").exists()
    assert not (root / "k8s").exists()


def test_files_are_written_all_or_none(tmp_path: Path) -> None:
    """A folder that became a link after the look at the project."""
    root = write(tmp_path / "project", API)
    made = loadable(propose(scan(root), Place("kind-dev", "a test"), {}), root / "config.yaml")
    (tmp_path / "elsewhere").mkdir()
    (root / "k8s").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is a link"):
        write_files(root / "config.yaml", made)
    assert sorted(path.name for path in root.iterdir()) == ["api", "k8s"]
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("part", [0.5, 1.0])
def test_a_disk_that_is_full_leaves_nothing_half_written(tmp_path: Path, part: float) -> None:
    """Full amid the first file, and amid the next one."""
    root, made = two_services(tmp_path)
    first = next(iter(made.written.values()))
    with files_of_at_most(int(len(first) * part)), pytest.raises(ConfigError, match="cannot be written"):
        write_files(root / "config.yaml", made)
    assert sorted(path.name for path in root.iterdir()) == ["api", "web"]


@pytest.mark.parametrize("at", [1, 2])
def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    root, made = two_services(tmp_path)
    looks = iter(range(1, 3))

    def interrupted(path: Path) -> bool:
        if next(looks) == at:
            raise KeyboardInterrupt
        return path.is_symlink()

    monkeypatch.setattr("devloop.commands.init.is_link", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_files(root / "config.yaml", made)
    assert sorted(path.name for path in root.iterdir()) == ["api", "web"]


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    root, made = two_services(tmp_path)
    (root / "k8s").mkdir()
    with files_of_at_most(10), pytest.raises(ConfigError, match="cannot be written"):
        write_files(root / "config.yaml", made)
    assert not list((root / "k8s").iterdir())


def two_services(folder: Path) -> tuple[Path, Proposal]:
    root = write(folder / "project", {**API, "web/Dockerfile": dockerfile(". .")})
    made = loadable(propose(scan(root), Place("kind-dev", "a test"), {}), root / "config.yaml")
    assert len(made.written) == 2
    return root, made


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A write beyond so many bytes of a file fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_names_that_are_no_text_are_left_aside(tmp_path: Path) -> None:
    root = write(tmp_path / "project", API)
    for odd in (b"caf\xe9", b"caf\xe8"):
        Path(os.fsdecode(os.fsencode(root) + b"/" + odd)).mkdir()
    Path(os.fsdecode(os.fsencode(root) + b"/Dockerfile.\xff")).write_text("FROM x\n")
    made = init_yes(root)
    assert "name is not UTF-8, and 1 more beside it" in made.stdout
    assert "Dockerfile.\\xff: left aside" in made.stdout
    assert set(made.services) == {"api"}


def test_what_may_not_be_read_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "project", {**API, "web/Dockerfile": "FROM x\n", "secret/Dockerfile": "FROM x\n"})
    real = os.scandir

    def refused(path: Path) -> str:
        if "web" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path)

    def closed(path: str) -> object:
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr("devloop.init.project.reading.read_text", refused)
    monkeypatch.setattr("os.scandir", closed)
    found = scan(root)
    assert [one.path for one in found.dockerfiles] == ["api/Dockerfile"]
    assert {(one.what, one.why) for one in found.notes} == {
        ("web/Dockerfile", "cannot be read: Permission denied"),
        ("secret", "cannot be read: Permission denied"),
    }


@pytest.mark.parametrize("name", ["node_modules", ".venv", ".git", "vendor"])
def test_what_tools_made_is_not_looked_at(tmp_path: Path, name: str) -> None:
    root = write(
        tmp_path / "project", {**API, f"{name}/deep/Dockerfile": "FROM x\n", f"{name}/k.yaml": "a: ["}
    )
    assert scan(root).files == {"api/Dockerfile"}
