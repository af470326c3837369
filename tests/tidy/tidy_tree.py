"""What the tidy tests look at: the tree's own files, and the cimports of a Cython file."""

import re
import subprocess
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "dfly" / "_core"

IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+(c?import)\b[ \t]*(\([^)]*\)|[^\n]*)"
                    r"|(c?import)[ \t]+([\w.]+))", re.MULTILINE)


@lru_cache
def tracked():
    """Every file that belongs to the tree, by git where there is one: also new files, not ignored ones."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
        paths = [ROOT / name for name in names if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [*ROOT.glob("*"), *ROOT.glob("dfly/**/*"), *ROOT.glob("tests/**/*"), *ROOT.glob("docs/**/*")]
    return sorted(path for path in paths if path.is_file())


def sources(*suffixes, under=ROOT):
    return [path for path in tracked() if path.suffix in suffixes and under in path.parents]


def name(path):
    return path.relative_to(ROOT).as_posix()


@lru_cache(maxsize=None)
def text(path):
    return path.read_text(encoding="utf-8")


def code(path):
    """The text without docstrings and comments, line by line as before. Verbatim C blocks go too."""
    def blank(match):
        return "\n" * match.group(0).count("\n")
    without = re.sub(r'r?"""(?:[^\\]|\\.)*?"""', blank, text(path), flags=re.DOTALL)
    return re.sub(r"(?m)#.*$", "", without)


def imports(path):
    """Dotted names of the modules that a .pyx, .pxd or .py imports or cimports, with `cimport` or `import`.

    `from package import module` counts as package.module where that is a file of the tree.
    """
    found = []
    for match in IMPORT.finditer(code(path)):
        package, kind, names, plain_kind, plain = match.groups()
        if plain:
            found.append((plain, plain_kind))
            continue
        base = ROOT.joinpath(*package.split("."))
        parts = [part.split()[0] for part in re.sub(r"[()\\]", " ", names).split(",") if part.strip()]
        modules = [part for part in parts
                   if any((base / f"{part}{suffix}").exists() for suffix in (".pxd", ".pyx", ".py"))]
        if base.is_dir() and modules:
            found += [(f"{package}.{module}", kind) for module in modules]
        else:
            found.append((package, kind))
    return found


def room(path):
    """The room of a file under dfly/_core: the folder's name, or the module's own name."""
    parts = path.relative_to(CORE).parts
    return parts[0] if len(parts) > 1 else parts[0].split(".")[0]
