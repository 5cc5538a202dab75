"""What `devloop init` writes loads, whatever texts a proposal holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from devloop.commands.init import _write as write_files
from devloop.config.load import load
from devloop.init.proposal.render import summary
from devloop.init.proposal.valid import loadable
from devloop.init.proposal.values import Entry, Place, Proposal, Release, Service, Target
from devloop.init.proposal.yaml_text import comment, scalar, with_comment
from devloop.kubernetes_yaml.documents import documents
from tests.init.nasty import NASTY
from tests.support.project_files import dockerfile, write

API = {"api/Dockerfile": dockerfile(". .")}
CHART = "apiVersion: v2\nname: c\nversion: 1.0.0\n"


@pytest.mark.parametrize("text", NASTY)
def test_a_value_reads_back_as_it_was_and_a_comment_as_nothing(text: str) -> None:
    lines = [f"a: {scalar(text)}", *comment(text), *comment(f"- {text}: {text}", "  ", "  ")]
    lines += [with_comment(f"b: {{{scalar(text)}: 1}}", text)]
    expected = {"a": text, "b": {text: 1}}
    assert yaml.safe_load("\n".join(lines)) == expected
    if text != "\ud800":
        assert [one.value for one in documents("\n".join(lines), "x")] == [expected]


@pytest.mark.parametrize("text", NASTY)
def test_whatever_a_proposal_holds_what_is_left_of_it_loads(tmp_path: Path, text: str) -> None:
    """Every text of a proposal in turn, and all of them at once."""
    write(tmp_path, {**API, "k8s/a.yaml": "", "c/Chart.yaml": CHART})
    for field in (*FIELDS, "all"):
        left = loadable(proposal(text, set(FIELDS) if field == "all" else {field}), tmp_path / "config.yaml")
        write_files(tmp_path / "config.yaml", left)
        assert load(tmp_path / "config.yaml").by_name.keys() >= {"other"}
        assert all(line.isprintable() for line in summary(left))
        (tmp_path / "config.yaml").unlink()


GOOD = {"name": "api", "image": "api", "context": "api", "dockerfile": "api/Dockerfile", "target": ""}
MORE = ("args", "secrets", "container", "namespace", "workload", "release", "values", "set", "images")
FIELDS = (*GOOD, *MORE, "entry", "context name", "why")


def proposal(text: str, put: set[str]) -> Proposal:
    """Two services and a release, with `text` in the fields of `put`."""

    def at(field: str, usual: str = "") -> str:
        return text if field in put else usual

    service = Service(
        **{field: at(field, usual) for field, usual in GOOD.items()},
        args={text: text} if "args" in put else {},
        secrets=({"id": text, "file": text}, {"id": text}) if "secrets" in put else (),
        targets=(
            Target("Deployment", at("workload", "a"), at("container"), at("namespace")),
            Target("StatefulSet", "b", at("container"), at("namespace")),
        ),
        why=(at("why", "a test"),),
    )
    release = Release(
        *(at("release", "c"), "c", at("namespace"), (text,) if "values" in put else ()),
        *({text: text} if field in put else {} for field in ("set", "images")),
        why=(at("why", "a test"),),
    )
    return Proposal(
        Place(at("context name", "kind-dev"), at("why", "a test")),
        at("namespace", "default"),
        (service, Service(**GOOD | {"name": "other"})),
        (Entry("k8s/a.yaml", at("why")), *([Entry(text, text)] if "entry" in put else [])),
        (release,),
    )
