"""Small changes to the code, one at a time, and whether the tests notice: `python -m tests.mutants FILE ...`.

mutmut (`pip install mutmut==3.8.1`; Linux or macOS) makes the changes: comparisons turned, constants off by one,
arguments left out, conditions that always hold. Of each file some are drawn, and the tests of its room run on each,
those first that are fastest to reach it. Prints what docs/mutants.md shows: a row a file, and what nobody noticed.
Without a file all those of `ROOMS`, which takes an hour or two.

Left out is what changes only prose: a text with a space in it, which a test would have to repeat word by word.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TRACKER = "integrations/wstrack_integrations"
ROOMS = {
    ("tests/runs", "tests/trackers"): (
        "wstrack/runs/part.py", "wstrack/runs/recording.py", "wstrack/runs/recorder.py", "wstrack/runs/run.py",
        "wstrack/runs/tables.py", "wstrack/runs/cells.py", "wstrack/runs/gaps.py", "wstrack/runs/told_apart.py",
        "wstrack/trackers/matching.py",
    ),
    ("tests/trackers", "tests/test_cli.py", "tests/integrations/test_push.py", "tests/integrations/test_tensorboard.py",
     "tests/integrations/test_asked_of_trackers.py", "tests/integrations/test_settings_of_others.py",
     "-k", "not server and not wandb"): (
        "wstrack/trackers/references.py", "wstrack/trackers/pushing.py", "wstrack/trackers/listing.py",
    ),
    ("tests/training",): (
        "wstrack/training/steps.py", "wstrack/training/delivery.py", "wstrack/training/plan.py",
        "wstrack/training/settings.py", "wstrack/training/acting.py",
    ),
    ("tests/integrations/test_tensorboard.py", "tests/integrations/test_events.py",
     "tests/integrations/test_event_files_of_others.py", "tests/integrations/test_same_run.py",
     "tests/integrations/test_alerts_in_trackers.py", "tests/integrations/test_rates_in_trackers.py",
     "tests/integrations/test_settings_of_others.py", "-k", "not server"): (
        f"{TRACKER}/tensorboard/wire.py", f"{TRACKER}/tensorboard/source.py", f"{TRACKER}/tensorboard/sink.py",
    ),
    ("tests/integrations/test_wandb_rows.py", "tests/integrations/test_wandb_files.py",
     "tests/integrations/test_wandb_online.py", "tests/integrations/test_wandb_of_others.py",
     "tests/integrations/test_settings_of_others.py"): (
        f"{TRACKER}/wandb/rows.py", f"{TRACKER}/wandb/offline.py", f"{TRACKER}/wandb/online.py",
        f"{TRACKER}/wandb/history.py",
    ),
    ("tests/integrations/test_mlflow.py", "tests/integrations/test_mlflow_of_others.py",
     "tests/integrations/test_asked_of_trackers.py", "tests/integrations/test_settings_of_others.py",
     "-k", "not server and not wandb"): (
        f"{TRACKER}/mlflow/source.py", f"{TRACKER}/mlflow/history.py", f"{TRACKER}/mlflow/address.py",
    ),
    ("tests/analysis",): (
        "wstrack/analysis/choice.py", "wstrack/analysis/phases.py", "wstrack/analysis/comparison.py",
        "wstrack/analysis/growth.py", "wstrack/analysis/findings/health.py", "wstrack/analysis/findings/words.py",
    ),
}  # fmt: skip
"""By the tests that are asked, the files that are changed. A server of MLflow's takes longer to start than all else."""

OF_TRACKERS = tuple(
    f"tests/integrations/test_{name}.py"
    for name in (
        "alerts_in_trackers",
        "rates_in_trackers",
        "asked_of_trackers",
        "sweeps_of_trackers",
        "settings_of_others",
    )
)
ALSO = {
    "wstrack/analysis": ("tests/analysis/test_analysis.py",),
    "wstrack/trackers": ("tests/test_cli.py", *OF_TRACKERS),
    "wstrack/training": (
        "tests/training/test_delivery.py",
        "tests/training/test_processes.py",
        "tests/training/distributed",
    ),
    **{f"{TRACKER}/{name}": OF_TRACKERS for name in ("tensorboard", "wandb")},
    f"{TRACKER}/mlflow": (*OF_TRACKERS, "tests/integrations/test_mlflow.py"),
}
"""Asked, whole, of changes that nobody noticed: tests that reach a function in a thread, or in other processes."""

AT_ONCE = 2  # processes, each with the memory of torch and of a server
NOTICED = ("killed", "timeout", "segfault")

SETTINGS = """[mutmut]
source_paths=
    wstrack
    wstrack_integrations
only_mutate={files}
also_copy=
    README.md
    docs
    examples
    benchmarks
pytest_add_cli_args=
    -p
    no:cacheprovider
    -p
    tests.mutants
    --ignore
    tests/training/distributed
    --ignore
    tests/training/test_processes.py
    --ignore
    tests/analysis/test_analysis.py
    --deselect
    tests/integrations/test_push.py::test_a_hole_in_event_files_is_filled_without_a_step_back_that_hides_what_follows
    --deselect
    tests/runs/test_written.py::test_a_flipped_bit_is_noticed_or_changes_nothing
    --deselect
    tests/training/test_steps.py::test_an_optimizer_that_wraps_another_counts_once
pytest_add_cli_args_test_selection={tests}
process_isolation=forkserver
timeout_multiplier=4
timeout_constant=20
track_dependencies=false
use_git_change_detection=false
debug=true
"""


@dataclass(frozen=True)
class Mutant:
    """A change: mutmut's name for it, and its lines as a difference."""

    name: str
    change: str


def pytest_configure() -> None:
    """As a plugin of the runs: what a test starts does not take part in finding out which functions a test reaches."""
    begin = subprocess.Popen.__init__

    def begun(self: subprocess.Popen[Any], *given: Any, **more: Any) -> None:
        environment = dict(more.pop("env", None) or os.environ)
        if environment.get("MUTANT_UNDER_TEST") == "stats":
            environment["MUTANT_UNDER_TEST"] = ""
        begin(self, *given, env=environment, **more)

    subprocess.Popen.__init__ = begun  # type: ignore[method-assign]


def mutants_of(path: Path, module: str) -> Iterator[Mutant]:
    """Every change of a file but those of prose."""
    from mutmut.mutation.file_mutation import mutate_file_contents

    made = mutate_file_contents(str(path), path.read_text())
    functions = {node.name: node for node in ast.walk(ast.parse(made.code)) if isinstance(node, ast.FunctionDef)}
    for name in made.mutant_names:
        before, after = functions[f"{name.partition('__mutmut_')[0]}__mutmut_orig"], functions[name]
        after.name = before.name
        if _without_prose(before) != _without_prose(after):
            lines = list(difflib.unified_diff(_lines(before), _lines(after), lineterm="", n=0))[3:]
            yield Mutant(f"{module}.{name}".replace(".__init__.", "."), "\n".join(lines))


def _lines(function: ast.FunctionDef) -> list[str]:
    return ast.unparse(function).splitlines()


def _without_prose(function: ast.FunctionDef) -> str:
    """A function's code with all text that has a space in it left empty."""
    copied = ast.parse(ast.unparse(function))
    for node in ast.walk(copied):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip("X"):
            node.value = ""
    return ast.dump(copied)


def campaign(tests: Sequence[str], files: Sequence[str], most: int, seed: int, work: Path) -> None:
    """Run the tests on the changes of some files, in a copy of the repository, and print what came of it."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, work / name)
    # mutmut names a function by the path to it, which must be the name that it is imported by.
    (work / TRACKER).rename(work / "wstrack_integrations")
    there = [file.removeprefix("integrations/") for file in files]
    listing = ["\n    ".join(["", *names]) for names in (there, tests)]
    (work / "setup.cfg").write_text(SETTINGS.format(files=listing[0], tests=listing[1]))
    os.chdir(work)  # where mutmut looks for its settings
    drawn: dict[str, list[Mutant]] = {}
    for file, path in zip(files, there, strict=True):
        all_of = list(mutants_of(work / path, path.removesuffix(".py").replace("/", ".")))
        drawn[file] = random.Random(f"{seed} {file}").sample(all_of, min(most, len(all_of)))
    names = [mutant.name for mutants in drawn.values() for mutant in mutants]
    with (work / "log").open("w") as log:
        subprocess.run(
            ["mutmut", "run", "--max-children", str(AT_ONCE), *names], cwd=work, stdout=log, stderr=log, check=False
        )
    said = subprocess.run(["mutmut", "results", "--all", "1"], cwd=work, capture_output=True, text=True, check=True)
    came = dict(line.strip().split(": ") for line in said.stdout.splitlines() if "__mutmut_" in line)
    if all(came[name] == "not checked" for name in names):
        sys.stderr.write(f"{tests} fail, or say nothing, before anything is changed:\n{failures(work / 'log')}")
        return
    fail_anyway = cache(partial(notice, work=work, name=""))
    for file, mutants in drawn.items():
        others = ALSO.get(str(Path(file).parent), ())
        unnoticed = [mutant.name for mutant in mutants if came[mutant.name] not in NOTICED]
        if unnoticed and fail_anyway(others):  # then their failures say nothing of a change
            sys.stderr.write(f"{others} fail before anything is changed, and were not asked of {file}\n")
            unnoticed = []
        with ThreadPoolExecutor(AT_ONCE) as pool:
            seen = pool.map(partial(notice, others, work), unnoticed)
            came |= {name: "killed" for name, is_seen in zip(unnoticed, seen, strict=True) if is_seen}
        noticed = [mutant for mutant in mutants if came[mutant.name] in NOTICED]
        print(f"| `{file}` | {len(mutants)} | {len(noticed)} |", flush=True)
    for mutants in drawn.values():
        for mutant in mutants:
            if came[mutant.name] not in NOTICED:
                print(f"\n{mutant.name}: {came[mutant.name]}\n{mutant.change}", flush=True)


def notice(tests: Sequence[str], work: Path, name: str) -> bool:
    """Whether any of these tests fails with a change, or without any, wherever it is reached."""
    environment = os.environ | {"MUTANT_UNDER_TEST": name}
    asked = ["pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    if not tests:
        return False
    return subprocess.run(asked, cwd=work / "mutants", env=environment, stdout=subprocess.DEVNULL).returncode != 0


def failures(log: Path) -> str:
    """What the tests that fail say, or else the end of all."""
    text = log.read_text()
    failed = [line for line in text.splitlines() if line.startswith(("FAILED", "ERROR", "E   "))]
    return "\n".join(failed) or text[-3000:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {file: tests for tests, files in ROOMS.items() for file in files}
    parser.add_argument("files", nargs="*", metavar="FILE", choices=[*known, []], help="as in the table (default: all)")
    parser.add_argument("--most", type=int, default=13, help="changes a file (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    given = parser.parse_args()
    print("| file | changes | noticed |\n|---|---|---|", flush=True)
    for tests, files in ROOMS.items():
        if some := [file for file in files if not given.files or file in given.files]:
            with tempfile.TemporaryDirectory() as folder:
                campaign(tests, some, given.most, given.seed, Path(folder))


if __name__ == "__main__":
    main()
