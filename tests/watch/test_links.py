"""Links on the way to what is watched: an edit of the target is seen, and so is a link that turns.

Real links, the real kernel; each case with every source of events that this system has.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from devloop.adapters.watch import backend, polling
from devloop.config.load import Config
from devloop.config.load import load as load_config
from devloop.model import BuildSpec, Service
from devloop.watch.interests import config_interest, manifest_interest, release_interest, service_interest
from devloop.watch.links import Places, places_of
from tests.watch.test_watcher import Ears, everything, interest, watching


@pytest.fixture(params=["inotify", "polling"], autouse=True)
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "polling":
        monkeypatch.setattr(backend, "silent_type", lambda path: "nfs")
        monkeypatch.setattr(polling, "SHORTEST", 0.05)


def write_new(path: Path, text: str) -> None:
    """As an editor saves: beside, then renamed into place."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(text)
    beside.replace(path)


def turn(link: Path, target: str) -> None:
    """As `ln -sfn` and Kubernetes do: a new link beside, renamed over the old one."""
    beside = link.with_name(link.name + ".turned")
    beside.symlink_to(target)
    beside.replace(link)


async def seen(ears: Ears, act: Callable[[], object], path: Path) -> None:
    """What `act` does reaches the ears under the name that is watched."""
    await ears.settled()
    ears.forget()
    act()
    await ears.until(lambda: ears.heard(path) or ears.looks_at_all())
    await ears.settled()
    ears.forget()


# --- where a path leads --------------------------------------------------------------------------


def test_places_are_the_links_of_the_path_and_its_end(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").touch()
    (tmp_path / "up").symlink_to("real")
    (tmp_path / "second").symlink_to(tmp_path / "up" / "file")
    (tmp_path / "first").symlink_to("./nowhere/../second")
    assert places_of(tmp_path / "real" / "file") == Places((), tmp_path / "real" / "file")
    assert places_of(tmp_path / "up" / "file") == Places((tmp_path / "up",), tmp_path / "real" / "file")
    (tmp_path / "nowhere").mkdir()
    assert places_of(tmp_path / "first") == Places(
        (tmp_path / "first", tmp_path / "second", tmp_path / "up"), tmp_path / "real" / "file"
    )


def test_places_end_where_a_link_dangles_or_runs_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("later/file")
    assert places_of(tmp_path / "dangling") == Places((tmp_path / "dangling",), tmp_path / "later" / "file")
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    found = places_of(tmp_path / "one" / "file")
    assert set(found.links) == {tmp_path / "one", tmp_path / "two"}


# --- single files --------------------------------------------------------------------------------


async def test_an_edit_behind_a_link_is_delivered_under_the_links_name(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    target, link = tmp_path / "shared" / "Dockerfile", tmp_path / "app" / "Dockerfile"
    link.parent.mkdir()
    target.write_text("one")
    link.symlink_to("../shared/Dockerfile")
    async with watching(interest(files=frozenset({link}))) as ears:
        await seen(ears, lambda: target.write_text("two"), link)
        await seen(ears, lambda: write_new(target, "three"), link)
        await seen(ears, lambda: target.write_text("four"), link)
        await seen(ears, target.unlink, link)
        await seen(ears, lambda: target.write_text("five"), link)


async def test_a_link_that_turns_is_seen_and_its_new_target_is_watched(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    link = tmp_path / "link"
    link.symlink_to("one/file")
    async with watching(interest(files=frozenset({link}))) as ears:
        await seen(ears, lambda: turn(link, "two/file"), link)
        await seen(ears, lambda: (tmp_path / "two" / "file").write_text("again"), link)
        (tmp_path / "one" / "file").write_text("nobody reads it any more")
        await ears.settled()
        assert ears.changes == []
        await seen(ears, lambda: write_new(link, "a plain file"), link)
        await seen(ears, lambda: link.write_text("edited"), link)
        await seen(ears, lambda: turn(link, "one/file"), link)
        await seen(ears, lambda: (tmp_path / "one" / "file").write_text("again"), link)


async def test_a_chain_of_links_is_followed_in_each_of_its_parts(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).mkdir()
    first, second, third = tmp_path / "a" / "file", tmp_path / "b" / "link", tmp_path / "c" / "target"
    third.write_text("one")
    second.symlink_to(third)
    first.symlink_to("../b/link")
    async with watching(interest(files=frozenset({first}))) as ears:
        await seen(ears, lambda: third.write_text("two"), first)
        (tmp_path / "d" / "other").write_text("other")
        await seen(ears, lambda: turn(second, "../d/other"), first)
        await seen(ears, lambda: (tmp_path / "d" / "other").write_text("three"), first)
        await seen(ears, lambda: turn(first, "../c/target"), first)
        await seen(ears, lambda: third.write_text("four"), first)


async def test_a_link_above_the_file_is_followed(tmp_path: Path) -> None:
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "values.yaml").write_text(name)
    (tmp_path / "current").symlink_to("v1")
    file = tmp_path / "current" / "values.yaml"
    async with watching(interest(files=frozenset({file}))) as ears:
        await seen(ears, lambda: (tmp_path / "v1" / "values.yaml").write_text("a"), file)
        await seen(ears, lambda: turn(tmp_path / "current", "v2"), file)
        await seen(ears, lambda: (tmp_path / "v2" / "values.yaml").write_text("b"), file)
        await seen(ears, lambda: (tmp_path / "v2").rename(tmp_path / "v3"), file)
        await seen(ears, lambda: turn(tmp_path / "current", "v3"), file)
        await seen(ears, lambda: (tmp_path / "v3" / "values.yaml").write_text("c"), file)


async def test_a_config_map_as_kubernetes_writes_it_is_followed(tmp_path: Path) -> None:
    """Each file is a link to ..data/NAME, and ..data a link that turns to a new folder."""
    for stamp, text in (("..2026_1", "one"), ("..2026_2", "two")):
        (tmp_path / stamp).mkdir()
        (tmp_path / stamp / "config.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("..2026_1")
    file = tmp_path / "config.yaml"
    file.symlink_to("..data/config.yaml")
    async with watching(interest(files=frozenset({file}))) as ears:
        await seen(ears, lambda: turn(tmp_path / "..data", "..2026_2"), file)
        await seen(ears, lambda: (tmp_path / "..2026_2" / "config.yaml").write_text("three"), file)


async def test_a_dangling_link_is_heard_of_when_its_target_comes(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    link = tmp_path / "app" / "Dockerfile"
    link.symlink_to("../later/deeper/Dockerfile")
    target = tmp_path / "later" / "deeper" / "Dockerfile"

    def make() -> None:
        target.parent.mkdir(parents=True)
        target.write_text("FROM x")

    async with watching(interest(files=frozenset({link}))) as ears:
        await seen(ears, make, link)
        await seen(ears, lambda: target.write_text("FROM y"), link)


async def test_a_file_whose_folder_is_made_again_is_watched_again(tmp_path: Path) -> None:
    file = tmp_path / "values" / "dev.yaml"
    file.parent.mkdir()
    file.write_text("one")

    def write_again() -> None:
        file.parent.rename(tmp_path / "old")
        file.parent.mkdir()
        file.write_text("two")

    async with watching(interest(files=frozenset({file}))) as ears:
        await seen(ears, write_again, file)
        await seen(ears, lambda: file.write_text("three"), file)


async def test_links_in_a_circle_jam_nothing(tmp_path: Path) -> None:
    root, link = tmp_path / "root", tmp_path / "one"
    root.mkdir()
    link.symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    (root / "self").symlink_to(".")
    follows = interest(root, files=frozenset({link}), follows=everything)
    async with watching(follows) as ears:
        await seen(ears, lambda: (root / "main.py").write_text("1"), root / "main.py")
        (tmp_path / "target").write_text("x")
        await seen(ears, lambda: turn(tmp_path / "two", "target"), link)
        await seen(ears, lambda: (tmp_path / "target").write_text("y"), link)


# --- folders -------------------------------------------------------------------------------------


async def test_what_a_linked_root_leads_to_may_be_replaced(tmp_path: Path) -> None:
    real, root = tmp_path / "elsewhere" / "app", tmp_path / "app"
    real.mkdir(parents=True)
    (real / "main.py").write_text("1")
    root.symlink_to("elsewhere/app")

    def replace() -> None:
        real.rename(tmp_path / "elsewhere" / "old")
        real.mkdir()
        (real / "main.py").write_text("2")

    async with watching(interest(root)) as ears:
        await seen(ears, lambda: (real / "main.py").write_text("3"), root / "main.py")
        await seen(ears, replace, root / "main.py")
        await seen(ears, lambda: (real / "main.py").write_text("4"), root / "main.py")


async def test_links_below_a_folder_are_followed_where_its_reader_follows_them(tmp_path: Path) -> None:
    chart, common = tmp_path / "chart", tmp_path / "common"
    (chart / "templates").mkdir(parents=True)
    common.mkdir()
    (tmp_path / "other").mkdir()
    (common / "lib.yaml").write_text("one")
    (tmp_path / "one.yaml").write_text("one")
    (chart / "charts").symlink_to("../common")
    (chart / "templates" / "one.yaml").symlink_to("../../one.yaml")
    async with watching(interest(chart, follows=everything)) as ears:
        linked = chart / "templates" / "one.yaml"
        await seen(ears, lambda: (common / "lib.yaml").write_text("two"), chart / "charts" / "lib.yaml")
        await seen(ears, lambda: (tmp_path / "one.yaml").write_text("two"), linked)
        await seen(ears, lambda: turn(chart / "charts", "../other"), chart / "charts")
        late = tmp_path / "other" / "late.yaml"
        await seen(ears, lambda: late.write_text("x"), chart / "charts" / "late.yaml")
        (tmp_path / "two.yaml").write_text("one")
        await seen(ears, lambda: (chart / "two.yaml").symlink_to("../two.yaml"), chart / "two.yaml")
        await seen(ears, lambda: (tmp_path / "two.yaml").write_text("two"), chart / "two.yaml")


async def test_links_in_a_context_stay_links(tmp_path: Path) -> None:
    root = tmp_path / "app"
    root.mkdir()
    (tmp_path / "outside").write_text("1")
    (root / "link").symlink_to("../outside")
    async with watching(interest(root)) as ears:
        (tmp_path / "outside").write_text("2")
        await ears.settled()
        assert ears.changes == []


# --- what devloop asks for -----------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Config:
    """Every file that a project may link: each lies in shared/, and a link leads to it."""
    shared = tmp_path / "shared"
    for folder in ("shared/chart/templates", "shared/k8s", "shared/base", "app", "k8s"):
        (tmp_path / folder).mkdir(parents=True)
    texts = {
        "D": "FROM scratch\nCOPY . /\n",
        "I": "*.log\n",
        "a.yaml": "kind: A",
        "values.yaml": "a: 1",
        "chart/Chart.yaml": "name: x",
        "chart/templates/t.yaml": "kind: T",
        "k8s/b.yaml": "kind: B",
        "base/kustomization.yaml": "resources: [r.yaml]",
        "base/r.yaml": "kind: R",
        "config.yaml": "version: 1\nservices:\n  a: {image: a, build: {context: app}}\n"
        "manifests: ['k8s/*.yaml', 'k8s/*/*.yaml', kustom]\n"
        "releases:\n  r: {chart: chart, values: [{file: values.yaml}], images: {}}\n",
    }
    for name, text in texts.items():
        (shared / name).write_text(text)
    links = {
        "app/Dockerfile": "../shared/D",
        "app/.dockerignore": "../shared/I",
        "config.yaml": "shared/config.yaml",
        "k8s/a.yaml": "../shared/a.yaml",
        "k8s/sub": "../shared/k8s",
        "kustom": "shared/base",
        "values.yaml": "shared/values.yaml",
        "chart": "shared/chart",
    }
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    return load_config(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("edited", "service", "link"),
    [
        ("D", "a", "app/Dockerfile"),
        ("I", "a", "app/.dockerignore"),
        ("config.yaml", ":config", "config.yaml"),
        ("a.yaml", ":manifests", "k8s/a.yaml"),
        ("k8s/b.yaml", ":manifests", "k8s/sub/b.yaml"),
        ("base/kustomization.yaml", ":manifests", "shared/base/kustomization.yaml"),
        ("base/r.yaml", ":manifests", "shared/base/r.yaml"),
        ("values.yaml", ":releases", "values.yaml"),
        ("chart/templates/t.yaml", ":releases", "chart/templates/t.yaml"),
    ],
)
async def test_a_shared_file_behind_a_link_reaches_who_reads_it(
    project: Config, edited: str, service: str, link: str
) -> None:
    root = project.path.parent
    spec = BuildSpec(root / "app", root / "app" / "Dockerfile")
    wanted = [
        service_interest(Service("a", "a", spec, ()), everything),
        config_interest(project),
        manifest_interest(project),
        release_interest(project),
    ]
    async with watching(*wanted) as ears:
        with (root / "shared" / edited).open("a") as file:
            file.write("\n")
        await ears.until(lambda: ears.heard(root / link, service))


@pytest.mark.parametrize("name", ["new\nline.py", os.fsdecode(b"caf\xe9.py"), "x" * 255])
async def test_odd_names_behind_links_are_delivered(tmp_path: Path, name: str) -> None:
    (tmp_path / "shared").mkdir()
    target, link = tmp_path / "shared" / name, tmp_path / "link"
    target.write_text("one")
    link.symlink_to(target)
    async with watching(interest(files=frozenset({link}))) as ears:
        await seen(ears, lambda: target.write_text("two"), link)
