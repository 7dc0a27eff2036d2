"""The agents of the tests on a real server: two of one name would share what a session has stored.

Tests that share a server are chosen anew in each run, so that is found by chance alone.
"""

import re
from collections import defaultdict
from pathlib import Path

SERVER = Path(__file__).parents[1] / "server"
NAMES = re.compile(r'"(\w+Agent)"|^\s*class (\w+Agent)\(', re.MULTILINE)


def test_no_two_files_have_an_agent_of_one_name() -> None:
    files = defaultdict(set)
    shared = set()
    for path in SERVER.glob("*.py"):
        for names in NAMES.findall(path.read_text()):
            files["".join(names)].add(path.name)
            if not path.name.startswith("test_"):  # it has processes of its own
                shared.add("".join(names))
    assert len(files) > 200
    twice = {name: sorted(of) for name, of in files.items() if len(of) > 1}
    assert {name: of for name, of in twice.items() if name not in shared} == {}
