"""The images of the five, built with the local bases, against the documents' rows: from trees with files that
the ignore lists must keep out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tests.topologies import expected
from tests.topologies.deployments import ALL, BY_NAME, Topology
from tests.topologies.test_rendered import check

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(300)]
MARK = "planted-9d41c7"  # in each planted file
SERVICES = ("backend", "frontend")
EACH = [(topology.name, service) for topology in ALL for service in SERVICES]


Layer = dict[str, bytes | None]  # path -> content, None for what is no small file


@dataclass(frozen=True, slots=True)
class Image:
    tag: str
    stated: dict[str, Any]


class Images:
    """Each image built when it is first asked for; all of them read when the first is to be read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[str, str], Image] = {}
        self._layers: dict[str, list[Layer]] = {}

    def layers(self, key: tuple[str, str]) -> list[Layer]:
        """Also what a later layer deletes is in one of them."""
        if not self._layers:
            self._layers = saved([self[name, service].tag for name, service in EACH], self._folder)
        return self._layers[self[key].tag]

    def __getitem__(self, key: tuple[str, str]) -> Image:
        if key not in self._made:
            self._made[key] = self._make(BY_NAME[key[0]], key[1])
        return self._made[key]

    def _make(self, topology: Topology, service: str) -> Image:
        tree = self._folder / topology.name
        if not tree.exists():
            copy(topology, tree)
        tag = topology.build(service, f"topologies-{os.getpid()}-{topology.name}-{service}:1.0.0", tree)
        return Image(tag, inspect(tag))

    def remove(self) -> None:
        for image in self._made.values():
            subprocess.run(["docker", "rmi", "-f", image.tag], capture_output=True, check=False)


def copy(topology: Topology, tree: Path) -> None:
    """The deployment's folder, or of the project itself the sample, with what must stay out planted in it."""
    part = Path("examples/todo") if topology.name == "000-umbrella" else Path()
    shutil.copytree(topology.folder / part, tree / part)
    for service in SERVICES:
        for _, path in expected.excluded(topology.name, service):
            planted = tree / path
            planted.parent.mkdir(parents=True, exist_ok=True)
            planted.write_text(MARK)


def inspect(tag: str) -> dict[str, Any]:
    text = subprocess.check_output(["docker", "image", "inspect", tag], text=True)
    stated: dict[str, Any] = json.loads(text)[0]
    return stated


def saved(tags: list[str], folder: Path) -> dict[str, list[Layer]]:
    """One `docker save` of all: a layer that several have is written and read once."""
    file = folder / "images.tar"
    subprocess.run(["docker", "save", "-o", file, *tags], check=True, capture_output=True)
    with tarfile.open(file) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        names = {tag: image["Layers"] for image in json.load(manifest) for tag in image["RepoTags"]}
        found = {name: read(archive, name) for name in {name for of in names.values() for name in of}}
    file.unlink()
    return {tag: [found[name] for name in names[tag]] for tag in tags}


def read(archive: tarfile.TarFile, name: str) -> Layer:
    opened = archive.extractfile(name)
    assert opened is not None
    with tarfile.open(fileobj=opened) as layer:
        return {entry.name.removeprefix("./").rstrip("/"): content(layer, entry) for entry in layer}


def content(layer: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes | None:
    opened = layer.extractfile(entry) if entry.isfile() and entry.size <= len(MARK) else None
    return opened.read() if opened else None


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    made = Images(tmp_path_factory.mktemp("trees"))
    yield made
    made.remove()


def run(image: Image, *command: str) -> str:
    words = ["docker", "run", "--rm", "--network", "none", "--entrypoint", command[0], image.tag]
    return subprocess.check_output([*words, *command[1:]], text=True).strip()


@pytest.mark.parametrize(
    "subject", [subject for topology in ALL for subject in expected.subjects(topology.name, "image")], ids=str
)
def test_images_are_as_the_document_says(subject: expected.Subject, images: Images) -> None:
    image = images[subject.topology, subject.name]
    files = set[str]().union(*images.layers((subject.topology, subject.name)))
    seen = {**image.stated, "files": files}
    if any(path == "uid" for _, path, _ in subject.rows):
        seen["uid"] = int(run(image, "id", "-u"))
    check(subject, seen)


@pytest.mark.parametrize(("name", "service"), EACH)
def test_no_image_runs_as_root(name: str, service: str, images: Images) -> None:
    assert int(run(images[name, service], "id", "-u")) != 0


@pytest.mark.parametrize(("name", "service"), EACH)
def test_nothing_excluded_is_in_a_layer(name: str, service: str, images: Images) -> None:
    """By the mark in it, wherever it went, and no .env by name."""
    planted = expected.excluded(name, service)
    assert planted
    for layer in images.layers((name, service)):
        assert not [path for path, body in layer.items() if body == MARK.encode()]
        assert not [path for path in layer if PurePosixPath(path).name.startswith(".env")]


@pytest.mark.parametrize(
    "subject",
    [subject for topology in ALL for subject in expected.subjects(topology.name, "models")],
    ids=str,
)
def test_models_have_the_fields_of_the_document(subject: expected.Subject, images: Images) -> None:
    program = """
import ast, json
found = {}
for node in ast.parse(open("models.py").read()).body:
    if isinstance(node, ast.ClassDef):
        fields = [field for field in node.body if isinstance(field, ast.AnnAssign)]
        found[node.name] = {
            field.target.id: [ast.unparse(part) for part in (field.annotation, field.value) if part]
            for field in fields
        }
import models
for name in found:
    assert set(found[name]) == set(getattr(models, name).__annotations__)
print(json.dumps(found))
"""
    check(subject, json.loads(run(images[subject.topology, subject.name], "python3", "-c", program)))


def test_the_backends_own_tests_pass_in_its_image(images: Images) -> None:
    """002 line 33: they are in the image."""
    run(
        images["002-split-contexts", "backend"],
        "python3",
        "-m",
        "unittest",
        "discover",
        "-s",
        "tests",
        "-t",
        ".",
    )


@pytest.mark.parametrize(
    ("name", "service"),
    [("002-split-contexts", "backend"), ("004-two-charts", "backend"), ("004-two-charts", "frontend")],
)
def test_the_health_check_tells_whether_the_service_answers(name: str, service: str, images: Images) -> None:
    """002 line 27, 004 lines 12 and 25: the stated command, with the service and without it."""
    image = images[name, service]
    kind, *command = image.stated["Config"]["Healthcheck"]["Test"]
    words = ["sh", "-c", *command] if kind == "CMD-SHELL" else command
    container = f"topologies-{os.getpid()}-health"
    alone = ["docker", "run", "--rm", "--network", "none", "--entrypoint", words[0], image.tag, *words[1:]]
    assert subprocess.run(alone, capture_output=True, check=False).returncode != 0
    try:
        subprocess.run(
            ["docker", "run", "-d", "--name", container, image.tag], check=True, capture_output=True
        )
        end = time.monotonic() + 60
        while True:
            done = subprocess.run(["docker", "exec", container, *words], capture_output=True, check=False)
            if done.returncode == 0:
                break
            assert time.monotonic() < end, done.stderr
            time.sleep(0.2)
    finally:
        subprocess.run(["docker", "rm", "-f", container], capture_output=True, check=False)


def test_another_build_argument_is_another_frontend(images: Images, tmp_path: Path) -> None:
    """002 line 60: baked into the bundle, and where nginx forwards to."""
    topology = BY_NAME["002-split-contexts"]
    tag = f"topologies-{os.getpid()}-argument:1.0.0"
    try:
        topology.build("frontend", tag, VITE_API_BASE_URL="http://elsewhere:9000")
        other = Image(tag, inspect(tag))
        assert other.stated["Id"] != images["002-split-contexts", "frontend"].stated["Id"]
        assert "http://elsewhere:9000" in run(other, "cat", "index.html")
        assert run(other, "cat", ".backend.conf") == "proxy_pass http://elsewhere:9000;"
    finally:
        subprocess.run(["docker", "rmi", "-f", tag], capture_output=True, check=False)


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        ("frontend/src/page.js", {"frontend"}),
        ("backend/greeting.py", {"backend"}),
        ("shared/version.txt", {"backend", "frontend"}),
        ("helm/todo-chatbot/values.yaml", set()),
    ],
)
def test_001_an_edit_changes_the_images_that_copy_the_file(
    path: str, changed: set[str], images: Images, tmp_path: Path
) -> None:
    """001 lines 29 and 43: one context, but each image depends on what it copies alone."""
    topology = BY_NAME["001-root-context"]
    before = {service: images[topology.name, service].stated["RootFS"]["Layers"] for service in SERVICES}
    tree = tmp_path / "tree"
    copy(topology, tree)
    comment = {".js": "// edited\n", ".py": "# edited\n", ".yaml": "# edited\n"}.get(
        Path(path).suffix, "edited\n"
    )
    with (tree / path).open("a") as file:
        file.write(comment)
    found = set()
    for service in SERVICES:
        tag = f"topologies-{os.getpid()}-edited-{service}:1.0.0"
        try:
            topology.build(service, tag, tree)
            if inspect(tag)["RootFS"]["Layers"] != before[service]:
                found.add(service)
        finally:
            subprocess.run(["docker", "rmi", "-f", tag], capture_output=True, check=False)
    assert found == changed
