"""Tables, JSON and Markdown of the measurements."""

import datetime
import json
import os
import platform
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"
DOCUMENT = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"

DOCUMENT_HEAD = """# Benchmarks

Written by `make bench`; do not edit between the markers. Every table says on what it was measured; ratios
between servers of one table are worth more than absolute figures, since the runs are interleaved.
"""


def environment():
    """What a reader needs to place the figures; nothing that names the machine."""
    model = "unknown processor"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": model,
        "cores": os.cpu_count(),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def environment_line(values):
    return (f"{values['date']}; {values['processor']}, {values['cores']} cores, Linux {values['kernel']}, "
            f"CPython {values['python']}; load average at the start {values['load_average']}")


def text_table(headers, rows):
    """A plain table for a terminal: the first column left, all others right."""
    cells = [[str(cell) for cell in row] for row in [headers, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    lines = []
    for number, row in enumerate(cells):
        lines.append("  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                               for column, (cell, width) in enumerate(zip(row, widths))).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths))
    return "\n".join(lines)


def markdown_table(headers, rows):
    lines = ["| " + " | ".join(headers) + " |", "|" + "---|" * len(headers)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def write_json(name, data):
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    return path


def replace_between(text, marker, body):
    """The text with what stands between the two comments of this marker replaced; None without them."""
    begin, end = f"<!-- {marker}:begin -->", f"<!-- {marker}:end -->"
    first, last = text.find(begin), text.find(end)
    if first < 0 or last < first:
        return None
    return text[:first + len(begin)] + "\n" + body.strip() + "\n" + text[last:]


def publish_document(marker, body, path=DOCUMENT):
    """Write a section of docs/benchmarks.md, which is made when it is not there yet."""
    text = path.read_text() if path.exists() else DOCUMENT_HEAD
    replaced = replace_between(text, marker, body)
    if replaced is None:
        replaced = f"{text.rstrip()}\n\n<!-- {marker}:begin -->\n{body.strip()}\n<!-- {marker}:end -->\n"
    path.parent.mkdir(exist_ok=True)
    path.write_text(replaced)


def publish_readme(marker, body, path=README):
    """Write the README's table; False when the README has no place for it."""
    replaced = replace_between(path.read_text(), marker, body) if path.exists() else None
    if replaced is None:
        return False
    path.write_text(replaced)
    return True
