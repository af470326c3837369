"""Glob patterns against a plain recursive matcher, and the bound on work."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfly._core.testing.dash_testing import glob


def fold(byte, nocase):
    return byte + 32 if nocase and 65 <= byte <= 90 else byte


def read_class(pattern, at, byte, nocase):
    """(does the class at pattern[at] == '[' contain byte, where it ends)"""
    at += 1
    negated = pattern[at:at + 1] == b"^"
    at += negated
    found = False
    while at < len(pattern):
        if pattern[at] == ord("\\") and at + 1 < len(pattern):
            found |= pattern[at + 1] == byte
            at += 2
        elif pattern[at] == ord("]"):
            at += 1
            break
        elif pattern[at + 1:at + 2] == b"-" and at + 2 < len(pattern):
            low, high = (fold(end, nocase) for end in sorted((pattern[at], pattern[at + 2])))
            found |= low <= fold(byte, nocase) <= high
            at += 3
        else:
            found |= fold(pattern[at], nocase) == fold(byte, nocase)
            at += 1
    return found != negated, at


def reference(pattern, text, nocase):
    """Tries every way a star can be taken."""
    if not pattern:
        return not text
    if pattern[0] == ord("*"):
        return any(reference(pattern[1:], text[i:], nocase) for i in range(len(text) + 1))
    if not text:
        return False
    if pattern[0] == ord("?"):
        return reference(pattern[1:], text[1:], nocase)
    if pattern[0] == ord("["):
        inside, end = read_class(pattern, 0, text[0], nocase)
        return inside and reference(pattern[end:], text[1:], nocase)
    if pattern[0] == ord("\\") and len(pattern) > 1:
        pattern = pattern[1:]
    return fold(pattern[0], nocase) == fold(text[0], nocase) and reference(pattern[1:], text[1:], nocase)


patterns = st.lists(st.sampled_from(list(b"aabBc*?[]^-\\\xff\x00")), max_size=9).map(bytes)
texts = st.lists(st.sampled_from(list(b"aabBc]-^\\\xff\x00")), max_size=8).map(bytes)


@settings(max_examples=2000, deadline=None)
@given(patterns, texts, st.booleans())
def test_against_reference(pattern, text, nocase):
    # Of an empty text Redis says that only the empty pattern matches ("*" alone is up to its caller).
    expected = reference(pattern, text, nocase) if text else not pattern
    assert glob(pattern, text, nocase) == expected


@pytest.mark.parametrize("pattern, text, nocase, expected", [
    (b"h?llo", b"hello", False, True),
    (b"h*llo", b"heeeello", False, True),
    (b"h[^e]llo", b"hello", False, False),
    (b"h[a-b]llo", b"hbllo", False, True),
    (b"h[b-a]llo", b"hbllo", False, True),
    (b"h\\?llo", b"h?llo", False, True),
    (b"HELLO*", b"hello world", True, True),
    (b"[A-C]x", b"bX", True, True),
    (b"", b"", False, True),
    (b"**", b"", False, False),
    (b"ab**", b"ab", False, True),
    (b"", b"a", False, False),
    (b"[abc", b"c", False, True),
    (b"a\\", b"a\\", False, True),
    (b"[]", b"a", False, False),
])
def test_cases(pattern, text, nocase, expected):
    assert glob(pattern, text, nocase) is expected


def test_many_stars_take_bounded_time():
    text = b"a" * 20000
    start = time.process_time()
    assert not glob(b"a*" * 30 + b"b", text)
    assert not glob(b"*a" * 30 + b"*b*", text)
    assert time.process_time() - start < 2.0
