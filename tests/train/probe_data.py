"""Datasets of probe environments, on which everything is known in closed form."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.files import write_dataset
from jaxrl.data.rows import HostRows
from jaxrl.envs.registry import make


def write(path: Path, probe: str, rows: int = 1500, bias: float = 0.0, **about) -> Path:
    """An npz file of an instance that acts uniformly in [-1, 1], or `bias` times the signal of the
    way towards signal * [0, 1]. The random policy's return is 0, the expert's 2."""
    env = make(probe)
    size = env.spec.action_size

    @jax.jit
    def run(key):
        def step(state, key):
            action = jax.random.uniform(key, (size,), minval=-1.0)
            biased = state.obs[0] * (action + 1) / 2
            action = (1 - bias) * action + bias * biased
            row = (state.obs, action, state.reward, state.terminated + 2 * state.truncated)
            return env.step(state, action), row

        keys = jax.random.split(jax.random.fold_in(key, 1), rows)
        return jax.lax.scan(step, env.reset(key), keys)[1]

    obs, action, reward, flags = (np.array(x) for x in run(jax.random.key(0)))
    last = flags > 0
    action[last] = 0
    reward[np.append(True, last[:-1])] = 0
    end = int(np.flatnonzero(last)[-1]) + 1
    kept = HostRows(obs[:end], action[:end], reward[:end], flags[:end].astype(np.uint8))
    about = {"env_id": probe, "random_return": 0.0, "expert_return": 2.0, **about}
    write_dataset(path, "ogbench", kept, about, np.array([[-1.0] * size, [1.0] * size]))
    return path


def observations(probe: str) -> tuple[np.ndarray, np.ndarray]:
    """Every observation that is acted on, [M, O], and its step in the episode, [M]."""
    spec = make(probe)
    found = []
    for signal in (-1.0, 1.0) if spec.sees_signal else (0.0,):
        for step in range(spec.length):
            clock = jax.nn.one_hot(step, spec.length) * spec.sees_step
            found.append(np.append(signal, clock))
    steps = np.tile(np.arange(spec.length), 2 if spec.sees_signal else 1)
    return np.array(found, np.float32), steps


def values(trained, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
    """The mean of the critics, [M]."""
    q = trained.agent._q(trained.state.critic, trained.state, jnp.asarray(obs), jnp.asarray(action))
    return np.asarray(q).mean(axis=0)
