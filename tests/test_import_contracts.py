"""Every import contract of pyproject.toml holds, and each can fail: a planted import is refused."""

from __future__ import annotations

import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

import grimp
import pytest
from importlinter import configuration
from importlinter.contracts.acyclic_siblings import AcyclicSiblingsContract
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.independence import IndependenceContract
from importlinter.contracts.layers import LayersContract
from importlinter.domain.contract import Contract

configuration.configure()
ROOT = Path(__file__).resolve().parents[1]
TYPES: dict[str, type[Contract]] = {
    "acyclic_siblings": AcyclicSiblingsContract,
    "forbidden": ForbiddenContract,
    "independence": IndependenceContract,
    "layers": LayersContract,
}
# Importer and imported; each must break the contract of this name.
PLANTED = {
    "devloop: nothing imports upward": (
        ("devloop.commands.once", "devloop.cli"),
        ("devloop.wiring", "devloop.commands.once"),
        ("devloop.doctor.machine", "devloop.commands.once"),
        ("devloop.wiring", "devloop.doctor.table"),
        ("devloop.adapters.lock", "devloop.wiring"),
        ("devloop.sinks.metrics", "devloop.adapters.lock"),
        ("devloop.control.actions", "devloop.wiring"),
        ("devloop.trip.worker", "devloop.control.actions"),
        ("devloop.trip.worker", "devloop.adapters.docker.engine"),
        ("devloop.forward.listener", "devloop.adapters.kubernetes.api.tunnel"),
        ("devloop.forward.pods", "devloop.trip.worker"),
        ("devloop.watch.watcher", "devloop.trip.inbox"),
        ("devloop.rollout.follow", "devloop.trip.worker"),
        ("devloop.config.load", "devloop.rollout.judge"),
        ("devloop.deploy.releases", "devloop.rollout.judge"),
        ("devloop.inputs.walk", "devloop.deploy.releases"),
        ("devloop.dockerfile.parser", "devloop.inputs.walk"),
        ("devloop.ports", "devloop.trip.sharing"),
        ("devloop.model.project", "devloop.deploy.helm_values"),
        ("devloop.errors", "devloop.model.image"),
        ("devloop.causes.find", "devloop.model.image"),
    ),
    "devloop: no circles": (
        ("devloop.clock", "devloop.activity"),
        ("devloop.trip.inbox", "devloop.trip.worker"),
        ("devloop.adapters.kubernetes.api.client", "devloop.adapters.kubernetes.cluster"),
    ),
    "devloop.model: values know each other in one direction": (
        ("devloop.model.inputs", "devloop.model.image"),
        ("devloop.model.cluster", "devloop.model.outcome"),
    ),
    "devloop.causes: languages and tools know nothing of each other": (
        ("devloop.causes.node", "devloop.causes.tools"),
        ("devloop.causes.python", "devloop.causes.find"),
        ("devloop.causes.cause", "devloop.causes.plain"),
    ),
    "devloop.init: reading a project and proposing a config know nothing of each other": (
        ("devloop.init.project.scan", "devloop.init.proposal.render"),
        ("devloop.init.proposal.propose", "devloop.init.project.scan"),
        ("devloop.init.found", "devloop.init.project.tree"),
    ),
    "devloop.adapters: from builds to nodes, one below the other": (
        ("devloop.adapters.docker.engine", "devloop.adapters.archive.oci_layout"),
        ("devloop.adapters.archive.oci_layout", "devloop.adapters.build.builder"),
        ("devloop.adapters.build.builder", "devloop.adapters.nodes.routes"),
        ("devloop.adapters.nodes.gc", "devloop.adapters.delta.parents"),
        ("devloop.adapters.process", "devloop.adapters.docker.endpoint"),
    ),
    "devloop.adapters: Helm writes through the Kubernetes client": (
        ("devloop.adapters.kubernetes.apply.applier", "devloop.adapters.helm.records"),
        ("devloop.adapters.lock", "devloop.adapters.kubernetes.cluster"),
    ),
    "devloop.adapters: engines, clusters and files know nothing of each other": (
        ("devloop.adapters.docker.engine", "devloop.adapters.kubernetes.api.client"),
        ("devloop.adapters.kubernetes.cluster", "devloop.adapters.docker.engine"),
        ("devloop.adapters.watch.inotify", "devloop.adapters.docker.engine"),
    ),
    "devloop.adapters: what brings images to nodes knows no Kubernetes client and no Helm": (
        ("devloop.adapters.nodes.loader", "devloop.adapters.kubernetes.inventory"),
        ("devloop.adapters.delta.builder", "devloop.adapters.helm.records"),
    ),
    "The core speaks to no engine, API, terminal or browser itself": (
        ("devloop.trip.worker", "docker"),
        ("devloop.rollout.judge", "kubernetes"),
        ("devloop.forward.connection", "aiohttp"),
        ("devloop.model.image", "aiohttp"),
        ("devloop.watch.watcher", "watchfiles"),
        ("devloop.config.load", "click"),
        ("devloop.deploy.diff", "rich"),
    ),
    "docker is asked by adapters.docker alone": (
        ("devloop.adapters.nodes.registry", "docker"),
        ("devloop.commands.doctor", "docker"),
    ),
    "kubernetes is asked by adapters.kubernetes alone": (("devloop.adapters.helm.records", "kubernetes"),),
    "The sandbox knows nothing of devloop": (("devloop_sandbox.daemon", "devloop.clock"),),
    "The sandbox's packages, from its command down to what an object is": (
        ("devloop_sandbox.daemon", "devloop_sandbox.cli"),
        ("devloop_sandbox.api", "devloop_sandbox.controllers"),
        ("devloop_sandbox.objects", "devloop_sandbox.store"),
    ),
    "Helm's library is loaded by its worker process alone": (
        ("devloop.adapters.helm.releaser", "helm_python"),
    ),
    "devloop knows nothing of the sandbox, but for its command line": (
        ("devloop.commands.doctor", "devloop_sandbox.daemon"),
    ),
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("devloop", "devloop_sandbox", include_external_packages=True, cache_dir=None)


def contracts() -> dict[str, Contract]:
    options: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    found = {}
    for one in options["contracts"]:
        texts = {key: str(value) if isinstance(value, bool) else value for key, value in one.items()}
        found[one["name"]] = TYPES[one["type"]](one["name"], session_options=options, contract_options=texts)
    return found


def holds(contract: Contract, graph: grimp.ImportGraph) -> bool:
    return contract.check(graph, verbose=False).kept


def test_every_contract_has_a_planted_import() -> None:
    assert set(contracts()) == set(PLANTED), "a contract is shown to fail: add an import that breaks it"


@pytest.mark.parametrize("name", PLANTED)
def test_each_contract_holds_and_refuses_what_is_planted(name: str, graph: grimp.ImportGraph) -> None:
    contract = contracts()[name]
    assert holds(contract, deepcopy(graph))
    for importer, imported in PLANTED[name]:
        planted = deepcopy(graph)
        assert importer in planted.modules, f"{importer} is no module any more: plant elsewhere"
        if imported not in planted.modules:
            assert "." not in imported, f"{imported} is no module any more: plant elsewhere"
            planted.add_module(imported, is_squashed=True)
        planted.add_import(importer=importer, imported=imported)
        assert not holds(contract, planted), f"{importer} may import {imported}"


def test_a_new_package_has_to_be_given_its_layer(graph: grimp.ImportGraph) -> None:
    planted = deepcopy(graph)
    planted.add_module("devloop.surprise")
    assert not holds(contracts()["devloop: nothing imports upward"], planted)
