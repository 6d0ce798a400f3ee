"""GQN against its paper: our learning curves over the published ones, and a table.

    python benchmarks/gqn_paper.py run [PATTERN]     trains what is missing, one run at a time
    python benchmarks/gqn_paper.py report            figures and table from what is there

How runs are resumed, kept and counted: benchmarks/cells.py.

Published: Seyde et al., "Growing Q-Networks", L4DC 2024 (arXiv 2404.04253), Figures 3 and 4,
digitised (+-10 return), mean of 4 seeds.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys

import cells
import numpy as np
from cells import ROOT

from jaxrl import atomic

SUITE = "gqn_paper"
RESULTS = cells.RESULTS / SUITE
PUBLISHED = ROOT / "benchmarks" / "published" / "gqn_curves.json"

AGENTS = {
    "decqn-2": ("decqn", ["--bins", "2"], "DecQN_2"),
    "decqn-9": ("decqn", ["--bins", "9"], "DecQN_9"),
    "decqn-9-plain": ("decqn", ["--bins", "9", "--epsilon-mode", "plain"], "DecQN_9"),
    "decqn-9-torso": ("decqn", ["--bins", "9", "--torso", "plain"], "DecQN_9"),
    "decqn-2-plain": ("decqn", ["--bins", "2", "--epsilon-mode", "plain"], "DecQN_2"),
    "decqn-9-half": ("decqn", ["--bins", "9", "--env-steps-per-update", "16"], "DecQN_9"),
    "decqn-2-half": ("decqn", ["--bins", "2", "--env-steps-per-update", "16"], "DecQN_2"),
    "decqn-2-torso": ("decqn", ["--bins", "2", "--torso", "plain"], "DecQN_2"),
    "decqn-2-alone": ("decqn", ["--bins", "2", "--num-envs", "1"], "DecQN_2"),
    "gqn-linear": ("gqn", ["--growth", "linear"], "GQN_linear_2-9"),
    "gqn-adaptive": ("gqn", ["--growth", "adaptive"], "GQN_adaptive_2-9"),
    "gqn-adaptive-half": (
        "gqn",
        ["--growth", "adaptive", "--env-steps-per-update", "16"],
        "GQN_adaptive_2-9",
    ),
}
"""Ours: agent, options, and the name of the published series. Variations where the paper is silent:
"plain" has every dimension random at rate epsilon, which is more often than in the released code,
"torso" two layers without a residual block, "alone" one environment, "half" as many updates."""
COLOURS = {
    "decqn-2": "#4c72b0",
    "decqn-9": "#dd8452",
    "gqn-linear": "#55a868",
    "gqn-adaptive": "#c44e52",
}
"""Of the published series in the figures; a variation is drawn in a colour of its own."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run."""

    task: str
    agent: str
    cost: float
    steps: int
    seed: int = 0

    @property
    def name(self) -> str:
        """File name."""
        return f"{self.task}_c{self.cost:g}_{self.agent}_s{self.seed}"

    @property
    def series(self) -> str:
        """The agent of which this is one, or a variation."""
        return "-".join(self.agent.split("-")[:2])

    @property
    def panel(self) -> str:
        """The published panel; the cost-free DecQN-2 is compared as return + 1000 c_a."""
        return f"dmc_{self.task.replace('-', '_')}_ca{self.cost or 0.1:g}"

    def arguments(self) -> list[str]:
        """What follows `jaxrl`."""
        agent, options, _ = AGENTS[self.agent]
        settings = ["--steps", str(self.steps), "--action-cost", f"{self.cost:g}"]
        return ["train", agent, self.task, *settings, *options, *self._seed()]

    def _seed(self) -> list[str]:
        return ["--seed", str(self.seed), "--no-video"]


CELLS = [
    Cell("walker-walk", "decqn-2", 0.1, 500_000),
    Cell("walker-walk", "decqn-2", 0.0, 500_000),
    Cell("walker-walk", "decqn-2", 0.5, 1_000_000),
    Cell("walker-walk", "gqn-linear", 0.5, 1_000_000),
    Cell("walker-walk", "gqn-adaptive", 0.5, 1_000_000),
    Cell("walker-walk", "gqn-adaptive", 0.5, 1_000_000, seed=1),
    Cell("walker-walk", "decqn-9", 0.5, 1_000_000),
    Cell("cartpole-swingup", "gqn-adaptive", 0.5, 1_000_000),
    Cell("cartpole-swingup", "decqn-2", 0.5, 1_000_000),
    Cell("finger-spin", "gqn-adaptive", 0.5, 1_000_000),
    Cell("finger-spin", "decqn-9", 0.5, 1_000_000),
    Cell("finger-spin", "decqn-9", 0.5, 1_000_000, seed=1),
    Cell("finger-spin", "decqn-9-plain", 0.5, 1_000_000),
    Cell("finger-spin", "decqn-9-torso", 0.5, 1_000_000),
    Cell("walker-walk", "decqn-2-plain", 0.1, 200_000),
    Cell("finger-spin", "decqn-9-half", 0.5, 1_000_000),
    Cell("finger-spin", "decqn-9-half", 0.5, 1_000_000, seed=1),
    Cell("walker-walk", "decqn-2-half", 0.1, 200_000),
    Cell("walker-walk", "decqn-2-torso", 0.1, 200_000),
    Cell("walker-walk", "decqn-2-alone", 0.1, 200_000),
    Cell("walker-walk", "gqn-adaptive-half", 0.5, 1_000_000),
]


def curve(metrics: list[dict]) -> np.ndarray:
    """Steps and returns, [evaluations, 2]."""
    return np.array([[line["global_step"], line["eval/return_mean"]] for line in metrics])


def plateau(points: np.ndarray, steps: int) -> float:
    """Mean return of the last tenth of the run, or the last one if none could be read off there."""
    last = points[points[:, 0] > 0.9 * steps]
    return float((last if len(last) else points[-1:])[:, 1].mean())


def reaches(points: np.ndarray, level: float) -> float:
    """First step at which the mean of three evaluations is at `level`; NaN if never."""
    smooth = np.convolve(points[:, 1], np.ones(3) / 3, mode="valid")
    above = np.flatnonzero(smooth >= level)
    return float(points[above[0] + 1, 0]) if len(above) else float("nan")


def compare(cell: Cell, metrics: list[dict], published: dict) -> dict[str, float]:
    """Our figures beside the paper's, shifted to `cell.cost` for the cost-free run."""
    ours = curve(metrics)
    theirs = np.array(published[cell.panel][AGENTS[cell.agent][2]])
    if cell.cost == 0:
        theirs = theirs + [0, 100]  # DecQN-2 pays exactly 1000 c_a
    theirs_end = theirs[theirs[:, 0] <= cell.steps]
    half = float(np.interp(cell.steps / 2, theirs[:, 0], theirs[:, 1]))
    return {
        "ours": plateau(ours, cell.steps),
        "paper": plateau(theirs_end, cell.steps),
        "paper_final": plateau(theirs, int(theirs[-1, 0])),
        "half_level": half,
        "half_reached": reaches(ours, half) / cell.steps,
    }


def report() -> None:
    """Prints the table, writes it as JSON and draws the figures."""
    published = json.loads(PUBLISHED.read_text())["curves"]
    rows, panels = [], {}
    for cell, config, metrics in cells.finished(SUITE, CELLS):
        figures: dict = compare(cell, metrics, published)
        device = f"{config['device']['cores']} cores, {config['device']['kind']}"
        about = {"commit": cells.commits([config["git_commit"]]), "jax": config["versions"]["jax"]}
        rows.append({"run": cell.name, **figures, **about, "device": device})
        rows[-1] |= {"command": config["command"], "hours": metrics[-1]["wall_time"] / 3600}
        rows[-1] |= {"difference": figures["ours"] - figures["paper"], "seed": cell.seed}
        panels.setdefault((cell.panel, cell.cost), []).append((cell, curve(metrics)))
    print(f"{'run':<40}{'ours':>8}{'paper':>8}{'diff':>7}{'half reached':>14}{'commit':>11}")
    for row in rows:
        never = np.isnan(row["half_reached"])
        row["half reached"] = "never" if never else f"{row['half_reached']:.0%}"
        row["half_reached"] = None if never else row["half_reached"]
        print(
            f"{row['run']:<40}{row['ours']:z8.0f}{row['paper']:>8.0f}{row['difference']:>+7.0f}"
            f"{row['half reached']:>14}{row['commit']:>11}"
        )
    atomic.write_json(RESULTS / "table.json", {"rows": rows})
    draw(panels, published)


def draw(panels: dict, published: dict) -> None:
    """One picture: a panel per task and cost, ours solid over theirs dashed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns, lines = 3, max(1, -(-len(panels) // 3))
    figure = Figure(figsize=(5.2 * columns, 4 * lines), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, ((panel, cost), runs) in zip(axes, panels.items(), strict=False):
        spare = itertools.cycle(("#8172b3", "#937860", "#64b5cd", "#8c8c8c", "#da8bc3"))
        for series in dict.fromkeys(cell.series for cell, _ in runs):
            theirs = np.array(published[panel][AGENTS[series][2]])
            theirs = theirs + [0, 100 if cost == 0 else 0]
            theirs = theirs[theirs[:, 0] <= max(cell.steps for cell, _ in runs)]
            x, y, colour = theirs[:, 0] / 1e3, theirs[:, 1], COLOURS[series]
            axis.plot(x, y, "--", color=colour, alpha=0.7, lw=1)
            axis.fill_between(x, y - 10, y + 10, color=colour, alpha=0.12)
        for cell, points in runs:
            own = cell.agent in COLOURS and cell.seed == 0
            colour = COLOURS[cell.series] if own else next(spare)
            label = f"{cell.agent}, seed {cell.seed}"
            axis.plot(
                points[:, 0] / 1e3, points[:, 1], color=colour, lw=1.5 if own else 1, label=label
            )
        axis.set_title(f"{runs[0][0].task}, action cost {cost:g}")
        axis.set_xlabel("environment steps (thousands)")
        axis.set_ylabel("evaluation return, cost included")
        axis.grid(alpha=0.25)
        axis.legend(frameon=False, fontsize=8, title="solid: ours; dashed: paper", title_fontsize=8)
    figure.savefig(ROOT / "docs" / "images" / "gqn_paper.png")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run", *pattern] if len(pattern) < 2:
            cells.run(SUITE, CELLS, *pattern)
        case ["report"]:
            report()
        case _:
            sys.exit(__doc__)
