"""``flowprov export``: what leaves flowprov for other programs, in the form that they read.

Flows in: the name of a format. Flows out: a call of its command, whose module is imported then.
"""

from __future__ import annotations

import click

from flowprov.cli.commands import CommandInfo
from flowprov.cli.lazy_group import LazyGroup

FORMATS = {
    "mlflow": CommandInfo("export_mlflow", "Campaigns as experiments of MLflow."),
    "trace": CommandInfo("export_file", "The timeline, for Perfetto."),
    "prov-json": CommandInfo("export_file", "W3C PROV, as PROV-JSON."),
    "prov-n": CommandInfo("export_file", "W3C PROV, as PROV-N."),
    "rocrate": CommandInfo("export_file", "A Provenance Run Crate: a folder or a zip."),
    "openlineage": CommandInfo("export_file", "Events of OpenLineage, as JSON Lines."),
    "croissant": CommandInfo("export_file", "The data of a campaign, as a data set of Croissant."),
    "cyclonedx": CommandInfo("export_cyclonedx", "The bill of materials of a model, as CycloneDX."),
}
"""Each format: the module of its command, whose function is ``export_<format>``, and a short help."""


class _Formats(LazyGroup):
    """Finds the command of a format by its name."""

    commands_by_name = FORMATS

    def function_name(self, cmd_name: str) -> str:
        """Return the name of the function of a command."""
        return f"export_{cmd_name.replace('-', '_')}"

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the formats, without an import of their modules."""
        with formatter.section("Formats"):
            formatter.write_dl([(name, info.short_help) for name, info in FORMATS.items()])


@click.group(cls=_Formats, subcommand_metavar="FORMAT [ARGS]...")
def export() -> None:
    """Write campaigns in the form of another program."""


__all__ = ["FORMATS", "export"]
