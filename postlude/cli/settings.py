"""``postlude settings``: what this process would run with, and the table of all there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from postlude.settings import Settings

_INTRODUCTION = """\
# Settings

Read from the environment once per process. Durations are strings such as `500ms`, `5s`, `10m`,
`1h30m`, `7d`; sizes are in bytes. A value that makes no sense stops the process before it takes
work and names the variable. An empty variable counts as unset. `postlude settings` prints what is
in force.

<!-- Made by: postlude settings --markdown > docs/settings.md -->

| variable | default | meaning |
|---|---|---|
"""


def settings(
    *, markdown: Annotated[bool, typer.Option(help="Print the table of docs/settings.md.")] = False
) -> None:
    """Print the settings in force, secrets masked, one NAME=value a line."""
    if markdown:
        typer.echo(document(), nl=False)
        return
    from postlude.settings import load

    for name, value in effective(load()).items():
        typer.echo(f"{name}={value}")


def effective(loaded: Settings) -> dict[str, str]:
    """Return each variable's value in force; secrets and passwords in addresses are masked."""
    from postlude.logs import masked

    dumped = loaded.model_dump(mode="json")
    shown = {variable(name): _written(value) for name, value in dumped.items()}
    shown["POSTLUDE_DATABASE_URL"] = loaded.ledger_url
    return {name: masked(value) for name, value in shown.items()}


def document() -> str:
    """Return the whole text of docs/settings.md."""
    from postlude.settings import Settings

    return _INTRODUCTION + "".join(
        f"| `{variable(name)}` | {_default(field)} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    )


def variable(name: str) -> str:
    """Return the environment variable that sets the field ``name``."""
    return f"POSTLUDE_{name.upper()}"


def _default(field: FieldInfo) -> str:
    """Write a default as somebody would type it; a field whose default is empty is "unset"."""
    value = field.default
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    written = _written(value)
    return f"`{written}`" if written else "unset"


def _written(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case list() | tuple():
            return ",".join(map(str, value))
        case _:
            return str(value)
