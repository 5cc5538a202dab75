"""Mutants: small changes of devloop's own code, one at a time, each of which the simulation has to find.

    python -m tests.simulation.mutants --count 30 --seed 7 --cpu 120
    python -m tests.simulation.mutants --one devloop.trip.worker:17 --cpu 600    # one again

`--seed` draws them from all that there are in MODULES. Each runs in a process of its own, where an import
hook changes the one module: the files stay as they are. Days are simulated, by rolls, with a StatefulSet and
in place in turn, until an invariant is broken, something raises, or the CPU time is over. Prints a line for
each, survivors last, and whether a survivor's line was ever reached. Exit code 1 if one survived.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

ROOT = Path(__file__).parents[2]
MODULES = (
    "devloop.trip.worker", "devloop.trip.trip", "devloop.trip.inbox", "devloop.trip.pace",
    "devloop.trip.reconciler",
    "devloop.trip.drift", "devloop.trip.waits", "devloop.trip.sharing", "devloop.trip.worker_pool",
    "devloop.rollout.judge", "devloop.rollout.follow", "devloop.rollout.expectation",
    "devloop.rollout.states",
    "devloop.rollout.state_monitor", "devloop.rollout.progress", "devloop.rollout.in_place",
    "devloop.deploy.installer", "devloop.deploy.needs", "devloop.deploy.manifests",
    "devloop.watch.project_files",
)  # fmt: skip
FIRST_SEEDS = (1, 10_001, 20_001, 60_001)  # by rolls, with a StatefulSet, in place, with orders of people
SHORT = 40  # steps of a short day
LONGEST_DAY = 60  # seconds of CPU: a sound one takes ten; a day that does not end ends the process
REACHED = "_mutant_reached"
_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip

Change = Callable[[ast.AST], ast.AST]


@dataclass(frozen=True)
class Mutant:
    """The `number`-th change of a module. `before`, `after`: the statement's first line."""

    module: str
    number: int
    line: int
    before: str
    after: str

    @property
    def name(self) -> str:
        return f"{self.module}:{self.number}"

    def __str__(self) -> str:
        return f"{self.name} (line {self.line}): {self.before}  ->  {self.after}"


# --- changes


def changes_of(node: ast.AST) -> Iterator[Change]:
    """What may become of one node; each gives another node for a copy of it."""
    match node:
        case ast.Compare(ops=[compared]) if type(compared) in _COMPARED:
            yield lambda one: _with(one, ops=[_COMPARED[type(compared)]()])
        case ast.BoolOp(op=joined):
            yield lambda one: _with(one, op=ast.Or() if isinstance(joined, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield lambda _: operand
        case ast.If() | ast.IfExp() | ast.While():
            yield lambda one: _with(one, test=ast.UnaryOp(ast.Not(), one.test))  # type: ignore[attr-defined]
        case ast.Constant(value=bool(value)):
            yield lambda one: _with(one, value=not value)
        case ast.Constant(value=int() | float() as value):
            yield lambda one: _with(one, value=value + 1)
        case ast.BinOp(op=ast.Add()):
            yield lambda one: _with(one, op=ast.Sub())
        case ast.BinOp(op=ast.Sub()):
            yield lambda one: _with(one, op=ast.Add())
        case ast.Expr(value=ast.Call() | ast.Await()):
            yield lambda _: ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield lambda _: ast.Pass()
        case ast.Break():
            yield lambda _: ast.Continue()
        case ast.Continue():
            yield lambda _: ast.Break()
        case ast.Return(value=ast.Constant(value=None | False)):
            return
        case ast.Return(value=ast.expr()):
            yield lambda one: _with(one, value=ast.Constant(None))
        case _:
            return


def _with(node: ast.AST, **fields: object) -> ast.AST:
    for name, value in fields.items():
        setattr(node, name, value)
    return node


class _Changer(ast.NodeTransformer):
    """Makes the change of this number within functions, and counts all that there are."""

    def __init__(self, wanted: int = -1) -> None:
        self.wanted, self.count = wanted, 0
        self._inside = 0
        self.statements: list[ast.stmt] = []  # the statement of each change
        self._above: list[ast.stmt] = []

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._inside += 1
            node = self.generic_visit(node)
            self._inside -= 1
            return node
        if isinstance(node, ast.stmt):
            self._above.append(node)
        number = self.count
        changes = [*changes_of(node)] if self._inside and self._above else []
        self.count += len(changes)
        self.statements += [self._above[-1] for _ in changes]
        if number <= self.wanted < self.count:
            result = changes[self.wanted - number](node)
        else:
            result = self.generic_visit(node)
        if isinstance(node, ast.stmt):
            self._above.pop()
        return ast.copy_location(result, node)


class _Marker(ast.NodeTransformer):
    """Notes before one statement that it is reached."""

    def __init__(self, line: int, column: int) -> None:
        self._place = (line, column)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, [*self._marked(block)])
        return super().generic_visit(node)

    def _marked(self, block: Sequence[ast.AST]) -> Iterator[ast.AST]:
        for one in block:
            if isinstance(one, ast.stmt) and (one.lineno, one.col_offset) == self._place:
                yield ast.copy_location(ast.parse(f"__import__('builtins').{REACHED} = True").body[0], one)
            yield one


def _path(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


def count_of(module: str) -> int:
    counting = _Changer()
    counting.visit(ast.parse(_path(module).read_text()))
    return counting.count


def described(module: str, number: int) -> Mutant:
    source = _path(module).read_text()
    statement = _statement(module, number)
    after = next((one for one in ast.walk(mutated(source, number)) if _same_place(one, statement)), None)
    texts = [ast.unparse(one).split("\n")[0] if one else "" for one in (statement, after)]
    return Mutant(module, number, statement.lineno, *texts)


def _same_place(one: ast.AST, statement: ast.stmt) -> bool:
    return isinstance(one, ast.stmt) and (one.lineno, one.col_offset) == (
        statement.lineno,
        statement.col_offset,
    )


def mutated(source: str, number: int) -> ast.Module:
    tree = ast.parse(source)
    changed = _Changer(number).visit(copy.deepcopy(tree))
    assert isinstance(changed, ast.Module)
    return ast.fix_missing_locations(changed)


class Hook(importlib.abc.MetaPathFinder):
    """Loads one module with its change; all others as they are."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._mutant.module:
            return None
        return importlib.util.spec_from_file_location(name, _path(name), loader=_Loader(name, self._mutant))


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, mutant: Mutant) -> None:
        super().__init__(name, str(_path(name)))
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        tree = mutated(_path(self._mutant.module).read_text(), self._mutant.number)
        statement = _statement(self._mutant.module, self._mutant.number)
        tree = ast.fix_missing_locations(_Marker(statement.lineno, statement.col_offset).visit(tree))
        return compile(tree, str(_path(fullname)), "exec")


def _statement(module: str, number: int) -> ast.stmt:
    counting = _Changer()
    counting.visit(ast.parse(_path(module).read_text()))
    return counting.statements[number]


# --- runs


def run_one(name: str, cpu: float) -> int:
    """In a process of its own: prints what came of it. 1 = it was found."""
    module, _, number = name.partition(":")
    mutant = Mutant(module, int(number), 0, "", "")
    sys.meta_path.insert(0, Hook(mutant))
    resource.setrlimit(resource.RLIMIT_CPU, (int(cpu) + LONGEST_DAY, int(cpu) + LONGEST_DAY))
    began, runs = time.process_time(), 0
    seeds = [*FIRST_SEEDS]
    while time.process_time() - began < cpu:
        seed = seeds[runs % len(seeds)] + runs // len(seeds)
        steps = SHORT if runs < len(seeds) else None  # first a short day of each kind
        runs += 1
        if problem := _day(seed, steps):
            print(f"found by seed {seed}, {time.process_time() - began:.0f} s: {problem[:160]}")
            return 1
    import builtins

    reached = "" if hasattr(builtins, REACHED) else ", and was never reached"
    print(f"SURVIVED {runs} days, {time.process_time() - began:.0f} s{reached}")
    return 0


def _day(seed: int, steps: int | None) -> str:
    """What is wrong with this day, "" if nothing is."""
    try:
        from tests.simulation.run import run
        from tests.simulation.script import random_script

        violations = run(seed, random_script(seed)[:steps]).violations
    except Exception as problem:  # noqa: BLE001 - whatever it does, it is seen
        return f"{type(problem).__name__}: {problem}"
    return str(violations[0]) if violations else ""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cpu", type=float, default=120.0, help="seconds for each")
    parser.add_argument("--one", help="only this one, as MODULE:NUMBER")
    given = parser.parse_args()
    if given.one:
        return run_one(given.one, given.cpu)
    every = [(module, number) for module in MODULES for number in range(count_of(module))]
    places = random.Random(given.seed).sample(every, min(given.count, len(every)))
    drawn = [described(module, number) for module, number in places]
    print(f"{len(drawn)} of {len(every)} mutants, drawn by seed {given.seed}", flush=True)
    survivors = []
    for mutant in drawn:
        command = [
            sys.executable,
            "-m",
            "tests.simulation.mutants",
            "--one",
            mutant.name,
            "--cpu",
            str(given.cpu),
        ]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        said = (done.stdout.strip().splitlines() or [f"found: the process ended with {done.returncode}"])[-1]
        print(f"{mutant}\n    {said}", flush=True)
        if said.startswith("SURVIVED"):
            survivors.append(mutant)
    print(f"{len(drawn) - len(survivors)} found, {len(survivors)} survived")
    for mutant in survivors:
        print(f"survived: {mutant}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
