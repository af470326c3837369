"""Choosing the backend where io_uring is forbidden, as container runtimes do it: by seccomp."""

import errno
import subprocess
import sys
import textwrap

import pytest

SETUP, ENTER, REGISTER = 425, 426, 427      # the same numbers on every architecture

CHILD = """
    import ctypes, socket, struct, sys
    from dfly._core.testing import loop_testing

    forbidden, error = int(sys.argv[1]), int(sys.argv[2])
    libc = ctypes.CDLL(None, use_errno=True)
    program = b"".join(struct.pack("HBBI", *line) for line in [
        (0x20, 0, 0, 0),                        # load the number of the system call
        (0x15, 0, 1, forbidden),                # not the forbidden one: skip the next
        (0x06, 0, 0, 0x00050000 | error),       # fail with the error
        (0x06, 0, 0, 0x7fff0000),               # allow
    ])
    lines = ctypes.create_string_buffer(program)
    filter = struct.pack("HxxxxxxP", 4, ctypes.addressof(lines))
    assert libc.prctl(38, 1, 0, 0, 0) == 0      # no new privileges
    assert libc.prctl(22, 2, filter) == 0       # seccomp filter

    print(*loop_testing.probe(), sep="|")
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    listener.setblocking(False)
    server = loop_testing.EchoServer(0, [listener.detach()])
    print(server.result, server.backend, server.reason, sep="|")
    with socket.create_connection(address, 5) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    server.stop()
    failing = loop_testing.EchoServer(1, [])
    print(failing.result, failing.reason, sep="|")
"""


@pytest.mark.parametrize(("forbidden", "error", "text"), [
    (SETUP, errno.EPERM, "io_uring_setup: Operation not permitted (forbidden by seccomp"),
    (SETUP, errno.ENOSYS, "io_uring_setup: Function not implemented (a kernel without io_uring"),
    (ENTER, errno.EPERM, "io_uring_enter: Operation not permitted (forbidden by seccomp"),
    (REGISTER, errno.EINVAL, "provided buffer ring: Invalid argument (the kernel is too old"),
])
def test_epoll_takes_over_and_says_why(forbidden, error, text):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(CHILD), str(forbidden), str(error)],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    probed, chosen, insisted = [line.split("|") for line in done.stdout.splitlines()]
    assert int(probed[0]) == -error and probed[1].startswith(text)
    assert chosen[:2] == ["0", "2"] and chosen[2].startswith(text)
    assert int(insisted[0]) == -error and insisted[1].startswith(text)
