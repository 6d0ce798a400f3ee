"""`jaxrl compare`: which agent is better, and after how many seeds that can be said."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from jaxrl.cli.options import parse
from jaxrl.errors import UsageError
from jaxrl.report.runs import DIVERGED, Run, collect
from jaxrl.report.summary import given_references
from jaxrl.stats import Reference, area_under_curve, reference
from jaxrl.stats.sequential import AdaStop

UNDECIDED = 1
"""Exit code where more runs are needed."""

SIGNS = {"larger": ">", "smaller": "<", "equal": "no difference found from", "continue": "?"}
ITS_OWN = ("--seed", "--out")
SWITCHES = ("--overwrite", "--no-overwrite", "--resume", "--no-resume")
"""Options that runs of other seeds do not share, with and without a value."""


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Compare agents by AdaStop, one group of seeds after the other."""

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN", help="Runs of two or more agents: folders, tracked files."),
    ]
    score: Literal["final", "area"] = "final"
    """Return of the last evaluation, or the mean over the learning curve."""
    normalise: bool = False
    """Score a seed by its mean over several tasks, each between its reference scores."""
    reference: tuple[str, ...] = ()
    """TASK=LOW:HIGH, scores that normalise a task without a committed reference."""
    worst: float | None = None
    """Return that a run counts as whose own is not finite; by default such a run is refused."""
    group_size: int = 5
    """Seeds of each agent between two looks."""
    groups: int = 5
    """Looks at most."""
    alpha: float = 0.05
    """Chance to find a difference where there is none, over all pairs and looks."""
    permutations: int = 10_000
    """Permutations behind a look."""
    seed: int = 0
    """Of the permutations."""
    train: bool = False
    """Train the seeds that are missing, one run at a time, until every pair is decided."""
    out: Path = Path("runs/compare")
    """Folder for the runs of --train; the same command goes on with what is there."""


class TrainingEnded(Exception):
    """A run that --train started did not finish."""

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


def compare(arguments: list[str]) -> int:
    """`jaxrl compare RUN RUN... [options]`; exit code 1 if more runs are needed."""
    description = "Which agent is better, and after how many seeds that can be said (AdaStop)."
    options = parse(CompareOptions, arguments, "jaxrl compare", description)
    agents = Agents(options)
    settings = (options.group_size, options.groups, options.alpha, options.permutations)
    test = AdaStop(list(agents.runs), *settings, options.seed)
    looks = 0
    lacking: list[str] = []
    while not test.finished and not lacking:
        for name, wanted in test.wanted().items():
            try:
                while options.train and len(agents.scores(name)) < wanted:
                    agents.train_next(name)
            except TrainingEnded as ended:
                return max(1, ended.code)  # a signal's code is negative
            missing = wanted - len(agents.scores(name))
            lacking += [f"{missing} of {name}"] if missing > 0 else []
        if not lacking:
            test.look({name: agents.scores(name) for name in agents.runs})
            looks += 1
    needed = f"{', '.join(lacking)}; --train trains them"
    if not looks:
        raise UsageError(
            f"too few runs: a look takes --group-size {options.group_size} seeds of each agent, "
            f"and missing are {needed}"
        )
    agents.show()
    print(
        f"AdaStop, {options.group_size} seeds a look, at most {options.groups} looks, level "
        f"{options.alpha:g}, {options.permutations:,} permutations, seed {options.seed}"
    )
    for d in test.decisions():
        print(f"  {d.first} {SIGNS[d.verdict]} {d.second}")
    if lacking:
        print(f"undecided: the next look needs more runs ({needed})")
    return UNDECIDED if lacking else 0


class Agents:
    """The runs of each agent, and what each seed scores.

    Raises:
      UsageError: a run without a score, tasks that cannot be put together, or no run at all.
    """

    runs: dict[str, list[Run]]

    def __init__(self, options: CompareOptions):
        self.options = options
        self._paths: list[Path] = list(options.runs)
        self._read()

    def _read(self) -> None:
        found = collect(self._paths)
        self.tasks = sorted({run.task for run in found})
        if len(self.tasks) > 1 and not self.options.normalise:
            raise UsageError(
                f"the runs are of several tasks ({'; '.join(self.tasks)}): compare one at a time, "
                "or give --normalise"
            )
        self._references = given_references(self.options.reference, found)
        self.runs = {}
        for run in found:
            self.runs.setdefault(run.agent, []).append(run)
        self._scores = {name: self._score_seeds(name, runs) for name, runs in self.runs.items()}

    def scores(self, name: str) -> list[float]:
        """One score for each seed of an agent, in the order of the seeds."""
        return self._scores[name]

    def _score_seeds(self, name: str, runs: Sequence[Run]) -> list[float]:
        table: dict[int, dict[str, float]] = {}
        for run in runs:
            table.setdefault(run.seed, {})[run.task] = self._score(run)
        for seed, found in table.items():
            for task in self.tasks:
                if task not in found:
                    raise UsageError(f"{name} has no run of {task} with seed {seed}")
        return [float(np.mean(list(table[seed].values()))) for seed in sorted(table)]

    def _score(self, run: Run) -> float:
        """The run's score, normalised if asked for."""
        if run.left_out not in (None, DIVERGED):
            raise UsageError(f"{run.path} has no score ({run.left_out}): finish it or leave it out")
        score = float(run.values[-1])
        if self.options.score == "area":
            score = float(area_under_curve(run.steps, run.values))
        if not math.isfinite(score):
            if self.options.worst is None:
                raise UsageError(
                    f"{run.path} has the score {score}: --worst RETURN counts such a run as failed"
                )
            score = self.options.worst
        if self.options.normalise:
            scale = self._reference(run)
            score = (score - scale.low) / (scale.high - scale.low)
        return score

    def _reference(self, run: Run) -> Reference:
        """What normalises the run's score."""
        if run.task in self._references:
            return self._references[run.task]
        try:
            return reference(run.env_id)
        except UsageError:
            raise UsageError(
                f"{run.task} has no reference score to normalise by: --reference TASK=LOW:HIGH "
                "gives one"
            ) from None

    def show(self) -> None:
        """Prints each agent's mean and spread, and what should be known of its runs."""
        what = "final return" if self.options.score == "final" else "mean of the learning curve"
        print(f"{'; '.join(self.tasks)}: {what}{', normalised' * self.options.normalise}")
        width = max(map(len, self.runs))
        for name, runs in self.runs.items():
            x = np.array(self.scores(name))
            spread = f" ± {x.std(ddof=1):.4g}" if len(x) > 1 else ""
            print(f"  {name:<{width}}  {x.mean():.5g}{spread} (n = {len(x)})")
            for note, count in Counter(note for run in runs for note in run.notes).items():
                print(f"    {note}: {count} of {len(runs)} runs")

    def train_next(self, name: str) -> None:
        """Trains an agent's next seed on every task, with the options of its other runs.

        Raises:
          UsageError: the agent's command is unknown, or trains something else today.
          TrainingEnded: a run failed or was stopped.
        """
        seed = 1 + max(run.seed for run in self.runs[name])
        known = set(self.runs)
        for task in self.tasks:
            like = next(run for run in self.runs[name] if run.task == task)
            words = _command(like)
            mark = hashlib.sha256(shlex.join(words).encode()).hexdigest()[:8]
            folder = f"{like.config['exp_name']}-{mark}_{like.env_id}_s{seed}"
            out = self.options.out / re.sub(r"[^\w.-]+", "-", folder)
            if not _finished(out):
                words += ["--seed", str(seed), "--out", str(out), "--resume"]
                print(shlex.join(["jaxrl", *words]), flush=True)
                ended = subprocess.run([sys.executable, "-m", "jaxrl", *words])
                if ended.returncode:
                    print("jaxrl: training ended; the same command goes on", file=sys.stderr)
                    raise TrainingEnded(ended.returncode)
            self._paths.append(out)
        self._read()
        if set(self.runs) != known:
            new = ", ".join(sorted(set(self.runs) - known))
            raise UsageError(
                f"{self._paths[-1]} came out as another agent ({new}) than {name}: the defaults "
                "have changed since, so the two cannot be pooled"
            )


def _finished(out: Path) -> bool:
    """Whether an earlier `jaxrl compare` has trained this run to its end."""
    if not (out / "metrics.jsonl").exists():
        return False
    try:
        (run,) = collect([out])
    except UsageError:  # no evaluation yet
        return False
    return run.left_out in (None, DIVERGED)


def _command(run: Run) -> list[str]:
    """The words of the run's command but its seed and folder, from "train" on."""
    words = shlex.split(str(run.config.get("command", "")))
    if words[:3] != ["jaxrl", "train", run.config["exp_name"]]:
        raise UsageError(
            f"{run.path} was made by `{shlex.join(words)}`, and --train repeats `jaxrl train` only"
        )
    kept: list[str] = []
    skip = False
    for word in words[1:]:
        if skip:
            skip = False
        elif word in ITS_OWN:
            skip = True
        elif word not in SWITCHES and not word.startswith(tuple(f"{o}=" for o in ITS_OWN)):
            kept.append(word)
    return kept
