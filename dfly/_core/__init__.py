"""The data plane: compiled modules, one room a folder (see docs/architecture.md)."""

from sys import modules  # `sys` here would be the room of that name


def check_abi():
    """Compares the stamps of all compiled modules that are loaded; ImportError if the build is mixed.

    A struct that changed while only some modules were rebuilt would be read as garbage, silently.
    """
    stamps = {}
    for name, module in list(modules.items()):
        if name.startswith(__name__ + ".") and hasattr(module, "__abi__"):
            stamps.setdefault(module.__abi__, []).append(name)
    if len(stamps) > 1:
        odd = min(stamps.values(), key=len)
        raise ImportError(f"compiled modules from different builds: {', '.join(odd)}; run `make build`")
