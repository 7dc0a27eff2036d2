"""Writes docs/reference.md from the docstrings: `python docs/build_reference.py`.

Griffe reads the source. What is imported is the table of the handlers alone, for their schemas; so
the result does not depend on the version of Python or of a dependency.
"""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import griffe
from griffe import DocstringSectionKind as Section

from interruptible._handlers import HANDLERS
from interruptible._stream.handlers import STREAM_HANDLERS
from interruptible._wire.shapes import shape

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs/reference.md"
PACKAGE = griffe.load(
    "interruptible",
    search_paths=[ROOT],
    allow_inspection=False,
    docstring_parser="google",
    docstring_options={
        "returns_named_value": False,
        "returns_multiple_items": False,
        "warnings": False,
    },
)

SPELLED_OUT = {  # aliases that are clearer so, and where they are
    "Burst": "_wire.types",
    "OutputMessage": "_wire.output",
    "Policy": "_wire.types",
    "RunFunction": "_agent",
    "ToolState": "_stream.events",
    "TurnStatus": "_wire.types",
}
STANDS_FOR = {
    "Named": "Agent",  # types that keep modules apart
    "Conversation": "list[Message]",
    "TurnNumber": "int",  # types with rules for who sends them
    "Count": "int",
    "EndStatus": "TurnStatus",
    "Messages": "list[Message]",
    "Streaming": "Stream",
}
WIDTH = 100

INTRODUCTION = """\
<!-- Made by `python docs/build_reference.py`. Change the docstrings, not this file. -->

# Reference

Twelve names make up the package `interruptible`. What is beside it is imported by its own name:
[`interruptible.client`](#interruptibleclient) has the types of all that sessions and tasks take and
answer (the receipt, the outcome, the status …), [`interruptible.formats`](#interruptibleformats)
is for how providers write messages, [`interruptible.ext`](#interruptibleext) runs agents of
frameworks, [`interruptible.stream`](#interruptiblestream) shows what turns do as they do it,
[`interruptible.gateway`](#interruptiblegateway) lets browsers in, `python -m interruptible.acp` is
for [editors](how-to/use-an-editor.md), and [`interruptible.testing`](#interruptibletesting) is for
tests. Callers in other languages want [the wire](#the-wire).
"""

CONTEXTS = """\
`ctx` is always the context that Restate gave to the handler. Its methods are those of
[restate-sdk](https://docs.restate.dev/develop/python/services).
"""

OF_THE_CLIENT = """\
What the methods of `Session` and `Task` take and return, as types: `from interruptible.client
import Receipt`. `Message`, `Session` and `Turn` are there, too.
"""

OF_FRAMEWORK = """\
Agents of frameworks, one module each, behind an extra of the same name:
[how to use them](how-to/use-a-framework.md). Each has the same two functions.
"""

OF_GATEWAY = """\
What may face browsers: [how to use it](how-to/let-browsers-in.md).
"""

OF_STREAM = """\
What the turns of a session do, as they do it: [how to use it](how-to/show-tokens.md), and
[how it works](explanation/protocol.md#the-stream). `Session.follow` gives the events.
"""

WIRE = """\
## The wire

JSON over Restate's ingress. An agent `CodingAgent` is called at
`POST /CodingAgent/<session>/<handler>`, and one-way at
`POST /CodingAgent/<session>/<handler>/send`. The session may be any text, percent-encoded. What
takes nothing may also be called with `GET`. A request with a body needs the header
`content-type: application/json`. Where the body may be left out, leave out that header as well, or
send `null` or `{}`: Restate itself refuses an empty body that is said to be JSON, unless the handler
takes nothing. Restate's own options apply, such as the header `idempotency-key`.

| handler | kind | takes | gives |
| --- | --- | --- | --- |
| `message` | exclusive | `{"content": …}`, and the fields below | the receipt |
| `cancel` | exclusive | nothing, or `{"turn"?: n, "reason"?: text, "after_step"?: bool}` | `{"cancelled": [turns]}` |
| `withdraw` | exclusive | `{"message": id}` | `{"withdrawn": id}` |
| `replace` | exclusive | `{"message": id, "content": …}` | the receipt |
| `promote` | exclusive | `{"message": id, "policy": "interrupt" or "steer", "now"?: bool}` | the receipt |
| `answer` | exclusive | `{"approval": id, "approved": bool, "reason"?: text, "value"?: JSON}` | `{"answered": id}` |
| `resume` | exclusive | nothing, or `{"turn"?: n}` | the receipt |
| `edit` | exclusive | `{"turn": n, "content": …, "if_last"?: n}` | the receipt |
| `regenerate` | exclusive | nothing, or `{"turn"?: n, "if_last"?: n}` | the receipt |
| `rewind` | exclusive | `{"turn": n, "reason"?: text, "if_last"?: n}` | `{"cancelled": [turns], "discarded": [turns]}` |
| `reset` | exclusive | nothing, or `{"reason"?: text}` | `{"cancelled": [turns]}` |
| `fork` | shared | `{"session": key, "turn"?: n}` | `{"session": key, "turn": n}` |
| `attach` | shared | nothing, or `{"turn"?: n}`, or `{"message": id}` | the outcome, or `{"status": "withdrawn"}` |
| `get_history` | shared | nothing | the conversation, a list of messages |
| `get_turns` | shared | nothing, or `{"before"?: n, "limit"?: 1 to 100}` | `{"turns": [records], "before": n or null}` |
| `get_status` | shared | nothing | the status |

`content` is text, or a list of parts: objects with a `type`, and in them what else the model takes,
nested at most 64 levels deep. Parts of the types `tool_use` and `tool_result` are refused: only
agents put them out. A `reason` has at most 1,000 bytes. These fields of `message` may be left out:

| field | value | what it says |
| --- | --- | --- |
| `role` | `"user"` | Whose message it is; there is no other choice. |
| `policy` | `"interrupt"`, `"rollback"`, `"queue"`, `"steer"`, `"reject"` | [Which](policies.md); by default the agent's. |
| `if_turn` | a turn, or `null` | Accept the message only if this turn is at work. |
| `if_idle` | `true`, `false` | Accept the message only if no turn is live. |
| `now` | `true`, `false` | [Have the turn at work read it at once](how-to/say-it-now.md); with the policy `steer` alone. |
| `keep_queued` | `true`, `false` | [Whether turns that are queued are spared](how-to/queue-follow-ups.md#interrupt-only-what-is-at-work); by default as the agent says. |
| `metadata` | an object of at most 4 KiB | [What is kept with it](how-to/note-who-said-it.md); no model sees it. |

Further handlers (`settle`, `quiet`, `begin`, `take`, `ask_approval`, `close_approval`, `give_up`, `adopt`, `load`,
`get_cause` and `recover` of the object,
`run_task`, `relay` and `mark` of the task service) are private to Restate; the ingress refuses them.

| status | when |
| --- | --- |
| 200 | The answer is in the body. |
| 202 | A one-way call was accepted. |
| 400 | The body is not as above. The text names the field. Nothing has changed. |
| 404 | There is no such turn, message or approval in this session, or not any more. |
| 409 | Never a refusal of ours. Restate uses it for the call itself: it was cancelled or killed. |
| 410 | The approval is over: it was answered, its time or its turn has ended, or that was interrupted. Nothing has changed. |
| 412 | `if_turn`, `if_idle` or `if_last` does not hold. The message is [not pending](how-to/change-what-is-pending.md#when-it-is-too-late) any more. The turn [cannot go on](how-to/go-on.md): it has completed, is live, or is not the last. Or `fork` names a session that is there already. Nothing has changed. |
| 413 | The content is larger than the agent's `max_content`; nothing has changed. Or what was asked for is [more than goes into an answer](how-to/fit-to-the-model.md#how-long-a-session-may-get). |
| 423 | The policy is `reject`, and a turn is live. Or `fork` is to copy a live turn. Nothing has changed. |
| 429 | The message would wait or be steered, and `max_pending` turns and steered messages are pending. Nothing has changed. |

An agent with a [stream](how-to/show-tokens.md) has another object, called as the agent with `Stream` added, with the
wire of `@restatedev/pubsub`:

| handler | kind | takes | gives |
| --- | --- | --- | --- |
| `pull` | shared | nothing, or `{"offset"?: n, "wait"?: seconds}` | `{"messages": [events], "nextOffset": n}` |
| `publish` | exclusive | what the steps of the turn at work say, with its key | `{"taken": n}` |

`pull` waits until there is something after the offset, half a minute at most. Without an offset it gives what comes from now on;
offset 0, as any that is gone, gives a `gap` and then all there is. `publish` without the key of the turn at work is
refused with a 403. All other handlers of it are private.

In a receipt, the `status` is `running`, `waiting`, `steered` or `joined`
([what they mean](policies.md#the-receipt)), `message` is the message's id, and `discarded` is there when
turns were taken back.

`turn` and `task_id` of the status are those of the turn at work: the oldest live one that is not
cancelled, or the newest if all are. One that stops [after a step](how-to/stop-after-this-step.md) is
at work until that is over. `live` has them all, oldest first. `steered` is how many
messages wait to be taken by a turn; `pending` has these and all others that
[no model has read](how-to/change-what-is-pending.md). `waiting_for` are the
[approvals](how-to/ask-before-it-is-done.md) that turns wait for.

The body of a refusal is an object with `code` and `message`, for example "content: is missing. Send
text, or a list of parts."

These are the schemas in Restate's discovery, of which its UI makes forms.
"""  # noqa: E501 - a row of a table is a line


def reference() -> str:
    """Return the whole page."""
    parts = [
        INTRODUCTION,
        CONTEXTS,
        "## Agents",
        a_class("Agent", constants=("inactivity_timeout", "abort_timeout", "retry_policy")),
        a_function("agent"),
        a_function("handler"),
        a_class("Task", made=False),
        *methods("_task.task.Waits", owner="Task"),
        a_function("current_task"),
        "## Cancellation and cleanup",
        a_function("cleanup"),
        *methods("_cancel.cleanup.Cleanup", owner="undo"),
        a_class("Interrupted", made=False),
        a_class("Steered", made=False),
        a_function("shield"),
        "## Conversations",
        a_class("Session"),
        an_alias("Message"),
        a_dict("Turn"),
        "## `interruptible.client`",
        OF_THE_CLIENT,
        *(a_dict(f"client.{name}") for name in RETURNED),
        a_dict("client.Approval"),
        *(an_alias(f"client.{name}") for name in ("Policy", "TurnStatus", "Output")),
        "## `interruptible.formats`",
        "How providers write messages: [how to use it](how-to/keep-what-a-provider-gave.md).",
        *(a_function(f"formats.{name}") for name in ("alternating", "with_native", "native")),
        *(
            a_function(f"formats.{module}.{name}", owner=module)
            for module in ("responses", "gemini", *OF_FRAMEWORKS)
            for name in ("to_messages", "from_messages")
        ),
        "## `interruptible.ext`",
        OF_FRAMEWORK,
        *(
            a_function(f"ext.{module}.{name}", owner=module)
            for module in FRAMEWORKS
            for name in ("agent", "run")
        ),
        "## `interruptible.stream`",
        OF_STREAM,
        a_class("stream.Stream", inner=True),
        an_alias("stream.Event"),
        *(a_dict(f"stream.{name}") for name in EVENT_NAMES),
        "## `interruptible.gateway`",
        OF_GATEWAY,
        a_class("gateway.Gateway"),
        a_class("gateway.Authorize", made=False),
        "## `interruptible.testing`",
        document(PACKAGE["testing"]),
        *(a_function(f"testing.{x}") for x in ("fixture", "harness", "restate_server", "serve")),
        a_class("testing.Restate", made=False),
        a_function("testing.find_server"),
        *(
            a_class(f"testing.{name}", made=False)
            for name in ("AdminError", "ServerNotFound", "TooManyRetries")
        ),
        WIRE,
        *schemas(),
    ]
    return joined(*parts) + "\n"


FRAMEWORKS = ("pydantic_ai", "openai_agents", "langchain", "adk")
OF_FRAMEWORKS = ("pydantic_ai", "langchain", "adk")

EVENT_NAMES = (
    "TurnBeginsEvent",
    "TurnEndsEvent",
    "TextEvent",
    "ReasoningEvent",
    "MessageEvent",
    "ToolEvent",
    "OutputEvent",
    "SteeredEvent",
    "ApprovalEvent",
    "PendingEvent",
    "DiscardedEvent",
    "GapEvent",
)

RETURNED = (
    *("Receipt", "Outcome", "TakenBack"),
    *("Status", "LiveTurn", "PendingMessage", "WaitingApproval"),
    *("Turns", "Rewound", "Cause", "Origin"),
)


def schemas() -> list[str]:
    """Render what each handler takes, and what it gives, if no other gave it before."""
    shown: list[str] = []
    of_stream = {f"{x} of the stream": handler for x, handler in STREAM_HANDLERS.items()}
    every = {**HANDLERS, **of_stream}
    for name, handler in every.items():
        if not handler.is_public:
            continue
        takes = None if handler.body is None else handler.body.schema()
        if takes is not None:
            shown.append(schema(f"`{name}` takes", takes))
        if handler.gives is not None:
            names = [f"`{x}`" for x, other in every.items() if other.gives is handler.gives]
            if names[0] == f"`{name}`":
                title = f"{' and '.join(names)} {'give' if names[1:] else 'gives'}"
                shown.append(schema(title, shape(handler.gives).schema))
    return shown


# -- one part of the page ----------------------------------------------------------------------


def found(path: str) -> Any:
    """Return what stands where users import it from."""
    return PACKAGE[path].final_target if PACKAGE[path].is_alias else PACKAGE[path]


def a_class(
    path: str, *, made: bool = True, inner: bool = False, constants: Sequence[str] = ()
) -> str:
    """Render a class, with its methods unless they are inner ones.

    `constants` are parameters whose defaults say more.
    """
    node = found(path)
    base = str(node.bases[0]) if node.bases else ""
    return joined(
        f"### `{node.name}`, a `{base}`" if base.endswith("Error") else f"### `{node.name}`",
        call(node.name, constructor(node)) if made and "__init__" in node.members else "",
        document(node),
        defaults_of(node, constants),
        *([] if inner else methods(path)),
    )


def constructor(node: griffe.Class) -> griffe.Function:
    """Return `__init__`, with its options: their defaults are attributes of the class."""
    made = node.members["__init__"]
    if "options" in made.parameters:
        del made.parameters["options"]
        for option in found("_options.Options").attributes.values():
            value = node.attributes[option.name].value
            made.parameters.add(
                griffe.Parameter(
                    option.name, annotation=option.annotation, kind=Kind.keyword_only, default=value
                )
            )
    return made


def methods(path: str, *, owner: str | None = None) -> list[str]:
    """Render the public methods of a class."""
    node = found(path)
    return [
        joined(
            f"#### `{owner or node.name}.{name}`",
            "" if "property" in method.labels else call(name, method),
            document(method),
        )
        for name, method in node.members.items()
        if (method.is_function or "property" in method.labels) and not name.startswith("_")
    ]


def a_function(path: str, *, owner: str | None = None) -> str:
    """Render a function of a module."""
    node = found(path)
    title = node.name if owner is None else f"{owner}.{node.name}"
    return joined(f"### `{title}`", call(node.name, node), document(node))


def an_alias(path: str) -> str:
    """Render a type alias."""
    node = found(path)
    return joined(f"### `{node.name}`", f"`{typed(node.value)}`", document(node))


def a_dict(path: str) -> str:
    """Render a typed dictionary or a named tuple, with its fields."""
    node = found(path)
    fields = [
        f"- `{field.name}`: `{typed(field.annotation)}`"
        + (f", by default `{unparsed(field.value)}`" if field.value else "")
        for field in node.attributes.values()
    ]
    return joined(f"### `{node.name}`", document(node), "\n".join(fields))


def schema(title: str, value: Any) -> str:
    """Render a JSON schema."""
    summary = re.sub(r"`(.*?)`", r"<code>\1</code>", title)
    text = f"```json\n{pretty(value)}\n```"
    return joined(f"<details><summary>{summary}</summary>", text, "</details>")


# -- code --------------------------------------------------------------------------------------

Kind = griffe.ParameterKind
MARKS = {Kind.var_positional: "*", Kind.var_keyword: "**"}


def call(name: str, node: griffe.Function) -> str:
    """Render how a function is called: in one line if it fits, else with an argument a line."""
    shown, before_it = list[str](), None
    for each in node.parameters:
        kind = each.kind or Kind.positional_or_keyword
        if before_it is Kind.positional_only and kind is not before_it:
            shown.append("/")
        if kind is Kind.keyword_only and before_it not in (kind, Kind.var_positional):
            shown.append("*")
        before_it = kind
        if each.name != "self":
            shown.append(MARKS.get(kind, "") + parameter(each))
    before, after = "", f" -> {typed(node.returns)}" if node.returns else ""
    decorators = {str(x.value).rpartition(".")[2] for x in node.decorators}
    if name == "cleanup":
        before, after = "async with ", " as undo"
    elif "contextmanager" in decorators:
        before, after = "with ", ""
    elif "asynccontextmanager" in decorators:
        before, after = "async with ", re.sub(r" -> \w+\[(.*)\]", r" as \1", after)
    elif name[0].isupper():
        after = ""
    elif "async" in node.labels:
        before = "await "
    line = f"{before}{name}({', '.join(shown)}){after}"
    if len(line) > WIDTH:
        inside = "".join(f"    {each},\n" for each in shown)
        line = f"{before}{name}(\n{inside}){after}"
    return f"```text\n{line}\n```"


def parameter(node: griffe.Parameter) -> str:
    """Render a parameter with its type; options that are another's are told in its text."""
    shown = typed(node.annotation)
    shown = node.name if "Unpack[" in shown else f"{node.name}: {shown}"
    is_many = node.kind in MARKS
    return shown if node.default is None or is_many else f"{shown} = {default(node.default)}"


def typed(annotation: Any) -> str:
    """Render a type; aliases that have no entry of their own are spelled out."""
    if annotation is None:
        return "Any"
    shown = unparsed(annotation).replace("said.", "").replace("sdk.", "agents.")  # a framework's
    shown = re.sub(r"\w+", lambda word: STANDS_FOR.get(word[0], word[0]), shown)
    for alias, module in SPELLED_OUT.items():
        if re.search(rf"\b{alias}\b", shown):
            shown = re.sub(rf"\b{alias}\b", unparsed(found(f"{module}.{alias}").value), shown)
    return shown


def unparsed(expression: Any) -> str:
    """Return the source of an expression."""
    return str(expression).replace("'", '"')


def default(expression: Any) -> str:
    """Render a default; a constant of the package is shown as what it is, if that is short."""
    if isinstance(expression, griffe.ExprName) and expression.canonical_path.startswith("interru"):
        expression = constant(expression).value
    shown = unparsed(expression)
    return shown if len(shown) < WIDTH // 2 and "self." not in shown else "…"


def constant(name: griffe.ExprName) -> Any:
    """Return the constant of the package that a name stands for."""
    return found(name.canonical_path.partition(".")[2])


def defaults_of(node: griffe.Class, names: Sequence[str]) -> str:
    """Render what the source says of the defaults of some parameters."""
    constants = {name: constant(node.attributes[name].value) for name in names}
    shown = [
        f"- `{name}`: `{unparsed(x.value)}`. {' '.join(x.docstring.value.split())}"
        for name, x in constants.items()
    ]
    return joined("*Defaults*", "\n".join(shown)) if shown else ""


# -- text --------------------------------------------------------------------------------------

TITLES = {
    Section.parameters: "Args",
    Section.attributes: "Attributes",
    Section.raises: "Raises",
    Section.returns: "Returns",
    Section.yields: "Yields",
}


def document(node: griffe.Object) -> str:
    """Render a docstring as Markdown."""
    return joined(*map(section, node.docstring.parsed)) if node.docstring else ""


def section(node: griffe.DocstringSection) -> str:
    """Render a part of a docstring."""
    if node.kind is Section.text:
        return prose(node.value)
    entries = [(entry(each), " ".join(each.description.split())) for each in node.value]
    title = f"*{TITLES[node.kind]}*"
    if node.kind in (Section.returns, Section.yields):
        return f"{title}: {entries[0][1]}"
    return joined(title, "\n".join(f"- `{name}`: {text}" for name, text in entries))


def entry(node: griffe.DocstringElement) -> str:
    """Return what an entry of a section is about."""
    return getattr(node, "name", "") or str(node.annotation)


def prose(text: str) -> str:
    """Render the free text of a docstring; what is indented is an example."""

    def example(found: re.Match[str]) -> str:
        lines = textwrap.dedent(found[0]).strip()
        # As ruff formats it; in a docstring one empty line is enough.
        lines = re.sub(r"\n\n(?=@|class |def |async def )", "\n\n\n", lines)
        return f"```python\n{lines}\n```\n\n"

    return re.sub(r"^    .*\n(?:(?:    .*)?\n)*", example, f"{text}\n", flags=re.MULTILINE)


def pretty(value: Any, indent: str = "") -> str:
    """Render JSON so that what fits into a line stands in a line."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) < WIDTH or not isinstance(value, (dict, list)):
        return line
    deeper = f"{indent}  "
    if isinstance(value, list):
        items, around = [pretty(each, deeper) for each in value], "[]"
    else:
        items = [f"{json.dumps(k)}: {pretty(v, deeper)}" for k, v in value.items()]
        around = "{}"
    inside = ",\n".join(f"{deeper}{item}" for item in items)
    return f"{around[0]}\n{inside}\n{indent}{around[1]}"


def joined(*parts: str) -> str:
    """Join parts with an empty line between each and the next."""
    return "\n\n".join(part.strip() for part in parts if part.strip())


if __name__ == "__main__":
    TARGET.write_text(reference())
