"""The script of an honest programmer, who has one program to write.

Whatever it is asked for, it writes a command that counts words, with tests; it makes a mistake,
sees the tests fail, and mends it. What it says about the tests is what they said. It heeds a few
words in what the user says: `unittest` or `pytest`, `lines`, `push`, `clean`. It reads from the
conversation alone what is done already; so it goes on where it was interrupted, and begins anew
after a rollback.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

CODE = '''\
"""Counts the words of a text{more}."""

import sys


def count_words(text: str) -> int:
    return len(text.split({by}))
{lines}

if __name__ == "__main__":
    given = sys.stdin.read()
    print(count_words(given){also})
'''
LINES = """

def count_lines(text: str) -> int:
    return len(text.splitlines())
"""
PYTEST = """\
from wordcount import count_words


def test_words_are_counted() -> None:
    assert count_words("to be") == 2


def test_several_spaces_count_as_one() -> None:
    assert count_words("to  be") == 2
"""
UNITTEST = """\
import unittest

from wordcount import count_words


class TestWords(unittest.TestCase):
    def test_words_are_counted(self) -> None:
        self.assertEqual(count_words("to be"), 2)

    def test_several_spaces_count_as_one(self) -> None:
        self.assertEqual(count_words("to  be"), 2)


if __name__ == "__main__":
    unittest.main()
"""
MISTAKE, MENDED = 'text.split(" ")', "text.split()"
STAND_IN = "I am a scripted stand-in for a model, and can write one program: it counts words."
Answer = tuple[str, list[tuple[str, Any]]]


def script(messages: list[dict[str, Any]]) -> Answer:
    """What the programmer says next, and what it calls."""
    text, calls = _next(messages)
    before = _text(messages[-2]) if len(messages) > 1 and messages[-1]["role"] == "user" else ""
    noticed = "You interrupted me; what I had done counts. " if "interrupted" in before[:30] else ""
    return noticed + text, calls


def _next(messages: list[dict[str, Any]]) -> Answer:  # noqa: PLR0911
    said = [_text(m) for m in messages if m["role"] == "user"]
    wishes = " ".join(x for x in said if not x.startswith("[")).lower()
    newest = _newest(messages)
    done = _Done(messages)
    style = "unittest" if wishes.rfind("unittest") > wishes.rfind("pytest") else "pytest"
    tests = UNITTEST if style == "unittest" else PYTEST
    program = _program(lines="line" in wishes, by='" "' if done.program is None else "")
    if not done.looked:
        hello = f"{STAND_IN} " if len(said) == 1 else ""
        return f"{hello}First I look at what is there.", [("list_files", {})]
    if done.program is None or ("count_lines" in program) != ("count_lines" in done.program):
        what = "I write the program." if done.program is None else "I add the lines to the program."
        return what, [("write_file", {"path": "wordcount.py", "content": program})]
    if done.tests != tests:
        call = ("write_file", {"path": "test_wordcount.py", "content": tests})
        return f"Now its tests, with {style}.", [call]
    if done.run is None:
        options = "-q -p no:cacheprovider" if style == "pytest" else "-q"
        command = f"python -B -m {style} {options}"
        return "Let me run them.", [("run_command", {"command": command})]
    if not done.run.startswith("[Exit code 0 "):
        if MISTAKE in done.program:
            mend = {"path": "wordcount.py", "old": MISTAKE, "new": MENDED}
            why = 'They fail: split(" ") counts an empty word between two spaces. I mend that.'
            return why, [("edit_file", mend)]
        return f"The tests fail, and I do not know why:\n\n{_last_line(done.run)}", []
    for word, command in (("push", "git push origin main"), ("clean", "rm -r __pycache__")):
        if word in newest and command not in done.commands:
            return f"I run {command}.", [("run_command", {"command": command})]
    return (
        f"Done: wordcount.py counts words, and its tests pass. They say: {_last_line(done.run)}",
        [],
    )


class _Done:
    """What the calls in a conversation have done, as their results say."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.looked = False
        self.program: str | None = None
        self.tests: str | None = None
        self.run: str | None = None
        self.commands: set[str] = set()
        for name, arguments, result in _calls(messages):
            if result.startswith("[Interrupted"):
                continue
            if name == "list_files":
                self.looked = True
            elif name == "write_file":
                self.run = None
                if arguments["path"] == "wordcount.py":
                    self.program = arguments["content"]
                else:
                    self.tests = arguments["content"]
            elif name == "edit_file":
                self.run = None
                self.program = (self.program or "").replace(arguments["old"], arguments["new"])
            elif name == "run_command":
                self.commands.add(arguments["command"])
                if "test" in arguments["command"]:
                    self.run = result


def _calls(messages: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], str]]:
    results = {m["tool_call_id"]: _text(m) for m in messages if m["role"] == "tool"}
    for message in messages:
        for call in message.get("tool_calls") or ():
            function = call["function"]
            if call["id"] in results:
                yield function["name"], json.loads(function["arguments"]), results[call["id"]]


def _program(*, lines: bool, by: str) -> str:
    return CODE.format(
        by=by,
        more=", and its lines" if lines else "",
        lines=LINES if lines else "",
        also=", count_lines(given)" if lines else "",
    )


def _newest(messages: list[dict[str, Any]]) -> str:
    users = [_text(m) for m in messages if m["role"] == "user"]
    return next((x.lower() for x in reversed(users) if not x.startswith("[")), "")


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content)


def _last_line(result: str) -> str:
    return next((x.strip() for x in reversed(result.splitlines()) if x.strip()), "nothing")
