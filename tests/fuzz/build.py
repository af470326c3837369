"""Builds the fuzz targets, and the modules that they need, with clang: AddressSanitizer, UBSan and coverage.

The modules go into a package tree of their own (build/fuzz), so that no release module is replaced. The
interpreter is the ordinary one, started with two libraries preloaded: libFuzzer, made a shared library
here, and the sanitizer's run-time. In this order, since the latter has empty stand-ins of the functions
by which modules report their coverage. Prints both paths.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from Cython.Build import cythonize

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "fuzz"
TARGETS = ["tests/fuzz/parser_fuzz.pyx", "tests/fuzz/loader_fuzz.pyx"]
DIRECTIVES = {"language_level": 3, "boundscheck": False, "wraparound": False, "initializedcheck": False,
              "nonecheck": False, "cdivision": True, "auto_pickle": False}
CLANG = os.environ.get("CLANG", "clang")
# Arrays at the end of a struct are longer than they are declared; AddressSanitizer knows their real ends.
SANITIZERS = ["-fsanitize=address,undefined,fuzzer-no-link", "-fno-sanitize=function,alignment,vptr,array-bounds",
              "-fno-sanitize-recover=undefined", "-shared-libasan"]


def runtime(name):
    """Path of one of clang's run-time libraries; their folder differs between versions."""
    folder = Path(subprocess.check_output([CLANG, "-print-resource-dir"], text=True).strip()) / "lib"
    machine = os.uname().machine
    found = [*folder.glob(f"linux/libclang_rt.{name.replace('.', f'-{machine}.', 1)}"),
             *folder.glob(f"{machine}-*/libclang_rt.{name}")]
    if not found:
        sys.exit(f"fuzz: clang has no libclang_rt.{name} (apt-get install clang libclang-rt-dev)")
    return str(found[0])


def needed(sources):
    """These sources, and those of all modules that they cimport, directly or not."""
    found, left = set(), list(sources)
    while left:
        path = left.pop()
        if path in found or not path.exists():
            continue
        found.add(path)
        for name in re.findall(r"^from (dfly[.a-z0-9_]+) cimport", path.read_text(), re.MULTILINE):
            module = ROOT / name.replace(".", "/")
            left += [module.with_suffix(".pyx"), module.with_suffix(".pxd")]
    return sorted(path for path in found if path.suffix == ".pyx")


def copy_tree():
    """Packages, headers and the sources that are needed, all under one root."""
    shutil.rmtree(OUT / "tree", ignore_errors=True)
    packages = [path for path in (ROOT / "dfly").rglob("*") if path.suffix in (".pxd", ".h")]
    packages += (ROOT / "dfly").rglob("__init__.py")
    targets = [ROOT / target for target in TARGETS]
    for path in [*packages, *needed(targets)]:
        inside = Path(path.name) if path in targets else path.relative_to(ROOT)
        target = OUT / "tree" / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
        yield target


def compile_module(extension):
    source = Path(extension.sources[0])
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    line = [CLANG, "-shared", "-fPIC", "-g1", "-O1", "-fno-omit-frame-pointer", "-DDFLY_DEBUG=1", "-w",
            *SANITIZERS,
            "-I", sysconfig.get_path("include"), "-I", "dfly/_core/sys", str(source), "-o",
            str(source.with_suffix(suffix)), *(["-llz4"] if source.stem == "frames" else [])]
    subprocess.run(line, check=True)


def link_fuzzer():
    library = OUT / "libfuzzer.so"
    subprocess.run([CLANG, "-shared", "-o", str(library), "-Wl,--whole-archive", runtime("fuzzer_no_main.a"),
                    "-Wl,--no-whole-archive", "-lstdc++", "-lm", "-lpthread"], check=True)
    return library


def main():
    sources = [str(path) for path in copy_tree() if path.suffix == ".pyx"]
    os.chdir(OUT / "tree")
    sources = [os.path.relpath(path) for path in sources]
    for extension in cythonize(sources, compiler_directives=DIRECTIVES, quiet=True):
        compile_module(extension)
    print(f"{link_fuzzer()}:{runtime('asan.so')}")


if __name__ == "__main__":
    main()
