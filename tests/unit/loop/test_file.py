"""File requests from fibers, on both backends: what is written is read, errors and faults come back, and the
loop goes on meanwhile."""

import errno
import os
import threading
import time

import pytest

from dfly._core.testing import fiber_testing as ft
from dfly._core.testing import file_testing as files
from loops import Loops, on_fiber, wait_for

BACKENDS = (1, 2)
MEGABYTE = 1 << 20


@pytest.fixture(params=BACKENDS)
def loop(request):
    with Loops(1, request.param) as (loop,):
        yield loop


@pytest.fixture
def fault():
    yield files.inject
    for operation in files.OPERATIONS:
        files.inject(operation, 0)


def test_what_is_written_is_read(loop, tmp_path):
    chunks = [os.urandom(size) for size in (0, 1, 4095, MEGABYTE, 3 * MEGABYTE + 17)]
    temporary, final = bytes(tmp_path / "a.tmp"), bytes(tmp_path / "a")
    assert on_fiber(loop, files.write_file, temporary, chunks, final) == sum(map(len, chunks))
    assert not os.path.exists(temporary)
    data = b"".join(chunks)
    assert on_fiber(loop, files.read_file, final, len(data) + 100, 0) == data
    assert on_fiber(loop, files.read_file, final, 1000, 4000) == data[4000:5000]
    assert on_fiber(loop, files.read_file, final, 1000, len(data) - 10) == data[-10:]
    on_fiber(loop, files.remove_file, final)
    assert os.listdir(tmp_path) == []


def test_errors_of_the_system_come_back(loop, tmp_path):
    with pytest.raises(FileNotFoundError):
        on_fiber(loop, files.read_file, bytes(tmp_path / "none"), 10, 0)
    with pytest.raises(FileNotFoundError):
        on_fiber(loop, files.remove_file, bytes(tmp_path / "none"))
    with pytest.raises(OSError):
        on_fiber(loop, files.write_file, bytes(tmp_path / "x"), [b"1"], bytes(tmp_path))


@pytest.mark.parametrize("operation", ["open", "write", "fsync", "rename"])
@pytest.mark.parametrize("skip", [0, 2])
def test_injected_faults(loop, tmp_path, fault, operation, skip):
    fault(operation, errno.ENOSPC, skip)
    failed = 0
    for i in range(4):
        try:
            on_fiber(loop, files.write_file, bytes(tmp_path / "t"), [b"x" * 1000], bytes(tmp_path / f"f{i}"))
        except OSError as error:
            assert error.errno == errno.ENOSPC
            failed += 1
    assert failed == 4 - skip
    fault(operation, 0)
    on_fiber(loop, files.write_file, bytes(tmp_path / "t"), [b"x"], bytes(tmp_path / "last"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_fibers_write_at_once_and_the_loops_go_on(backend, tmp_path):
    """Ticks of timers while files are written and flushed: none of them waits for a file."""
    done, gaps, stop = [], [], threading.Event()
    with Loops(2, backend) as loops:
        def writer(name):
            blocks = [os.urandom(MEGABYTE)] * 4
            files.write_file(bytes(tmp_path / f"{name}.tmp"), blocks, bytes(tmp_path / name))
            done.append(name)

        def ticker():
            while not stop.is_set():
                before = time.monotonic()
                ft.sleep_us(500)
                gaps.append(time.monotonic() - before)

        for loop in loops:
            loop.hub.spawn_on(ticker)
        for i in range(8):
            loops[i % 2].hub.spawn_on(writer, f"f{i}")
        wait_for(lambda: len(done) == 8)
        stop.set()
        time.sleep(0.01)
    assert all((tmp_path / f"f{i}").stat().st_size == 4 * MEGABYTE for i in range(8))
    assert len(gaps) > 10


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stop_waits_for_the_call_that_has_begun(backend, tmp_path):
    """Opening a pipe ends when somebody reads from it; the write that would follow does not begin."""
    pipe = bytes(tmp_path / "pipe")
    os.mkfifo(pipe)
    loops = Loops(1, backend)
    with loops as (loop,):
        loop.hub.spawn_on(files.write_file, pipe, [b"x"], bytes(tmp_path / "final"))
        on_fiber(loop, int)
        loop.stop()
        time.sleep(0.1)
        assert loops.threads[0].is_alive()
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):         # no end of file: it was opened, and nobody closes it any more
        os.read(reader, 10)
    os.close(reader)
    assert os.listdir(tmp_path) == ["pipe"]
