"""What Cython and cython-lint say about the data plane: no performance hint, nothing unused or odd.

Cython takes about a second a module, cython-lint half of one, so results are kept in pytest's cache, by
the hash of the file and of every .pxd that it reads. What the last build has compiled it has given hints of, too.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import Cython
from tidy_tree import CORE, ROOT, imports, name, sources, text

HINTS = Path(__file__).with_name("cython_hints.py")
BUILD_LOG = ROOT / ".stamps" / "build.log"


def reads(path, seen):
    """path, and every .pxd of the tree that Cython reads to compile it."""
    if path in seen or not path.exists():
        return seen
    seen.add(path)
    if path.suffix == ".pyx":
        reads(path.with_suffix(".pxd"), seen)
    for module, kind in imports(path):
        if kind == "cimport" and module.startswith("dfly."):
            reads(ROOT.joinpath(*module.split(".")).with_suffix(".pxd"), seen)
    return seen


def digest(path):
    total = hashlib.sha256((Cython.__version__ + text(HINTS) + text(ROOT / "pyproject.toml")).encode())
    for part in sorted(reads(path, set())):
        total.update(name(part).encode() + b"\0" + part.read_bytes())
    return total.hexdigest()


def in_parallel(paths, run):
    """run(some of the paths) -> {file: faults}, on every core; the union."""
    workers = max(1, min(len(paths), os.cpu_count() or 1))
    found = {}
    with ThreadPoolExecutor(workers) as pool:
        for part in pool.map(run, [paths[i::workers] for i in range(workers)]):
            found.update(part)
    return found


def faults_of(request, rule, paths, run):
    """{file: faults} for all paths; those that the cache knows are not run again."""
    cache = request.config.cache
    known = cache.get(f"dfly/{rule}", {}) if cache else {}
    digests = {name(path): digest(path) for path in paths}
    fresh = [path for path in paths if digests[name(path)] not in known]
    found = in_parallel(fresh, run) if fresh else {}
    known = {value: found.get(file, known.get(value, [])) for file, value in digests.items()}
    if cache:
        cache.set(f"dfly/{rule}", known)
    return {file: known[value] for file, value in digests.items()}


def hints_of_the_build(paths):
    """{file: hints} for those that the last build compiled as they are now."""
    if not BUILD_LOG.exists():
        return {}
    log, built = text(BUILD_LOG), BUILD_LOG.stat().st_mtime
    compiled = set(re.findall(r"Cythonizing (\S+)", log))
    found = {name(path): [] for path in paths
             if name(path) in compiled and all(part.stat().st_mtime < built for part in reads(path, set()))}
    for line, file in re.findall(r"^(performance hint: (\S+?):.*)$", log, re.MULTILINE):
        if file in found:
            found[file].append(line)
    return found


def run_cython(paths):
    found = hints_of_the_build(paths)
    rest = [path for path in paths if name(path) not in found]
    return {**found, **(cython_hints(rest) if rest else {})}


def cython_hints(paths):
    command = [sys.executable, str(HINTS), *map(name, paths)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def run_lint(paths):
    command = [sys.executable, "-c", "from cython_lint.cython_lint import main; main()", *map(name, paths)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in run.stderr, run.stderr
    found = {name(path): [] for path in paths}
    for line in run.stdout.splitlines():
        # What has no line number is a note: a file that cython-lint's own parser does not understand.
        if match := re.match(r"(\S+?):\d+:\d+: ", line):
            found[match.group(1).removeprefix(f"{ROOT}/")].append(line.removeprefix(f"{ROOT}/"))
    return found


def test_cython_gives_no_performance_hint(request):
    found = faults_of(request, "cython-hints", sources(".pyx", under=CORE), run_cython)
    assert not any(found.values()), "\n".join(line for lines in found.values() for line in lines)


def test_cython_lint_is_clean(request):
    found = faults_of(request, "cython-lint", sources(".pyx", ".pxd", under=CORE), run_lint)
    assert not any(found.values()), "\n".join(line for lines in found.values() for line in lines)


def test_hints_are_found(tmp_path):
    """The same way as above, on a module that has one."""
    bad = tmp_path / "bad.pyx"
    bad.write_text("cdef void f() nogil:\n    pass\n\ncdef void g() noexcept nogil:\n    f()\n")
    command = [sys.executable, str(HINTS), str(bad)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "performance hint" in json.loads(run.stdout)[str(bad)][0]
    # And as the build says it.
    command = [sys.executable, "-m", "Cython.Build.Cythonize", "-3", bad.name]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    said = run.stdout + run.stderr
    assert re.search(r"^performance hint: bad\.pyx:", said, re.MULTILINE), said
    assert re.search(r"Cythonizing \S*bad\.pyx", said), said
