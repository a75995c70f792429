"""Run a versioned pipeline, then ask a bare file what made it.

A repository is made in a folder, with data that DVC keeps. The pipeline runs with two learning rates, each of
them a commit. The best checkpoint is copied elsewhere under another name, and converted to safetensors;
flowprov says of the result which data, code and parameters made it, and with which metrics.

``--plain`` needs neither Dagster nor DVC: the steps run one after the other, and there is no notebook.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

_PROJECT = Path(__file__).resolve().with_name("project")
_CONVERTER = Path(__file__).resolve().parents[1] / "to_safetensors.py"
_GOOD, _BAD = ("lovely", "bright", "funny", "moving"), ("dull", "slow", "flat", "noisy")
_THINGS = ("film", "plot", "music", "end", "cast")
_IGNORED = "flowprov_buffer\ncheckpoints\ndagster_home\n__pycache__\nout.ipynb\n"
_PLAIN = "import steps; steps.clean(commit=False); print(steps.train())"
# Git's own switches: the example asks for no name, and reads nobody's configuration.
_AUTHOR = {f"GIT_{role}_{part}": "example" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}


class Pipeline:
    """The repository of the pipeline, and the commands that are run in it."""

    def __init__(self, folder: Path, *, plain: bool) -> None:
        self.folder = folder
        self.plain = plain

    def call(self, *command: str) -> str:
        """Run a command in the repository; return what it prints."""
        home = self.folder / "dagster_home"
        home.mkdir(exist_ok=True)
        (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        added = {
            "DAGSTER_HOME": str(home),
            "DVC_NO_ANALYTICS": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            **_AUTHOR,
        }
        folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
        done = subprocess.run(  # noqa: S603 - commands of this file
            command,
            cwd=self.folder,
            env={**os.environ, **added, "PATH": os.pathsep.join(folders)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def create(self) -> None:
        """Create the repository: code, and data under the care of DVC."""
        shutil.copytree(_PROJECT, self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        (self.folder / "data").mkdir()
        reviews = [
            f"The {thing} is {word},{label}"
            for label, words in (("good", _GOOD), ("bad", _BAD))
            for thing, word in itertools.product(_THINGS, words)
        ]
        lines = ["text,label", *reviews, *reviews[::7], " ,good"]
        (self.folder / "data" / "raw.csv").write_text("\n".join(lines) + "\n")
        self.call("git", "init", "-q", "-b", "main")
        (self.folder / ".gitignore").write_text(_IGNORED + ("data\n" if self.plain else ""))
        if not self.plain:
            self.call("dvc", "init", "-q")
            self.call("dvc", "add", "-q", "data")

    def execute(self, rate: float) -> str:
        """Commit a learning rate, and run the pipeline with it; return the best checkpoint."""
        (self.folder / "training.json").write_text(json.dumps({"lr": rate, "epochs": 4, "seed": 1}))
        self.call("git", "add", "-A")
        self.call("git", "commit", "-q", "-m", f"Train with a learning rate of {rate}")
        program = ("-c", _PLAIN) if self.plain else ("pipeline.py",)
        return self.call(sys.executable, *program).splitlines()[-1]


def main() -> None:
    """Run the pipeline, and print what is known of its best checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", default="pipeline_runs", help="a new folder for the repository")
    parser.add_argument("--plain", action="store_true", help="without Dagster, DVC and a notebook")
    parser.add_argument("--rates", nargs="+", type=float, default=[0.1, 0.5], help="a run for each")
    arguments = parser.parse_args()
    folder = Path(arguments.folder).resolve()
    if folder.exists():
        raise SystemExit(f"{folder} is there already: name a new folder")
    pipeline = Pipeline(folder, plain=arguments.plain)
    pipeline.create()
    best = [pipeline.execute(rate) for rate in arguments.rates][-1]
    unknown = folder.parent / f"{folder.name}_elsewhere" / "unknown.safetensors"
    pipeline.call(sys.executable, str(_CONVERTER), best, str(unknown))
    flowprov = (sys.executable, "-m", "flowprov")
    print(pipeline.call(*flowprov, "history"))
    print(pipeline.call(*flowprov, "whence", str(unknown)))


if __name__ == "__main__":
    main()
