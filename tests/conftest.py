"""What a run says at its end: why a test was tried again that passed at a later try."""

LINES = 60                   # of a failure's text: its end says what differs
COLUMNS = 300


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.write_sep("_", f"tried again: {report.nodeid}")
        for line in report.longreprtext.splitlines()[-LINES:]:
            terminalreporter.write_line(line[:COLUMNS])
