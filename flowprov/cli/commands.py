"""The table of all commands, and the page of ``flowprov --help``.

Flows in: nothing. Flows out: the module of each command, and a text. It is made without click, whose import
takes longer than all else that ``flowprov --help`` does.
"""

from __future__ import annotations


class CommandInfo:
    """The module of a command, and what ``flowprov --help`` says of it."""

    __slots__ = ("module", "short_help")

    def __init__(self, module: str, short_help: str) -> None:
        self.module = module
        self.short_help = short_help


COMMANDS = {
    "artifacts": CommandInfo("artifacts", "List the files, folders and objects that were logged."),
    "compact": CommandInfo("compact", "Write Parquet files, from which answers come faster."),
    "digest": CommandInfo("digest", "Complete digests that are pending."),
    "diff": CommandInfo("answers", "Compare two runs, tasks, workflows or campaigns."),
    "export": CommandInfo("export", "Write campaigns in the form of another program."),
    "history": CommandInfo("history", "Show when each step ran, on which code and data."),
    "import": CommandInfo("import_", "Record what another program kept: MLflow."),
    "lineage": CommandInfo("artifacts", "Show what something was made of."),
    "ls": CommandInfo("answers", "List the campaigns."),
    "migrate": CommandInfo("migrate", "Rewrite a settings file of Flowcept."),
    "plan": CommandInfo("plan", "Say how much a run will record."),
    "query": CommandInfo("answers", "Ask with SQL."),
    "report": CommandInfo("report", "Write a page on campaigns or runs that one can send."),
    "rm": CommandInfo("rm", "Remove campaigns from a buffer."),
    "run": CommandInfo("run", "Run a script inside a workflow."),
    "runs": CommandInfo("answers", "List the runs, with their parameters and metrics."),
    "settings": CommandInfo("settings", "Write, show, check and explain settings."),
    "ship": CommandInfo("ship", "Deliver journals to Redis, MongoDB or MLflow."),
    "show": CommandInfo("show", "Show the recorded tree."),
    "tail": CommandInfo("tail", "Print records as they come."),
    "ui": CommandInfo("ui", "Show the campaigns of a buffer in a browser."),
    "verify": CommandInfo("verify", "Check that nothing is missing: in the buffer, and on the sinks."),
    "whence": CommandInfo("artifacts", "Say what made a file."),
}

_OPTIONS = {
    "--settings PATH": "The settings file that names the buffer folder.",
    "--set A.B=VALUE": "A setting that goes above the file, as in\njournal.path=runs; can be repeated.",
    "--debug": "Show the traceback of an error.",
    "--version": "Show the version and exit.",
    "-h, --help": "Show this message and exit.",
}

_HELP = """\
Usage: flowprov [OPTIONS] COMMAND [ARGS]...

  Show, compare, check and deliver what flowprov recorded.

  Commands take a buffer folder, a campaign folder, a host folder or one
  journal. Without one they take the buffer folder of the settings.

Options:
{options}

Commands:
{commands}"""


def help_page() -> str:
    """Return what ``flowprov --help`` prints."""
    texts = {name: info.short_help for name, info in COMMANDS.items()}
    return _HELP.format(options=_definitions(_OPTIONS), commands=_definitions(texts))


def _definitions(texts: dict[str, str]) -> str:
    """Return a list of names and what they mean, in two columns."""
    width = max(map(len, texts)) + 4
    return "\n".join(
        f"{'  ' + name:{width}}{text}".replace("\n", "\n" + " " * width) for name, text in texts.items()
    )
