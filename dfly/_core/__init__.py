"""The data plane: compiled modules, one room a folder (see docs/architecture.md)."""
