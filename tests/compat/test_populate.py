"""DEBUG POPULATE: as Redis without options; with them keys of every type, which no oracle makes."""

import pytest


def test_as_redis(duel):
    duel.run([("DEBUG", "POPULATE", 5), ("DEBUG", "POPULATE", 3, "p"), ("DEBUG", "POPULATE", 3, "q", 12),
              ("DEBUG", "POPULATE", 3, "short", 3), ("DEBUG", "POPULATE", 7, "p"), ("DEBUG", "POPULATE", "x"),
              ("DEBUG", "POPULATE", -1), ("DEBUG", "POPULATE", 1, "r", "x"), ("DEBUG", "POPULATE", 0), ("DBSIZE",)])


@pytest.mark.parametrize("rand", [(), ("RAND",)])
@pytest.mark.parametrize("name, counting", [("list", "LLEN"), ("set", "SCARD"), ("zset", "ZCARD"), ("hash", "HLEN"),
                                            ("stream", "XLEN"), ("string", None)])
def test_types(flushed, name, counting, rand):
    with flushed.connect() as connection:
        for size in (0, 5, 100):
            connection.command("FLUSHALL")
            line = ("DEBUG", "POPULATE", 50, "p", size, *rand, "TYPE", name, "ELEMENTS", 300)
            assert connection.command(*line).raw == b"+OK\r\n"
            assert connection.command("DBSIZE").value == 50
            assert connection.command("TYPE", "p:49").value == name.encode()
            if counting:
                assert connection.command(counting, "p:7").value == 300
            else:
                assert connection.command("STRLEN", "p:7").value == size
            assert connection.command("DEBUG", "DIGEST").value != b"0" * 40
    assert_errors(flushed)


def assert_errors(server):
    with server.connect() as connection:
        for words in (("TYPE",), ("TYPE", "none"), ("ELEMENTS",), ("FOO",)):
            reply = connection.command("DEBUG", "POPULATE", 1, "p", 1, *words)
            assert reply.raw.startswith(b"-ERR unknown subcommand or wrong")
        for number in (0, -1, "x"):
            assert connection.command("DEBUG", "POPULATE", 1, "p", 1, "ELEMENTS", number).is_error
