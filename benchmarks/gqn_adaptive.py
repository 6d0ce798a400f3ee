"""The adaptive schedule's unpublished window and gap: a screen on recorded evaluations, then runs.

    python benchmarks/gqn_adaptive.py screen           when each setting would have grown
    python benchmarks/gqn_adaptive.py run [PATTERN]    trains what is missing, one run at a time
    python benchmarks/gqn_adaptive.py report           the table of what is there

The screen feeds evaluations of kept runs of cartpole-swingup and finger-spin (gqn_paper.py) to the
agent's own rule. A run that had grown at other times would have had other returns, so the screen
only says which settings are too hasty or too slow to be worth a run: the paper's curves leave
DecQN-2's level between 15 % and 30 % of training on both tasks, so that the grid has to be full by
then. How runs are resumed, kept and counted: benchmarks/cells.py.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys

import cells
import gqn_paper
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import atomic
from jaxrl.agents.gqn import GQN
from jaxrl.envs.registry import make

SUITE = "gqn_adaptive"
RESULTS = cells.RESULTS / SUITE
TASKS = ("cartpole-swingup", "finger-spin")
WINDOWS, GAPS = (3, 5, 10, 20), (1, 5, 10, 20)
"""In evaluations, of which a run has 100."""
RECORDED = [c for c in gqn_paper.CELLS if c.task in TASKS and c.agent == "gqn-adaptive"]
"""Runs that the screen reads, and the default's rows of the table."""
STEPS = 400_000
"""Of a confirming run: beyond the rise of the paper's curves."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One confirming run."""

    task: str
    window: int
    gap: int
    seed: int = 0

    @property
    def name(self) -> str:
        """File name."""
        return f"{self.task}_w{self.window}_g{self.gap}_s{self.seed}"

    def arguments(self) -> list[str]:
        """What follows `jaxrl`."""
        rule = ["--growth-window", str(self.window), "--growth-gap", str(self.gap)]
        words = ["train", "gqn", self.task, "--steps", str(STEPS), "--eval-every", "10000"]
        words += ["--action-cost", "0.5", "--growth", "adaptive", *rule]
        return [*words, "--seed", str(self.seed), "--no-video"]


CELLS = [
    Cell("finger-spin", 10, 5),
    Cell("finger-spin", 5, 10),
    Cell("cartpole-swingup", 5, 10),
]
"""Beside the default (5, 5), whose runs are gqn_paper's: adaptive growth knows no run's length, so
that their first STEPS are what a shorter run would be."""


def growths(window: int, gap: int, returns: np.ndarray) -> list[int]:
    """Which evaluations the rule would have grown at."""
    agent = GQN(growth="adaptive", growth_window=window, growth_gap=gap).canonical()
    state = agent.init(jax.random.key(0), make("cartpole-swingup").spec)

    def evaluate(state, value):
        state = agent.on_evaluation(state, value, jnp.zeros(()))
        return state, state.level

    _, levels = jax.lax.scan(evaluate, state, jnp.asarray(returns, jnp.float32))
    return np.flatnonzero(np.diff(levels, prepend=0)).tolist()


def screen() -> None:
    """Prints and writes shares of training at which each setting would have grown."""
    rows = []
    for cell, _, metrics in cells.finished(gqn_paper.SUITE, RECORDED):
        returns = gqn_paper.curve(metrics)
        for window, gap in itertools.product(WINDOWS, GAPS):
            at = returns[growths(window, gap, returns[:, 1]), 0] / cell.steps
            rows.append({"run": cell.name, "window": window, "gap": gap, "grown": at.tolist()})
            shares = "  ".join(f"{share:4.0%}" for share in at)
            print(f"{cell.name:<42} window {window:>2}  gap {gap:>2}   {shares}", flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    atomic.write_json(RESULTS / "screen.json", {"rows": rows})


def report() -> None:
    """Prints the table and writes it as JSON."""
    rows = []
    default = GQN().growth_window, GQN().growth_gap
    found = [(c.task, *default, *run) for c, *run in cells.finished(gqn_paper.SUITE, RECORDED)]
    found += [(c.task, c.window, c.gap, *run) for c, *run in cells.finished(SUITE, CELLS)]
    for task, window, gap, config, metrics in sorted(found, key=lambda row: row[:3]):
        metrics = [line for line in metrics if line["global_step"] <= STEPS]
        points = gqn_paper.curve(metrics)
        bins = np.array([line["agent/active_bins"] for line in metrics])
        grown = points[np.flatnonzero(np.diff(bins)) + 1, 0].astype(int).tolist()
        row = {"task": task, "window": window, "gap": gap}
        row |= {"grown at": ", ".join(f"{step:,}" for step in grown)}
        row |= {"mean return": float(points[:, 1].mean())}
        row |= {"return": gqn_paper.plateau(points, STEPS), "command": config["command"]}
        row |= {"commit": cells.commits([config["git_commit"]]), "jax": config["versions"]["jax"]}
        rows.append(row)
        print(
            f"{task:<18}window {window:>2}  gap {gap:>2}  {row['return']:>5.0f} at the end  "
            f"{row['mean return']:>5.0f} on average  grown at {row['grown at']}"
        )
    RESULTS.mkdir(parents=True, exist_ok=True)
    atomic.write_json(RESULTS / "table.json", {"rows": rows})


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["screen"]:
            screen()
        case ["run", *pattern] if len(pattern) < 2:
            cells.run(SUITE, CELLS, *pattern)
        case ["report"]:
            report()
        case _:
            sys.exit(__doc__)
