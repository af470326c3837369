"""What clients read of commands by machine: since, complexity, arguments, tips, key specifications.

command_facts.json states what Redis' command table defines; tests/compat compares it with a real server.
"""

import json
from pathlib import Path

FACTS = json.loads(Path(__file__).with_name("command_facts.json").read_text("utf-8"))
