"""Builds by the command and both APIs: what a failure proves, and what a cancellation leaves."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from functools import partial
from pathlib import Path

import anyio
import psutil
import pytest

from devloop.activity import bounded
from devloop.adapters.build.build_cli import CliBuild, DockerCommand, PlainReader, find_command
from devloop.errors import BuildError, TreeMovedError
from devloop.events import Notice, Output, Progress
from devloop.model import Fingerprint, Secret, Service
from devloop.secrets.redaction import Secrets
from devloop.secrets.sources import Sources
from tests.adapters.conftest import Bench, fingerprint

pytestmark = pytest.mark.engine

BUILDERS = ["cli", "buildkit", "legacy"]


@pytest.fixture(params=BUILDERS)
def how(request: pytest.FixtureRequest, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of them; the first is what a machine with a docker command takes."""
    if request.param != "cli":
        without_command(bench, monkeypatch)
    if request.param == "legacy":
        monkeypatch.setattr("devloop.adapters.build.builder.ImageBuilder._has_buildkit", no_buildkit)
    return str(request.param)


def without_command(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has no docker command at all."""
    bench.environment = {"PATH": "/nonexistent", "HOME": str(bench.folder)}
    monkeypatch.setattr("devloop.adapters.build.build_cli._USUAL", ())


async def no_buildkit(_: object) -> bool:
    return False


async def test_s9_every_builder_builds_the_same_files(bench: Bench, how: str, tiny: str) -> None:
    service = bench.service(
        f"FROM {tiny}\nARG WORD\nRUN echo $WORD > /word\nCOPY file /app/file\n", args={"WORD": "x"}
    )
    image = await bench.builder().build(service, print_ := fingerprint())
    assert image.how == how
    assert image.ref == f"{service.image}:dl-{print_.digest}"
    facts = await bench.engine.inspect(image.ref)
    assert facts is not None
    assert image.id == facts.id
    assert image.size == facts.size > 0
    container = await run_in(bench, image.ref, "cat /word /app/file")
    assert container == f"x\n{service.name}"


async def run_in(bench: Bench, ref: str, line: str) -> str:
    process = await anyio.run_process(["/usr/bin/docker", "run", "--rm", ref, "sh", "-c", line])
    return process.stdout.decode()


async def test_s25_images_carry_their_project_service_and_fingerprint(
    bench: Bench, how: str, tiny: str
) -> None:
    service = bench.service(f"FROM {tiny}\nCOPY file /file\n")
    image = await bench.builder().build(service, print_ := fingerprint())
    facts = await bench.engine.inspect(image.ref)
    assert facts is not None
    assert dict(facts.labels) == {
        "dev.devloop.project": bench.project,
        "dev.devloop.service": service.name,
        "dev.devloop.fingerprint": print_.digest,
    }


async def test_output_comes_line_by_line_with_steps(bench: Bench, how: str, tiny: str) -> None:
    service = bench.service(f"FROM {tiny}\nRUN echo one-{time.time_ns()}; echo two\nCOPY file /file\n")
    await bench.builder().build(service, fingerprint())
    lines = bench.lines()
    assert any(line.startswith("one-") for line in lines)
    assert "two" in lines
    steps = [event for event in bench.events if isinstance(event, Progress)]
    assert steps
    assert all((step.unit == "steps" and step.done <= step.total == 3) or how == "legacy" for step in steps)


async def test_failure_shows_instruction_last_lines_and_dockerfile_line(
    bench: Bench, how: str, tiny: str
) -> None:
    service = bench.service(f"FROM {tiny}\n# why\nCOPY file /file\nRUN seq 30 && \\\n    echo no && exit 7\n")
    with pytest.raises(BuildError) as caught:
        await bench.builder().build(service, fingerprint())
    evidence = caught.value.evidence
    assert "RUN seq 30 && echo no && exit 7" in evidence[0].replace("\\ ", "")
    assert {"no", "30"} <= set(evidence)
    assert "5" not in evidence  # only the last lines
    assert evidence[-1] == "Dockerfile:4 | RUN seq 30 && \\"
    assert "7" in caught.value.message
    assert await bench.engine.inspect(service.image) is None


async def test_missing_file_names_the_copy_and_says_what_to_do(bench: Bench, tiny: str) -> None:
    service = bench.service(f"FROM {tiny}\nCOPY nowhere.txt /\n")
    with pytest.raises(BuildError) as caught:
        await bench.builder().build(service, fingerprint())
    assert caught.value.evidence[-1] == "Dockerfile:2 | COPY nowhere.txt /"
    assert ".dockerignore" in (caught.value.hint or "")


async def test_unknown_instruction_names_its_line(bench: Bench, tiny: str) -> None:
    service = bench.service(f"FROM {tiny}\n\nCOPPY file /\n")
    with pytest.raises(BuildError) as caught:
        await bench.builder().build(service, fingerprint())
    assert caught.value.evidence[-1] == "Dockerfile:3 | COPPY file /"


async def test_s21_a_build_that_prints_nothing_is_ended_with_its_last_output(
    bench: Bench, how: str, tiny: str
) -> None:
    service = bench.service(f"FROM {tiny}\nRUN echo begun\nRUN sleep 61.7\n")
    with pytest.raises(BuildError) as caught:
        await bounded(
            partial(bench.builder().build, service, fingerprint()),
            5.0,
            lambda activity: BuildError("silent", evidence=activity.lines),
        )
    assert any("RUN sleep 61.7" in line for line in caught.value.evidence)


async def test_s10_cancelled_sleep_is_gone_from_the_engine(bench: Bench, how: str, tiny: str) -> None:
    """A condition is waited for: the sleeping process appears, the build is cancelled, it disappears."""
    seconds = str(1_000_000 + time.time_ns() % 1_000_000)
    service = bench.service(f"FROM {tiny}\nRUN sleep {seconds}\n")
    with anyio.fail_after(40):
        async with anyio.create_task_group() as group:
            group.start_soon(bench.builder().build, service, fingerprint())
            while not sleeping(seconds):
                await anyio.sleep(0.02)
            group.cancel_scope.cancel()
        while sleeping(seconds):
            await anyio.sleep(0.02)
    assert not commands_of(str(service.build.dockerfile))


def sleeping(seconds: str) -> bool:
    return any(line[-2:] == ["sleep", seconds] for line in command_lines())


def commands_of(context: str) -> list[list[str]]:
    return [line for line in command_lines() if context in line]


def command_lines() -> list[list[str]]:
    found = []
    for process in psutil.process_iter():
        try:
            found.append(process.cmdline())
        except psutil.Error:
            continue
    return found


async def test_s30_no_value_of_an_arg_or_secret_is_in_an_argv(bench: Bench, tiny: str) -> None:
    bench.environment["TOKEN_IN_ENV"] = "hunter-three"
    kept = bench.folder / "secret.txt"
    kept.write_text("hunter-two")
    service = bench.service(
        f"FROM {tiny}\nARG PASS\nARG ORDINARY\n"
        "RUN --mount=type=secret,id=a --mount=type=secret,id=b "
        'test "$PASS-$(cat /run/secrets/a)-$(cat /run/secrets/b)" = hunter-one-hunter-two-hunter-three '
        "&& sleep 1\n",
        args={"PASS": "hunter-one", "ORDINARY": "shown"},
        secrets=(Secret("a", file=kept), Secret("b", env="TOKEN_IN_ENV")),
    )
    seen: list[list[str]] = []

    async def look() -> None:
        while True:
            seen.extend(commands_of(str(service.build.dockerfile)))
            await anyio.sleep(0.02)

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        await bench.builder().build(service, fingerprint())
        group.cancel_scope.cancel()
    assert seen
    assert not [line for line in seen if any("hunter" in word for word in line)]
    assert any("ORDINARY=shown" in line for line in seen)


async def test_s30_output_and_evidence_show_names_in_place_of_values(
    bench: Bench, how: str, tiny: str
) -> None:
    service = bench.service(
        f"FROM {tiny}\nARG PASS\nRUN echo got $PASS && false\n", args={"PASS": "hunter-one"}
    )
    with pytest.raises(BuildError) as caught:
        await bench.builder().build(service, fingerprint())
    secrets = Secrets(Sources((service,)))
    caught.value.conceal(secrets)
    shown = [*output_lines(bench, secrets), *caught.value.evidence, caught.value.message]
    assert "got [PASS]" in shown
    assert not [line for line in shown if "hunter" in line]
    assert caught.value.evidence[-1] == "Dockerfile:3 | RUN echo got $PASS && false"


def output_lines(bench: Bench, secrets: Secrets) -> list[str]:
    """The output as sinks have it."""
    events = map(secrets.event, bench.events)
    return [event.line for event in events if isinstance(event, Output)]


async def test_s30_a_secret_that_the_build_prints_is_not_shown(bench: Bench, tiny: str) -> None:
    kept = bench.folder / "secret.txt"
    kept.write_text("hunter-two\n")
    service = bench.service(
        f"FROM {tiny}\nRUN --mount=type=secret,id=a cat /run/secrets/a; echo {time.time_ns()}\n",
        secrets=(Secret("a", file=kept),),
    )
    await bench.builder().build(service, fingerprint())
    lines = output_lines(bench, Secrets(Sources((service,))))
    assert "[a]" in lines
    assert not [line for line in lines if "hunter" in line]


async def test_missing_secret_is_named_before_the_build(bench: Bench, tiny: str) -> None:
    service = bench.service(f"FROM {tiny}\n", secrets=(Secret("npm", env="NO_SUCH_VARIABLE"),))
    with pytest.raises(BuildError, match="environment variable NO_SUCH_VARIABLE"):
        await bench.builder().build(service, fingerprint())


async def test_s8_tree_that_moved_under_the_command_leaves_no_tag(bench: Bench, tiny: str) -> None:
    service = bench.service(f"FROM {tiny}\nCOPY file /file\n")
    bench.tree.moved = True
    with pytest.raises(TreeMovedError):
        await bench.builder().build(service, print_ := fingerprint())
    assert await bench.engine.inspect(service.ref(print_)) is None


async def test_s8_the_tree_is_looked_at_as_soon_as_all_of_it_is_read(
    bench: Bench, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever needs the context, BuildKit reads it in one go, before any of the steps that use it."""
    service = bench.service(
        f"FROM {tiny} AS one\nCOPY file /file\n"
        f"FROM {tiny} AS two\nCOPY --chown=1:1 file other /two/\n"
        "RUN --mount=type=bind,source=third,target=/third cat /third\n"
        f"FROM {tiny}\nCOPY . /all\nRUN sleep 2 && echo late\n"
        "COPY --from=one /file /one\nCOPY --from=two /two /two\n"
    )
    for name in ("other", "third"):
        (service.build.context / name).write_text(name)
    lines: list[str] = []
    take = PlainReader.take
    monkeypatch.setattr(PlainReader, "take", lambda self, line: (lines.append(line), take(self, line)))
    looked: list[int] = []

    async def still_matches(service: Service, fingerprint: Fingerprint) -> bool:
        looked.append(len(lines))
        return True

    monkeypatch.setattr(bench.tree, "still_matches", still_matches)
    await bench.builder().build(service, fingerprint())
    reading = {line.split()[0] for line in lines if line.endswith("load build context")}
    late = next(number for number, line in enumerate(lines) if re.fullmatch(r"#\d+ [\d.]+ late", line))
    assert len(reading) == 1
    assert len(looked) == 1
    assert looked[0] <= late


async def test_s6_engine_of_another_architecture_is_refused_by_name(bench: Bench, tiny: str) -> None:
    service = bench.service(f"FROM {tiny}\n")
    info = await bench.engine.info()
    with pytest.raises(BuildError) as caught:
        await bench.builder().build(service, fingerprint("linux/s390x"))
    assert info.name in caught.value.message
    assert "linux/s390x" in caught.value.message


async def test_s9_a_client_without_buildx_is_passed_over(bench: Bench, tmp_path: Path) -> None:
    """A newer docker command without the plugin falls back to the legacy builder without an error."""
    first = tmp_path / "first"
    first.mkdir()
    fake = first / "docker"
    fake.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "Docker version 28.2.2, build e6534b4" || exit 1\n'
    )
    fake.chmod(0o755)
    bench.environment["PATH"] = f"{first}{os.pathsep}{bench.environment['PATH']}"
    found = await find_command(bench.environment)
    assert found is not None
    assert found.path != str(fake)


async def test_s9_reserved_build_arg_takes_the_api(bench: Bench, tiny: str) -> None:
    """A secret argument that docker reads itself can go neither by command line nor by environment."""
    service = bench.service(
        f"FROM {tiny}\nARG DOCKER_TOKEN\nRUN echo $DOCKER_TOKEN > /arg\n", args={"DOCKER_TOKEN": "x-y-z"}
    )
    image = await bench.builder().build(service, fingerprint())
    assert image.how == "buildkit"
    assert await run_in(bench, image.ref, "cat /arg") == "x-y-z\n"


@pytest.mark.parametrize(
    "name", ["HTTP_PROXY", "https_proxy", "DOCKER_HOST", "PATH", "HOME", "BUILDKIT_PROGRESS"]
)
async def test_s30_an_ordinary_argument_never_meets_the_docker_command(
    bench: Bench, tiny: str, name: str
) -> None:
    """It goes by command line: in the environment it would change what the command itself does."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        value = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        lines = f"ARG {name}\n" if name not in ("PATH", "HTTP_PROXY", "https_proxy") else ""
        service = bench.service(f"FROM {tiny}\n{lines}RUN env > /vars # {name} {value}\n", args={name: value})
        image = await bench.builder().build(service, fingerprint())
        assert image.how == "cli"
        if name != "PATH":
            assert f"{name}={value}" in await run_in(bench, image.ref, "cat /vars")
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()  # nobody came by


async def test_s30_a_proxy_argument_with_a_password_is_a_secret(bench: Bench, tiny: str) -> None:
    service = bench.service(
        f'FROM {tiny}\nRUN echo "$HTTPS_PROXY" | tee /arg\n',
        args={"HTTPS_PROXY": "http://me:hunter-one@127.0.0.1:9"},
    )
    image = await bench.builder().build(service, fingerprint())
    assert image.how == "buildkit"
    assert "hunter-one" in await run_in(bench, image.ref, "cat /arg")
    assert "[HTTPS_PROXY]" in (lines := output_lines(bench, Secrets(Sources((service,)))))
    assert not [line for line in lines if "hunter" in line]


async def test_s30_a_build_secret_keeps_its_value_beside_an_argument_of_its_name(
    bench: Bench, tiny: str
) -> None:
    """Both would be one variable of the docker command."""
    bench.environment["NPM_TOKEN"] = "of-the-secret"
    service = bench.service(
        f"FROM {tiny}\nRUN --mount=type=secret,id=a true\n",
        args={"NPM_TOKEN": "of-the-argument"},
        secrets=(Secret("a", env="NPM_TOKEN"),),
    )
    with pytest.raises(BuildError) as caught:
        await bench.builder().build(service, fingerprint())
    assert caught.value.reason == "NoBuilder"
    assert "NPM_TOKEN" in caught.value.message


async def test_s9_secrets_without_a_command_are_refused_with_a_hint(
    bench: Bench, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_command(bench, monkeypatch)
    bench.environment["TOKEN"] = "x"
    service = bench.service(f"FROM {tiny}\n", secrets=(Secret("a", env="TOKEN"),))
    with pytest.raises(BuildError) as caught:
        await bench.builder().build(service, fingerprint())
    assert "secrets" in caught.value.message
    assert "buildx" in (caught.value.hint or "")


async def test_s9_the_legacy_builder_warns_once(
    bench: Bench, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_command(bench, monkeypatch)
    monkeypatch.setattr("devloop.adapters.build.builder.ImageBuilder._has_buildkit", no_buildkit)
    builder = bench.builder()
    for _ in range(2):
        await builder.build(bench.service(f"FROM {tiny}\n"), fingerprint())
    assert len([event for event in bench.events if isinstance(event, Notice)]) == 1


async def test_builds_run_side_by_side_up_to_the_limit(bench: Bench, tiny: str) -> None:
    mark = str(2_000_000 + time.time_ns() % 1_000_000)
    services = [bench.service(f"FROM {tiny}\nRUN echo {index}; sleep {mark}\n") for index in range(3)]
    builder = bench.builder(parallel=2)
    with anyio.fail_after(40):
        async with anyio.create_task_group() as group:
            for service in services:
                group.start_soon(builder.build, service, fingerprint())
            while builder._limit.borrowed_tokens < 2:
                await anyio.sleep(0.02)
            assert builder._limit.statistics().tasks_waiting == 1
            group.cancel_scope.cancel()


async def test_the_command_line_names_everything(bench: Bench) -> None:
    service = bench.service("FROM scratch\n", args={"A": "1"})
    command = CliBuild(DockerCommand("docker", buildx=True), {}, bench.events.append)
    argv = command.argv(service, "x:1", "linux/amd64", {"k": "v"}, Path("/tmp/iid"))
    assert argv[:6] == ["docker", "buildx", "build", "--builder", "default", "--load"]
    assert argv[-1] == str(service.build.context)
    assert "A=1" in argv
    assert shutil.which("docker")
