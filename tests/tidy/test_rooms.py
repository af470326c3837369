"""Dependencies between rooms point downwards only: a room cimports what stands in its row, and itself."""

import re

import pytest
from tidy_tree import CORE, ROOT, imports, name, room, sources

LOWER = {"sys"}
DATA = LOWER | {"store"}
WIRE = LOWER | {"resp", "loop", "net"}
ENGINE = DATA | WIRE | {"engine"}

ROOMS = {
    "sys": set(),
    "store": LOWER,
    "resp": LOWER,
    "loop": LOWER,
    "net": LOWER | {"loop", "resp"},
    "engine": DATA | WIRE,
    "commands": ENGINE | {"persist"},
    "persist": ENGINE,
    "replication": ENGINE | {"persist"},
    "cluster": ENGINE | {"persist", "replication"},
    "scripting": ENGINE | {"commands"},
    "server": ENGINE | {"commands", "persist", "replication", "cluster", "scripting"},
    "snapshot_file": DATA | {"engine", "persist"},
    "testing": ENGINE | {"commands", "persist", "replication", "cluster", "scripting", "server"},
}

# What Python code outside of _core may import, and why.
DOORS = {
    "dfly._core": "compares the stamps of the modules",
    "dfly._core.server": "starts, feeds and stops the data plane",
    "dfly._core.snapshot_file": "reads and copies snapshots without a server: check, convert",
    "dfly._core.sys.alloc": "name of the allocator, and what is allocated, for INFO and the start-up log",
}

# Python modules outside of _core that import nothing of the tree: compiled code may use them.
LEAVES = {"dfly.version", "dfly.command_docs"}

CYTHON = sources(".pyx", ".pxd", under=CORE)


def test_the_table_of_rooms_has_no_cycle():
    done = set()
    while len(done) < len(ROOMS):
        ready = [name for name, below in ROOMS.items() if name not in done and below <= done]
        assert ready, f"a cycle among {set(ROOMS) - done}"
        done.update(ready)


@pytest.mark.parametrize("path", CYTHON, ids=name)
def test_a_module_uses_only_rooms_below_its_own(path):
    own = room(path)
    if own == "__init__":
        assert not imports(path)
        return
    assert own in ROOMS, f"the room {own} has no row in ROOMS"
    for module, _ in imports(path):
        if not module.startswith("dfly.") or module in LEAVES:
            continue
        parts = module.split(".")
        assert parts[1] == "_core", f"{name(path)} imports {module}: compiled code knows nothing of dfly/*.py"
        if len(parts) > 2:
            allowed = ROOMS[own] | {own}
            assert parts[2] in allowed, f"{name(path)}: {own} must not depend on {parts[2]} ({module})"


def test_leaves_import_nothing_of_the_tree():
    for module in LEAVES:
        path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        assert path.exists() and not [used for used, _ in imports(path) if used.startswith("dfly")]


def test_no_two_modules_cimport_each_other_in_a_circle():
    edges = {}
    for path in CYTHON:
        module = re.sub(r"\.(pyx|pxd)$", "", name(path)).replace("/", ".")
        edges.setdefault(module, set()).update(
            used for used, kind in imports(path)
            if used.startswith("dfly.") and kind == "cimport" and path.suffix == ".pxd")
    state = {}

    def visit(module, trail):
        if state.get(module) == "done":
            return
        assert module not in trail, " -> ".join([*trail[trail.index(module):], module])
        for following in edges.get(module, ()):
            visit(following, [*trail, module])
        state[module] = "done"

    for module in edges:
        visit(module, [])


@pytest.mark.parametrize(
    "path", [p for p in sources(".py", under=ROOT / "dfly") if CORE not in p.parents], ids=name)
def test_python_enters_the_core_by_its_doors(path):
    for module, _ in imports(path):
        if module.startswith("dfly._core"):
            assert module in DOORS, f"{name(path)} imports {module}; the doors are {sorted(DOORS)}"
