"""Start-up and life of the server process: sockets, threads, signals, the control loop.

The main thread stays in Python: it answers control commands and waits for signals. Shard threads run
the data plane and never wait for it.
"""

import contextlib
import errno
import logging
import os
import resource
import signal
import socket
import stat
import sys
import time
from dataclasses import dataclass

from dfly.control import ControlPlane
from dfly.info import Info, human
from dfly.loader import Loader
from dfly.saver import Saver, remove_temporary_files
from dfly.settings import ConfigError
from dfly.version import __version__

log = logging.getLogger("dfly")

RESERVED_DESCRIPTORS = 64
CONTROL_WAIT_S = 0.25
LOOPBACK = ("127.", "::1", "localhost")
MOST_ADDRESSES = 16
# What '-' before an address forgives.
MAY_BE_MISSING = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENOPROTOOPT, errno.EPFNOSUPPORT,
                  errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT)


def available_cores():
    """Cores this process may use: affinity and the cgroup's cpu.max, at least one."""
    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as stream:
            quota, period = stream.read().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    return max(1, cores)


def memory_limit():
    """The cgroup's memory limit in bytes, or None."""
    with contextlib.suppress(OSError, ValueError):
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as stream:
            text = stream.read().strip()
        return None if text == "max" else int(text)
    return None


def raise_descriptor_limit(maxclients):
    """Raises RLIMIT_NOFILE for maxclients; returns how many clients fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = maxclients + RESERVED_DESCRIPTORS
    if soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            soft = limit
    return maxclients if soft >= wanted else max(1, soft - RESERVED_DESCRIPTORS)


def notify_supervisor(message):
    """Tells systemd (sd_notify's datagram) if it asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address[0] == "@":
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(message.encode(), address)


def expand_addresses(text):
    """'127.0.0.1 -::1 *' as [(address, may be missing)]."""
    result = []
    # Single spaces, as Redis: two of them enclose an address that cannot be.
    for word in text.split(" ") if text else ():
        optional = word.startswith("-")
        word = word.removeprefix("-")
        if word in ("*", "0.0.0.0"):
            result.append(("0.0.0.0", optional))
        elif word in ("::*", "::"):
            result.append(("::", optional))
        else:
            result.append((word, optional))
    return result


@dataclass(eq=False)
class Listener:
    """A listening socket; is_protected: it can be reached from other machines."""

    socket: socket.socket
    address: str = ""
    port: int = 0
    is_unix: bool = False
    is_protected: bool = False


class Process:
    """One server process, from settings to exit."""

    def __init__(self, settings):
        self.settings = settings
        self.listeners = []
        self.stopping = None         # (reason, words of SHUTDOWN) once asked for
        self.failing = set()         # periodic work whose last run has failed
        self.unix_path = None
        self.core = None

    # -- Listening -------------------------------------------------------------------------------

    def open_tcp(self, address, port, optional):
        """A Listener, or None for an address that this machine has not and that may be missing; OSError."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = None
        try:
            if not address:
                raise OSError(errno.EINVAL, "an empty address")
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address, port))
        except OSError as error:
            if listener is not None:
                listener.close()
            if optional and error.errno in MAY_BE_MISSING:
                return None
            raise
        listener.listen(self.settings["tcp-backlog"])
        listener.setblocking(False)
        return Listener(listener, address, port, is_protected=not address.startswith(LOOPBACK))

    def open_unix(self, path):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.stat(path).st_mode):
                os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(path)
        except OSError as error:
            raise ConfigError(f"cannot listen on unix socket '{path}': {error.strerror}") from None
        if self.settings["unixsocketperm"]:
            os.chmod(path, self.settings["unixsocketperm"])
        listener.listen(self.settings["tcp-backlog"])
        listener.setblocking(False)
        self.unix_path = path
        return Listener(listener, is_unix=True)

    def open_port(self, bind, port, kept=()):
        """Listeners of one TCP port on all addresses of `bind`, out of `kept` where they are there; OSError, and
        then none is left open that is not in `kept`. None at all for port 0."""
        kept = list(kept)
        result, opened = [], []
        try:
            for address, optional in expand_addresses(bind) if port else ():
                listener = next((each for each in kept if (each.address, each.port) == (address, port)), None)
                if listener is not None:
                    kept.remove(listener)
                else:
                    listener = self.open_tcp(address, port, optional)
                    if listener is None:
                        continue
                    opened.append(listener)
                result.append(listener)
        except OSError as error:
            for listener in opened:
                listener.socket.close()
            raise OSError(error.errno, f"cannot listen on {address}:{port}: {error.strerror}") from None
        return result

    def serve(self, listener):
        self.core.listen(listener.socket.fileno(), unix_socket=listener.is_unix, is_protected=listener.is_protected)

    def stop_serving(self, listener):
        self.core.stop_listening(listener.socket.fileno())
        # The loop lets go of its descriptor some ticks later; the address is free from here on.
        listener.socket.shutdown(socket.SHUT_RDWR)
        listener.socket.close()

    def change_listeners(self, bind, port):
        """Listens on the new addresses, then no more on the old ones; clients stay connected. If it cannot, OSError
        and all is as before."""
        before = [each for each in self.listeners if not each.is_unix]
        closed = []
        try:
            after = self.open_port(bind, port, before)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            # Perhaps by ourselves: 127.0.0.1 and all addresses do not go together.
            wanted = expand_addresses(bind)
            closed = [each for each in before if each.port == port
                      and not any(each.address == address for address, _ in wanted)]
            if not closed:
                raise
            for listener in closed:
                self.stop_serving(listener)
            before = [each for each in before if each not in closed]
            try:
                after = self.open_port(bind, port, before)
            except OSError:
                for listener in closed:
                    again = self.open_tcp(listener.address, listener.port, optional=False)
                    self.listeners[self.listeners.index(listener)] = again
                    self.serve(again)
                raise
        for listener in after:
            if listener not in before:
                self.serve(listener)
        for listener in before:
            if listener not in after:
                self.stop_serving(listener)
        self.listeners = after + [each for each in self.listeners if each.is_unix]

    def change_port(self, wanted):
        """CONFIG SET port, perhaps with bind."""
        port, bind = wanted["port"], wanted.get("bind", self.settings["bind"])
        try:
            self.change_listeners(bind, port)
        except OSError as error:
            log.warning("CONFIG SET port: %s", error.strerror)
            raise ConfigError("Unable to listen on this port. Check server logs.") from None
        if port and bind and not any(each.port == port for each in self.listeners):
            raise ConfigError("Unable to listen on this port. Check server logs.")

    def change_bind(self, wanted):
        """CONFIG SET bind, perhaps with port."""
        if len(wanted["bind"].split(" ")) > MOST_ADDRESSES:
            raise ConfigError("Too many bind addresses specified.")
        try:
            self.change_listeners(wanted["bind"], wanted.get("port", self.settings["port"]))
        except OSError as error:
            log.warning("CONFIG SET bind: %s", error.strerror)
            raise ConfigError("Failed to bind to specified addresses.") from None

    def open_listeners(self):
        """Opens what the settings ask for."""
        try:
            self.listeners = self.open_port(self.settings["bind"], self.settings["port"])
        except OSError as error:
            raise ConfigError(error.strerror) from None
        if self.settings["unixsocket"]:
            self.listeners.append(self.open_unix(self.settings["unixsocket"]))
        if not self.listeners:
            raise ConfigError("nothing to listen on: 'port' is 0 or 'bind' has no address, and 'unixsocket' is empty")

    # -- Life ------------------------------------------------------------------------------------

    def shut_down(self, reason, words=()):
        """Asks the control loop to end."""
        self.stopping = self.stopping or (reason, words)
        if self.core is not None:
            # select() goes on waiting behind a signal's handler.
            self.core.wake_control()

    def on_signal(self, number, frame):
        name = signal.Signals(number).name
        self.shut_down(f"signal {name}", self.settings[f"shutdown-on-{name.lower()}"])

    def may_stop(self, words=()):
        """Takes the snapshot that the end asks for; False if it failed and nobody forces the end."""
        if self.loader.is_loading:
            # What is there now is not the data.
            return True
        wanted = "save" in words or ("nosave" not in words and bool(self.settings["save"]))
        if not wanted or not self.settings["dbfilename"]:
            return True
        log.info("Saving the final snapshot before exiting")
        was = self.core.hold_clients()
        if self.saver.save_now(lambda: time.sleep(0.005)) or "force" in words:
            return True
        log.warning("Error trying to save the DB, can't exit.")
        self.core.let_clients_go(was)
        return False

    def start(self):
        """Opens sockets, starts threads; returns when clients are served."""
        from dfly._core import check_abi
        from dfly._core.server import Server
        check_abi()
        settings = self.settings
        with contextlib.suppress(OSError):
            os.chdir(settings["dir"])
        remove_temporary_files()
        threads = settings["proactor_threads"] or available_cores()
        clients = raise_descriptor_limit(settings["maxclients"])
        if clients < settings["maxclients"]:
            log.warning("maxclients lowered to %d: the limit of open files is too low for %d", clients,
                        settings["maxclients"])
            settings.values["maxclients"] = clients
        self.open_listeners()
        self.core = Server(dict(settings.values), threads=threads, force_epoll=settings["force_epoll"])
        backend, reason = self.core.start()
        self.loader = Loader(self.core, settings)
        must_load = self.loader.begin()
        for listener in self.listeners:
            self.serve(listener)
        settings.apply = self.core.apply
        settings.prepare["port"] = self.change_port
        settings.prepare["bind"] = self.change_bind
        self.info = Info(self.core, settings, backend)
        self.saver = Saver(self.core, settings)
        self.control = ControlPlane(self.core, settings, self.info, self)
        self.log_start(threads, backend, reason)
        if must_load:
            self.loader.launch()
        if settings["pidfile"]:
            with open(settings["pidfile"], "w", encoding="ascii") as stream:
                stream.write(f"{os.getpid()}\n")

    def log_start(self, threads, backend, reason):
        limit, group = self.settings["maxmemory"], memory_limit()
        log.info("dfly %s, Python %s, pid %d", __version__, sys.version.split()[0], os.getpid())
        log.info("%d shard thread%s, backend %s (%s)", threads, "" if threads == 1 else "s", backend, reason)
        log.info("memory limit: %s, policy %s%s", human(limit) if limit else "none",
                 self.settings["maxmemory-policy"], f", the cgroup allows {human(group)}" if group else "")
        for warning in self.settings.warnings:
            log.warning("%s", warning)
        for listener in self.listeners:
            if listener.is_unix:
                log.info("listening on unix socket %s", self.unix_path)
                continue
            host, port = listener.socket.getsockname()[:2]
            log.info("listening on %s:%d", host, port)
            if listener.is_protected and not self.settings["requirepass"]:
                log.warning("no password is set: clients from other machines are %s",
                            "refused (protected-mode)" if self.settings["protected-mode"] else "accepted")

    def run(self):
        """Serves until a signal or SHUTDOWN; returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.on_signal)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self.start()
        admin = None
        if self.settings["admin_port"]:
            from dfly.admin import AdminEndpoint
            admin = AdminEndpoint(self)
            admin.start()
        is_ready = False
        sampled = time.monotonic()
        while True:
            for request in self.core.wait_control(CONTROL_WAIT_S):
                self.control.handle(request)
            self.periodically(self.loader.tick)
            if self.loader.has_failed:
                break
            if not self.loader.is_loading:
                if not is_ready:
                    is_ready = True
                    log.info("ready to accept connections")
                    notify_supervisor("READY=1\nSTATUS=ready to accept connections")
                self.periodically(self.saver.tick)
            if time.monotonic() - sampled >= 1:
                sampled = time.monotonic()
                self.periodically(self.info.sample)
            if self.stopping is not None:
                reason, words = self.stopping
                log.info("shutting down: %s", reason)
                if words is None or self.may_stop(words):
                    break
                self.stopping = None
        notify_supervisor("STOPPING=1")
        if admin is not None:
            admin.stop()
        self.stop()
        if self.loader.has_failed:
            log.error("%s", self.loader.error)
            log.error("Refusing to start; 'dfly check FILE' tells more, --load_partial keeps what can be read")
            return 1
        log.info("bye")
        return 0

    def periodically(self, work):
        """The data plane serves on whatever goes wrong here; the log has it once."""
        try:
            work()
            self.failing.discard(work.__qualname__)
        except Exception:
            if work.__qualname__ not in self.failing:
                self.failing.add(work.__qualname__)
                log.exception("%s failed", work.__qualname__)

    def stop(self):
        self.loader.cancel()
        self.core.stop()
        remove_temporary_files()
        for listener in self.listeners:
            # What is pending in a ring holds the socket for some milliseconds behind the end of the process.
            with contextlib.suppress(OSError):
                listener.socket.shutdown(socket.SHUT_RDWR)
            listener.socket.close()
        for path in (self.unix_path, self.settings["pidfile"]):
            if path:
                with contextlib.suppress(OSError):
                    os.unlink(path)
