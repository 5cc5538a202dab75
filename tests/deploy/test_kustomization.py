"""Which files a kustomization reads: its own, those of its bases, and none that it does not name."""

from __future__ import annotations

from pathlib import Path

import pytest

from devloop.config import load as configs
from devloop.deploy.kustomization import is_kustomization, sources
from devloop.deploy.manifests import _digest
from devloop.errors import ConfigError
from devloop.watch.interests import manifest_interest


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """An overlay on a base beside it, with a component, patches and generators."""
    files = {
        "base/kustomization.yml": "resources: [web.yaml]\nconfigurations: [names.yaml]\n",
        "base/web.yaml": "kind: Deployment\n",
        "part/Kustomization": "kind: Component\npatches: [{path: more.yaml}]\n",
        "dev/kustomization.yaml": """\
resources: [../base, extra.yaml, https://example.org/far.yaml, "github.com/x/y?ref=v1"]
components: [../part]
namespace: dev
namePrefix: src
patches:
  - path: ../patches/web.yaml
  - patch: |-
      - op: remove
        path: /spec
configMapGenerator:
  - {name: settings, files: [colours=../values/colours.txt], envs: [.env], literals: [a=b]}
openapi: {path: schema.json}
transformers: [labels.yaml]
images: [{name: web, newTag: "1"}]
""",
        "dev/extra.yaml": "kind: Service\n",
        "dev/schema.json": "{}",
        "dev/labels.yaml": "kind: PatchTransformer\nmetadata: {name: x}\npath: by-hand.yaml\n",
        "dev/src/unrelated.py": "",
        "patches/web.yaml": "kind: Deployment\n",
        "values/colours.txt": "red\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    return tmp_path / "dev"


def test_sources_are_what_is_named_here_and_in_every_base(overlay: Path) -> None:
    found = {path.relative_to(overlay.parent).as_posix() for path in sources(overlay) if path.exists()}
    assert found == {
        "base/kustomization.yml", "base/web.yaml", "part/Kustomization", "dev/kustomization.yaml",
        "dev/extra.yaml", "dev/schema.json", "dev/labels.yaml", "patches/web.yaml", "values/colours.txt",
    }  # fmt: skip
    lacking = {path.relative_to(overlay.parent).as_posix() for path in sources(overlay) if not path.exists()}
    assert {
        "dev/.env",
        "dev/by-hand.yaml",
        "base/names.yaml",
        "part/more.yaml",
        "dev/kustomization.yml",
    } <= lacking
    assert not any("example.org" in name or "github.com" in name for name in lacking)


def test_a_circle_of_bases_and_a_broken_file_end(overlay: Path) -> None:
    (overlay.parent / "base" / "kustomization.yml").write_text("resources: [../dev]\n")
    assert overlay / "extra.yaml" in sources(overlay)
    (overlay / "kustomization.yaml").write_text("resources: [\n")
    assert overlay / "kustomization.yaml" in sources(overlay)


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("base/web.yaml", True),
        ("values/colours.txt", True),
        ("part/Kustomization", True),
        ("dev/.env", True),  # named, and yet to be made
        ("dev/src/unrelated.py", False),
    ],
)
def test_a_change_counts_for_watcher_and_digest_alike(overlay: Path, file: str, counts: bool) -> None:
    config = write_config(overlay.parent, "dev")
    path = overlay.parent / file
    assert (path in manifest_interest(config).files) is counts
    before = _digest(config.manifest_files())
    path.write_text(path.read_text() + "# more\n" if path.exists() else "NEW=1\n")
    assert (_digest(config.manifest_files()) != before) is counts


def test_the_entry_of_config_yaml_is_the_folder(overlay: Path) -> None:
    assert is_kustomization(overlay)
    assert write_config(overlay.parent, "dev").manifest_files() == (overlay,)
    with pytest.raises(ConfigError, match=r"values has no kustomization.yaml; for plain files write values/"):
        write_config(overlay.parent, "values")
    with pytest.raises(ConfigError, match="nowhere is not a file"):
        write_config(overlay.parent, "nowhere")


def write_config(root: Path, entry: str) -> configs.Config:
    (root / "app").mkdir(exist_ok=True)
    (root / "app" / "Dockerfile").write_text("FROM scratch\n")
    services = "services: {app: {image: app, build: {context: app}}}\n"
    (root / "config.yaml").write_text(f"version: 1\n{services}manifests: ['{entry}']\n")
    return configs.load(root / "config.yaml")
