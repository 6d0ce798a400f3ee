"""What goal-reaching runs learned: distances, states visited on the way, films, how they act.

    python benchmarks/gcrl_pictures.py distances RUN     the learned distance to two goals
    python benchmarks/gcrl_pictures.py visited RUN...    visited states, and how success was found
    python benchmarks/gcrl_pictures.py films RUN...      an episode of the last policy of each
    python benchmarks/gcrl_pictures.py acting RUN...     success of it, greedy and as it explores

RUN is a run folder of benchmarks/gcrl.py, whose newest checkpoint is read (its replay too, so the
capacity must have held every row, for the first two). Pictures go to docs/images/, films to
docs/videos/, numbers to benchmarks/results/gcrl/{distances,visited,films,acting}.json, with what
they were computed from.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cells
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxrl import atomic
from jaxrl.envs.goal import ant_maze, mazes, point
from jaxrl.train import results
from jaxrl.train.checkpoint import Checkpoints
from jaxrl.train.results import Trained
from jaxrl.train.runlog import command_line, git_commit, versions

IMAGES = cells.ROOT / "docs" / "images"
MAZES = {
    "point-umaze": mazes.parse(mazes.U_MAZE, point.CELL),
    "point-medium": mazes.parse(mazes.BIG_MAZE, point.CELL),
    "point-spiral": mazes.parse(mazes.SPIRAL, point.CELL),
    "ant-umaze": mazes.parse(mazes.U_MAZE, ant_maze.CELL),
}
VIDEOS = cells.ROOT / "docs" / "videos"
FRAMES = 6
"""Of an episode, in the picture of all films."""
PHASES = 4
"""Panels of visited states: shares of the training."""
SEED = 0
"""Of a film's start and goal, and of the episodes that are counted."""
EPISODES = 500
"""That are counted."""


def provenance(trained: Trained) -> dict[str, Any]:
    """What a number here was computed from."""
    config = trained.folder.config()
    return {
        "run": trained.folder.path.name,
        "run_command": config["command"],
        "run_commit": config["git_commit"],
        "device": config["device"],
        "command": command_line(),
        "commit": git_commit(),
        "versions": versions(),
    }


def maze_of(trained: Trained) -> mazes.Maze:
    """The maze of the run's task."""
    task = trained.folder.config()["env_id"]
    if task not in MAZES:
        sys.exit(f"{task} has no maze that is drawn here; there are: {', '.join(MAZES)}")
    return MAZES[task]


def panels(count: int, maze: mazes.Maze) -> tuple[Figure, list[Any]]:
    """A row of axes that show the maze as its text does: x down, y to the right."""
    figure = Figure(figsize=(3.4 * count, 3.4), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = list(np.ravel(figure.subplots(1, count, squeeze=False)))
    half = maze.cell / 2
    boxes = [
        Rectangle((y - half, x - half), maze.cell, maze.cell)
        for x, y in maze.centre(maze.where("#"))
    ]
    for axis in axes:
        axis.add_collection(PatchCollection(boxes, color="#b9b2a6", zorder=1))
        axis.set_aspect("equal")
        axis.set_xlim(-half, maze.cell * len(maze.rows[0]) - half)
        axis.set_ylim(maze.cell * len(maze.rows) - half, -half)
        axis.set_xticks([])
        axis.set_yticks([])
    return figure, axes


def distances(path: Path) -> None:
    """Learned distance to two goals over the maze, beside the way to walk."""
    trained = results.load(path, episodes=1)
    agent, maze, spec = trained.agent, maze_of(trained), trained.evaluator.env.spec
    reset = jax.jit(jax.vmap(trained.evaluator.env.reset))
    obs0 = np.asarray(reset(jax.random.split(jax.random.key(0), 1)).obs)
    places = reachable(maze)
    starts = maze.steps_from(maze.starts[0])
    goals = maze.goals[np.argsort([starts[i, j] for i, j in maze.goals])]
    goals = [goals[-1], goals[len(goals) // 2]]

    @jax.jit
    def away(places: jax.Array, goal: jax.Array) -> jax.Array:
        """Learned distance, [P]: of the worse critic, for the action of the policy."""
        obs = jnp.repeat(obs0, len(places), 0).at[:, spec.goal.achieved].set(places)
        obs = obs.at[:, spec.goal.commanded].set(goal)
        action = agent.act(trained.state, obs, jax.random.key(0), explore=False)
        return -agent.energies(trained.state, obs, action).min(0)

    figure, axes = panels(len(goals), maze)
    rows = []
    for axis, goal in zip(axes, goals, strict=True):
        learned = np.asarray(away(jnp.asarray(places, jnp.float32), jnp.asarray(maze.centre(goal))))
        steps = maze.steps_from(goal)[tuple(maze.cell_of(places).T)]
        straight = np.linalg.norm(places - maze.centre(goal), axis=1)
        found = rank_correlation(learned, steps)
        rows.append({"goal": [int(x) for x in goal], "learned_with_steps_to_walk": found})
        rows[-1] |= {"straight_line_with_steps_to_walk": rank_correlation(straight, steps)}
        shown = axis.scatter(
            places[:, 1], places[:, 0], c=learned, s=19, marker="s", cmap="viridis_r", linewidths=0
        )
        axis.plot(*maze.centre(goal)[::-1], "*", color="#d62728", ms=14, mec="white")
        figure.colorbar(shown, ax=axis, shrink=0.8, label="learned distance")
        axis.set_title(f"rank correlation with steps to walk: {found:.2f}", fontsize=8)
    name = trained.folder.path.name
    figure.savefig(IMAGES / f"distances_{name}.png")
    keep("distances", name, {**provenance(trained), "goals": rows})


def reachable(maze: mazes.Maze) -> np.ndarray:
    """Places [P, 2], nine by nine in a cell, where a ball of a fifth of a cell touches no wall."""
    fine = maze.cell * (np.arange(9) - 4) / 9
    offsets = np.stack(np.meshgrid(fine, fine, indexing="ij"), -1).reshape(-1, 2)
    places = (maze.centre(maze.free)[:, None] + offsets).reshape(-1, 2)
    free = {tuple(cell) for cell in maze.free}
    reach = maze.cell * point.BALL / point.CELL * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    around = maze.cell_of(places[:, None] + reach)
    return places[[all(tuple(cell) in free for cell in sides) for sides in around]]


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's."""
    from scipy.stats import spearmanr

    return float(spearmanr(x, y).statistic)


def stored(trained: Trained, *fields: str) -> list[np.ndarray]:
    """Fields of every row of the run's replay, oldest first, [T, N, ...] each."""
    checkpoints = Checkpoints(trained.folder.checkpoints)
    try:
        arrays, meta = checkpoints.read(trained.step, ("rest",))
    finally:
        checkpoints.close()
    found, written = arrays["rest"], meta["iteration"]
    (prefix,) = {name.rsplit("/obs", 1)[0] for name in found if name.endswith("rows/obs")}
    rows = [found[f"{prefix}/{field}"] for field in fields]
    if written > len(rows[0]):
        sys.exit(f"{trained.folder.path}: the replay holds the newest {len(rows[0])} of {written}")
    return [row[:written] for row in rows]


def replayed(trained: Trained) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every row of the run, oldest first: obs [T, N, O], last [T, N], and the step of each row."""
    obs, flags = stored(trained, "obs", "flags")
    steps = np.arange(len(obs))[:, None] * obs.shape[1] + np.arange(obs.shape[1])
    return obs, flags != 0, steps


def visited(paths: list[Path]) -> None:
    """Where each run was, phase by phase; when it first succeeded, and what it had seen by then."""
    for path in paths:
        trained = results.load(path, episodes=1)
        maze, goal = maze_of(trained), trained.evaluator.env.spec.goal
        obs, last, steps = replayed(trained)
        place = obs[..., goal.achieved]
        near = np.linalg.norm(place - obs[..., goal.commanded], axis=-1) < goal.radius
        first = int(steps[near].min()) if near.any() else None
        cell = maze.cell_of(place)
        seen = {tuple(c) for c in cell[steps < (first if first is not None else np.inf)]}
        inside = {tuple(c) for c in maze.free}
        figure, axes = panels(PHASES, maze)
        shares = []
        for phase, axis in enumerate(axes):
            chosen = slice(*(len(obs) * (phase + k) // PHASES for k in (0, 1)))
            shares.append(episode_success(near[chosen], last[chosen]))
            points = place[chosen].reshape(-1, 2)
            points = points[:: max(1, len(points) // 20_000)]
            axis.plot(points[:, 1], points[:, 0], ".", color="#1f77b4", ms=1, alpha=0.4, zorder=2)
            if one_goal(obs[..., goal.commanded]):
                aim = obs[0, 0, goal.commanded][::-1]
                axis.plot(*aim, "*", color="#d62728", ms=12, mec="white", zorder=3)
            until = steps[chosen].max() + 1
            axis.set_title(f"to step {until:,}: {shares[-1]:.0%} of episodes", fontsize=8)
        name = trained.folder.path.name
        figure.suptitle(name, fontsize=9)
        figure.savefig(IMAGES / f"visited_{name}.png")
        about = {
            "first_success_step": first,
            "cells_seen_before": len(seen & inside),
            "cells": len(inside),
            "episode_success_by_phase": shares,
        }
        keep("visited", name, {**provenance(trained), **about})


def one_goal(commanded: np.ndarray) -> bool:
    """Whether all rows [T, N, G] command the same."""
    return bool((commanded == commanded[0, 0]).all())


def episode_success(near: np.ndarray, last: np.ndarray) -> float:
    """Share of the episodes that end in these rows [T, N] and had a row near their goal."""
    ended = won = 0
    for rows, ends in zip(near.T, last.T, strict=True):
        stops = np.flatnonzero(ends)
        for start, stop in zip([0, *(stops[:-1] + 1)], stops, strict=True):
            ended, won = ended + 1, won + bool(rows[start : stop + 1].any())
    return won / max(1, ended)


def films(paths: list[Path]) -> None:
    """A greedy episode of each run as a film, and a picture of them all: frames of each until it
    reaches its goal or ends."""
    VIDEOS.mkdir(exist_ok=True)
    figure = Figure(figsize=(1.8 * FRAMES, 1.5 * len(paths)), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(paths), FRAMES, squeeze=False)
    for axes, run in zip(grid, paths, strict=True):
        trained = results.load(run, episodes=1)
        name, evaluator = trained.folder.path.name, trained.evaluator
        path = VIDEOS / f"{name}.mp4"
        said = results.write_video(path, evaluator, trained.agent, trained.state, SEED)
        if said != str(path):
            sys.exit(f"{path}: {said}")
        rows = evaluator.record(trained.agent, trained.state, jax.random.key(SEED))
        goal = evaluator.env.spec.goal
        obs = np.stack([row.obs for row in rows])
        away = np.linalg.norm(obs[:, goal.achieved] - obs[:, goal.commanded], axis=-1)
        reached = int(np.argmax(away < goal.radius)) if away.min() < goal.radius else None
        until = len(rows) - 1 if reached is None else reached
        shown = np.linspace(0, until, FRAMES).round().astype(int)
        for axis, row in zip(axes, shown, strict=True):
            axis.imshow(evaluator.env.render(rows[row]))
            axis.set_title(f"step {row}", fontsize=7)
            axis.set_xticks([])
            axis.set_yticks([])
        axes[0].set_ylabel(name.replace("_", "\n"), fontsize=7)
        about = {"film": path.name, "steps": len(rows) - 1, "reached_at": reached}
        about |= {"nearest": float(away.min()), "radius": goal.radius}
        keep("films", name, {**provenance(trained), **about})
    figure.savefig(IMAGES / "films.png")


def acting(paths: list[Path]) -> None:
    """Means over the same starts: of the last policy's mode, and of its samples."""
    for run in paths:
        trained = results.load(run, EPISODES)
        row = {**provenance(trained), "step": trained.step, "episodes": EPISODES}
        for kind, explore in (("greedy", False), ("exploring", True)):
            key = jax.random.key(SEED)
            found = trained.evaluator.returns(trained.agent, trained.state, key, explore)
            row[kind] = {name: float(x.mean()) for name, x in sorted(found.items())}
        keep("acting", trained.folder.path.name, row)


def keep(kind: str, name: str, row: dict[str, Any]) -> None:
    """Adds a row to the numbers, and prints it."""
    file = cells.RESULTS / "gcrl" / f"{kind}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = json.loads(file.read_text()) if file.exists() else {}
    rows[name] = row
    atomic.write_json(file, dict(sorted(rows.items())))
    print(json.dumps({k: v for k, v in row.items() if k not in ("versions", "device")}, indent=1))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["distances", run]:
            distances(Path(run))
        case ["visited", *runs] if runs:
            visited([Path(run) for run in runs])
        case ["films", *runs] if runs:
            films([Path(run) for run in runs])
        case ["acting", *runs] if runs:
            acting([Path(run) for run in runs])
        case _:
            sys.exit(__doc__)
