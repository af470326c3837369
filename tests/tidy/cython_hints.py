"""Compiles .pyx files with Cython, away from the tree, and prints its performance hints.

`Exception check on 'f' will always require the GIL`: a nogil function takes the GIL on every call of f.
Prints one JSON object: file -> list of hints and errors.
"""

import contextlib
import io
import json
import os
import sys
import tempfile

from Cython.Compiler import Errors
from Cython.Compiler.Main import CompilationOptions, compile_single, default_options

DIRECTIVES = {"language_level": 3, "boundscheck": False, "wraparound": False, "initializedcheck": False,
              "nonecheck": False, "cdivision": True, "auto_pickle": False, "freethreading_compatible": True}


def hints(path, folder):
    options = CompilationOptions(default_options, output_file=os.path.join(folder, "out.c"),
                                 compiler_directives=DIRECTIVES, include_path=["."])
    listing = io.StringIO()
    with contextlib.redirect_stderr(listing):
        Errors.init_thread()
        result = compile_single(path, options, None)
    found = [line for line in listing.getvalue().splitlines() if "performance hint" in line]
    return found if result.num_errors == 0 else [*found, f"{path}: {listing.getvalue()[-2000:]}"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps({path: hints(path, temporary) for path in sys.argv[1:]}))
