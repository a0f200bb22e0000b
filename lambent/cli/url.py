"""`lambent url` and `lambent permission`: addresses for any HTTP client, and who may call them."""

from typing import TYPE_CHECKING, Any

import click

from lambent.cli.connection import with_client
from lambent.cli.options import json_option

if TYPE_CHECKING:
    from lambent.client import Client
    from lambent_proto.v1.urls_pb2 import Cors, FunctionUrl

_AUTH = {"none": "NONE", "aws-iam": "AWS_IAM"}
_MODES = {"buffered": "BUFFERED", "response-stream": "RESPONSE_STREAM"}


def _named(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[str, str]:
    name, _, qualifier = text.partition(":")
    return name, qualifier


of_alias = click.argument("named", metavar="NAME[:ALIAS]", callback=_named)
of_qualifier = click.argument("named", metavar="NAME[:VERSION_OR_ALIAS]", callback=_named)
mode_option = click.option(
    "--mode", type=click.Choice(list(_MODES)), help="Whether the answer comes as a whole or as it is made."
)


def _cors_options(command: Any) -> Any:
    for option in (
        click.option(
            "--cors-max-age", type=int, metavar="S", help="How long browsers remember what is allowed."
        ),
        click.option("--cors-credentials", is_flag=True, help="Whether pages may send cookies."),
        click.option(
            "--cors-expose", multiple=True, metavar="HEADER", help="An answer's header they may read."
        ),
        click.option("--cors-header", multiple=True, metavar="HEADER", help="A header they may send."),
        click.option(
            "--cors-method", multiple=True, metavar="METHOD", help="A method they may use; `*`: any."
        ),
        click.option(
            "--cors-origin",
            multiple=True,
            metavar="ORIGIN",
            help="An origin whose web pages may call it; `*`: any. As often as needed.",
        ),
    ):
        command = option(command)
    return command


@click.group()
def url() -> None:
    """Addresses at which any HTTP client calls a function."""


@url.command("create")
@of_alias
@click.option(
    "--auth",
    type=click.Choice(list(_AUTH)),
    required=True,
    help="`none`: everybody may call it; `aws-iam`: who signs with an access key that may.",
)
@mode_option
@_cors_options
@json_option
@with_client
async def create(
    client: "Client", named: tuple[str, str], auth: str, mode: str | None, as_json: bool, **cors: Any
) -> None:
    """Give a function, or an alias of it, a URL.

    With `--auth none` its resource policy is made to let everybody call it, as AWS's console does.
    """
    made = await client.urls.create(
        *named, auth_type=_AUTH[auth], invoke_mode=_MODES.get(mode or "", ""), cors=_cors(cors)
    )
    if auth == "none":
        await client.policies.open_url(*named)
    _print(made, as_json=as_json)


@url.command("update")
@of_alias
@click.option(
    "--auth", type=click.Choice(list(_AUTH)), help="Who is asked who they are. No policy is changed."
)
@mode_option
@click.option("--no-cors", is_flag=True, help="Allow web pages of other origins nothing any more.")
@_cors_options
@json_option
@with_client
async def update(
    client: "Client",
    named: tuple[str, str],
    auth: str | None,
    mode: str | None,
    no_cors: bool,
    as_json: bool,
    **cors: Any,
) -> None:
    """Change what is given, and leave the rest. Any --cors option replaces all that was set of them."""
    from lambent_proto.v1 import urls_pb2

    changed = await client.urls.update(
        *named,
        auth_type=_AUTH.get(auth or "", ""),
        invoke_mode=_MODES.get(mode or "", ""),
        cors=urls_pb2.Cors() if no_cors else _cors(cors),
    )
    _print(changed, as_json=as_json)


@url.command("get")
@of_alias
@json_option
@with_client
async def get(client: "Client", named: tuple[str, str], as_json: bool) -> None:
    """Show the URL of a function or an alias."""
    _print(await client.urls.get(*named), as_json=as_json)


@url.command("ls")
@click.argument("name")
@json_option
@with_client
async def ls(client: "Client", name: str, as_json: bool) -> None:
    """List the URLs of a function and of its aliases."""
    from lambent.cli.output import facts, print_json, print_table

    urls = await client.urls.list_urls(name)
    if as_json:
        print_json([facts(it) for it in urls])
        return
    rows = [(it.qualifier, it.url, it.auth_type, it.invoke_mode) for it in urls]
    print_table(("alias", "url", "auth", "mode"), rows, f"{name} has no URLs.")


@url.command("delete")
@of_alias
@with_client
async def delete(client: "Client", named: tuple[str, str]) -> None:
    """Delete a URL. A new one of the same function is another; the resource policy stays."""
    await client.urls.delete(*named)
    click.echo(f"{':'.join(filter(None, named))} has no URL any more.", err=True)


@click.group()
def permission() -> None:
    """Resource policies: who may call the URL of a function, a version or an alias."""


@permission.command("add")
@of_qualifier
@click.argument("statement_id", metavar="STATEMENT_ID")
@click.option("--action", required=True, metavar="lambda:NAME", help="Such as lambda:InvokeFunctionUrl.")
@click.option("--principal", required=True, help="`*`, an account, an ARN, or a service.")
@click.option("--url-auth", type=click.Choice(list(_AUTH)), help="Only through a URL that asks so.")
@click.option("--via-url", is_flag=True, default=None, help="Only through the function's URL.")
@click.option("--source-arn", default="", metavar="ARN", help="Kept and shown; see docs/access.md.")
@click.option("--source-account", default="", metavar="ACCOUNT", help="Kept and shown.")
@click.option("--revision", "revision_id", default="", help="Only if this is the policy's revision.")
@with_client
async def add(
    client: "Client", named: tuple[str, str], url_auth: str | None, via_url: bool | None, **fields: str
) -> None:
    """Add a statement to a resource policy, and print it.

    \b
    lambent permission add web FunctionURL --action lambda:InvokeFunctionUrl --principal '*' --url-auth none
    """
    from lambent_proto.v1 import policies_pb2

    name, qualifier = named
    request = policies_pb2.AddPermissionRequest(
        function_name=name,
        qualifier=qualifier,
        function_url_auth_type=_AUTH.get(url_auth or "", ""),
        invoked_via_function_url=via_url,
        **fields,
    )
    click.echo(await client.policies.add_permission(request))


@permission.command("get")
@of_qualifier
@json_option
@with_client
async def get_policy(client: "Client", named: tuple[str, str], as_json: bool) -> None:
    """Show a resource policy, as AWS writes it."""
    import json

    from lambent.cli.output import print_json

    found = await client.policies.get(*named)
    policy = json.loads(found.policy)
    print_json({"policy": policy, "revision_id": found.revision_id} if as_json else policy)


@permission.command("delete")
@of_qualifier
@click.argument("statement_id", metavar="STATEMENT_ID")
@click.option("--revision", "revision_id", default="", help="Only if this is the policy's revision.")
@with_client
async def remove(client: "Client", named: tuple[str, str], statement_id: str, revision_id: str) -> None:
    """Take a statement out of a resource policy."""
    name, qualifier = named
    await client.policies.remove_permission(name, statement_id, qualifier, revision_id=revision_id)
    click.echo(f"{statement_id} is no statement of {':'.join(filter(None, named))} any more.", err=True)


def _cors(given: dict[str, Any]) -> "Cors | None":
    """None if nothing was said."""
    from lambent.urls import cors_of

    cors = cors_of(
        origins=given["cors_origin"],
        methods=given["cors_method"],
        headers=given["cors_header"],
        expose=given["cors_expose"],
        credentials=given["cors_credentials"],
        max_age_s=given["cors_max_age"],
    )
    return cors if cors.ByteSize() else None


def _print(url: "FunctionUrl", *, as_json: bool) -> None:
    from lambent.cli.output import facts, print_facts, print_json

    known = facts(url)
    if as_json:
        print_json(known)
        return
    cors = {name: _words(it) for name, it in (known["cors"] or {}).items()}
    print_facts(
        {
            "url": url.url,
            "of": ":".join(filter(None, (url.function_name, url.qualifier))),
            "auth": url.auth_type,
            "mode": url.invoke_mode,
            "created": known["created_at"],
            "modified": known["last_modified"],
        }
        | cors
    )


def _words(value: Any) -> object:
    return " ".join(value["names"]) if isinstance(value, dict) else value
