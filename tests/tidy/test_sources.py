"""The style of the sources that a search can check: what every file has, and what no file contains."""

import ast
import importlib.util
import re
import sys

import pytest
from tidy_tree import CORE, ROOT, code, name, room, sources, text, tracked

LINE_CHARACTERS_MAX = 120
FILE_LINES_MAX = 1500

# Modules that may take the GIL inside a nogil function, and why. Fibers need no entry: proactor_run
# returns to Python code when fibers are ready.
WITH_GIL_ALLOWED = {}

# Headers that hold state, and why that state exists once all the same.
STATIC_ALLOWED = {"dfly/_core/sys/alloc_backend.h": "included by sys/alloc.pyx only; checked below"}

# Rooms whose code runs without the GIL; server and testing are at the Python border.
BORDER_ROOMS = {"server", "snapshot_file", "testing"}

CYTHON = sources(".pyx", ".pxd", under=CORE)
PYTHON = sources(".py")
HEADERS = sources(".h", under=CORE)

# In two halves, so that this file does not contain them.
HOSTS = ["py" + "pi.org", "python" + "hosted.org", "files." + "python", "github" + "usercontent.com"]
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:wo" + "rk|ro" + r"ot|tmp/venv)(?:/[\w.]|\b(?=[\s\"'`:]|$))")


def lines_that(path, pattern, where=code):
    return [f"{name(path)}:{number}: {line.strip()}"
            for number, line in enumerate(where(path).splitlines(), 1) if re.search(pattern, line)]


@pytest.mark.parametrize("path", [p for p in CYTHON if room(p) not in BORDER_ROOMS], ids=name)
def test_data_plane_modules_do_without(path):
    banned = [r"^\s*include\s+[\"']", r"^\s*(DEF|IF|ELIF)\s", r"\bexcept\s*\*"]
    if name(path) not in WITH_GIL_ALLOWED:
        banned.append(r"\bwith\s+gil\b")
    found = [line for pattern in banned for line in lines_that(path, pattern)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", CYTHON, ids=name)
def test_data_plane_code_checks_with_its_own_checks(path):
    """Python's assert prints and goes on in a noexcept nogil function."""
    if room(path) not in BORDER_ROOMS:
        found = lines_that(path, r"^\s*assert\b")
        assert not found, "\n".join(found)


@pytest.mark.parametrize("path", sources(".pyx", under=CORE), ids=name)
def test_every_module_carries_the_stamp(path):
    assert re.search(r"^__abi__ = DFLY_ABI_STAMP$", text(path), re.MULTILINE), name(path)


@pytest.mark.parametrize("path", [*CYTHON, *PYTHON], ids=name)
def test_every_module_says_what_it_is(path):
    if not text(path).strip():
        return
    if path.suffix == ".py":
        docstring = ast.get_docstring(ast.parse(text(path)))
    else:
        match = re.match(r'(?:\s*#[^\n]*\n)*\s*r?"""(.*?)"""', text(path), re.DOTALL)
        docstring = match and match.group(1)
    assert docstring and len(docstring.split()) >= 3, f"{name(path)} has no module docstring"


@pytest.mark.parametrize("path", [*CYTHON, *PYTHON, *HEADERS], ids=name)
def test_lines_and_files_are_short_and_without_tabs(path):
    long_lines = [f"{name(path)}:{number}: {len(line)} characters"
                  for number, line in enumerate(text(path).split("\n"), 1) if len(line) > LINE_CHARACTERS_MAX]
    assert not long_lines, "\n".join(long_lines)
    found = lines_that(path, r"\t|[ \t]+$", where=text)
    assert not found, "\n".join(found)
    assert text(path).count("\n") <= FILE_LINES_MAX, f"{name(path)} is longer than {FILE_LINES_MAX} lines"


@pytest.mark.parametrize("path", [*HEADERS, *sources(".pxd", under=CORE)], ids=name)
def test_shared_headers_hold_no_state(path):
    """A variable in a header, or in a .pxd's verbatim C, would exist once in every extension module."""
    if name(path) in STATIC_ALLOWED:
        return
    found = [line for line in lines_that(path, r"\bstatic\b|\b__thread\b|\b_Thread_local\b", where=text)
             if "__thread" in line or "_Thread_local" in line
             or not re.search(r"\bconst\b|\(|\bstatic\s+inline\b|^\S+ \*", line)]
    found = [line for line in found if not re.search(r":\d+: (\*|//|#|/\*)", line)]
    assert not found, "\n".join(found)


def test_a_header_with_state_is_included_once():
    for header in STATIC_ALLOWED:
        leaf = header.rsplit("/", 1)[1]
        users = [name(path) for path in [*CYTHON, *HEADERS] if re.search(rf'[<"]{leaf}[">]', text(path))]
        assert len(users) == 1 and users[0].endswith(".pyx"), f"{header} is included by {users}"


def is_compiled(module):
    spec = importlib.util.find_spec(module) if module in sys.stdlib_module_names else None
    return spec is not None and (spec.origin or "").endswith((".so", "built-in", "frozen"))


def test_no_module_is_named_like_a_compiled_one_of_the_standard_library():
    """PyInit_<leaf> of a statically linked Python would be the other module's."""
    assert is_compiled("_queue") and not is_compiled("mailbox")
    assert not [name(path) for path in sources(".pyx", under=CORE) if is_compiled(path.stem)]


@pytest.mark.parametrize("path", tracked(), ids=name)
def test_no_file_names_a_package_host_or_a_place_on_somebodys_machine(path):
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return
    found = [f"{name(path)}:{number}: {line.strip()[:100]}" for number, line in enumerate(lines, 1)
             if any(host in line for host in HOSTS) or MACHINE_PATH.search(line)]
    assert not found, "\n".join(found)


def test_no_build_product_is_tracked():
    """But the real files that fuzzing begins with."""
    products = [name(path) for path in tracked() if "seeds" not in path.parts and
                (path.suffix in (".so", ".o", ".a", ".whl", ".rdb", ".aof")
                 or path.suffix == ".c" and CORE in path.parents)]
    assert not products


def test_the_checks_see_what_they_look_for(tmp_path):
    """The searches above, on a file that has every fault: a check that finds nothing anywhere is no check."""
    bad = tmp_path / "bad.pyx"
    bad.write_text('"""with gil in a docstring is no fault"""\ncdef void f() noexcept nogil:\n'
                   '    with gil:\n        pass  # except *\ncdef int g() except *:\n    assert 1\n'
                   'DEF X = 1\ninclude "y.pxi"\n')
    assert not lines_that_in(bad, r"docstring")
    for pattern in (r"\bwith\s+gil\b", r"\bexcept\s*\*", r"^\s*assert\b", r"^\s*(DEF|IF|ELIF)\s",
                    r"^\s*include\s+[\"']"):
        assert len(lines_that_in(bad, pattern)) == 1, pattern
    assert MACHINE_PATH.search("see /ro" + "ot/x") and MACHINE_PATH.search("'/wo" + "rk'")
    assert not MACHINE_PATH.search("a path such as frame/wo" + "rk/x")
    assert ROOT in CORE.parents


def lines_that_in(path, pattern):
    return [line for line in code(path).splitlines() if re.search(pattern, line)]
