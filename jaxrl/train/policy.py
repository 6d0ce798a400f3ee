"""A trained policy as a function, in one line, and as a file that needs nothing but jax.

policy = jaxrl.load_policy("runs/demo")
action = policy(obs)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxrl import atomic
from jaxrl.envs.core import EnvSpec
from jaxrl.errors import UsageError
from jaxrl.train.results import Trained, load

Array = jax.Array

LOADING = """\
import jax
policy = jax.jit(jax.export.deserialize(open({path!r}, "rb").read()).call)
action = policy(obs)  # obs [B, {observations}] float32 to action [B, {actions}] float32"""
"""How to use an exported policy, printed after the export."""


def load_policy(run: str | Path, step: int | None = None) -> Callable[[Array], Array]:
    """The greedy policy of the run in folder `run`, jitted.

    Args:
      run: run folder.
      step: checkpoint; the newest by default.

    Returns:
      a function from obs [O] or [B, O] to action [A] or [B, A], in the environment's units.

    Raises:
      UsageError: there is no run or no readable checkpoint.
    """
    trained = load(Path(run), episodes=1, step=step)
    batched = _greedy(trained)
    size = trained.evaluator.env.spec.observation_size

    @jax.jit
    def policy(obs: Array) -> Array:
        obs = jnp.asarray(obs, jnp.float32)
        if obs.ndim not in (1, 2) or obs.shape[-1] != size:
            raise UsageError(f"obs must be [{size}] or [B, {size}], got {list(obs.shape)}")
        return batched(obs) if obs.ndim == 2 else batched(obs[None])[0]

    return policy


def export_policy(run: Path, out: Path, step: int | None = None) -> tuple[int, EnvSpec]:
    """Writes the greedy policy with `jax.export`: any batch size, CPU, CUDA and TPU.

    Returns:
      the checkpoint's step and the environment's spec.

    Raises:
      UsageError: there is no run or no readable checkpoint.
    """
    trained = load(run, episodes=1, step=step)
    spec = trained.evaluator.env.spec
    (batch,) = jax.export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct((batch, spec.observation_size), jnp.float32)
    exported = jax.export.export(jax.jit(_greedy(trained)), platforms=("cpu", "cuda", "tpu"))(shape)
    with atomic.replacing(out) as unfinished:
        unfinished.write_bytes(exported.serialize())
    return trained.step, spec


def _greedy(trained: Trained) -> Callable[[Array], Array]:
    agent, state, spec = trained.agent, trained.state, trained.evaluator.env.spec

    def policy(obs: Array) -> Array:
        action = agent.act(state, obs, jax.random.key(0), explore=False)
        return agent.decode(action, spec)

    return policy
