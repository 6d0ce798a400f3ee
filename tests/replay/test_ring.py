"""n-step transitions against a twin that walks an explicit list of episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.replay import ring
from jaxrl.replay.ring import Rows
from tests.replay.episodes import Stream, first_row

SLOTS, GAMMA = 23, 0.9

n_step = jax.jit(ring.n_step, static_argnames="n")
write = jax.jit(ring.write)


def rings(rows: Rows, time_slots: int = SLOTS):
    """(t, the ring that holds t rows) for every t."""
    stored = ring.empty(first_row(rows), time_slots)
    for t in range(len(rows.reward)):
        stored = write(stored, first_row(rows, t), t)
        yield t + 1, stored


def stored_rows(t: int, num_envs: int):
    """Absolute row, instance, and index of all that the ring holds."""
    row, instance = np.meshgrid(np.arange(max(0, t - SLOTS), t), np.arange(num_envs), indexing="ij")
    row, instance = row.ravel(), instance.ravel()
    index = np.zeros(SLOTS * num_envs, np.int32)  # padded: one shape, one compilation
    index[: len(row)] = row % SLOTS * num_envs + instance
    return row, instance, index


@pytest.mark.parametrize("n", [1, 3, 5])
def test_every_stored_row_equals_the_walk_over_episodes(n):
    stream = Stream(rows=3 * SLOTS + 5, num_envs=4, seed=n)
    twin = stream.transitions(n, GAMMA)
    seen = 0
    for t, stored in rings(stream.all_rows()):
        row, instance, index = stored_rows(t, 4)
        batch, eligible = n_step(stored, index, t, n, GAMMA)
        batch, eligible = jax.tree.map(lambda x, r=row: np.asarray(x)[: len(r)], (batch, eligible))
        expected = twin.eligible(t, SLOTS)[row, instance]
        np.testing.assert_array_equal(eligible, expected, err_msg=f"t = {t}")
        at = row[expected], instance[expected]
        batch = jax.tree.map(lambda x, e=expected: x[e], batch)
        np.testing.assert_allclose(batch.reward_t, twin.reward[at], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(batch.discount_t, twin.discount[at], rtol=1e-6)
        np.testing.assert_array_equal(batch.obs_tm1, stream.obs[at])
        np.testing.assert_array_equal(batch.action_tm1, stream.action[at])
        np.testing.assert_array_equal(batch.obs_t, stream.obs[twin.target[at], at[1]])
        np.testing.assert_array_equal(batch.obs_tm1[:, 2], batch.obs_t[:, 2], "another episode")
        np.testing.assert_array_equal(batch.weight, 1.0)
        seen += len(batch.index)
    assert seen > 1000


@pytest.mark.parametrize("n", [1, 3])
def test_a_merged_time_out_is_seen(n):
    """The test above fails for a ring that takes a time-out for the end of the MDP."""
    stream = Stream(rows=SLOTS, num_envs=4, longest=3)
    twin = stream.transitions(n, GAMMA)
    row, instance, index = stored_rows(SLOTS, 4)
    here = twin.eligible(SLOTS, SLOTS)[row, instance]
    discount = {}
    for merge_ends in (False, True):
        *_, (t, stored) = rings(stream.all_rows(merge_ends))
        batch, _ = n_step(stored, index, t, n, GAMMA)
        discount[merge_ends] = np.asarray(batch.discount_t)[here]
    timed_out = stream.ends[1] & ~stream.ends[0]
    at_time_out = timed_out[twin.target[row, instance], instance][here]
    assert at_time_out.sum() > 5
    np.testing.assert_array_equal(discount[False] != discount[True], at_time_out)
    assert np.all(discount[False][at_time_out] > 0)


@pytest.mark.parametrize(("n", "spoilt"), [(1, [3]), (3, [1, 2, 3])])
def test_no_window_goes_through_unstable_physics(n, spoilt):
    """Instance 1 of 3 blows up on the way to row 4; its neighbours and its next episode count."""
    length, none = 12, np.zeros((12, 3), bool)
    blown = none.copy()
    blown[4, 1] = True
    rows = Rows(
        obs=jnp.ones((length, 3, 1)),
        action=jnp.zeros((length, 3, 1), jnp.uint8),
        reward=jnp.ones((length, 3)),
        flags=ring.flags(jnp.asarray(blown), jnp.asarray(none), jnp.asarray(blown)),
    )
    *_, (t, stored) = rings(rows, time_slots=length)
    _, eligible = n_step(stored, jnp.arange(length * 3), t, n, GAMMA)
    expected = np.ones((length, 3), bool)
    expected[length - n :] = False
    expected[[*spoilt, 4], 1] = False
    np.testing.assert_array_equal(np.asarray(eligible).reshape(length, 3), expected)


def test_windows_mask_what_is_not_written():
    stream = Stream(rows=2 * SLOTS + 3, num_envs=4)
    for t, stored in rings(stream.all_rows()):
        row, instance, index = stored_rows(t, 4)
        slot, length = index // 4, 6
        there = np.asarray(ring.exists(slot, t, SLOTS, length))[: len(row)]
        obs = np.asarray(ring.window(stored.obs, slot, index % 4, length))[: len(row)]
        expected = row[:, None] + np.arange(length)
        np.testing.assert_array_equal(there, expected < t)
        np.testing.assert_array_equal(obs[..., 0][there], expected[there])
        np.testing.assert_array_equal(
            obs[..., 1][there], np.broadcast_to(instance[:, None], there.shape)[there]
        )


def test_flags_are_kept_apart():
    every = np.array(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij")).reshape(3, -1).astype(bool)
    bits = np.asarray(ring.flags(*jnp.asarray(every)))
    assert bits.dtype == np.uint8
    for flag, bit in zip(every, (ring.TERMINATED, ring.TRUNCATED, ring.UNSTABLE), strict=True):
        np.testing.assert_array_equal(bits & bit > 0, flag)
    np.testing.assert_array_equal(bits & ring.LAST > 0, every[0] | every[1])
