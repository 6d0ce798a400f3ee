"""A time-major ring of rows on the device, and the one window sampler that everything views.

Row t = (obs_t, action_t; reward_t and flags_t *received with* obs_t). last_t means terminated or
truncated; the transition t -> t+1 exists iff not last_t. The ring holds the newest T rows of each
of N instances; absolute row t lies in slot t mod T.

The number of rows written so far, `t`, is an argument everywhere and no part of the state: it is
the same for all vmapped seeds, so slots stay unbatched and writes stay in place.

Shapes: T time slots, N instances, B batch, L window, O observation size, A action size.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

Array = jax.Array

# Of NumPy: an array of jax's would start its backend on import.
TERMINATED, TRUNCATED, UNSTABLE = np.uint8(1), np.uint8(2), np.uint8(4)
LAST = TERMINATED | TRUNCATED


@struct.dataclass
class Rows:
    """One row of each instance ([N, ...]) or a ring of them ([T, N, ...])."""

    obs: Array  # [..., N, O] float32
    action: Array  # [..., N, A] as the agent chose it; ignored in a last row
    reward: Array  # [..., N] float32
    flags: Array  # [..., N] uint8: TERMINATED | TRUNCATED | UNSTABLE


@struct.dataclass
class Batch:
    """n-step transitions, weighted."""

    obs_tm1: Array  # [B, O]
    action_tm1: Array  # [B, A]
    reward_t: Array  # [B]: sum_{j=1..k} gamma^(j-1) r_{t+j}
    discount_t: Array  # [B]: gamma^k (1 - terminated_{t+k})
    obs_t: Array  # [B, O]: obs_{t+k}
    weight: Array  # [B]: multiplies each loss before the mean; 0 where the row is no transition
    index: Array  # [B] int32: slot * N + instance
    alive: Array | None = None  # [B]: share of gamma's future before a termination, if asked for
    commanded: Array | None = None  # [B, G]: goal commanded when it was collected, if asked for


def flags(terminated: Array, truncated: Array, unstable: Array) -> Array:
    """Packs three [N] bools into [N] uint8."""
    bits = zip((terminated, truncated, unstable), (TERMINATED, TRUNCATED, UNSTABLE), strict=True)
    return sum((flag.astype(jnp.uint8) * bit for flag, bit in bits), jnp.uint8(0))


def empty(row: Rows, time_slots: int) -> Rows:
    """A ring of zeros for rows like `row` (arrays or shapes), [T, N, ...]."""
    return jax.tree.map(lambda x: jnp.zeros((time_slots, *x.shape), x.dtype), row)


def write(ring: Rows, row: Rows, t: Array) -> Rows:
    """Writes absolute row t over the oldest one."""
    slot = t % ring.reward.shape[0]
    return jax.tree.map(
        lambda ring, row: jax.lax.dynamic_update_index_in_dim(ring, row, slot, 0), ring, row
    )


def window(ring: Array, slot: Array, instance: Array, length: int) -> Array:
    """Rows slot, slot + 1, ... of the given instances: one leaf [T, N, ...] to [B, L, ...].

    Rows newer than the newest are whatever the ring holds there: mask them with `exists`.
    """
    slots = (slot[:, None] + jnp.arange(length)) % ring.shape[0]
    return ring[slots, instance[:, None]]


def exists(slot: Array, t: Array, time_slots: int, length: int) -> Array:
    """Which rows of a window have been written and follow the first one in time, [B, L] bool."""
    newer = (t - 1 - slot) % time_slots
    return jnp.arange(length) <= newer[:, None]


def n_step(
    ring: Rows, index: Array, t: Array, n: int, discount: Array | float
) -> tuple[Batch, Array]:
    """The n-step transitions from the rows `index` [B], and which of them are eligible [B].

    k = first j <= n with last_{t+j}, else n. A row is eligible once its window is complete (row
    t+k exists), it is not a last row, and no step of the window went through unstable physics.
    """
    time_slots, num_envs = ring.reward.shape
    slot, instance = index // num_envs, index % num_envs
    there = exists(slot, t, time_slots, n + 1)
    bits = window(ring.flags, slot, instance, n + 1)
    last = (bits & LAST > 0) & there
    # alive_j: no episode end among rows t+1 .. t+j-1, so step j belongs to the window.
    ended_before = jnp.cumsum(last[:, 1:], axis=1) - last[:, 1:]
    alive = ended_before == 0  # [B, n], j = 1..n
    k = alive.sum(axis=1)
    powers = discount ** jnp.arange(n + 1)
    rewards = window(ring.reward, slot, instance, n + 1)[:, 1:]
    terminated = jnp.any((bits[:, 1:] & TERMINATED > 0) & alive, axis=1)
    unstable = jnp.any((bits[:, 1:] & UNSTABLE > 0) & alive, axis=1)
    complete = jnp.take_along_axis(there, k[:, None], axis=1)[:, 0]
    batch = Batch(
        obs_tm1=ring.obs[slot, instance],
        action_tm1=ring.action[slot, instance],
        reward_t=jnp.sum(jnp.where(alive, powers[:-1] * rewards, 0.0), axis=1),
        discount_t=powers[k] * (1.0 - terminated),
        obs_t=ring.obs[(slot + k) % time_slots, instance],
        weight=jnp.ones(index.shape, jnp.float32),
        index=index,
    )
    return batch, complete & ~last[:, 0] & ~unstable


def newest_flags(ring: Rows, t: Array, length: int) -> Array:
    """Flags of absolute rows t, t-1, ..., [length, N]; what precedes row 0 is garbage."""
    return ring.flags[(t - jnp.arange(length)) % ring.flags.shape[0]]
