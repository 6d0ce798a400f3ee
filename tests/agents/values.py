"""Agents whose Q-values are whatever a test wants."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.agents.gqn import GQN, State
from jaxrl.envs.core import EnvSpec
from jaxrl.replay.ring import Batch


def spec(action_size: int, low=None, high=None, observation_size: int = 3) -> EnvSpec:
    """An environment's spec; actions in [-1, 1] unless bounds are given."""
    return EnvSpec(
        name="none",
        observation_size=observation_size,
        action_size=action_size,
        action_low=low or (-1.0,) * action_size,
        action_high=high or (1.0,) * action_size,
        episode_length=1000,
        control_dt=0.01,
    )


act = jax.jit(GQN.act, static_argnames="explore")


def fresh(agent: GQN, action_size: int, level: int = 0, seed: int = 0) -> State:
    """A state at a level of the ladder with random parameters, nothing learned; no compilation."""
    rng = np.random.RandomState(seed)
    shapes = jax.eval_shape(lambda: agent.init(jax.random.key(0), spec(action_size)))
    state = jax.tree.map(lambda x: jnp.asarray(np.zeros(x.shape, x.dtype)), shapes)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) / np.sqrt(x.shape[1]), jnp.float32),
        state.params,
    )
    level = jnp.asarray(level, jnp.int32)
    return state.replace(params=params, target_params=jax.tree.map(jnp.copy, params), level=level)


def with_q(params, q) -> dict:
    """Parameters whose network returns q [C, A, K] for every observation."""
    q = np.asarray(q, np.float32)
    head = params["params"]["head"]
    head = {
        "kernel": jnp.zeros_like(head["kernel"]),
        "bias": jnp.asarray(q.reshape(len(q), -1)),
    }
    return {"params": {**params["params"], "head": head}}


def with_values(state: State, online, target=None) -> State:
    """The state with fixed Q-values [C, A, K] of online and target networks."""
    target = online if target is None else target
    return state.replace(
        params=with_q(state.params, online), target_params=with_q(state.target_params, target)
    )


def random_batch(size: int, action_size: int, bins: int, seed: int = 0, scale: float = 1.0):
    """A batch of random transitions, stored actions on the full grid."""
    rng = np.random.RandomState(seed)
    done = rng.rand(size) < 0.3
    arrays = Batch(
        obs_tm1=rng.normal(size=(size, 3)),
        action_tm1=rng.randint(0, bins, size=(size, action_size)),
        reward_t=scale * rng.normal(size=size),
        discount_t=np.where(done, 0.0, 0.97),
        obs_t=rng.normal(size=(size, 3)),
        weight=rng.uniform(0.1, 1.0, size=size),
        index=np.arange(size),
    )
    batch = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), arrays)
    return batch.replace(
        action_tm1=jnp.asarray(arrays.action_tm1, jnp.uint8),
        index=jnp.asarray(arrays.index, jnp.int32),
    )
