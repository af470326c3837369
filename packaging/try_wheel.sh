#!/usr/bin/env bash
# Installs a wheel into an empty environment, starts the server from it and asks for a PONG.
set -euo pipefail
python=$1
wheel=$(realpath "$2")
folder=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; rm -rf "$folder"' EXIT
"$python" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "$wheel"
cd "$folder"
"$folder/venv/bin/dfly" --version
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$folder/venv/bin/dfly" --port "$port" > log 2>&1 &
pid=$!
"$python" - "$port" <<'PY'
import socket
import sys
import time

for _ in range(100):
    try:
        client = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)
        break
    except OSError:
        time.sleep(0.1)
client.sendall(b"PING\r\n")
reply = client.recv(100)
print(reply.decode().strip())
sys.exit(reply != b"+PONG\r\n")
PY
kill "$pid"
wait "$pid"
pid=
