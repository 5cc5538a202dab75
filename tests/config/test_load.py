"""config.yaml: its shape and defaults, and errors that name the place and what to write."""

# ruff: noqa: E501 - one row of a table is one line

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devloop.config import load as configs
from devloop.errors import ConfigError
from devloop.model import BuildSpec, Hook, Hooks, Secret, Service, Target

MINIMAL = """\
version: 1
services:
  backend:
    image: todo-backend
    build: {context: backend}
    deploy: {deployment: todo-backend}
"""
# The shape that the issue gives, word for word.
WHOLE = """\
version: 1
cluster: {context: minikube, namespace: default, allow_remote: false, load: auto, engine: null, registry: null}
services:
  backend:
    image: todo-backend                    # devloop adds the tag
    build: {context: backend, dockerfile: Dockerfile, target: null, args: {}, secrets: [], platform: null}
    deploy: {deployment: todo-backend, container: null, namespace: null}     # or a list; or statefulset:
manifests: [k8s/*.yaml]                    # plain YAML
metrics: {listen: "127.0.0.1:9100"}
gc: {keep: 5}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder in ("backend", "frontend", "docker", "k8s"):
        (tmp_path / folder).mkdir()
    for folder in ("backend", "frontend"):
        (tmp_path / folder / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "docker" / "web.Dockerfile").write_text("FROM scratch\n")
    for name in ("b.yaml", "a.yaml", "notes.txt"):
        (tmp_path / "k8s" / name).write_text("")
    return tmp_path


def load(project: Path, text: str) -> configs.Config:
    (project / "config.yaml").write_text(text)
    return configs.load(project / "config.yaml")


def refused(project: Path, text: str) -> list[str]:
    """The lines of the error without the file's folder: "3:5: services.x: …"."""
    with pytest.raises(ConfigError) as caught:
        load(project, text)
    assert caught.value.exit_code == 2
    prefix = f"{project / 'config.yaml'}:"
    lines = caught.value.message.splitlines()
    assert all(line.startswith(prefix) for line in lines)
    return [line.removeprefix(prefix) for line in lines]


def service(body: str) -> str:
    return f"version: 1\nservices:\n  backend:\n    image: todo-backend\n{body}"


# --- what a valid file gives ---------------------------------------------------------------------


def test_the_shape_of_the_issue_is_taken_and_its_values_are_the_defaults(project: Path) -> None:
    whole = load(project, WHOLE)
    minimal = load(project, MINIMAL)
    assert whole.services() == minimal.services()
    assert whole.model_dump(exclude={"manifests"}) == minimal.model_dump(exclude={"manifests"})
    assert whole.manifest_files() == (project / "k8s" / "a.yaml", project / "k8s" / "b.yaml")
    assert minimal.manifest_files() == ()
    assert minimal.metrics.address == ("127.0.0.1", 9100)


def test_services_have_absolute_paths_and_filled_namespaces(project: Path) -> None:
    config = load(project, MINIMAL)
    assert config.services() == (
        Service(
            "backend",
            "todo-backend",
            BuildSpec(project / "backend", project / "backend" / "Dockerfile"),
            (Target("deployment", "todo-backend", "default"),),
        ),
    )
    assert config.root == project


def test_s17_deploy_is_one_mapping_or_a_list_or_nothing(project: Path) -> None:
    build = "    build: {context: backend}\n"
    several = "    deploy: [{deployment: api, container: app}, {statefulset: db, namespace: data}]\n"
    assert load(project, service(build + several)).services()[0].targets == (
        Target("deployment", "api", "default", "app"),
        Target("statefulset", "db", "data"),
    )
    assert load(project, service(build)).services()[0].targets == ()
    assert load(project, service(build + "    deploy: null\n")).services()[0].targets == ()


def test_secrets_are_dockers(project: Path) -> None:
    (project / "token").write_text("t")
    body = (
        "    build:\n      context: backend\n      secrets:\n"
        "        - {id: a, file: token}\n        - {id: b, env: TOKEN}\n"
        '        - "id=c,src=token"\n        - id=d,env=TOKEN\n        - "type=file,id=e,source=token"\n'
    )
    assert load(project, service(body)).services()[0].build.secrets == (
        Secret("a", project / "token"),
        Secret("b", None, "TOKEN"),
        Secret("c", project / "token"),
        Secret("d", None, "TOKEN"),
        Secret("e", project / "token"),
    )


def test_build_arguments_stay_as_written(project: Path) -> None:
    args = 'A: 1.10, B: 8080, C: true, D: "on", E: 2026-11-22, F: 1e3, G: text'
    config = load(project, service(f"    build: {{context: backend, args: {{{args}}}}}\n"))
    assert config.services()[0].build.args == {
        "A": "1.10", "B": "8080", "C": "true", "D": "on", "E": "2026-11-22", "F": "1e3", "G": "text",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("Dockerfile", "frontend/Dockerfile"),
        ("./Dockerfile", "Dockerfile"),
        ("docker/web.Dockerfile", "docker/web.Dockerfile"),
        ("../docker/web.Dockerfile", "docker/web.Dockerfile"),
        ("web.Dockerfile", "web.Dockerfile"),
    ],
)
def test_a_dockerfile_lies_in_the_context_or_beside_the_config(
    project: Path, written: str, found: str
) -> None:
    (project / "Dockerfile").write_text("FROM scratch\n")
    (project / "web.Dockerfile").write_text("FROM scratch\n")
    config = load(project, service(f"    build: {{context: frontend, dockerfile: {written}}}\n"))
    assert config.services()[0].build.dockerfile == project / found


def test_anchors_and_merges_work(project: Path) -> None:
    text = MINIMAL + (
        "  other:\n    image: other\n    build: &build {context: backend, target: a}\n"
        "  third:\n    image: third\n    build: {<<: *build, target: b}\n"
    )
    builds = [found.build for found in load(project, text).services()]
    assert [(build.context.name, build.target) for build in builds[1:]] == [
        ("backend", "a"),
        ("backend", "b"),
    ]


@pytest.mark.parametrize(
    "image", ["a", "team/api", "localhost:5000/api", "registry.local/team/my_api", "gcr.io/p/a.b-c__d"]
)
def test_image_repositories_are_taken(project: Path, image: str) -> None:
    text = MINIMAL.replace("image: todo-backend", f"image: {image}")
    assert load(project, text).services()[0].image == image


def test_context_and_namespace_are_overridden_without_touching_the_config(project: Path) -> None:
    text = MINIMAL.replace("{deployment: todo-backend}", "[{deployment: a}, {deployment: b, namespace: own}]")
    config = load(project, text)
    other = configs.override(config, context="kind-dev", namespace="staging")
    assert other.cluster.context == "kind-dev"
    assert [target.namespace for target in other.services()[0].targets] == ["staging", "own"]
    assert (config.cluster.context, config.cluster.namespace) == ("minikube", "default")
    assert other.path == config.path
    assert configs.override(config) is config
    with pytest.raises(ConfigError, match="--namespace: must be a name"):
        configs.override(config, namespace="Not_A_Name")


def test_find_looks_upwards(project: Path) -> None:
    load(project, MINIMAL)
    deep = project / "backend" / "src" / "deep"
    deep.mkdir(parents=True)
    assert configs.find(deep) == project / "config.yaml"
    assert configs.find(project) == project / "config.yaml"


def test_find_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        configs.find(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert "-c" in (caught.value.hint or "")


def test_s27_the_state_lives_outside_the_tree_under_the_hash_of_the_path(tmp_path: Path) -> None:
    one, two = tmp_path / "one" / "config.yaml", tmp_path / "two" / "config.yaml"
    state = {"XDG_STATE_HOME": "/var/state"}
    assert configs.state_dir(one, state) == Path("/var/state/devloop") / configs.project_id(one)
    assert configs.project_id(one) != configs.project_id(two)
    for value in ("", "relative"):
        found = configs.state_dir(one, {"XDG_STATE_HOME": value})
        assert found.is_relative_to(Path.home() / ".local" / "state" / "devloop")


def test_s25_two_paths_to_one_config_are_one_project(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert configs.project_id(tmp_path / "link" / "c.yaml") == configs.project_id(
        tmp_path / "real" / "c.yaml"
    )


# --- what an invalid file says -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (MINIMAL.replace("version: 1", "version: 2"), "1:1: version: this devloop reads version 1, not 2"),
        (MINIMAL.replace("version: 1\n", ""), "1:1: version: missing; write version: 1"),
        ("version: 1\n", "1:1: services: missing; write services:"),
        ("version: 1\nservices: {web: {build: {context: .}}}\n", "2:12: services.web.image: missing; write image: web"),
        ("version: 1\nservices: {web: {image: web, build: {}}}\n", "2:30: services.web.build.context: missing; write context: FOLDER"),
        ("version: 1\nservices: {}\n", "2:1: services: must be a mapping with at least one entry"),
        ("", "1:1: the file is empty"),
        ("- a\n", "1:1: not a mapping"),
        (MINIMAL + "gc: {keep: 0}\n", "7:6: gc.keep: must be at least 1, not 0"),
        (MINIMAL + "gc: {keep: yes}\n", "7:12: gc.keep: YAML 1.1 reads a bare yes as true"),
        (MINIMAL + "clustr: {}\n", "7:1: clustr: unknown key; did you mean cluster?"),
        (MINIMAL + "plugins: {}\n", "7:1: plugins: unknown key; known here: version, cluster"),
        (MINIMAL + "max_image_size: 1\n", "7:1: max_image_size: unknown key"),
        (MINIMAL.replace("context: backend", "contxt: backend"), "5:13: services.backend.build.contxt: unknown"),
        (MINIMAL.replace("context: backend", "contxt: backend"), "5:5: services.backend.build.context: missing"),
        (MINIMAL + "    dockerfile: x\n", "7:5: services.backend.dockerfile: unknown key here; it belongs under "),
        (MINIMAL + "    tag: x\n", "7:5: services.backend.tag: unknown key; devloop makes the tag"),
        (MINIMAL.replace("context: backend", "context: nowhere"), "5:13: services.backend.build.context: "),
        (MINIMAL.replace("backend}", "docker}"), "5:5: services.backend.build.dockerfile: "),
        (MINIMAL.replace("todo-backend\n", "todo-backend:v1\n", 1), "4:5: services.backend.image: devloop adds"),
        (MINIMAL.replace("todo-backend\n", "Todo\n", 1), '4:5: services.backend.image: "Todo" is not an image'),
        (MINIMAL.replace("{deployment:", "{deploymnt:"), "6:14: services.backend.deploy.deploymnt: unknown"),
        (MINIMAL.replace("{deployment:", "{statefulset: a, deployment:"), "6:5: services.backend.deploy: write"),
        (MINIMAL.replace("{deployment: todo-backend}", "[{container: a}]"), "6:14: services.backend.deploy[0]: "),
        (MINIMAL.replace("todo-backend}", "5}"), "6:14: services.backend.deploy.deployment: must be text"),
        (MINIMAL + "metrics: {listen: 9100}\n", "7:11: metrics.listen: must be text; write it in quotes"),
        (MINIMAL + 'metrics: {listen: "9100"}\n', '7:11: metrics.listen: "9100" is not host:port; write'),
        (MINIMAL + 'metrics: {listen: "a:99999"}\n', '7:11: metrics.listen: "a:99999" is not host:port'),
        (MINIMAL + "cluster: {load: magic}\n", "7:11: cluster.load: must be one of auto, shared, docker-env"),
        (MINIMAL + "cluster: {load: registry}\n", "7:1: cluster: load: registry needs a registry"),
        (MINIMAL + "cluster: {engine: dockerd}\n", '7:11: cluster.engine: "dockerd" is not an engine address'),
        (MINIMAL + "cluster: {allow_remote: on}\n", "7:25: cluster.allow_remote: YAML 1.1 reads a bare on as true"),
        (MINIMAL + "cluster: {namespace: A_b}\n", "7:11: cluster.namespace: must be a name"),
        (MINIMAL + "cluster: minikube\n", "7:1: cluster: must be a mapping"),
        (MINIMAL + "manifests: k8s\n", "7:1: manifests: must be a list"),
        (MINIMAL + "manifests: [k8s/none.yaml]\n", "7:13: manifests[0]: "),
        (MINIMAL + "gc: {keep: 5}\ngc: {keep: 6}\n", "8:1: gc: a second time; the first is on line 7"),
        (MINIMAL.replace("backend:\n", "on:\n", 1), "3:3: services.on: YAML 1.1 reads a bare on as true"),
        (MINIMAL.replace("backend:\n", "a b:\n", 1), '2:1: services: "a b" is not a service name'),
        (MINIMAL + "\tgc: {keep: 5}\n", "7:1: a tab; YAML is indented with spaces"),
        (MINIMAL + "gc: {keep: 5\n", "8:1: "),
        (MINIMAL + "---\nversion: 1\n", "7:1: a second document"),
        (MINIMAL + 'secrets: ["a\\0"]\n', "7:11: secrets[0]: a NUL character, which no path"),
        (MINIMAL + 'secrets: ["\\ud800"]\n', "7:11: secrets[0]: half of a surrogate pair, which no path"),
        (MINIMAL + '"\\udc00": 1\n', "7:1: \udc00: half of a surrogate pair, which no path"),
        ("a: &x [*x]\n", "1:4: a[0]: an anchor that contains itself"),
    ],
)  # fmt: skip
def test_an_error_names_line_column_path_and_what_to_write(project: Path, text: str, line: str) -> None:
    lines = refused(project, text)
    assert any(found.startswith(line) for found in lines), lines


@pytest.mark.parametrize(
    ("value", "meaning"),
    [("off", "false"), ("0777", "an octal number"), ("12:30", "another number"), ("1_0", "")],
)
def test_yaml_1_1_traps_are_explained_where_text_is_wanted(project: Path, value: str, meaning: str) -> None:
    lines = refused(project, service(f"    build: {{context: backend, args: {{MODE: {value}}}}}\n"))
    assert len(lines) == 1
    assert lines[0].startswith("5:44: services.backend.build.args.MODE: YAML 1.1 reads a bare ")
    assert meaning in lines[0]
    assert f'"{value}"' in lines[0]


def test_all_problems_are_reported_at_once_in_the_files_order(project: Path) -> None:
    text = MINIMAL.replace("version: 1", "version: one") + "gc: {keep: 0, kep: 1}\nmetrics: 5\n"
    lines = refused(project, text)
    assert [line.split(": ")[1] for line in lines] == ["version", "gc.keep", "gc.kep", "metrics"]


def test_s30_no_value_of_a_build_argument_or_secret_is_in_an_error(project: Path) -> None:
    text = service(
        "    build: {context: backend, args: {TOKEN: [hunter2]}, secrets: [{id: hunter3, x: hunter4}]}\n"
    )
    assert "hunter" not in "\n".join(refused(project, text))


def test_a_secret_needs_one_source_that_exists(project: Path) -> None:
    text = service(
        '    build: {context: backend, secrets: ["id=a", {id: b, file: nope}, {id: c, file: x, env: VAR}]}\n'
    )
    assert [line.split(": ")[1] for line in refused(project, text)] == [
        "services.backend.build.secrets[0]",
        "services.backend.build.secrets[2]",
    ]
    text = service("    build: {context: backend, secrets: [{id: b, file: nope}]}\n")
    assert "nope is not a file" in refused(project, text)[0]


def test_two_services_with_one_image_on_one_target_are_refused(project: Path) -> None:
    text = (
        MINIMAL
        + "  other:\n    image: todo-backend\n    build: {context: frontend}\n    deploy: {deployment: todo-backend}\n"
    )
    assert refused(project, text) == [
        "10:5: services.other.deploy: backend sets the same image on deployment/todo-backend already; name a container: in both"
    ]


BESIDE = """  other:
    image: {image}
    build: {{context: frontend}}
    deploy: {{deployment: todo-backend{container}}}
"""


@pytest.mark.parametrize(
    ("image", "container", "own", "refusal"),
    [
        ("other", "", "", ""),
        ("todo-backend", ", container: b", ", container: a", ""),
        ("other", ", container: a", ", container: a", "backend sets container a of deployment/todo-backend"),
        ("docker.io/library/todo-backend", "", "", "backend sets the same image"),
        ("todo-backend", ", container: b", "", "backend sets the same image"),
    ],
)
def test_s26_services_share_a_workload_where_each_has_containers_of_its_own(
    project: Path, image: str, container: str, own: str, refusal: str
) -> None:
    own_one = MINIMAL.replace("deployment: todo-backend", "deployment: todo-backend" + own)
    assert own in own_one
    text = own_one + BESIDE.format(image=image, container=container)
    if refusal:
        assert refusal in "\n".join(refused(project, text))
    else:
        config = load(project, text)
        assert [one.name for one in configs.together(config, ["other"])] == ["backend", "other"]
        assert [one.name for one in configs.chosen(config, ["other"])] == ["other"]
        looked_at = configs.CurrentConfig(config, ["other"], whole=False).services
        assert [one.name for one in looked_at] == ["other"], "rollback is of this one alone"


def test_a_file_that_cannot_be_read_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        configs.load(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_bytes(b"version: \xff\n")
    with pytest.raises(ConfigError, match="byte 9 is not UTF-8"):
        configs.load(tmp_path / "config.yaml")


# --- schema and docs -----------------------------------------------------------------------------


def test_the_schema_knows_every_key_and_describes_it(project: Path) -> None:
    schema = configs.schema()
    json.dumps(schema)
    found: dict[str, str] = {}

    def walk(node: object, owner: str) -> None:
        if isinstance(node, dict):
            for key, value in node.get("properties", {}).items():
                found[f"{owner}.{key}"] = value.get("description", "")
            for key, value in node.items():
                walk(value, key if key in schema.get("$defs", {}) else owner)
        elif isinstance(node, list):
            for value in node:
                walk(value, owner)

    walk(schema, "Config")
    keys = {path.rpartition(".")[2] for path in configs.known_keys()}
    assert {name.partition(".")[2] for name in found} == keys
    undescribed = {name for name, text in found.items() if not text}
    assert undescribed <= {"Config.cluster", "Config.metrics", "Config.gc", "ServiceConfig.build"}
    assert schema["additionalProperties"] is False


def test_every_key_is_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "config.md").read_text()
    for path in configs.known_keys():
        documented = path.replace("services.*", "services.NAME").replace(".*", "")
        assert f"`{documented}`" in text, documented


def test_every_example_in_the_docs_is_valid(project: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "config.md").read_text()
    examples = [part.partition("```")[0] for part in text.split("```yaml\n")[1:]]
    assert examples
    (project / "npmrc").write_text("x")
    for example in examples:
        load(project, example)


def test_the_projects_own_config_is_valid() -> None:
    config = configs.load(Path(__file__).parents[2] / "config.yaml")
    assert {found.name for found in config.services()} == {"backend", "frontend"}
    assert config.path.is_absolute()


@pytest.mark.parametrize(
    ("written", "size"),
    [("1000", 1000), ("200MB", 200_000_000), ("190MiB", 199_229_440), ("1.5 GB", 15 * 10**8)],
)
def test_max_image_size_is_bytes_or_a_text_with_its_unit(project: Path, written: str, size: int) -> None:
    text = MINIMAL + f"    max_image_size: {written}\n"
    assert load(project, text).by_name["backend"].max_image_size == size


def test_a_max_image_size_that_is_none_is_refused(project: Path) -> None:
    lines = refused(project, MINIMAL + "    max_image_size: small\n")
    assert any("write 200MB" in line for line in lines), lines


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90", 90.0), ("90s", 90.0), ("5m", 300.0), ("1.5m", 90.0), ("1h", 3600.0), ("0.5s", 0.5)],
)
def test_s18_rollout_timeout_is_seconds_or_a_text_with_its_unit(
    project: Path, written: str, seconds: float
) -> None:
    config = load(project, MINIMAL + f"    rollout_timeout: {written}\n")
    assert config.services()[0].rollout_timeout == seconds
    assert load(project, MINIMAL).services()[0].rollout_timeout is None


@pytest.mark.parametrize(
    "written", ["soon", "0", "0s", "-1", "5 minutes", "''", "1m30s", ".inf", ".nan", "true", "[]"]
)
def test_s18_a_rollout_timeout_that_is_no_span_is_refused(project: Path, written: str) -> None:
    lines = refused(project, MINIMAL + f"    rollout_timeout: {written}\n")
    assert any("services.backend.rollout_timeout" in line for line in lines), lines


@pytest.mark.parametrize(
    ("written", "found"),
    [("90s", 90.0), ("1.5m", 90.0), ("2 h", 7200.0), ("250ms", 0.25), ("30", None), (45, 45.0)],
)
def test_s21_how_long_a_build_or_pull_may_be_silent(
    project: Path, written: object, found: float | None
) -> None:
    text = f"""
version: 1
services:
  a:
    image: a
    build: {{context: backend, idle_timeout: {json.dumps(written)}}}
"""
    if found is None:
        with pytest.raises(ConfigError, match="not a duration; write 90s or 10m"):
            load(project, text)
        return
    (service,) = load(project, text).services()
    assert (service.build.idle_timeout, service.build.pull_idle_timeout) == (found, 120.0)


@pytest.mark.parametrize("written", ["0s", "-1", "true", ".inf", "soon"])
def test_s21_what_is_no_span_of_time_is_refused(project: Path, written: str) -> None:
    with pytest.raises(ConfigError, match=r"build\.pull_idle_timeout"):
        load(
            project,
            f"version: 1\nservices:\n  a: {{image: a, build: {{context: a, pull_idle_timeout: {written}}}}}\n",
        )


@pytest.mark.parametrize(
    ("written", "mode", "stop_after"),
    [
        ("roll", "roll", None),
        ("in-place", "in-place", None),
        ("{mode: in-place}", "in-place", None),
        ("{mode: in-place, stop_after: 2s}", "in-place", 2.0),
        ("{mode: in-place, stop_after: 0.5}", "in-place", 0.5),
    ],
)
def test_update_is_a_word_or_a_mapping(
    project: Path, written: str, mode: str, stop_after: float | None
) -> None:
    (service,) = load(project, MINIMAL + f"    update: {written}\n").services()
    assert (service.update, service.stop_after) == (mode, stop_after)


@pytest.mark.parametrize(
    "written", ["inplace", "[in-place]", "{stop_after: 2s}", "{mode: in-place, stop: 2s}", "true", "3"]
)
def test_another_update_is_refused(project: Path, written: str) -> None:
    lines = refused(project, MINIMAL + f"    update: {written}\n")
    assert any("services.backend.update" in line for line in lines), lines
    print(lines)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{8080: 3000}", [("localhost", 8080, 3000)]),
        ("{8080: 3000, 9229: 9229}", [("localhost", 8080, 3000), ("localhost", 9229, 9229)]),
        ("{address: 0.0.0.0, ports: {8080: 3000}}", [("0.0.0.0", 8080, 3000)]),
        ("{address: '::1', ports: {8080: 3000}}", [("::1", 8080, 3000)]),
        ("{}", []),
        ("", []),
    ],
)
def test_forward_is_a_mapping_of_ports_or_a_section(
    project: Path, written: str, expected: list[tuple[str, int, int]]
) -> None:
    config = load(project, MINIMAL + f"    forward: {written}\n")
    assert [(one.address, one.port, one.to) for one in config.forwards()] == expected
    assert {one.service for one in config.forwards()} <= config.by_name.keys()


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("{0: 3000}", 'forward.0: "0" is not a port of this machine'),
        ("{70000: 3000}", 'forward.70000: "70000" is not a port of this machine'),
        ("{8080: 0}", "forward.8080: not a port of the pod"),
        ("{8080: 70000}", "forward.8080: not a port of the pod"),
        ("{8080: http}", "forward.8080: not a port of the pod"),
        ("{8080: null}", "forward.8080: not a port of the pod"),
        ("{http: 3000}", 'forward.http: "http" is not a port of this machine'),
        (
            "{address: nowhere.example, ports: {8080: 3000}}",
            'address: "nowhere.example" is not an IP address',
        ),
        ("{adress: 0.0.0.0, ports: {8080: 3000}}", "forward.adress: unknown key; did you mean address?"),
        ("8080", "must be a mapping, not 8080; write forward: {8080: 3000}"),
        ("[8080]", "must be a mapping, not [8080]; write forward: {8080: 3000}"),
    ],
)
def test_another_forward_is_refused(project: Path, written: str, text: str) -> None:
    lines = refused(project, MINIMAL + f"    forward: {written}\n")
    assert any("services.backend.forward" in line and text in line for line in lines), lines


def test_two_services_cannot_forward_one_port(project: Path) -> None:
    text = (
        MINIMAL
        + "    forward: {8080: 3000}\n"
        + MINIMAL.partition("services:\n")[2].replace("backend:", "other:", 1)
    )
    lines = refused(project, text + "    forward: {8080: 3001}\n")
    assert any(
        "services.other.forward: port 8080 is forwarded to backend already" in line for line in lines
    ), lines


@pytest.mark.parametrize(
    ("written", "reload", "at_end"),
    [
        ("{mode: sync, reload: none}", "none", "bake"),
        ("{mode: sync, reload: restart, at_end: leave}", "restart", "leave"),
        ("{mode: sync, reload: {signal: HUP}}", "HUP", "bake"),
        ("{mode: sync, reload: {signal: sigusr1}, stop_after: 2s}", "USR1", "bake"),
    ],
)
def test_s36_sync_says_how_the_process_takes_up_the_files(
    project: Path, written: str, reload: str, at_end: str
) -> None:
    (service,) = load(project, MINIMAL + f"    update: {written}\n").services()
    assert (service.update, service.reload, service.at_end) == ("sync", reload, at_end)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("sync", "with sync, say how the process takes up the files"),
        ("{mode: sync}", "with sync, say how the process takes up the files"),
        ("{mode: sync, reload: null}", "with sync, say how the process takes up the files"),
        ("{mode: sync, reload: hup}", "reload: {signal: HUP}"),
        ("{mode: sync, reload: {signal: KILL}}", "no signal that a process can handle"),
        ("{mode: sync, reload: {signal: 1}}", "reload: {signal: HUP}"),
        ("{mode: sync, reload: {signal: HUP, more: 1}}", "reload: {signal: HUP}"),
        ("{mode: sync, reload: none, at_end: stay}", "bake"),
        ("{mode: in-place, reload: none}", "for mode: sync, not for in-place"),
        ("{mode: roll, at_end: leave}", "for mode: sync, not for roll"),
    ],
)
def test_s36_what_sync_cannot_be_is_refused_with_what_to_write(
    project: Path, written: str, says: str
) -> None:
    (line,) = refused(project, MINIMAL + f"    update: {written}\n")
    assert says in line


def test_a_service_without_pods_has_nothing_to_forward_to(project: Path) -> None:
    text = MINIMAL.replace("    deploy: {deployment: todo-backend}\n", "")
    lines = refused(project, text + "    forward: {8080: 3000, 9229: 9229}\n")
    assert any(
        "services.backend.forward: it leads to pods of the service, which has none" in one for one in lines
    )


# --- trigger and hooks ---------------------------------------------------------------------------


def test_a_service_follows_every_save_unless_its_trigger_is_manual(project: Path) -> None:
    (service,) = load(project, MINIMAL).services()
    assert service.trigger == "auto"
    (service,) = load(project, MINIMAL + "    trigger: manual\n").services()
    assert service.trigger == "manual"
    (line,) = refused(project, MINIMAL + "    trigger: never\n")
    assert line.endswith("services.backend.trigger: must be one of auto or manual, not 'never'")


@pytest.mark.parametrize(
    ("written", "command", "timeout"),
    [
        ("make generate", ("/bin/sh", "-c", "make generate"), 60.0),
        ("[make, generate]", ("make", "generate"), 60.0),
        ("{command: make generate, timeout: 5m}", ("/bin/sh", "-c", "make generate"), 300.0),
        ("{command: [make, generate]}", ("make", "generate"), 60.0),
    ],
)
def test_a_hook_is_a_text_a_list_or_a_mapping(
    project: Path, written: str, command: tuple[str, ...], timeout: float
) -> None:
    text = MINIMAL + f"    hooks: {{before_build: {written}, after_live: null}}\n"
    (service,) = load(project, text).services()
    assert service.hooks == Hooks(Hook(command, timeout, project), None)


@pytest.mark.parametrize(
    ("hooks", "problem"),
    [
        ("make", "services.backend.hooks: must be a mapping, not 'make'; write hooks: {before_build: make"),
        ("{before_build: 7}", "services.backend.hooks.before_build: must be a mapping"),
        ("{before_build: []}", "services.backend.hooks.before_build.command: not a command; write"),
        ("{after_live: [make, 7]}", "services.backend.hooks.after_live.command: not a command; write"),
        ('{after_live: " "}', "services.backend.hooks.after_live.command: not a command; write"),
        ("{after_live: {}}", "services.backend.hooks.after_live.command: missing; write command: make"),
        ("{after: make}", "services.backend.hooks.after: unknown key"),
        ("{after_live: {command: make, timeout: 0}}", "services.backend.hooks.after_live.timeout"),
    ],
)
def test_another_hook_is_refused_with_its_place(project: Path, hooks: str, problem: str) -> None:
    lines = refused(project, MINIMAL + f"    hooks: {hooks}\n")
    assert any(problem in line for line in lines), lines
