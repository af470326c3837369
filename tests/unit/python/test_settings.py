"""Settings: files, environment, command line, and what stops start-up."""

import subprocess
import sys

import pytest

from dfly.cli import parse_arguments
from dfly.settings import ConfigError, Settings, show_notify


def run_cli(*arguments):
    command = [sys.executable, "-m", "dfly", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def load(text):
    settings = Settings()
    settings.load_lines(text.splitlines(), "test.conf")
    return settings


def test_values_spellings_and_comments():
    settings = load("# comment\n\nmaxmemory_policy allkeys-lru\nMAXMEMORY 100mb\nrequirepass \"a b\"\n")
    assert settings["maxmemory-policy"] == "allkeys-lru"
    assert settings["maxmemory"] == 100 * 1024**2
    assert settings["requirepass"] == "a b"


@pytest.mark.parametrize("line, words", [
    ("maxmemry 1", ["test.conf", "line 2", "did you mean 'maxmemory'"]),
    ("port abc", ["line 2", "integer"]),
    ("port 70000", ["line 2", "between 0 and 65535"]),
    ("appendonly yes", ["not supported yet"]),
    ("compression_mode 2", ["line 2", "2 (zstd) is not supported", "3 (blocks by LZ4"]),
    ("compression-mode lz4", ["line 2", "compression_mode can be 0 (none), 1"]),
    ("compression_level 9", ["line 2", "between 0 and 2"]),
    ("requirepass \"open", ["Unbalanced quotes"]),
    ("port", ["no value"]),
])
def test_errors_name_file_line_and_reason(line, words):
    with pytest.raises(ConfigError) as error:
        load("# first\n" + line)
    assert all(word in str(error.value) for word in words), error.value


def test_command_line_beats_environment_beats_file(tmp_path, monkeypatch):
    path = tmp_path / "dfly.conf"
    path.write_text("port 1\ntimeout 2\nmaxclients 3\n")
    monkeypatch.setenv("DFLY_PORT", "11")
    monkeypatch.setenv("DFLY_TIMEOUT", "12")
    settings = Settings()
    assert parse_arguments([str(path), "--port=21", "--noprotected_mode"], settings) is None
    assert (settings["port"], settings["timeout"], settings["maxclients"]) == (21, 12, 3)
    assert settings["protected-mode"] is False


def test_an_unknown_environment_variable_is_an_error():
    with pytest.raises(ConfigError, match="DFLY_NOSUCH"):
        Settings().load_environment({"DFLY_NOSUCH": "1"})


def test_set_is_all_or_nothing():
    settings = Settings()
    with pytest.raises(ConfigError):
        settings.set_many([("maxmemory", "1mb"), ("hz", "abc")])
    assert settings["maxmemory"] == 0


def test_rewrite_keeps_comments_and_order(tmp_path):
    path = tmp_path / "dfly.conf"
    path.write_text("# mine\nport 7000\n\ntimeout 5\n")
    settings = Settings()
    settings.load_file(str(path))
    settings.set_many([("timeout", "9"), ("maxmemory", "1mb")])
    settings.rewrite()
    assert path.read_text() == "# mine\nport 7000\n\ntimeout 9\nmaxmemory 1048576\n"
    again = Settings()
    again.load_file(str(path))
    assert again.values == settings.values


@pytest.mark.parametrize("text, shown", [("KEA", "AKE"), ("Egx", "gxE"), ("", ""), ("KEg$", "g$KE")])
def test_notification_flags(text, shown):
    settings = load(f'notify-keyspace-events "{text}"')
    assert show_notify(settings["notify-keyspace-events"]) == shown


def test_the_command():
    version = run_cli("--version")
    assert version.stdout.startswith("dfly ")
    usage = run_cli("--help")
    assert "--proactor_threads" in usage.stdout
    wrong = subprocess.run([sys.executable, "-m", "dfly", "--prot", "1"], capture_output=True, text=True)
    assert wrong.returncode == 1 and "did you mean 'port'" in wrong.stderr
