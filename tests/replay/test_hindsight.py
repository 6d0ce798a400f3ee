"""Hindsight goals: from the same episode, strictly later, by the law they promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl.replay.hindsight import Hindsight, steps_ahead
from jaxrl.replay.ring import LAST, TERMINATED, TRUNCATED, Rows
from tests.replay.episodes import Stream, filled, first_row

GAMMA, NUM_ENVS, SLOTS = 0.9, 7, 150 // 7  # 150 is no multiple of 7
ACHIEVED, COMMANDED = (0, 3), (3, 6)

sample = jax.jit(Hindsight.sample)


def goal_rows(stream: Stream) -> Rows:
    """The stream's rows; (row, instance, episode) is the achieved goal, -1 the commanded one."""
    rows = stream.all_rows()
    return rows.replace(obs=jnp.concatenate([rows.obs, -jnp.ones_like(rows.obs)], axis=-1))


def hindsight(batch_size: int = 512, **options) -> Hindsight:
    """A replay of 147 rows; any leaf it is not told is a strong float32."""
    leaves = {"discount": GAMMA, "share": 1.0, "radius": 0.5}
    given = {name: jnp.float32(options.pop(name, value)) for name, value in leaves.items()}
    sizes = {"time_slots": SLOTS, "num_envs": NUM_ENVS, **options}
    return Hindsight(
        **given, achieved=ACHIEVED, commanded=COMMANDED, batch_size=batch_size, **sizes
    )


def drawn(replay: Hindsight, stream: Stream, t: int, seed: int = 0):
    """A batch out of the first t rows of the stream; (row, instance, episode) of its rows."""
    batch = sample(replay, filled(replay, goal_rows(stream), t), t, jax.random.key(seed))
    batch = jax.device_get(batch)
    return batch, batch.obs_tm1[:, :3].astype(int).T


def newest_stable(stream: Stream, t: int) -> np.ndarray:
    """For each row the newest row of its episode of which t rows tell, [rows, N]."""
    newest = np.zeros((stream.rows, stream.num_envs), int)
    for i, episodes in enumerate(stream.episodes):
        for e in episodes:
            end = e.first + e.length - (e.unstable and e.first + e.length < t)
            newest[e.first : e.first + e.length + 1, i] = min(end, t - 1)
    return newest


@pytest.mark.parametrize("left", [1, 2, 3, 50, 1000])
@pytest.mark.parametrize("discount", [0.0, 0.5, 0.99, 1 - 1e-4, 1 - 6e-8, 1.0])
def test_the_closed_form_is_the_categorical_law(left, discount):
    """JaxGCRL's definition: a categorical draw over later rows, weights gamma^(j - i)."""
    count = 200_000
    uniform = jax.random.uniform(jax.random.key(left), (count,))
    law = jax.jit(steps_ahead, static_argnums=3)
    steps = law(uniform, jnp.full(count, left, jnp.int32), jnp.float32(discount), "geometric")
    steps = np.asarray(steps)
    assert steps.min() >= 1 and steps.max() <= left
    weights = discount ** np.arange(left, dtype=np.float64)
    chi_square(np.bincount(steps - 1, minlength=left), weights)


def chi_square(counts: np.ndarray, weights: np.ndarray) -> None:
    """Counts are what the weights promise; rare outcomes are counted together."""
    expected = counts.sum() * weights / weights.sum()
    group = np.minimum(np.cumsum(expected) // 20, (expected.sum() - 20) // 20).astype(int)
    merged = np.bincount(group, expected)
    kept = merged > 0
    if kept.sum() > 1:
        observed = np.bincount(group, counts)[kept]
        assert scipy.stats.chisquare(observed, merged[kept]).pvalue > 1e-4
    else:
        assert counts[expected > 0].sum() == counts.sum()


@pytest.mark.parametrize("left", [1, 2, 7, 1000])
def test_the_uniform_law(left):
    uniform = jax.random.uniform(jax.random.key(0), (100_000,))
    steps = steps_ahead(uniform, jnp.full(100_000, left, jnp.int32), 0.5, "uniform")
    chi_square(np.bincount(np.asarray(steps) - 1, minlength=left), np.ones(left))


def test_the_largest_and_the_smallest_draw():
    edges = jnp.array([0.0, 1 - 2**-24], jnp.float32)
    law = jax.jit(steps_ahead, static_argnums=3)
    for discount in (0.0, 0.3, 0.99, 1 - 6e-8, 1.0):
        for left in (0, 1, 2, 999, 10**6):
            for name in ("geometric", "uniform"):
                steps = law(edges, jnp.full(2, left, jnp.int32), discount, name)
                assert steps[0] == 1
                assert 1 <= steps[1] <= max(left, 1)


def test_steps_ahead_in_the_replay_follow_the_law():
    """Conditional on the row: an unfinished episode ends, for now, with the newest row."""
    length, t = 40, 21
    replay = hindsight(1 << 17, time_slots=length, num_envs=1)
    obs = np.zeros((length, 1, 6), np.float32)
    obs[:, 0, 0] = np.arange(length)
    zeros = jnp.zeros((length, 1))
    rows = Rows(jnp.asarray(obs), zeros[..., None], zeros, zeros.astype(jnp.uint8))
    batch = sample(replay, filled(replay, rows, t), t, jax.random.key(0))
    row, goal = np.asarray(batch.obs_tm1[:, 0], int), np.asarray(batch.obs_tm1[:, 3], int)
    np.testing.assert_array_equal(batch.weight == 0, row == t - 1)
    for start in (0, 9, 18, 19):
        steps = (goal - row)[row == start]
        assert steps.min() == 1
        weights = GAMMA ** np.arange(t - 1 - start, dtype=np.float64)
        chi_square(np.bincount(steps - 1, minlength=len(weights)), weights)


@pytest.mark.parametrize("end", [0, TERMINATED, TRUNCATED, TERMINATED | TRUNCATED])
def test_a_terminated_episode_has_less_of_a_future(end):
    """gamma's law up to the last row; a batch tells how much of the whole law that is."""
    length, count = 12, 1 << 16
    replay = hindsight(count, time_slots=length, num_envs=1, mortal=True)
    obs = np.zeros((length, 1, 6), np.float32)
    obs[:, 0, 0] = np.arange(length)
    zeros = jnp.zeros((length, 1))
    flags = zeros.astype(jnp.uint8).at[-1].set(end)
    rows = Rows(jnp.asarray(obs), zeros[..., None], zeros, flags)
    batch = sample(replay, filled(replay, rows, length), length, jax.random.key(0))
    row, goal = np.asarray(batch.obs_tm1[:, 0], int), np.asarray(batch.obs_tm1[:, 3], int)
    np.testing.assert_array_equal(batch.weight == 0, row == length - 1)
    for start in (0, 5, 9, 10):
        left = length - 1 - start
        weights = GAMMA ** np.arange(left, dtype=np.float64)
        whole = 1 / (1 - GAMMA) if end & TERMINATED else weights.sum()
        np.testing.assert_allclose(batch.alive[row == start], weights.sum() / whole, rtol=1e-5)
        steps = (goal - row)[row == start]
        assert steps.min() >= 1
        chi_square(np.bincount(steps - 1, minlength=left), weights)


@pytest.mark.parametrize("strategy", ["future", "final"])
@pytest.mark.parametrize("t", [2, 5, SLOTS, SLOTS + 1, 3 * SLOTS - 4])
def test_goals_are_later_rows_of_the_same_episode(strategy, t):
    stream = Stream(3 * SLOTS, NUM_ENVS, longest=12)
    replay = hindsight(strategy=strategy)
    batch, (row, instance, episode) = drawn(replay, stream, t)
    goal = batch.obs_tm1[:, 3:].astype(int)
    eligible = batch.weight > 0
    assert 0 < eligible.sum() < len(row) or t == 2
    np.testing.assert_array_equal(goal[eligible, 1], instance[eligible])
    np.testing.assert_array_equal(goal[eligible, 2], episode[eligible])
    newest = newest_stable(stream, t)[row, instance]
    assert np.all(row >= t - SLOTS) and np.all(row < t)
    assert np.all((goal[:, 0] > row)[eligible])
    assert np.all((goal[:, 0] <= newest)[eligible])
    if strategy == "final":
        np.testing.assert_array_equal(goal[eligible, 0], newest[eligible])
    np.testing.assert_array_equal(batch.obs_t[:, 3:], goal)  # both carry the same goal


@pytest.mark.parametrize("t", [2, SLOTS, 3 * SLOTS - 4])
def test_rows_are_the_transitions_of_the_episodes(t):
    """Ends of every kind, terminations before the clock among them."""
    stream = Stream(3 * SLOTS, NUM_ENVS, longest=4)
    twin = stream.transitions(1, GAMMA)
    batch, (row, instance, _) = drawn(hindsight(), stream, t)
    eligible = twin.eligible(t, SLOTS)[row, instance]
    np.testing.assert_array_equal(batch.weight > 0, eligible)
    np.testing.assert_allclose(batch.weight.mean(), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(batch.obs_t[eligible, 0], row[eligible] + 1)
    np.testing.assert_allclose(
        batch.discount_t[eligible], twin.discount[row, instance][eligible], rtol=1e-6
    )
    np.testing.assert_array_equal(batch.action_tm1, stream.action[row, instance])
    np.testing.assert_array_equal(batch.index, row % SLOTS * NUM_ENVS + instance)


@pytest.mark.parametrize("dense", [False, True])
def test_the_reward_is_of_the_next_observation(dense):
    """Row, instance and episode are the coordinates: a goal one step ahead is at distance 0."""
    stream = Stream(3 * SLOTS, NUM_ENVS, longest=12)
    replay = hindsight(strategy="random", radius=4.5, dense=dense)
    batch, _ = drawn(replay, stream, 2 * SLOTS)
    distance = np.linalg.norm(batch.obs_t[:, :3] - batch.obs_t[:, 3:], axis=-1)
    expected = -distance if dense else distance < 4.5
    np.testing.assert_allclose(batch.reward_t, expected, rtol=1e-6)
    future, _ = drawn(hindsight(radius=0.5), stream, 2 * SLOTS)
    next_row = future.obs_t[:, 0] == future.obs_t[:, 3]
    kept = future.weight > 0
    np.testing.assert_array_equal(future.reward_t[kept], next_row[kept])
    assert 0.1 < next_row[kept].mean() < 0.9


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_others_keep_goal_and_reward(share):
    stream = Stream(3 * SLOTS, NUM_ENVS)
    t = 2 * SLOTS
    batch, (row, instance, _) = drawn(hindsight(2000, share=share), stream, t)
    kept = np.all(batch.obs_tm1[:, 3:] == -1, axis=-1)
    np.testing.assert_array_equal(kept, np.all(batch.obs_t[:, 3:] == -1, axis=-1))
    assert abs(1 - kept.mean() - share) < 4 * np.sqrt(share * (1 - share) / 2000) + 1e-9
    there = kept & (batch.weight > 0)
    reward = stream.reward[row[there] + 1, instance[there]]
    np.testing.assert_array_equal(batch.reward_t[there], reward)


def test_commanded_goals_are_told():
    stream, t = Stream(3 * SLOTS, NUM_ENVS), 2 * SLOTS
    assert drawn(hindsight(), stream, t)[0].commanded is None
    batch, _ = drawn(hindsight(2000, share=1.0, tell=True), stream, t)
    np.testing.assert_array_equal(batch.commanded, -np.ones((2000, 3)))
    kept = batch.weight > 0
    assert np.all(batch.obs_tm1[kept, 3:] != -1)


def test_random_goals_are_any_row():
    stream, t = Stream(3 * SLOTS, NUM_ENVS), 2 * SLOTS + 9
    batch, (row, instance, _) = drawn(hindsight(1 << 16, strategy="random"), stream, t)
    goal = batch.obs_tm1[:, 3:].astype(int)
    counts = np.bincount(goal[:, 0] % SLOTS * NUM_ENVS + goal[:, 1], minlength=SLOTS * NUM_ENVS)
    assert goal[:, 0].min() == t - SLOTS and goal[:, 0].max() == t - 1
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    assert abs(np.mean(goal[:, 1] == instance) - 1 / NUM_ENVS) < 0.01  # drawn independently
    assert np.mean(goal[:, 0] == row) < 0.1


def test_rows_are_drawn_uniformly():
    stream, t = Stream(3 * SLOTS, NUM_ENVS), 2 * SLOTS + 9
    batch, _ = drawn(hindsight(1 << 16), stream, t)
    counts = np.bincount(batch.index, minlength=SLOTS * NUM_ENVS)
    assert len(counts) == SLOTS * NUM_ENVS
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_the_clock_may_pass_what_float32_can_count():
    """Absolute rows are compared as integers, to the last one that 32 bits hold."""
    stream, start = Stream(4 * SLOTS, NUM_ENVS), 2**31 - 1 - 4 * SLOTS
    rows, replay = goal_rows(stream), hindsight()

    @jax.jit
    def fill(state):
        def add(i, state):
            return replay.add(state, first_row(rows, i), start + i)

        return jax.lax.fori_loop(0, 4 * SLOTS, add, state)

    state = fill(replay.init(first_row(rows)))
    t = jnp.int32(start + 4 * SLOTS)
    batch = jax.device_get(sample(replay, state, t, jax.random.key(0)))
    row, instance, episode = batch.obs_tm1[:, :3].astype(int).T
    twin = stream.transitions(1, GAMMA)
    eligible = twin.eligible(4 * SLOTS, SLOTS)[row, instance]
    np.testing.assert_array_equal(batch.weight > 0, eligible)
    assert np.all((batch.obs_tm1[:, 3] > row)[eligible])
    assert np.all((batch.obs_tm1[:, 5] == episode)[eligible])


def test_vmapped_seeds_share_the_clock():
    """Episodes end at other moments in each seed; the slots are the same."""
    streams = [Stream(2 * SLOTS, NUM_ENVS, seed=seed) for seed in range(3)]
    replay, t = hindsight(), SLOTS + 5
    rows = jax.tree.map(lambda *x: jnp.stack(x), *map(goal_rows, streams))
    keys = jax.random.split(jax.random.key(0), 3)
    state = jax.vmap(lambda rows: filled(replay, rows, t))(rows)
    together = jax.jit(jax.vmap(lambda state, key: replay.sample(state, t, key)))(state, keys)
    for i, (stream, key) in enumerate(zip(streams, keys, strict=True)):
        alone = sample(replay, filled(replay, goal_rows(stream), t), t, key)
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_array_equal(a, b[i])


def test_episode_numbers_count_the_ends():
    stream = Stream(3 * SLOTS, NUM_ENVS)
    state = filled(hindsight(), goal_rows(stream), 3 * SLOTS)
    np.testing.assert_array_equal(state.episode, stream.obs[-SLOTS:, :, 2])
    last = (np.asarray(state.rows.flags) & LAST) > 0
    assert last.any(axis=0).all()


def test_no_key_is_used_twice():
    stream = Stream(3 * SLOTS, NUM_ENVS)
    for strategy in ("future", "random"):
        replay = hindsight(strategy=strategy)
        state = filled(replay, goal_rows(stream), SLOTS)
        with jax.debug_key_reuse(True):
            jax.jit(lambda key, r=replay, s=state: r.sample(s, SLOTS, key)).lower(jax.random.key(0))
