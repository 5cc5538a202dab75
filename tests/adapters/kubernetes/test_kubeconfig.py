from __future__ import annotations

from pathlib import Path

import pytest

from devloop.adapters.kubernetes.api.kubeconfig import find_files, read_context
from devloop.errors import ConfigError
from tests.support.kubeconfigs import config, write


def test_files_are_those_of_the_option_the_environment_or_the_home() -> None:
    assert find_files("/a/config", {"KUBECONFIG": "/b"}) == (Path("/a/config"),)
    assert find_files(None, {"KUBECONFIG": "/b:/c:"}) == (Path("/b"), Path("/c"))
    assert find_files(None, {}) == (Path("~/.kube/config").expanduser(),)


def test_s29_the_named_context_is_read_and_current_context_is_not(tmp_path: Path) -> None:
    context = read_context([write(tmp_path / "a", config())], "minikube")
    assert (context.name, context.server, context.namespace) == (
        "minikube",
        "https://192.168.49.2:8443",
        "dev",
    )


def test_several_files_are_merged_and_the_first_entry_wins(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "a", config("minikube", "https://10.0.0.1")),
        tmp_path / "missing",
        write(tmp_path / "b", config("minikube", "https://10.0.0.2")),
        write(tmp_path / "c", config("kind-x", "https://127.0.0.1:1")),
    ]
    assert read_context(files, "minikube").server == "https://10.0.0.1"
    assert read_context(files, "kind-x").server == "https://127.0.0.1:1"


def test_relative_paths_are_relative_to_their_file(tmp_path: Path) -> None:
    document = config(**{"client-certificate": "certs/me.crt", "client-key": "/abs/me.key"})
    context = read_context([write(tmp_path / "sub" / "a", document)], "minikube")
    assert context.user["client-certificate"] == str(tmp_path / "sub" / "certs" / "me.crt")
    assert context.user["client-key"] == "/abs/me.key"


def test_a_missing_context_lists_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_context([write(tmp_path / "a", config("kind-x"))], "minikube")
    assert "contexts there: kind-x" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a: [1", ":2: "),
        ("- 1", "not a mapping with clusters"),
        ("clusters: [{}]", "every entry of clusters needs a name"),
        ("contexts: [{name: minikube, context: {cluster: gone}}]", "names cluster 'gone'"),
        ("", "contexts there: none"),
        (None, "does not exist"),
    ],
)
def test_a_broken_kubeconfig_is_an_error_that_names_the_file(
    tmp_path: Path, text: str | None, expected: str
) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_context([path], "minikube")
    assert expected in caught.value.message
    assert str(path) in caught.value.message
