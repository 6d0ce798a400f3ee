"""The gradient step: Adam on the clipped gradient, target copies, nothing that recompiles."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents._common import weak_leaves
from jaxrl.agents.gqn import GQN
from tests.agents.values import fresh, random_batch, spec

update = jax.jit(GQN.update)
KEY = jax.random.key(0)


def test_a_step_is_adam_on_the_clipped_gradient():
    """A first gradient far above the norm of 40, then small ones: Adam's moments remember."""
    agent = GQN(width=8, learning_rate=3e-3).canonical()
    state = fresh(agent, 2)
    gradient = jax.jit(jax.grad(lambda p, s, b: agent.loss(p, s, b)[0]))
    params = [np.asarray(x, np.float64) for x in jax.tree.leaves(state.params)]
    first = [np.zeros_like(p) for p in params]
    second = [np.zeros_like(p) for p in params]
    norms = []
    for i, weight in enumerate((3000.0, 1.0, 100.0), start=1):
        batch = random_batch(32, 2, 9, seed=i)
        batch = batch.replace(weight=jnp.full(32, weight))
        grads = [
            np.asarray(g, np.float64) for g in jax.tree.leaves(gradient(state.params, state, batch))
        ]
        norms.append(np.sqrt(sum(np.sum(g**2) for g in grads)))
        state, metrics = update(agent, state, batch, KEY)
        np.testing.assert_allclose(metrics["grad_norm"], norms[-1], rtol=1e-4)
        for j, g in enumerate(grads):
            g = g * min(1.0, 40.0 / norms[-1])
            first[j] = 0.9 * first[j] + 0.1 * g
            second[j] = 0.999 * second[j] + 0.001 * g**2
            mean, square = first[j] / (1 - 0.9**i), second[j] / (1 - 0.999**i)
            params[j] = params[j] - 3e-3 * mean / (np.sqrt(square) + 1e-8)
        for mine, theirs in zip(params, jax.tree.leaves(state.params), strict=True):
            np.testing.assert_allclose(theirs, mine, rtol=1e-3, atol=1e-6)
    assert norms[0] > 400 and norms[1] < 4


def test_targets_are_copied_at_updates_0_100_200():
    agent = GQN(width=4, learning_rate=1e-2).canonical()
    batch = random_batch(8, 1, 9)

    @jax.jit
    def run(state):
        def step(state, _):
            state, _ = agent.update(state, batch, KEY)
            return state, (state.params, state.target_params)

        return jax.lax.scan(step, state, None, length=210)

    state = fresh(agent, 1)
    state = state.replace(target_params=jax.tree.map(lambda x: x + 1, state.params))
    state, (online, target) = run(state)
    assert int(state.updates) == 210
    copied = np.arange(210) // 100 * 100  # the update whose parameters are the target
    for a, b in zip(jax.tree.leaves(online), jax.tree.leaves(target), strict=True):
        np.testing.assert_array_equal(b, np.asarray(a)[copied])
    kernel = np.asarray(online["params"]["head"]["kernel"])
    assert np.all(np.any(kernel[1:] != kernel[:-1], axis=(1, 2, 3))), "each update must move"


def typed(tree):
    """What a compiled program is compiled for."""
    flat, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype, x.weak_type) for x in flat]


@pytest.mark.parametrize("growth", ["linear", "adaptive"])
def test_nothing_recompiles_silently(growth):
    """No weak leaf, and every function returns the state in the types that it took."""
    assert weak_leaves(GQN()), "a Python float is a weak leaf"
    agent = GQN(width=4, growth=growth).canonical()
    state = jax.eval_shape(lambda: agent.init(KEY, spec(2)))
    assert weak_leaves((agent, state)) == []
    assert {x.dtype for x in jax.tree.leaves(agent)} == {jnp.dtype(jnp.float32)}
    batch, one = random_batch(8, 2, 9), jnp.float32(1.0)
    for new in (
        jax.eval_shape(agent.update, state, batch, KEY)[0],
        jax.eval_shape(agent.on_progress, state, one),
        jax.eval_shape(agent.on_evaluation, state, one, one),
    ):
        assert typed(new) == typed(state)


def test_hyperparameters_sweep_without_recompiling():
    """Two step sizes share a program; vmapped, each does what it does alone."""
    rates = (1e-4, 3e-2)
    step = jax.jit(lambda agent, state, batch: agent.update(state, batch, KEY)[0])
    agents = [GQN(width=4, learning_rate=rate).canonical() for rate in rates]
    batch = random_batch(8, 2, 9)
    state = fresh(agents[0], 2)
    alone = [step(agent, state, batch) for agent in agents]
    assert step._cache_size() == 1
    stacked = dataclasses.replace(agents[0], learning_rate=jnp.array(rates))
    axes = dataclasses.replace(jax.tree.map(lambda _: None, agents[0]), learning_rate=0)
    swept = jax.jit(jax.vmap(step, in_axes=(axes, None, None)))(stacked, state, batch)
    moved = []
    for i in range(2):
        for a, b in zip(jax.tree.leaves(swept), jax.tree.leaves(alone[i]), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-7)
        before, after = (s.params["params"]["head"]["bias"] for s in (state, alone[i]))
        moved.append(float(jnp.abs(after - before).max()))
    np.testing.assert_allclose(moved, rates, rtol=1e-3)  # Adam's first step is its step size
