"""Target and loss: a case by hand, a twin in NumPy, masks, precision."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxrl.agents._decoupled import levels, td_target
from jaxrl.agents.gqn import GQN
from jaxrl.errors import UsageError
from tests.agents.values import fresh, random_batch, with_values

loss = jax.jit(GQN.loss)

# Two critics, one transition, two dimensions, three bins.
SELECT = np.array([[[[1, 5, 2], [3, 0, 1]]], [[[4, 0, 3], [0, 1, 7]]]], np.float32)
TARGET = np.array([[[[10, 20, 30], [1, 2, 3]]], [[[14, 28, 2], [5, 4, 9]]]], np.float32)
# The means of both targets are [12, 24, 16] and [3, 3, 6].


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        # Critic 0 takes bins 1 and 0: (24 + 3) / 2; critic 1 takes 0 and 2: (12 + 6) / 2.
        ([True, True, True], [2 + 0.5 * 13.5, 2 + 0.5 * 9.0]),
        # Without bin 1 critic 0 takes bin 2 of the first dimension: (16 + 3) / 2.
        ([True, False, True], [2 + 0.5 * 9.5, 2 + 0.5 * 9.0]),
    ],
)
def test_target_by_hand(mask, expected):
    r_t, discount_t = jnp.array([2.0]), jnp.array([0.5])
    target = td_target(TARGET, SELECT, jnp.array(mask), r_t, discount_t)
    np.testing.assert_array_equal(target, np.array(expected)[:, None])


def numpy_q(params, obs, torso: str) -> np.ndarray:
    """Both critics' values [C, B, A * K] in float64, layer by layer."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])
    torso_params, x = params["torso"], np.asarray(obs, np.float64)[None]

    def dense(p, x):
        return x @ p["kernel"] + p["bias"][:, None]

    def norm(x):
        p = torso_params["LayerNorm_0"]
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * p["scale"][:, None] + p["bias"][:, None]

    def elu(x):
        return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))

    x = dense(torso_params["input"], x)
    if torso == "residual":
        hidden = np.maximum(dense(torso_params["block_1"], x), 0)
        x = elu(norm(x + dense(torso_params["block_2"], hidden)))
    else:
        x = elu(dense(torso_params["hidden"], np.tanh(norm(x))))
    return dense(params["head"], x)


def twin(agent: GQN, state, batch, action_size: int, mean_first: bool = True):
    """Loss and priorities, one by one; `mean_first`: over dimensions, before Huber."""
    values = (
        numpy_q(params, obs, agent.torso).reshape(agent.critics, -1, action_size, agent.bins[-1])
        for params, obs in (
            (state.params, batch.obs_tm1),
            (state.params, batch.obs_t),
            (state.target_params, batch.obs_t),
        )
    )
    q_tm1, q_select, q_t = values
    active = np.flatnonzero(levels(agent.bins)[int(state.level)])
    batch = jax.tree.map(np.asarray, batch)
    total, priorities = 0.0, []
    for b in range(len(batch.reward_t)):
        deltas = []
        for c in range(agent.critics):
            per_dimension = []
            for j in range(action_size):
                k = active[np.argmax(q_select[c, b, j, active])]
                y = batch.reward_t[b] + batch.discount_t[b] * q_t[:, b, j, k].mean()
                per_dimension.append(y - q_tm1[c, b, j, batch.action_tm1[b, j]])
            errors = np.array([np.mean(per_dimension)] if mean_first else per_dimension)
            size = np.abs(errors)
            huber = np.where(size <= 1, 0.5 * errors**2, size - 0.5).mean()
            total += batch.weight[b] * huber
            deltas.append(abs(np.mean(per_dimension)))
        priorities.append(np.mean(deltas))
    return total / len(batch.reward_t), np.array(priorities)


def spread_out(params):
    """Parameters whose values differ by about as much as the Huber loss bends."""
    head = jax.tree.map(lambda x: 8 * x, params["params"]["head"])
    return {"params": {**params["params"], "head": head}}


@pytest.mark.parametrize(
    ("torso", "critics", "level"), [("residual", 2, 3), ("plain", 2, 1), ("residual", 1, 2)]
)
def test_loss_and_priorities_equal_the_twin(torso, critics, level):
    agent = GQN(torso=torso, critics=critics, width=12)
    state, other = (fresh(agent, 4, level, seed) for seed in (0, 1))
    params, target_params = spread_out(state.params), spread_out(other.params)
    state = state.replace(params=params, target_params=target_params)
    batch = random_batch(64, 4, 9)
    value, metrics = loss(agent, state.params, state, batch)
    expected, priorities = twin(agent, state, batch, 4)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["td_error"], priorities, rtol=1e-4, atol=1e-5)
    assert 0.1 < np.mean(priorities > 1) < 0.9, "both halves of the Huber loss must be met"
    mutant, _ = twin(agent, state, batch, 4, mean_first=False)
    assert abs(mutant - expected) > 0.02 * expected


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("tempting", ["online", "target", "both"])
def test_targets_use_active_bins_only(level, tempting):
    """The highest values lie on inactive bins of the online network, the target network, both."""
    agent = GQN(width=4)
    mask = levels(agent.bins)[level]
    q = np.random.RandomState(level).normal(size=(2, 2, 3, 9))
    for i, name in enumerate(("online", "target")):
        if tempting in (name, "both"):
            q[i] = np.where(mask, q[i], 100.0)
    state = with_values(fresh(agent, 3, level), *q)
    batch = random_batch(16, 3, 9)
    batch = batch.replace(action_tm1=jnp.zeros_like(batch.action_tm1))  # bin 0 is always active
    value, metrics = loss(agent, state.params, state, batch)
    expected, priorities = twin(agent, state, batch, 3)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["td_error"], priorities, rtol=1e-5)
    assert np.all(metrics["td_error"] < 10)


def test_bfloat16_computes_networks_only():
    agent = GQN(width=64, precision="bfloat16").canonical()
    single = dataclasses.replace(agent, precision="float32")
    state, batch = fresh(agent, 4, level=3), random_batch(64, 4, 9)
    new, metrics = jax.eval_shape(agent.update, state, batch, jax.random.key(0))
    for leaf in jax.tree.leaves((new.params, new.target_params, metrics, new.opt_state)):
        assert leaf.dtype in (jnp.float32, jnp.int32)
    values = jax.jit(GQN._q)
    q, q32 = (values(a, state.params, state, batch.obs_tm1) for a in (agent, single))
    assert q.dtype == q32.dtype == jnp.float32 and jnp.any(q != q32)
    for a, dtype in ((agent, "bf16"), (single, "f32")):
        program = values.lower(a, state.params, state, batch.obs_tm1).as_text()
        operands = re.findall(r"stablehlo.dot_general.*: \(tensor<\S*x(\w+)>, ", program)
        assert operands and set(operands) == {dtype}
    np.testing.assert_allclose(q, q32, rtol=2e-2, atol=2e-2 * float(jnp.abs(q32).max()))
    value, value32 = (loss(a, state.params, state, batch)[0] for a in (agent, single))
    np.testing.assert_allclose(value, value32, rtol=2e-2)
    # A loss in bfloat16 would have but 8 bits.
    assert value != value.astype(jnp.bfloat16).astype(jnp.float32)


@pytest.mark.parametrize("head", ["c51", "hl_gauss"])
def test_losses_of_histograms_equal_the_twin(head):
    """Cross-entropy with the mean of the chosen bins' histograms; or its mean over dimensions,
    each with a normal histogram around its own value moved by the error of their mean."""
    agent = GQN(head=head, atoms=5, value_low=-1.0, value_high=3.0, width=8, bins=(2, 3))
    state, other = (fresh(agent, 2, 1, seed) for seed in (0, 1))
    state = state.replace(target_params=other.params)
    batch = random_batch(16, 2, 3)
    value, metrics = jax.jit(GQN.loss)(agent, state.params, state, batch)

    def histograms(params, obs):
        q = numpy_q(params, obs, "residual").reshape(2, -1, 2, 3, 5)
        e = np.exp(q - q.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    values = np.linspace(-1.0, 3.0, 5)
    p, select = histograms(state.params, batch.obs_tm1), histograms(state.params, batch.obs_t)
    final, x = histograms(other.params, batch.obs_t), jax.tree.map(np.asarray, batch)
    total, priorities = 0.0, []
    for b in range(16):
        deltas = []
        for c in range(2):
            best = (select[c, b] @ values).argmax(-1)  # all bins are active
            mean = np.mean([final[:, b, j, best[j]].mean(0) for j in range(2)], axis=0)
            y = x.reward_t[b] + x.discount_t[b] * (mean @ values)
            if head == "c51":
                target = np.zeros(5)
                for z, mass in enumerate(mean):
                    at = np.clip(x.reward_t[b] + x.discount_t[b] * values[z], -1, 3) + 1
                    low = min(int(at), 3)
                    target[low] += mass * (low + 1 - at)
                    target[low + 1] += mass * (at - low)
            own = np.array([p[c, b, j, x.action_tm1[b, j]] for j in range(2)])
            chosen = own.mean(axis=0)
            delta = y - chosen @ values
            if head == "c51":
                total -= x.weight[b] * (target * np.log(chosen)).sum()
            else:
                edges = np.linspace(-1.5, 3.5, 6)
                for histogram in own:
                    moved = np.clip(histogram @ values + delta, -1, 3)
                    target = np.diff(stats.norm(moved, 0.75).cdf(edges))
                    target /= target.sum()
                    total -= x.weight[b] * (target * np.log(histogram)).sum() / 2
            deltas.append(abs(delta))
        priorities.append(np.mean(deltas))
    np.testing.assert_allclose(value, total / 16, rtol=1e-4)
    np.testing.assert_allclose(metrics["td_error"], priorities, rtol=1e-3, atol=1e-5)


def test_a_histogram_needs_two_atoms():
    with pytest.raises(UsageError, match="atoms must be at least 2 with head c51, got 1"):
        GQN(head="c51", atoms=1)
