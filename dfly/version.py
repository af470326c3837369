"""The version, in one place."""

__version__ = "0.1.0"
REDIS_VERSION = "7.4.0"   # the protocol and command level that clients may rely on
