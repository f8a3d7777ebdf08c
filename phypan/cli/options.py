"""Options of commands out of signatures: a keyword-only parameter of a function is one.

Its type and default are the option's, and what the docstring says of it ("NAME", two spaces, text)
is its help. So a plugin has one place for all of that.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

import phypan


class LateOptions(click.Command):
    """A command with further options, made when they are asked for: `phypan --help` does not."""

    def __init__(self, *args: Any, late: Callable[[], list[click.Parameter]], **more: Any) -> None:
        super().__init__(*args, **more)
        self._late: Callable[[], list[click.Parameter]] | None = late

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """All parameters, the late ones too."""
        if self._late is not None:
            self.params += self._late()
            self._late = None
        return super().get_params(ctx)


class Number(click.ParamType):  # type: ignore[type-arg]
    """An integer: of base 0, decimal or with 0x; of base 16, with or without it."""

    def __init__(self, base: int = 0) -> None:
        self.base = base
        self.name = "address" if base == 16 else "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The integer, or a usage error."""
        try:
            return value if isinstance(value, int) else int(value, self.base)
        except ValueError:
            self.fail(f"{value!r} is not a{'n' * (self.base == 16)} {self.name}", param, ctx)


def arguments_of(function: Callable[..., Any]) -> list[click.Argument]:
    """A click argument for each parameter behind the first that is not keyword-only.

    One that is a tuple takes any number of values, but one at least if it has no default.
    """
    hints = get_type_hints(function, include_extras=True)
    found = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
            continue
        hint, required = hints[parameter.name], parameter.default is inspect.Parameter.empty
        many = get_origin(hint) is tuple
        argument = click.Argument(
            [parameter.name],
            nargs=-1 if many else 1,
            required=required,
            default=None if required else parameter.default,
            **_click_type(get_args(hint)[0] if many else hint),
        )
        found.append(argument)
    return found


def options_of(*functions: Callable[..., Any]) -> list[click.Option]:
    """A click option for each keyword-only parameter of the functions, each name once."""
    found: dict[str, click.Option] = {}
    for function in functions:
        hints = get_type_hints(function, include_extras=True)
        described = _described(function)
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.name in found:
                continue
            if parameter.name == "report":  # for callers in Python
                continue
            flag = "--" + parameter.name.rstrip("_").replace("_", "-")
            found[parameter.name] = click.Option(
                [flag, parameter.name],
                default=parameter.default,
                help=described.get(parameter.name, ""),
                show_default=parameter.default not in (None, False, "", ()),
                **_click_type(hints[parameter.name]),
            )
    return list(found.values())


def _click_type(hint: Any) -> dict[str, Any]:
    """What click has to know of an option of this type."""
    if hint is bool:
        return {"is_flag": True}
    if get_origin(hint) is tuple:
        return {"multiple": True, **_click_type(get_args(hint)[0])}
    path = click.Path(path_type=Path)
    kinds = {int: Number(), float: click.FLOAT, str: click.STRING, Path: path}
    for kind in (hint, *get_args(hint)):  # "int | None" as int
        if any(isinstance(extra, phypan.Show) for extra in getattr(kind, "__metadata__", ())):
            return {"type": Number(16 if kind.__metadata__[0].base == 16 else 0)}
        if get_origin(kind) is Literal:
            return {"type": click.Choice([str(choice) for choice in get_args(kind)])}
        if kind in kinds:
            return {"type": kinds[kind]}
    raise phypan.PluginError(f"an option cannot be a {hint}")


def _described(function: Callable[..., Any]) -> dict[str, str]:
    """What the docstring of `function` says of its parameters, by name."""
    found: dict[str, str] = {}
    name = None
    for line in inspect.cleandoc(function.__doc__ or "").split("\n")[1:]:
        first, _, rest = line.partition("  ")
        if first and not line.startswith(" ") and rest:
            name = first
            found[name] = rest.strip()
        elif line.startswith(" ") and name:
            found[name] += " " + line.strip()
        else:
            name = None
    return found


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that the user gave: those of another writer or guest must not be passed on."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    return {
        name: value
        for name, value in options.items()
        if context.get_parameter_source(name) is not default
    }
