"""The first image as a delta on its base: what a full build gives, on the real engine, without a build."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

import devloop.delta.from_base as firsts
from devloop.delta import image_config as settings
from devloop.delta.delta import Delta, NotProven
from devloop.delta.from_base import first
from devloop.delta.layer_writer import write_layer
from devloop.delta.plain_dockerfile import stands_on
from tests.delta.test_matrix import check
from tests.support.delta_bench import BASE, LABEL, Bench, differences, fix_times, make_base, plant
from tests.support.delta_shapes import TREE, Shape, refused, shape

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def base() -> Iterator[None]:
    client = docker.from_env().api
    make_base(client)
    yield
    client.close()


PLAIN = (
    shape("first-directory", "COPY src /app"),
    shape("first-directory-slash", "COPY src/ /opt/a/b/"),
    shape("first-whole-context", "WORKDIR /app\nCOPY . .", ignored="docs\n"),
    shape("first-root", "COPY src /"),
    shape("first-files", "COPY req.txt two.txt src/run.sh /etc/made/\nCOPY req.txt /one"),
    shape("first-glob", "COPY src/*.py src/run* /app/"),
    shape("first-onto-base", "COPY src /srv"),
    shape("first-onto-odd", "WORKDIR /odd\nCOPY src /odd"),
    shape("first-linked", "COPY src /lnk/sub"),
    shape("first-chown", "COPY --chown=5:6 src /opt/deep/app\nCOPY --chown=7:8 req.txt /opt/other/r"),
    shape("first-chmod", "WORKDIR /app\nCOPY --chmod=0750 src .\nCOPY --chmod=640 req.txt /srv/r"),
    shape("first-workdirs", "WORKDIR /a\nWORKDIR b/c\nCOPY src ./\nWORKDIR /a\nWORKDIR /tmp\nUSER app"),
    shape("first-same-file-twice", "COPY req.txt /x/f\nCOPY two.txt /x/f"),
    shape("first-variables", f"FROM {BASE}\nARG to=/v\nWORKDIR ${{to}}/w\nCOPY src $to", args={"to": "/var"}),
    shape("first-json", 'COPY ["src", "/a b/c"]'),
    shape(
        "first-settings",
        'ENV A=b C="d e"\nENV PATH /x:/bin\nLABEL l=m "n o"=p\nEXPOSE 80 90/udp\nUSER app:app\n'
        'ENTRYPOINT ["/bin/sh", "-c"]\nCOPY src /app\nCMD ["x", "$A"]',
    ),
    shape("first-entrypoint-after", 'CMD ["x"]\nCOPY src /app\nENTRYPOINT ["y"]'),
)
NOT_PLAIN = (
    refused("first-run", "RUN true\nCOPY src /app", "NotPlain"),
    refused("first-add", "ADD src /app", "NotPlain"),
    refused("first-two-stages", f"FROM {BASE} AS b\nFROM {BASE}\nCOPY --from=b /srv /s", "NotPlain"),
    refused("first-scratch", "FROM scratch\nCOPY src /app", "NotPlain"),
    refused("first-shell-form", "COPY src /app\nCMD echo $HOME", "NotPlain"),
    refused("first-env-variable", "COPY src /app\nENV A=$PATH", "NotPlain"),
    refused("first-volume", "COPY src /app\nVOLUME /app", "NotPlain"),
    refused("first-names", "COPY --chown=app src /app", "OwnerUnknown"),
    refused("first-user-workdir", "USER app\nWORKDIR /w\nCOPY src .", "OwnerUnknown"),
    refused(
        "first-collides", "COPY req.txt /x/f\nCOPY src /x/f", "NoDirectory", "Collides", "SeveralSources"
    ),
    refused("first-file-on-link", "COPY req.txt /bin/sh", "Collides"),
    refused("first-other-mode", "COPY conf /conf\nCOPY --chmod=600 . /", "Collides"),
    # The directory gets 755 from a Docker 20.10, 750 from a Docker 28.
    refused("first-chmod-new-directory", "COPY --chmod=750 src /new", "BuildersDiffer"),
    # A new directory in a setgid one is setgid on a Docker 20.10, and has its group everywhere.
    refused("first-in-setgid", "COPY src /odd/new/", "BuildersDiffer"),
    refused("first-workdir-in-setgid", "WORKDIR /odd/new\nCOPY src .", "BuildersDiffer"),
    refused("first-root-by-name", "COPY src/ /etc/\nUSER root\nWORKDIR /new", "OwnerUnknown"),
    refused("first-port-range", "COPY src /app\nEXPOSE 80-90", "NotPlain"),
)


def bench_for(one: Shape, home: Path) -> Bench:
    bench = Bench(home / "home", one.name, one.text, one.ignored, one.args)
    plant(bench.context, TREE)
    return bench


def make(bench: Bench, base: str = BASE) -> Delta | NotProven:
    inputs = bench.inputs()
    parent = bench.parent(base, inputs)
    return first(bench.service, parent, inputs, bench.plan, bench.rules, {LABEL: "first"})


@pytest.mark.parametrize("one", PLAIN, ids=str)
def test_the_first_image_on_its_base_equals_a_full_build(one: Shape, tmp_path: Path) -> None:
    bench = bench_for(one, tmp_path)
    try:
        assert stands_on(bench.plan, bench.inputs()) == BASE
        made = make(bench)
        assert isinstance(made, Delta), made
        thin = bench.load(made, "first")
        full = bench.build("full")
        assert differences(bench.files(full), bench.files(thin), made.changed) == []
        assert {**bench.config(full), "Labels": None} == {**bench.config(thin), "Labels": None}
        inspected, built = (bench.client.inspect_image(ref) for ref in (thin, full))
        labels = {**inspected["Config"]["Labels"], LABEL: ""}
        assert labels == {**built["Config"]["Labels"], LABEL: ""}
        assert len(inspected["RootFS"]["Layers"]) == len(built["RootFS"]["Layers"])
        assert keywords(bench, thin) == keywords(bench, full)
    finally:
        bench.close()


def keywords(bench: Bench, ref: str) -> list[str]:
    """What the history says of each step: its instruction."""
    return [(entry["CreatedBy"] or "").split(" ")[0] for entry in bench.client.history(ref)]


@pytest.mark.parametrize("name", ["first-directory", "first-whole-context", "first-chown", "first-workdirs"])
def test_deltas_stand_on_it_as_on_a_full_build(name: str, tmp_path: Path) -> None:
    bench = bench_for(next(one for one in PLAIN if one.name == name), tmp_path)
    try:
        before = bench.inputs()
        made = make(bench)
        assert isinstance(made, Delta), made
        bench.load(made, "first")
        (bench.context / "src/main.py").write_text("edited\n")
        (bench.context / "src/pkg/a.py").unlink()
        (bench.context / "src/pkg/new").mkdir()
        (bench.context / "src/pkg/new/n.py").write_text("n\n")
        fix_times(bench.context)
        edited = bench.delta(made.parent, before, bench.inputs(), "edited")
        assert isinstance(edited, Delta), edited
        check(bench, edited, name)
    finally:
        bench.close()


@pytest.mark.parametrize("one", NOT_PLAIN, ids=str)
def test_what_is_not_plain_is_left_to_the_builder(one: Shape, tmp_path: Path) -> None:
    bench = bench_for(one, tmp_path)
    try:
        made = make(bench)
        assert isinstance(made, NotProven), made
        assert made.reason in one.reasons, made
    finally:
        bench.close()


def test_a_base_without_path_gets_the_one_that_builders_add(tmp_path: Path) -> None:
    base = f"devloop-delta-bare-{os.getpid()}"
    client = docker.from_env().api
    client.import_image_from_data(write_layer({}, tmp_path, lambda: None)[0], repository=base, tag="1")
    bench = bench_for(shape("first-no-path", f"FROM {base}:1\nCOPY src /app\nENV A=b"), tmp_path)
    try:
        made = make(bench, f"{base}:1")
        assert isinstance(made, Delta), made
        thin, full = bench.load(made, "first"), bench.build("full")
        assert {**bench.config(full), "Labels": None} == {**bench.config(thin), "Labels": None}
        assert differences(bench.files(full), bench.files(thin), made.changed) == []
    finally:
        bench.close()
        client.remove_image(f"{base}:1")
        client.close()


def test_another_base_under_the_same_name_is_doubted(tmp_path: Path) -> None:
    bench = bench_for(PLAIN[0], tmp_path)
    try:
        inputs = bench.inputs()
        known = bench.parent(BASE, inputs)
        config = {**json.loads(known.config), "author": "another"}
        other = type(known)(
            known.recipe, json.dumps(config).encode(), known.diff_ids, known.layers, known.full
        )
        made = first(bench.service, other, inputs, bench.plan, bench.rules, {})
        assert isinstance(made, NotProven)
        assert made.reason == "BaseUnknown"
    finally:
        bench.close()


Patch = Callable[[pytest.MonkeyPatch], None]


def swap(where: Any, name: str, bug: Any) -> Patch:
    return lambda monkeypatch: monkeypatch.setattr(where, name, bug)


BUGS: dict[str, tuple[Patch, str]] = {
    "owner forgotten": (swap(firsts, "_owner", lambda _: (0, 0)), "first-chown"),
    "mode forgotten": (swap(firsts, "forced_mode", lambda *_: None), "first-chmod"),
    "directories above forgotten": (swap(firsts, "_all_above", lambda _: []), "first-chown"),
    "parts of the base's config forgotten": (swap(settings, "_KEPT", ("User",)), "first-directory"),
    "WORKDIR makes nothing": (
        swap(
            firsts._First, "_workdir", lambda self, step: self._settings.values.update(WorkingDir=step.path)
        ),
        "first-workdirs",
    ),
    "labels forgotten": (swap(settings.Settings, "_pairs", lambda *_: iter(())), "first-settings"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_turns_it_red(bug: str, tmp_path: Path) -> None:
    patch, name = BUGS[bug]
    with pytest.MonkeyPatch.context() as monkeypatch:
        patch(monkeypatch)
        with pytest.raises((AssertionError, docker.errors.APIError)):
            test_the_first_image_on_its_base_equals_a_full_build(
                next(one for one in PLAIN if one.name == name), tmp_path
            )
