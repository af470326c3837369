"""Build of the extension modules: one entry point, so that all modules agree on every struct.

A `cdef struct` that changed while only one module was rebuilt would be read as garbage, silently.
So every module is compiled with a stamp (a hash over all .pxd and .h files), the stamp is a
dependency of every module, and dfly/_core/__init__.py compares the stamps at import.

Environment:
    DFLY_BUILD=asan       ASan and UBSan, debug checks, libc malloc
    DFLY_BUILD=tsan       TSan, debug checks, libc malloc
    DFLY_ALLOCATOR=libc   the system allocator (for memray and the sanitizers)
    DFLY_ANNOTATE=1       write Cython's annotated HTML beside the sources
    DFLY_STAMP=word       this stamp instead of the hash: a changed .pxd then rebuilds only what cimports it.
                          For a developer's own tree; never for one that is shipped or benchmarked
"""

import glob
import hashlib
import os
import re
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup

ROOT = Path(__file__).resolve().parent
CORE = ROOT / "dfly" / "_core"
BUILD = os.environ.get("DFLY_BUILD", "release")


def version():
    return re.search(r'__version__ = "(.+?)"', (ROOT / "dfly/version.py").read_text()).group(1)


def abi_stamp():
    """Hash of every header of the build; struct layouts cannot differ between equal stamps."""
    if os.environ.get("DFLY_STAMP"):
        return os.environ["DFLY_STAMP"]
    digest = hashlib.sha256(BUILD.encode())
    digest.update(repr(find_mimalloc()).encode())
    for path in sorted([*CORE.rglob("*.pxd"), *CORE.rglob("*.h")]):
        digest.update(path.relative_to(ROOT).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def stamp_file(stamp):
    """A file that changes when the stamp does: every module depends on it, so none stays behind."""
    path = ROOT / "build" / "abi_stamp"
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text() != stamp:
        path.write_text(stamp)
    return str(path.relative_to(ROOT))


def find_mimalloc():
    """(include dir, static library, version) of the mimalloc that pip installed, or None."""
    if os.environ.get("DFLY_ALLOCATOR") == "libc" or BUILD in ("asan", "tsan"):
        return None
    for entry in sys.path:
        prefix = Path(entry or ".") / "cmeel.prefix"
        libraries = glob.glob(str(prefix / "lib" / "mimalloc-*" / "libmimalloc.a"))
        headers = glob.glob(str(prefix / "include" / "mimalloc-*" / "mimalloc.h"))
        if libraries and headers:
            number = re.search(r"#define MI_MALLOC_VERSION\s+(\d+)", Path(headers[0]).read_text())
            return os.path.dirname(headers[0]), libraries[0], number.group(1) if number else "unknown"
    return None


LIBRARIES = {  # a header of each, and the packages that have it
    "liburing.h": "liburing's headers are missing: install liburing-dev (Debian, Ubuntu) or liburing-devel (Fedora)",
    "lz4.h": "LZ4's headers are missing: install liblz4-dev (Debian, Ubuntu) or lz4-devel (Fedora)",
}


def missing_libraries():
    """What to say of those that are not there."""
    folders = [Path("/usr/include"), Path("/usr/local/include")]
    return [text for header, text in LIBRARIES.items() if not any((folder / header).exists() for folder in folders)]


def flags():
    common = ["-fno-semantic-interposition", "-fvisibility=hidden", "-Wno-unused-function", "-g1"]
    if os.uname().machine == "x86_64":
        common += ["-march=x86-64-v2", "-mtune=generic"]
    if BUILD == "asan":
        # greenlet copies stack slices, which stack red zones would report (greenlet issue 113).
        sanitize = ["-fsanitize=address,undefined", "-fno-sanitize=vptr,alignment", "--param=asan-stack=0",
                    "-fno-wrapv", "-fsanitize=signed-integer-overflow", "-fno-omit-frame-pointer"]
        return common + ["-O1", "-DDFLY_DEBUG=1", *sanitize], ["-fsanitize=address,undefined"]
    if BUILD == "tsan":
        return common + ["-O1", "-DDFLY_DEBUG=1", "-fsanitize=thread"], ["-fsanitize=thread"]
    # A developer's own tree (DFLY_STAMP) is built for the next edit, not for speed.
    return common + ["-O1" if os.environ.get("DFLY_STAMP") else "-O3", "-fno-plt"], []


def extensions():
    compile_flags, link_flags = flags()
    stamp = abi_stamp()
    mimalloc = find_mimalloc()
    headers = [stamp_file(stamp), *sorted(str(p.relative_to(ROOT)) for p in CORE.rglob("*.h"))]
    for path in sorted(CORE.rglob("*.pyx")):
        name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        module_flags = [*compile_flags, f'-DDFLY_ABI_STAMP="{stamp}"']
        include = [str(CORE / "sys"), str(path.parent)]
        objects = []
        libraries = []
        if name == "dfly._core.sys.alloc" and mimalloc:
            include.append(mimalloc[0])
            objects.append(mimalloc[1])
            module_flags += ["-DDFLY_USE_MIMALLOC=1", f'-DDFLY_MIMALLOC_VERSION="{mimalloc[2]}"']
        if name == "dfly._core.loop.uring":
            objects.append("-l:liburing.a")
        if name == "dfly._core.persist.frames":
            libraries.append("lz4")
        if name == "dfly._core.loop.fiber":
            import greenlet
            include.append(os.path.dirname(greenlet.__file__))
        yield Extension(
            name, [str(path.relative_to(ROOT))], include_dirs=include, extra_compile_args=module_flags,
            extra_link_args=[*link_flags, *objects], libraries=libraries, depends=headers,
        )


def modules():
    missing = missing_libraries()
    if missing:
        sys.exit("\n".join(f"dfly: {text}" for text in missing))
    from Cython.Build import cythonize
    return cythonize(
        list(extensions()),
        nthreads=os.cpu_count() or 1,
        annotate=bool(os.environ.get("DFLY_ANNOTATE")),
        compiler_directives={
            "language_level": 3, "boundscheck": False, "wraparound": False, "initializedcheck": False,
            "nonecheck": False, "cdivision": True, "auto_pickle": False, "embedsignature": True,
            "freethreading_compatible": True,
        },
    )


if __name__ == "__main__":
    building = not {"--version", "--name", "clean", "egg_info", "--help"} & set(sys.argv[1:])
    setup(packages=find_packages(include=["dfly", "dfly.*"]), version=version(),
          ext_modules=modules() if building else [])
