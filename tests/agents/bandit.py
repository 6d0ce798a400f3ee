"""A bandit with two good actions and a bad one, which half of the data takes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.agents import _offline
from jaxrl.replay.ring import Batch
from tests.agents.values import spec

MODES = np.float32([[-0.6, 0.5], [0.6, 0.5], [0.0, -0.6]])
SHARE = np.float32([0.25, 0.25, 0.5])
REWARD = np.float32([1.0, 1.0, 0.0])
STD = 0.08
OBS = 2


def batch(key: jax.Array, size: int) -> Batch:
    """Actions around the modes; the observation says nothing."""
    keys = jax.random.split(key, 3)
    mode = jax.random.choice(keys[0], 3, (size,), p=jnp.asarray(SHARE))
    action = jnp.asarray(MODES)[mode] + STD * jax.random.normal(keys[1], (size, 2))
    obs = jax.random.normal(keys[2], (size, OBS))
    ones = jnp.ones(size)
    index = jnp.arange(size, dtype=jnp.int32)
    return Batch(obs, action, jnp.asarray(REWARD)[mode], 0 * ones, obs, ones, index)


def noisy_batch(key: jax.Array, size: int) -> Batch:
    """The same, but a quarter of the actions are anywhere, and the reward falls around the good
    ones: so critics know what is beyond the data, where a policy that climbs them may end."""
    keys = jax.random.split(key, 3)
    transitions = batch(keys[0], size)
    anywhere = jax.random.uniform(keys[1], (size, 2), minval=-1.0)
    gap = jnp.linalg.norm(anywhere[:, None] - MODES[:2], axis=-1).min(axis=1)
    reward = jnp.exp(-0.5 * (gap / 0.2) ** 2)
    other = jax.random.bernoulli(keys[2], 0.25, (size,))
    return transitions.replace(
        action_tm1=jnp.where(other[:, None], anywhere, transitions.action_tm1),
        reward_t=jnp.where(other, reward, transitions.reward_t),
    )


def learned(agent, updates: int, batch=batch):
    """The agent's state after so many updates, compiled once."""

    def update(i, state):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), i))
        return agent.update(state, batch(keys[0], agent.batch_size), keys[1])[0]

    @jax.jit
    def train():
        state = agent.init(jax.random.key(0), spec(2, observation_size=OBS))
        told = _offline.Statistics(jnp.zeros(OBS), jnp.ones(OBS), jnp.array([0.0, 1.0]))
        return jax.lax.fori_loop(0, updates, update, agent.begin(state, told))

    return train()


def nearest(action) -> tuple[np.ndarray, np.ndarray]:
    """The mode nearest to each action, and how far it is."""
    gap = np.linalg.norm(np.asarray(action)[:, None] - MODES, axis=-1)
    return gap.argmin(axis=1), gap.min(axis=1)
