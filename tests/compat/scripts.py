"""Hand-written scripts: files of plain commands in scripts/, one script per paragraph.

Words are split as a shell does; `\\xNN` inside a word is a byte. A line that starts with `#` is a comment.
Every paragraph starts with empty databases and is run as one sequence on one connection.
"""

import re
import shlex
from pathlib import Path

FOLDER = Path(__file__).parent / "scripts"
ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})|\\([rn])")
LETTERS = {b"r": b"\r", b"n": b"\n"}


def unescape(word):
    def byte(match):
        return bytes([int(match[1], 16)]) if match[1] else LETTERS[match[2]]

    return ESCAPE.sub(byte, word.encode())


def load(name):
    scripts = []
    for paragraph in (FOLDER / f"{name}.txt").read_text().split("\n\n"):
        lines = [line for line in paragraph.splitlines() if line.strip() and not line.startswith("#")]
        commands = []
        for line in lines:
            lexer = shlex.shlex(line, posix=True, punctuation_chars="")
            lexer.whitespace_split = True
            lexer.escape = ""
            lexer.commenters = ""
            commands.append([unescape(word) for word in lexer])
        if commands:
            scripts.append(commands)
    assert scripts, f"no scripts in {name}.txt"
    return scripts


def run_scripts(duel, name, protocol, **options):
    for script in load(name):
        duel.run(script, protocol, **options)
