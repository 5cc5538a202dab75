"""`devloop init` on a few hundred random broken projects: no traceback, and a config.yaml that loads."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from devloop.commands.init import _write as write_files
from devloop.config.load import load
from devloop.init.paths import join
from devloop.init.project.scan import scan
from devloop.init.proposal.propose import propose
from devloop.init.proposal.render import summary
from devloop.init.proposal.valid import loadable
from devloop.init.proposal.values import Place
from devloop.kubernetes_yaml.documents import documents
from tests.init.nasty import NASTY
from tests.support.project_files import dockerfile, workload, write

NAMES = [
    *("Dockerfile", "api/Dockerfile", "web/Dockerfile.dev", "docker/api.Dockerfile", "compose.yaml"),
    *("docker-compose.override.yml", "skaffold.yaml", "k8s/api.yaml", "k8s/all.yml", "k/kustomization.yaml"),
    *(
        "k/over/kustomization.yaml",
        "c/Chart.yaml",
        "c/values.yaml",
        "c/values-dev.yaml",
        "c/templates/a.yaml",
    ),
    *("c/charts/d/Chart.yaml", "c/templates/_helpers.tpl", ".gitignore", "k8s", "docs/k.yaml"),
]
TEXTS = [
    dockerfile(". .", "../x ./"),
    """FROM a AS b
ARG C
EXPOSE 80/udp ² $P 99999
RUN --mount=type=secret,id=x true
FROM b
COPY --from=b / /
""",
    workload("api", "api", "side=acme/side:1", init="migrate=web", kind="StatefulSet"),
    """services:
  api:
    build: {context: api, args: [A=1, B], secrets: [s]}
    ports: [80:80, {target: 1}]
    environment: {A: 1, B: null}
    env_file: [x]
    volumes: [a:/b]
    command: 'a "b'
  web: {image: redis}
""",
    """build: {artifacts: [{image: api, context: api, docker: {buildArgs: {A: 1}}}]}
deploy: {helm: {releases: [{name: c, chartPath: c, setValues: {a: {b: 1}}, valuesFiles: [v]}]}}
""",
    """resources: [api.yaml, ../k, over]
namePrefix: a-
images: [{name: api, newName: b}]
patches: [{path: p}]
""",
    """apiVersion: v2
name: c
version: 1
dependencies: [{name: d, alias: e, repository: 'file://../c'}]
""",
    "image: {repository: api, tag: 1}\nd: {image: {repository: web}}\nfullnameOverride: x\n",
    """kind: Deployment
metadata:
  name: {{ include "x" . }}
spec:
  - name: a
    image: '{{ .Values.image.repository }}'
""",
    '{{ define "x" }}{{ printf "%s-{}" .Release.Name }}{{ end }}{{ define "y',
]
SPLICES = [
    *NASTY,
    "[",
    "]",
    "{",
    "}",
    "\t",
    "---\n",
    "&a ",
    "*a",
    "<<: *a\n",
    "{{",
    "}}",
    "${",
    "%s",
    "²",
    "0x1f",
]


def broken_tree(root: Path, dice: random.Random) -> None:
    write(root, {"svc/Dockerfile": dockerfile(". .")})
    for name in dice.sample(NAMES, dice.randint(1, 8)):
        text = dice.choice(TEXTS)
        for _ in range(dice.randint(0, 4)):
            at, size = dice.randrange(len(text) + 1), dice.choice([0, 0, 1, 5, 40])
            other = dice.choice([dice.choice(SPLICES), dice.choice(TEXTS)[at : at + 60]])
            text = text[:at] + other + text[at + size :]
        path = root / name
        if any(one.is_file() for one in path.parents) or path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")


@pytest.mark.parametrize("seed", range(8))
def test_random_broken_projects(tmp_path: Path, seed: int) -> None:
    """40 trees a seed. Without Helm: that has tests of its own, and a start of its library for each chart."""
    dice = random.Random(seed)
    written = 0
    for number in range(40):
        root = tmp_path / str(number)
        root.mkdir()
        broken_tree(root, dice)
        before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        found = scan(root)
        place = Place(dice.choice(["kind-dev", *NASTY]), dice.choice(NASTY), dice.choice(["", "dev", "${N}"]))
        proposal = loadable(propose(found, place, {}), root / "config.yaml")
        assert all(line.isprintable() for line in summary(proposal))
        assert all(join(".", name) == name for name in proposal.written)
        if proposal.services:
            write_files(root / "config.yaml", proposal)
            assert load(root / "config.yaml").services()
            written += 1
            for name, text in proposal.written.items():
                assert documents(text, name)
        assert all(path.read_bytes() == content for path, content in before.items())
    assert written > 30
