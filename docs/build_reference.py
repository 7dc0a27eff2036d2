"""Writes docs/reference.md from the docstrings: `python docs/build_reference.py`.

It reads the source and imports nothing but the table of the handlers, for their schemas; so the
result does not depend on the version of Python or of a dependency.
"""

from __future__ import annotations

import ast
import json
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from interruptible._handlers import HANDLERS
from interruptible._stream.handlers import HANDLERS as STREAM_HANDLERS
from interruptible._wire.shapes import shape

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs/reference.md"
PACKAGE = ROOT / "interruptible"

SECTIONS = "Args|Attributes|Returns|Yields|Raises"
SPELLED_OUT = {
    "Burst",
    "OutputMessage",
    "Policy",
    "Run",
    "ToolState",
    "TurnStatus",
}  # aliases that are clearer so
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


Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Module:
    """The definitions of modules, or of all in one room, by name."""

    def __init__(self, *names: str) -> None:
        rooms = [sorted((PACKAGE / name).glob("*.py")) for name in names]
        modules = [(PACKAGE / name).with_suffix(".py") for name in names]
        paths = [x for room, module in zip(rooms, modules, strict=True) for x in room or [module]]
        self.tree = ast.Module([], [])
        for each in paths:
            self.tree.body += ast.parse(each.read_text()).body
        self.nodes: dict[str, ast.AST] = {}
        self.docs: dict[str, str] = {}
        self.values: dict[str, ast.expr] = {}
        before = ""
        for node in self.tree.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                self.nodes[node.name] = node
                self.docs[node.name] = ast.get_docstring(node) or ""
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                before = node.target.id
                self.nodes[before] = node
                if node.value is not None:
                    self.values[before] = node.value
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                before = node.targets[0].id
                self.nodes[before] = node
                self.values[before] = node.value
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                self.docs[before] = str(node.value.value)


AGENT, TASK, CLIENT = Module("_agent", "_options"), Module("_task"), Module("client")
CANCEL, WIRE_TYPES, FORMATS = Module("_cancel"), Module("_wire"), Module("formats")
STREAM, EVENTS = Module("stream"), Module("_stream/events")
GATEWAY = Module("gateway")
TESTING, TESTING_PARTS = Module("testing"), Module("_testing")


def reference() -> str:
    """Return the whole page."""
    parts = [
        INTRODUCTION,
        CONTEXTS,
        "## Agents",
        a_class(AGENT, "Agent", constants=("inactivity_timeout", "abort_timeout", "retry_policy")),
        a_function(AGENT, "agent"),
        a_function(WIRE_TYPES, "handler"),
        a_class(TASK, "Task", made=False),
        *methods(TASK, "Waits", owner="Task"),
        a_function(TASK, "current_task"),
        "## Cancellation and cleanup",
        a_function(CANCEL, "cleanup"),
        *methods(CANCEL, "Cleanup", owner="undo"),
        a_class(CANCEL, "Interrupted", made=False),
        a_class(CANCEL, "Steered", made=False),
        a_function(CANCEL, "shield"),
        "## Conversations",
        a_class(CLIENT, "Session"),
        an_alias(WIRE_TYPES, "Message"),
        a_dict(WIRE_TYPES, "Turn"),
        "## `interruptible.client`",
        OF_THE_CLIENT,
        *(a_dict(WIRE_TYPES, name) for name in RETURNED),
        a_dict(TASK, "Approval"),
        *(an_alias(WIRE_TYPES, name) for name in ("Policy", "TurnStatus")),
        an_alias(WIRE_TYPES, "Output"),
        "## `interruptible.formats`",
        "How providers write messages: [how to use it](how-to/keep-what-a-provider-gave.md).",
        a_function(FORMATS, "alternating"),
        *(a_function(WIRE_TYPES, name) for name in ("with_native", "native")),
        *(
            a_function(Module(f"formats/{module}"), name, owner=module)
            for module in ("responses", "gemini", *OF_FRAMEWORKS)
            for name in ("to_messages", "from_messages")
        ),
        "## `interruptible.ext`",
        OF_FRAMEWORK,
        *(
            a_function(Module(f"ext/{module}"), name, owner=module)
            for module in FRAMEWORKS
            for name in ("agent", "run")
        ),
        "## `interruptible.stream`",
        OF_STREAM,
        a_class(STREAM, "Stream", inner=True),
        an_alias(EVENTS, "Event"),
        *(a_dict(EVENTS, name) for name in EVENT_NAMES),
        "## `interruptible.gateway`",
        OF_GATEWAY,
        a_class(GATEWAY, "Gateway"),
        a_class(GATEWAY, "Authorize", made=False),
        "## `interruptible.testing`",
        document(ast.get_docstring(TESTING.tree) or ""),
        *(a_function(TESTING, name) for name in ("fixture", "harness", "restate_server")),
        a_function(TESTING_PARTS, "serve"),
        a_class(TESTING, "Restate", made=False),
        a_function(TESTING_PARTS, "find_server"),
        a_class(TESTING, "AdminError", made=False),
        a_class(TESTING_PARTS, "ServerNotFound", made=False),
        a_class(TESTING_PARTS, "TooManyRetries", made=False),
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
        takes = handler.takes.schema() if handler.takes is not None else None
        if takes is not None:
            shown.append(schema(f"`{name}` takes", takes))
        if handler.gives is not None:
            names = [f"`{x}`" for x, other in every.items() if other.gives is handler.gives]
            if names[0] == f"`{name}`":
                title = f"{' and '.join(names)} {'give' if names[1:] else 'gives'}"
                shown.append(schema(title, shape(handler.gives).schema))
    return shown


# -- one part of the page ----------------------------------------------------------------------


def a_class(
    module: Module,
    name: str,
    *,
    made: bool = True,
    inner: bool = False,
    constants: Sequence[str] = (),
) -> str:
    """Render a class, with its methods unless they are inner ones.

    `constants` are parameters whose defaults say more.
    """
    node = module.nodes[name]
    assert isinstance(node, ast.ClassDef)
    base = ast.unparse(node.bases[0]) if node.bases else ""
    init = next((method for method in functions(node) if method.name == "__init__"), None)
    if init is not None:
        spell_out_options(node, init)
    return joined(
        f"### `{name}`, a `{base}`" if base.endswith("Error") else f"### `{name}`",
        call(module, name, init) if made and init else "",
        document(module.docs[name]),
        defaults_of(module, init, constants) if init else "",
        *([] if inner else methods(module, name)),
    )


def spell_out_options(node: ast.ClassDef, init: Function) -> None:
    """Make keyword-only parameters of options whose defaults are attributes of the class."""
    if init.args.kwarg is None:
        return
    init.args.kwarg = None
    for field in node.body:
        if (
            isinstance(field, ast.AnnAssign)
            and field.value
            and "ClassVar" not in typed(field.annotation)
        ):
            init.args.kwonlyargs.append(ast.arg(ast.unparse(field.target), field.annotation))
            init.args.kw_defaults.append(field.value)


def methods(module: Module, name: str, *, owner: str | None = None) -> list[str]:
    """Render the public methods of a class."""
    node = module.nodes[name]
    assert isinstance(node, ast.ClassDef)
    return [
        joined(
            f"#### `{owner or name}.{method.name}`",
            "" if is_property(method) else call(module, method.name, method),
            document(ast.get_docstring(method) or ""),
        )
        for method in functions(node)
        if not method.name.startswith("_") and not is_overload(method)
    ]


def a_function(module: Module, name: str, *, owner: str | None = None) -> str:
    """Render a function of a module."""
    node = module.nodes[name]
    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    title = name if owner is None else f"{owner}.{name}"
    return joined(f"### `{title}`", call(module, name, node), document(module.docs[name]))


def an_alias(module: Module, name: str) -> str:
    """Render a type alias."""
    return joined(f"### `{name}`", f"`{typed(module.values[name])}`", document(module.docs[name]))


def a_dict(module: Module, name: str) -> str:
    """Render a typed dictionary or a named tuple, with its fields."""
    node = module.nodes[name]
    assert isinstance(node, ast.ClassDef)
    fields = [
        f"- `{ast.unparse(field.target)}`: `{typed(field.annotation)}`"
        + (f", by default `{unparsed(field.value)}`" if field.value else "")
        for field in node.body
        if isinstance(field, ast.AnnAssign)
    ]
    return joined(f"### `{name}`", document(module.docs[name]), "\n".join(fields))


def schema(title: str, value: Any) -> str:
    """Render a JSON schema."""
    summary = re.sub(r"`(.*?)`", r"<code>\1</code>", title)
    text = f"```json\n{pretty(value)}\n```"
    return joined(f"<details><summary>{summary}</summary>", text, "</details>")


# -- code --------------------------------------------------------------------------------------


def functions(node: ast.ClassDef) -> list[Function]:
    """Return the methods of a class."""
    return [n for n in node.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]


def is_property(method: Function) -> bool:
    """Return whether a method is a property."""
    return "property" in map(ast.unparse, method.decorator_list)


def is_overload(method: Function) -> bool:
    """Return whether a method is there for type checkers alone."""
    return "overload" in map(ast.unparse, method.decorator_list)


def call(module: Module, name: str, node: Function) -> str:
    """Render how a function is called: in one line if it fits, else with an argument a line."""
    arguments = node.args
    positional = parameters(module, [*arguments.posonlyargs, *arguments.args], arguments.defaults)
    if arguments.posonlyargs:
        positional.insert(sum(a.arg != "self" for a in arguments.posonlyargs), "/")
    if arguments.vararg:
        positional.append(f"*{parameter(arguments.vararg)}")
    elif arguments.kwonlyargs:
        positional.append("*")
    shown = [*positional, *parameters(module, arguments.kwonlyargs, arguments.kw_defaults)]
    if arguments.kwarg:
        shown.append(f"**{parameter(arguments.kwarg)}")
    before, after = "", f" -> {typed(node.returns)}" if node.returns else ""
    if name == "cleanup":
        before, after = "async with ", " as undo"
    elif "contextmanager" in map(ast.unparse, node.decorator_list):
        before, after = "with ", ""
    elif "asynccontextmanager" in map(ast.unparse, node.decorator_list):
        before, after = "async with ", re.sub(r" -> \w+\[(.*)\]", r" as \1", after)
    elif name[0].isupper():
        after = ""
    elif isinstance(node, ast.AsyncFunctionDef):
        before = "await "
    line = f"{before}{name}({', '.join(shown)}){after}"
    if len(line) > WIDTH:
        inside = "".join(f"    {each},\n" for each in shown)
        line = f"{before}{name}(\n{inside}){after}"
    return f"```text\n{line}\n```"


def parameters(
    module: Module, arguments: Sequence[ast.arg], defaults: Sequence[ast.expr | None]
) -> list[str]:
    """Render parameters with their types and defaults."""
    padded = [*[None] * (len(arguments) - len(defaults)), *defaults]
    return [
        parameter(argument) + (f" = {default_value(module, default)}" if default else "")
        for argument, default in zip(arguments, padded, strict=True)
        if argument.arg != "self"
    ]


def parameter(argument: ast.arg) -> str:
    """Render a parameter with its type; options that are another's are told in its text."""
    shown = typed(argument.annotation)
    return argument.arg if "Unpack[" in shown else f"{argument.arg}: {shown}"


def typed(annotation: ast.expr | None) -> str:
    """Render a type; aliases that have no entry of their own are spelled out."""
    if annotation is None:
        return "Any"
    shown = unparsed(annotation).replace("said.", "").replace("sdk.", "agents.")  # a framework's
    shown = re.sub(r"\w+", lambda word: STANDS_FOR.get(word[0], word[0]), shown)
    for alias in SPELLED_OUT:
        if re.search(rf"\b{alias}\b", shown):
            meaning = unparsed({**WIRE_TYPES.values, **AGENT.values, **EVENTS.values}[alias])
            shown = re.sub(rf"\b{alias}\b", meaning, shown)
    return shown


def unparsed(expression: ast.expr) -> str:
    """Return the source of an expression."""
    return ast.unparse(expression).replace("'", '"')


def default_value(module: Module, default: ast.expr) -> str:
    """Render a default; a constant of the package is shown as what it is, if that is short."""
    if isinstance(default, ast.Attribute) and ast.unparse(default.value) == "_types":
        default = WIRE_TYPES.values[default.attr]
    elif isinstance(default, ast.Name):
        default = {**WIRE_TYPES.values, **module.values}.get(default.id, default)
    shown = unparsed(default)
    return shown if len(shown) < WIDTH // 2 and "get_args" not in shown else "…"


def defaults_of(module: Module, init: Function, constants: Sequence[str]) -> str:
    """Render what the source says of the defaults of some parameters."""
    pairs = zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)
    named = {a.arg: d.id for a, d in pairs if isinstance(d, ast.Name)}
    entries = [
        f"- `{name}`: `{unparsed(module.values[named[name]])}`. "
        + " ".join(module.docs[named[name]].split())
        for name in constants
    ]
    return joined("*Defaults*", "\n".join(entries)) if entries else ""


# -- text --------------------------------------------------------------------------------------


def document(docstring: str) -> str:
    """Render a docstring as Markdown."""
    first, *rest = re.split(rf"^({SECTIONS}):\n", docstring, flags=re.MULTILINE)
    shown = [prose(first)]
    for title, text in zip(rest[::2], rest[1::2], strict=True):
        section = re.match(r"(?:(?: .*)?\n)*(?: .*)?", text)
        assert section
        body = textwrap.dedent(section[0]).strip()
        if title in ("Returns", "Yields"):
            shown.append(f"*{title}*: {' '.join(body.split())}")
        else:
            shown += [f"*{title}*", entries(body)]
        shown.append(prose(text[section.end() :]))
    return joined(*shown)


def entries(section: str) -> str:
    """Render the entries of a section, as a list."""
    shown = []
    for entry in re.split(r"\n(?=\S)", section):
        name, _, text = " ".join(entry.split()).partition(": ")
        shown.append(f"- `{name}`: {text}" if text else f"- {name}")
    return "\n".join(shown)


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
