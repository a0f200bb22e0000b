"""The pages in docs/api, made from the protos' comments and the client's docstrings: `python -m
tests.repo.reference`.
"""

import ast
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeGuard

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from tests.repo.tree import ROOT

API: Final = ROOT / "docs" / "api"

_GRPC: Final = """\
# The gRPC API

Made from the protos in `proto/lambent_proto/v1` by `python -m tests.repo.reference`. Any gRPC client may use
them; a frontend serves reflection where nobody is asked for a key. Who calls shows the token of an
[access key](../access.md) as metadata, `authorization: Bearer TOKEN`. Fields are only ever added
([upgrades](../upgrades.md)).
"""
_PYTHON: Final = """\
# The Python client

Made from the docstrings in `lambent/` by `python -m tests.repo.reference`. `Client` is for asyncio.
`SyncClient` has the same methods, which return when they are done. Errors are those of
`lambent_proto.errors`, and say whether a function may have run.
"""
_CLASSES: Final = (
    ("Client", "client.py", "Client", ""),
    ("Client: functions", "functions.py", "FunctionCalls", ""),
    ("Client: layers", "layers.py", "LayerCalls", ""),
    ("Client: the fleet", "fleet.py", "FleetCalls", ""),
    ("client.versions", "versions.py", "Versions", "[Versions and aliases](../versions.md)."),
    ("client.async_invocations", "async_invocations.py", "AsyncInvocations", "[Queue](../async.md)."),
    ("client.triggers", "triggers.py", "Triggers", "[Triggers](../triggers.md)."),
    ("client.schedules", "schedules.py", "Schedules", "[Schedules](../schedules.md)."),
    ("client.urls", "urls.py", "FunctionUrls", "[Function URLs](../urls.md)."),
    ("client.policies", "urls.py", "Policies", "[Policies](../access.md#resource-policies)."),
    ("Client.stream()", "invocation_stream.py", "InvocationStream", ""),
    ("Client.invoke_with_response_stream()", "answer_stream.py", "AnswerStream", ""),
    ("Invocation", "messages.py", "Invocation", ""),
)
"""Heading, module of `lambent`, class in it, and what to read."""

Comments = dict[tuple[int, ...], str]
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6  # fields of FileDescriptorProto, as paths of comments have them
_TYPES: Final = {
    value: name.removeprefix("TYPE_").lower() for name, value in FieldDescriptorProto.Type.items()
}


def pages() -> dict[Path, str]:
    return {API / "grpc.md": "\n".join(_grpc()) + "\n", API / "python.md": "\n".join(_python()) + "\n"}


def _grpc() -> Iterator[str]:
    yield _GRPC
    for file in _described():
        comments = {tuple(it.path): _comment(it) for it in file.source_code_info.location}
        yield f"## `{file.name.rpartition('/')[2]}`\n"
        for number, service in enumerate(file.service):
            yield from _service(service, (_SERVICES, number), comments)
        for number, message in enumerate(file.message_type):
            yield from _message(message, (_MESSAGES, number), comments)
        for number, enum in enumerate(file.enum_type):
            yield from _enum(enum, (_ENUMS, number), comments)


def _described() -> list[FileDescriptorProto]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "all"
        protos = sorted(it.name for it in (ROOT / "proto" / "lambent_proto" / "v1").glob("*.proto"))
        subprocess.run(
            [
                *(sys.executable, "-m", "grpc_tools.protoc", "-I.", "--include_source_info"),
                *(f"--descriptor_set_out={out}", *(f"lambent_proto/v1/{name}" for name in protos)),
            ],
            cwd=ROOT / "proto",
            check=True,
        )
        return list(FileDescriptorSet.FromString(out.read_bytes()).file)


def _comment(location: Any) -> str:
    text = location.leading_comments or location.trailing_comments
    return re.sub(r"\s+", " ", text).strip()


def _service(service: ServiceDescriptorProto, path: tuple[int, ...], comments: Comments) -> Iterator[str]:
    yield f"### Service `{service.name}`\n"
    yield from _said(comments, path)
    yield "| method | takes | gives | |"
    yield "| --- | --- | --- | --- |"
    for number, it in enumerate(service.method):
        takes = _named(it.input_type, stream=it.client_streaming)
        gives = _named(it.output_type, stream=it.server_streaming)
        yield f"| `{it.name}` | {takes} | {gives} | {_cell(comments, (*path, 2, number))} |"
    yield ""


def _named(name: str, *, stream: bool) -> str:
    return f"{'stream of ' if stream else ''}`{name.rpartition('.')[2]}`"


def _message(message: DescriptorProto, path: tuple[int, ...], comments: Comments) -> Iterator[str]:
    yield f"### `{message.name}`\n"
    yield from _said(comments, path)
    if not message.field:
        yield "Empty.\n"
        return
    yield "| field | type | |"
    yield "| --- | --- | --- |"
    for number, it in enumerate(message.field):
        yield f"| `{it.name}` = {it.number} | {_type(it, message)} | {_cell(comments, (*path, 2, number))} |"
    yield ""


def _type(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    name = field.type_name.rpartition(".")[2] or _TYPES[field.type]
    entries = {it.name: it for it in message.nested_type if it.options.map_entry}
    if name in entries:
        key, value = entries[name].field
        return f"map of {_type(key, message)} to {_type(value, message)}"
    repeated = "list of " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
    chosen = ", one of" if field.HasField("oneof_index") and not field.proto3_optional else ""
    return f"{repeated}{name}{' or nothing' if field.proto3_optional else ''}{chosen}"


def _enum(enum: EnumDescriptorProto, path: tuple[int, ...], comments: Comments) -> Iterator[str]:
    yield f"### `{enum.name}`\n"
    yield from _said(comments, path)
    yield "| value | |"
    yield "| --- | --- |"
    for number, it in enumerate(enum.value):
        yield f"| `{it.name}` = {it.number} | {_cell(comments, (*path, 2, number))} |"
    yield ""


def _said(comments: Comments, path: tuple[int, ...]) -> Iterator[str]:
    if comments.get(path):
        yield comments[path] + "\n"


def _cell(comments: Comments, path: tuple[int, ...]) -> str:
    return comments.get(path, "").replace("|", "\\|")


def _python() -> Iterator[str]:
    yield _PYTHON
    for heading, module, name, about in _CLASSES:
        tree = ast.parse((ROOT / "lambent" / module).read_text())
        (kind,) = (it for it in tree.body if isinstance(it, ast.ClassDef) and it.name == name)
        yield f"## {heading}\n"
        for text in (ast.get_docstring(kind), about):
            if text:
                yield text + "\n"
        yield from _members(kind)


def _members(kind: ast.ClassDef) -> Iterator[str]:
    """Fields, then methods, in the order of the source."""
    for at, it in enumerate(kind.body):
        if isinstance(it, ast.AnnAssign) and not ast.unparse(it.target).startswith("_"):
            after = kind.body[at + 1] if at + 1 < len(kind.body) else None
            said = after.value.value if _is_text(after) else ""
            yield f"* `{ast.unparse(it)}` {' '.join(str(said).split())}".rstrip() + "\n"
    for it in kind.body:
        if isinstance(it, ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(it)
            if it.name == "__init__" and text:
                yield f"### `{kind.name}({_arguments(it)})`\n\n{text}\n"
            elif not it.name.startswith("_"):
                gives = f" -> {ast.unparse(it.returns)}" if it.returns else ""
                waits = "await " if isinstance(it, ast.AsyncFunctionDef) else ""
                yield f"### `{waits}{it.name}({_arguments(it)}){gives}`\n"
                if text:
                    yield text + "\n"


def _is_text(node: ast.stmt | None) -> TypeGuard[Any]:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return re.sub(r"^self(, )?", "", ast.unparse(function.args))


def main() -> None:
    API.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
