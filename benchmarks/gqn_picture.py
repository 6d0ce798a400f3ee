"""A picture of growing resolution: bins, actions before and after growth, smoothness and its price.

    python benchmarks/gqn_picture.py run [PATTERN]     trains what is missing, one run at a time
    python benchmarks/gqn_picture.py report            draws docs/images/gqn_growth.png

GQN, DecQN with 2 bins and DecQN with 9 bins on walker-walk at action costs 0, 0.1 and 0.5, the
demo's 120,000 steps and step size, keeping the policy of every evaluation. How runs are resumed,
kept and counted: benchmarks/cells.py; the policies themselves are read from runs/gqn_picture/.

Smoothness is 2 / (n f_s) sum_i M_i f_i over the n frequencies f_i of each action dimension's
spectrum M in a greedy episode, with the control rate f_s (Mysore et al., "Regularizing Action
Policies for Smooth Control", ICRA 2021, arXiv 2012.06644, eq. 8); lower is smoother.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import cells
import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxrl import atomic
from jaxrl.train import results
from jaxrl.train.results import Trained

SUITE = "gqn_picture"
COSTS = (0.0, 0.1, 0.5)
AGENTS = {
    "gqn": ("gqn", []),
    "decqn-2": ("decqn", ["--bins", "2"]),
    "decqn-9": ("decqn", ["--bins", "9"]),
}
COLOURS = {"gqn": "#55a868", "decqn-2": "#4c72b0", "decqn-9": "#dd8452"}
SETTINGS = "--steps 120000 --learning-rate 3e-4 --eval-every 6000 --keep-policies --no-video"
SHOWN = 2.0
"""Seconds of an action trace."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run."""

    agent: str
    cost: float

    @property
    def name(self) -> str:
        """File name."""
        return f"walker-walk_c{self.cost:g}_{self.agent}"

    def arguments(self) -> list[str]:
        """What follows `jaxrl`."""
        agent, options = AGENTS[self.agent]
        cost = ["--action-cost", f"{self.cost:g}"]
        return ["train", agent, "walker-walk", *SETTINGS.split(), *cost, *options]


CELLS = [Cell(agent, cost) for cost in reversed(COSTS) for agent in AGENTS]
"""In the order in which they are trained."""


def smoothness(actions: np.ndarray, control_dt: float) -> float:
    """Of actions [T, A], without unit: the mean over dimensions."""
    amplitude = 2 / len(actions) * np.abs(np.fft.rfft(actions, axis=0))
    frequency = np.fft.rfftfreq(len(actions), control_dt)
    per_dimension = 2 / len(frequency) * control_dt * frequency @ amplitude
    return float(per_dimension.mean())


def episode(trained: Trained) -> np.ndarray:
    """Actions of a greedy episode, [T, A]."""
    agent, state, spec = trained.agent, trained.state, trained.evaluator.env.spec
    rows = trained.evaluator.record(agent, state, jax.random.key(0))
    obs = np.stack([row.obs for row in rows[:-1]])
    act = jax.jit(lambda obs: agent.decode(agent.act(state, obs, jax.random.key(0), False), spec))
    return np.asarray(act(obs))


def report() -> None:
    """Draws the picture and writes its numbers."""
    figure = Figure(figsize=(13, 3.4), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    bins, traces, price = figure.subplots(1, 3)
    rows = []
    for cell, config, metrics in cells.finished(SUITE, CELLS):
        trained = results.load(cells.ROOT / "runs" / SUITE / cell.name, episodes=10)
        dt = trained.evaluator.env.spec.control_dt
        row = {"agent": cell.agent, "cost": cell.cost, "return": metrics[-1]["eval/return_mean"]}
        row |= {"smoothness": smoothness(episode(trained), dt)}
        rows.append(
            row | {"command": config["command"], "commit": cells.commits([config["git_commit"]])}
        )
        if cell.cost == COSTS[-1]:
            steps = [m["global_step"] / 1e3 for m in metrics]
            active = [m["agent/active_bins"] for m in metrics]
            bins.step(steps, active, where="post", color=COLOURS[cell.agent], label=cell.agent)
        if cell.agent == "gqn" and cell.cost == COSTS[-1]:
            draw_traces(traces, trained, metrics, dt)
    for agent in AGENTS:
        own = sorted((r["cost"], r["smoothness"]) for r in rows if r["agent"] == agent)
        points = np.array(own).reshape(-1, 2).T
        price.plot(*points, "o-", color=COLOURS[agent], label=agent)
    labels = (
        (bins, "environment steps (thousands)", "active bins per dimension"),
        (traces, "time in the episode, s", "action, right hip"),
        (price, "action cost", "spectral measure (lower is smoother)"),
    )
    for axis, x, y in labels:
        axis.set_xlabel(x)
        axis.set_ylabel(y)
        axis.grid(alpha=0.25)
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(cells.ROOT / "docs" / "images" / "gqn_growth.png")
    for row in rows:
        print({k: v for k, v in row.items() if k not in ("command", "commit")})
    file = cells.RESULTS / SUITE / "table.json"
    atomic.write_json(file, {"rows": rows})


def draw_traces(axis: Any, trained: Trained, metrics: list[dict], dt: float) -> None:
    """The first action dimension before the first growth and at the end."""
    before = max(m["global_step"] for m in metrics if m["agent/active_bins"] == 2)
    early = results.load(trained.folder.path, episodes=10, step=before)
    shown = {f"before growth, step {before:,}": early, "at the end": trained}
    for (label, policy), colour in zip(shown.items(), ("#999999", COLOURS["gqn"]), strict=True):
        actions = episode(policy)
        count = round(SHOWN / dt)
        start = len(actions) // 2
        trace = actions[start : start + count, 0]
        axis.step(np.arange(count) * dt, trace, where="post", color=colour, lw=1, label=label)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run", *pattern] if len(pattern) < 2:
            cells.run(SUITE, CELLS, *pattern)
        case ["report"]:
            report()
        case _:
            sys.exit(__doc__)
