"""The main thread's loop: what fails there must not end the server."""

from dfly.server import Process


def test_what_fails_periodically_is_told_once_and_again_after_it_has_worked(caplog):
    process = Process(None)
    fails = [True]

    def work():
        if fails:
            raise OSError("the disk is gone")

    for _ in range(3):
        process.periodically(work)
    assert len(caplog.records) == 1 and "the disk is gone" in caplog.text
    fails.clear()
    process.periodically(work)
    fails.append(True)
    process.periodically(work)
    assert len(caplog.records) == 2
