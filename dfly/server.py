"""Start-up and life of the server process: sockets, threads, signals, the control loop.

The main thread stays in Python: it answers control commands and waits for signals. Shard threads run
the data plane and never wait for it.
"""

import contextlib
import logging
import os
import resource
import signal
import socket
import stat
import sys
import time

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
    for word in text.split():
        optional = word.startswith("-")
        word = word.removeprefix("-")
        if word in ("*", "0.0.0.0"):
            result.append(("0.0.0.0", optional))
        elif word in ("::*", "::"):
            result.append(("::", optional))
        else:
            result.append((word, optional))
    return result


class Process:
    """One server process, from settings to exit."""

    def __init__(self, settings):
        self.settings = settings
        self.sockets = []
        self.stopping = None         # (reason, words of SHUTDOWN) once asked for
        self.unix_path = None
        self.core = None

    # -- Listening -------------------------------------------------------------------------------

    def open_tcp(self, address, port, optional):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address, port))
        except OSError as error:
            if optional:
                return None
            raise ConfigError(f"cannot listen on {address}:{port}: {error.strerror}") from None
        listener.listen(self.settings["tcp-backlog"])
        listener.setblocking(False)
        return listener

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
        return listener

    def open_port(self, port):
        """The sockets of one TCP port on all addresses of `bind`, in the form of open_sockets; none for 0."""
        opened = []
        try:
            for address, optional in expand_addresses(self.settings["bind"]) if port else ():
                listener = self.open_tcp(address, port, optional)
                if listener is not None:
                    opened.append((listener, False, not address.startswith(LOOPBACK)))
        except ConfigError:
            for listener, _, _ in opened:
                listener.close()
            raise
        return opened

    def change_port(self, port):
        """CONFIG SET port: listens on the new port, then no more on the old one; clients stay connected."""
        try:
            opened = self.open_port(port)
        except ConfigError as error:
            log.warning("CONFIG SET port: %s", error)
            raise ConfigError("Unable to listen on this port. Check server logs.") from None
        if port and not opened:
            raise ConfigError("Unable to listen on this port. Check server logs.")
        for listener, _, is_open in opened:
            self.core.listen(listener.fileno(), is_protected=is_open)
        for listener, is_unix, _ in self.sockets:
            if not is_unix:
                self.core.stop_listening(listener.fileno())
                # The loop lets go of its descriptor some ticks later; the port is free from here on.
                listener.shutdown(socket.SHUT_RDWR)
                listener.close()
        self.sockets = opened + [each for each in self.sockets if each[1]]

    def open_sockets(self):
        """Opens what the settings ask for: [(socket, is unix, is reachable from outside)]."""
        self.sockets = self.open_port(self.settings["port"])
        if self.settings["unixsocket"]:
            self.sockets.append((self.open_unix(self.settings["unixsocket"]), True, False))
        if not self.sockets:
            raise ConfigError("nothing to listen on: 'port' is 0 and 'unixsocket' is empty")

    # -- Life ------------------------------------------------------------------------------------

    def shut_down(self, reason, words=()):
        """Asks the control loop to end."""
        self.stopping = self.stopping or (reason, words)

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
        self.open_sockets()
        self.core = Server(dict(settings.values), threads=threads, force_epoll=settings["force_epoll"])
        backend, reason = self.core.start()
        self.loader = Loader(self.core, settings)
        must_load = self.loader.begin()
        for listener, is_unix, is_open in self.sockets:
            self.core.listen(listener.fileno(), unix_socket=is_unix, is_protected=is_open)
        settings.apply = self.core.apply
        settings.prepare["port"] = self.change_port
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
        for listener, is_unix, is_open in self.sockets:
            if is_unix:
                log.info("listening on unix socket %s", self.unix_path)
                continue
            host, port = listener.getsockname()[:2]
            log.info("listening on %s:%d", host, port)
            if is_open and not self.settings["requirepass"]:
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
            self.loader.tick()
            if self.loader.has_failed:
                break
            if not self.loader.is_loading:
                if not is_ready:
                    is_ready = True
                    log.info("ready to accept connections")
                    notify_supervisor("READY=1\nSTATUS=ready to accept connections")
                self.saver.tick()
            if time.monotonic() - sampled >= 1:
                sampled = time.monotonic()
                self.info.sample()
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

    def stop(self):
        self.loader.cancel()
        self.core.stop()
        remove_temporary_files()
        for listener, _, _ in self.sockets:
            listener.close()
        for path in (self.unix_path, self.settings["pidfile"]):
            if path:
                with contextlib.suppress(OSError):
                    os.unlink(path)
