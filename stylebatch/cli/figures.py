"""The paper's figures: ``design figure1`` and its like make the manifests, ``figure`` lays them out."""

import argparse
from typing import Any

from stylebatch.cli.arguments import ratio
from stylebatch.cli.exits import ALL_OK
from stylebatch.cli.settings import given_fields, program


def design_figure(options: argparse.Namespace) -> int:
    """Make the manifest whose run reproduces a figure of the paper."""
    from stylebatch.design import figures
    from stylebatch.manifest import write_manifest
    from stylebatch.objectstore import resolve_uri
    from stylebatch.pairs import resolve_locations
    from stylebatch.recipe import Recipe
    from stylebatch.storage import UriStore

    content, styles = resolve_uri(options.content), [resolve_uri(style) for style in options.styles]
    match options.figure:
        case "figure1":
            table = figures.figure1(content, styles[0])
        case "figure2":
            table = figures.figure2(content, styles, options.ratio or [figures.DEFAULT_RATIO])
        case "figure3":
            table = figures.figure3(content, styles[0])
    fields = given_fields(options)
    located = resolve_locations(Recipe().replace(fields))
    table = figures.with_fields(table, {name: getattr(located, name) for name in fields})
    write_manifest(UriStore(), resolve_uri(options.output), table)
    print(f"{options.output}: {table.num_rows} panels")
    print(f"Next: {program()} run {options.output} --output OUT")
    print(f"Then: {program()} figure OUT -o {options.figure}.png")
    return ALL_OK


def lay_out_figure(options: argparse.Namespace) -> int:
    """Lay out the results of a figure's job as the paper does, and say what can be measured of them."""
    from stylebatch.objectstore import resolve_uri
    from stylebatch.report.figure import draw_figure, encode_figure, figure_format
    from stylebatch.report.panels import figure_panels
    from stylebatch.report.statements import statements
    from stylebatch.results import read_results
    from stylebatch.storage import UriStore

    format = figure_format(options.output)
    store = UriStore()
    panels = figure_panels(read_results(store, resolve_uri(options.job)))
    figure, measured = draw_figure(store, panels), statements(store, panels)
    store.put(resolve_uri(options.output), encode_figure(figure, format))
    print(f"{options.output}: {panels[0].figure}, {figure.width} x {figure.height} pixels")
    print(*measured, sep="\n", end="\n" if measured else "")
    return ALL_OK


def add_figure_designs(kinds: Any) -> None:
    """Add ``figure1``, ``figure2`` and ``figure3`` to what ``design`` can make."""
    for figure, styles, meaning in (
        ("figure1", 1, "reconstructions of a content and of a style from each layer"),
        ("figure2", "+", "a content in several styles"),
        ("figure3", 1, "sets of style layers times ratios of content and style"),
    ):
        parser = kinds.add_parser(figure, help=meaning, description=f"{design_figure.__doc__} {meaning}")
        parser.add_argument("content", metavar="CONTENT", help="the content image")
        parser.add_argument("styles", nargs=styles, metavar="STYLE", help="the style image")
        parser.add_argument(
            "--output", "-o", required=True, metavar="MANIFEST.parquet", help="the manifest to write"
        )
        if figure == "figure2":
            parser.add_argument(
                *("--ratio", "-r"),
                type=ratio,
                action="append",
                metavar="R",
                help="alpha/beta, once for all styles or once for each (1e-3)",
            )
        parser.add_argument(
            *("--set",),
            action="append",
            default=[],
            metavar="FIELD=VALUE",
            help="set a recipe field that the figure leaves open, such as size or iterations; repeatable",
        )
        parser.set_defaults(command=design_figure, figure=figure)


def add_figure(commands: Any) -> None:
    """Add ``figure`` to the commands."""
    parser = commands.add_parser(
        "figure", help="lay out a figure of the paper", description=lay_out_figure.__doc__
    )
    parser.add_argument("job", metavar="OUT", help="the output of a run over the manifest of a figure")
    parser.add_argument(
        "--output", "-o", required=True, metavar="FIGURE.png", help="the file to write, .png or .pdf"
    )
    parser.set_defaults(command=lay_out_figure)
