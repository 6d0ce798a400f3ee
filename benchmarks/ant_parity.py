"""Whether our ant moves as brax's does on its `mjx` backend: 20 control steps, random actions.

    python benchmarks/ant_parity.py

Compares joint positions (m, rad) with `native` physics, in instances that start from ours:

  a step    each of our rows advanced by one control step in brax, from our state
  rollout   20 steps of both on their own; with falling feet, small differences grow
  nudged    ours against ours from a start 1e-6 away: how much they grow by themselves
  as is     brax's rollout with the single solver iteration that its ant allows, against ours

All but the last let brax's solver run until it converges, which ours does. Takes minutes: brax
compiles slowly. Writes benchmarks/results/ant_parity.json.
"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from brax.envs.ant import Ant

from jaxrl import atomic
from jaxrl.envs.goal import ant
from jaxrl.envs.mujoco_env import MujocoEnv
from jaxrl.train.runlog import command_line, device, git_commit, versions

ROOT = Path(__file__).parents[1]
INSTANCES, STEPS = 16, 20
CLOSE = 1e-3
CONVERGED = {"opt.iterations": 100, "opt.ls_iterations": 50}


def ours(env: MujocoEnv, physics, actions: np.ndarray) -> list:
    """States of our rollout, STEPS + 1 of them."""
    step = jax.jit(jax.vmap(env.engine.step))
    path = [physics]
    for action in actions:
        path.append(step(path[-1], action))
    return path


def theirs(init, step, qpos: np.ndarray, qvel: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Positions of brax's rollout, [steps + 1, N, 15]."""
    state = init(qpos, qvel)
    path = [state.q]
    for action in actions:
        state = step(state, action)
        path.append(state.q)
    return np.stack(path)


def compiled(**options):
    """Brax's batched `pipeline_init` and `pipeline_step` with other solver options."""
    env = Ant(backend="mjx")
    env.sys = env.sys.tree_replace(options)
    return jax.jit(jax.vmap(env.pipeline_init)), jax.jit(jax.vmap(env.pipeline_step))


def summary(difference: np.ndarray) -> dict[str, object]:
    """Of the largest difference of a rollout, per instance: [steps, N, 15]."""
    worst = np.abs(difference).max(axis=(0, 2))
    return {
        "instances within 1e-3": f"{int((worst < CLOSE).sum())} of {len(worst)}",
        "median": float(np.median(worst)),
        "largest": float(worst.max()),
    }


def main() -> None:
    """Measures and prints."""
    env = MujocoEnv(ant.TASKS[0])
    physics = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), INSTANCES)).physics
    random = np.random.RandomState(0)
    actions = random.uniform(-1, 1, (STEPS, INSTANCES, 8)).astype(np.float32)
    path = ours(env, physics, actions)
    qpos, qvel = (np.stack([getattr(p, name) for p in path]) for name in ("qpos", "qvel"))
    nudge = 1e-6 * random.randn(*qpos[0].shape).astype(np.float32)
    nudged = ours(env, physics.replace(qpos=physics.qpos + nudge), actions)

    init, step = compiled(**CONVERGED)
    one_step = np.stack(
        [step(init(q, v), a).q for q, v, a in zip(qpos, qvel, actions, strict=False)]
    )
    rollout = theirs(init, step, qpos[0], qvel[0], actions)
    as_is = theirs(*compiled(), qpos[0], qvel[0], actions)
    result = {
        "command": command_line(),
        "commit": git_commit(),
        "versions": versions(),
        "device": device(),
        "a step": summary(one_step - qpos[1:]),
        "rollout": summary(rollout - qpos),
        "nudged": summary(np.stack([p.qpos for p in nudged]) - qpos),
        "as is": summary(as_is - qpos),
        "as is, first step": summary(as_is[:2] - qpos[:2]),
    }
    path_out = ROOT / "benchmarks" / "results" / "ant_parity.json"
    atomic.write_json(path_out, result)
    for name, value in result.items():
        print(f"{name:<20} {value}")


if __name__ == "__main__":
    main()
