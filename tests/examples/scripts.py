"""Scripts for the stand-in: its replies to a user's newest message, one after the other."""

from typing import Any

from examples.coding_agent.scripted import Reply, Script


def on(**turns: list[Reply]) -> Script:
    """Answer to the newest message if it is one of these; "Done." when there is nothing more."""

    def script(messages: list[dict[str, Any]]) -> Reply:
        said = [i for i, x in enumerate(messages) if x["role"] == "user" and x["content"][0] != "["]
        place = said[-1]
        if messages[place]["content"] not in turns:
            return Reply("Done.")
        replies = turns[messages[place]["content"]]
        given = sum(x["role"] == "assistant" for x in messages[place:])
        return replies[given] if given < len(replies) else Reply("Done.")

    return script


def sh(command: str, text: str = "") -> Reply:
    return Reply(text, [("run_command", {"command": command})])


def write(path: str, content: str) -> Reply:
    return Reply("", [("write_file", {"path": path, "content": content})])


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def results(messages: list[Any]) -> list[str]:
    return [x["content"] for x in messages if x["role"] == "tool"]
