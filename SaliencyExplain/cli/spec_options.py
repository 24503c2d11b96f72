"""Options of commands made from the descriptions of a specification's fields."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from SaliencyExplain.cli.completion import complete_methods
from SaliencyExplain.cli.options import listed
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.specification.parameters import NOTHING, example_of
from SaliencyExplain.specification.spec import ExplainSpec, MethodChoice
from SaliencyExplain.specification.spec_fields import SPEC_FIELDS, spec_of, value_of

#: The parameter of a command that is replaced by the options.
_SPEC = "spec"

#: The placeholder of an option, by the unit of its number.
_METAVARS = {"bytes": "SIZE", "s": "SECONDS", "passes": "PASSES", "mm": "MM"}


def spec_options(
    *fields: str, required: Collection[str] = (), defaults: Mapping[str, Any] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of fields of a specification.

    The options stand in the place of the command's parameter ``spec``, which is given the
    specification that was made of them.

    Args:
        fields: Names of fields of :class:`ExplainSpec`, :class:`Limits` and
            :class:`References` that the command uses; ``methods`` with their parameters and layers.
        required: Those of them that are required.
        defaults: Defaults of this command that are not the field's.
    """

    def made(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)
        options = [
            option for name in fields for option in _options(name, name in required, defaults or {})
        ]
        parameters = []
        for parameter in own.parameters.values():
            keyword = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            parameters += options if parameter.name == _SPEC else [keyword]

        def call(**given: Any) -> None:
            chosen = {option.name: given.pop(option.name) for option in options}
            command(**given, **{_SPEC: _spec_of(chosen)})

        call.__name__, call.__doc__ = command.__name__, command.__doc__
        call.__annotations__ = {one.name: one.annotation for one in parameters}
        setattr(call, "__signature__", own.replace(parameters=parameters))  # noqa: B010
        return call

    return made


def _options(name: str, required: bool, defaults: Mapping[str, Any]) -> list[inspect.Parameter]:
    """The options of a field as parameters of a command."""
    if name == "methods":
        return _method_options(required)
    field = SPEC_FIELDS[name]
    default = defaults.get(name, field.default)
    if name == "target":
        option = typer.Option("--target", "-t", help=_help(field, default))
        return [_parameter(name, Annotated[str, option], str(default))]
    if name == "segmentation":
        option = typer.Option(
            "--segmentation", "-s", help=field.metadata["description"], show_default=False
        )
        return [_parameter(name, Annotated[Path | None, option], default)]
    if name == "backgrounds":
        option = typer.Option(
            "--background",
            metavar="IMAGE_OR_FOLDER",
            help=f"{field.metadata['description'].rstrip('.')}; repeatable.",
        )
        return [_parameter(name, Annotated[list[Path], option], list(default))]
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        metavar=_metavar(field),
        parser=_parser(name),
        help=_help(field, default),
        show_default=default is not None,
    )
    kind: Any = type(example_of(field))
    return [_parameter(name, Annotated[kind | None if default is None else kind, option], default)]


def _method_options(required: bool) -> list[inspect.Parameter]:
    method = typer.Option(
        "--method",
        "-m",
        metavar="METHOD[,METHOD...]",
        help="A method, or several with commas, repeatable; `saliency-explain methods` lists them.",
        show_default=False,
        callback=listed,
        autocompletion=complete_methods,
    )
    setting = typer.Option(
        "--set",
        metavar="METHOD.PARAMETER=VALUE",
        help="A method's parameter, such as occlusion.window_mm=15 or =15mm, repeatable; "
        "`saliency-explain methods METHOD` has their units.",
    )
    layer = typer.Option("--layer", help="A layer for the class activation methods, repeatable.")
    empty = inspect.Parameter.empty
    return [
        _parameter("method", Annotated[list[str], method], empty if required else []),
        _parameter("setting", Annotated[list[str], setting], []),
        _parameter("layer", Annotated[list[str], layer], []),
    ]


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _metavar(field: dataclasses.Field[Any]) -> str:
    if field.metadata["choices"]:
        return "|".join(field.metadata["choices"])
    if isinstance(field.default, str):
        return field.name.upper()
    return _METAVARS.get(field.metadata["unit"], "NUMBER")


def _help(field: dataclasses.Field[Any], default: Any) -> str:
    """A field's description with its default."""
    description = str(field.metadata["description"])
    nothing = field.metadata.get(NOTHING)
    return f"{description} By default {nothing}." if default is None and nothing else description


def _parser(name: str) -> Callable[[Any], Any]:
    """Reads the text of an option as a value of its field, within its range and choices."""
    option = f"--{name.replace('_', '-')}"
    # Typer parses the default, too, which is not a text.
    return lambda value: value_of(name, value, option)


def _spec_of(given: dict[str, Any]) -> ExplainSpec:
    """The specification that the options of a command describe.

    Raises:
        InputError: A method, parameter, layer or target cannot be understood.
    """
    methods = [given.pop(option, ()) for option in ("method", "setting", "layer")]
    return spec_of(_choices(*methods), **given)


def _choices(
    methods: Sequence[str], settings: Sequence[str], layers: Sequence[str]
) -> tuple[MethodChoice, ...]:
    if not methods:
        for option, given in (("--set", settings), ("--layer", layers)):
            if given:
                raise InputError(
                    ErrorCode.OPTION_CONFLICT,
                    f"{option} is used by methods only. Give a --method, or leave out {option}.",
                )
        return ()
    from SaliencyExplain.attribution.method_selection import choice_of, select_methods

    return tuple(map(choice_of, select_methods(methods, settings, layers)))
