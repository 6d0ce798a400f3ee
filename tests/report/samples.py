"""Run folders and recordings to report on, made up."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

VERSIONS = {"python": "3.11.7", "jax": "0.10.2"}
DEVICE = {"platform": "cpu", "kind": "Test processor", "count": 1, "cores": 2}


def config(task: str, name: str, seed: int, steps: int, **more: Any) -> dict[str, Any]:
    """As config.json; `more` goes into the agent's, the run's or the top settings by name."""
    settings = {"steps": steps, "seed": seed, "action_cost": 0.0, "out": f"runs/{seed}"}
    settings |= more.pop("run", {})
    described = {
        "env_id": task,
        "exp_name": name,
        "seed": seed,
        "command": f"jaxrl train {name} {task} --seed {seed}",
        "agent": {"learning_rate": 1e-4, "width": 64, **more.pop("agent", {})},
        "run": settings,
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "versions": VERSIONS,
        "device": DEVICE,
    }
    return {**described, **more}


def lines(
    returns: Sequence[float | None], every: int = 100, clock: float = 10.0
) -> list[dict[str, Any]]:
    """As metrics.jsonl: an evaluation every `every` steps, with a line of losses between."""
    found: list[dict[str, Any]] = []
    for i, value in enumerate(returns):
        row = {"global_step": i * every, "wall_time": 1 + clock * i, "losses/loss": 0.5}
        found.append({**row, "eval/return_mean": value, "eval/episodes": 10})
        found.append({**row, "global_step": i * every + every // 2})
    return found[:-1]


def folder(
    path: Path, described: dict[str, Any], metrics: Iterable[dict[str, Any]], tail: str = ""
) -> Path:
    """Writes a run folder; `tail` follows the last line as it is."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(described))
    text = "".join(json.dumps(line) + "\n" for line in metrics)
    (path / "metrics.jsonl").write_text(text + tail)
    return path


def runs(
    root: Path,
    tasks: Sequence[str] = ("walker-walk", "cartpole-swingup"),
    agents: Sequence[str] = ("gqn", "sac"),
    seeds: int = 3,
    points: int = 11,
) -> Path:
    """A folder of complete runs; each score is different."""
    for t, task in enumerate(tasks):
        for a, agent in enumerate(agents):
            for seed in range(seeds):
                end = 300 + 200 * a + 100 * t + 37 * seed * (1 + seed)
                returns = [end * (1 - math.exp(-4 * i / (points - 1))) for i in range(points)]
                described = config(task, agent, seed, 100 * (points - 1))
                folder(root / f"{task}_{agent}_s{seed}", described, lines(returns))
    return root


def recording(frames: int = 40) -> dict[str, Any]:
    """As jaxrl.train.playback makes it: a ball that rolls over a plane, and a tendon to it."""
    import base64

    import numpy as np

    positions = np.zeros((frames, 1, 3))
    positions[:, 0, 0] = np.linspace(-1, 1, frames)
    integers = np.round(positions / 1e-4).astype("<i2")
    rotations = np.tile(np.array([32767, 0, 0, 0], "<i2"), (frames, 1, 1))
    shape = {"pos": [0.0, 0.0, 0.0], "quat": [1.0, 0.0, 0.0, 0.0]}
    ball = {"kind": "sphere", "body": 1, "size": [0.3, 0, 0], "rgba": [0.8, 0.1, 0.1, 1]}
    floor = {"kind": "plane", "body": 0, "size": [0.0, 0.0, 1.0], "rgba": [0.5, 0.5, 0.5, 1]}
    floor_at = {**shape, "pos": [0.0, 0.0, -0.3]}
    return {
        "format": 1,
        **{"env_id": "ball-roll", "exp_name": "gqn", "seed": 0, "global_step": 100},
        **{"fps": 20.0, "seconds": (frames - 1) / 20, "frames": frames, "moving": [1]},
        "returns": [float(i) for i in range(frames)],
        "positions": {
            "data": base64.b64encode(integers.tobytes()).decode(),
            "offset": [0.0] * 3,
            "step": [1e-4] * 3,
        },
        "rotations": base64.b64encode(rotations.tobytes()).decode(),
        "still": {"0": [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]},
        "geoms": [{**floor_at, **floor}, {**shape, **ball}],
        "meshes": [],
        "tendons": [
            {"ends": [[0, [0, 1, 1]], [1, [0, 0, 0]]], "width": 0.02, "rgba": [0.1, 0.1, 0.1, 1]}
        ],
        "camera": {
            **{"position": [0.0, -4.0, 1.5], "target": [0.0, 0.0, 0.0]},
            **{"fovy": 45.0, "follow": 1},
        },
        "extent": 2.0,
    }
