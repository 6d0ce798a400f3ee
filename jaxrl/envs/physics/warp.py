"""MuJoCo Warp behind jax: the physics as CUDA kernels (`impl="warp"`, extra `cuda`).

A control step is n times `mjx.step`, from a zero warm start, then `mjx.forward` for the position
and velocity sensors at the new state; acceleration sensors keep the last substep's values. It runs
on a CPU too, for tests.

Contacts of the whole batch share one buffer, which is allocated before the batch is known: for
`num_instances` instances. Where contacts or constraints do not fit, MuJoCo Warp leaves some out,
and `advance` says so.
"""

from __future__ import annotations

import importlib.util
import math
import types

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.custom_batching import custom_vmap

from jaxrl.envs.physics.mjx import acceleration_columns, adapted, load_mjx
from jaxrl.envs.task import Physics
from jaxrl.errors import UsageError
from jaxrl.memory import available_bytes

Array = jax.Array

CONTACTS, ROWS = 64, 256
"""Contacts of an instance (on average over the batch) and constraint rows (of each) that fit."""

SLOW = ("ITERATIONS", "LS_ITERATIONS")
"""What MuJoCo Warp counts as overflow and is none: the solver used up its iterations."""


def installed() -> bool:
    """Whether warp-lang is there."""
    return importlib.util.find_spec("warp") is not None


def load_warp() -> types.ModuleType:
    """`mujoco.mjx` with warp-lang, quiet.

    Raises:
      UsageError: warp-lang is not installed.
    """
    if not installed():
        raise UsageError(
            "physics 'warp' needs warp-lang: pip install 'jaxrl[cuda]', or use 'native' or 'mjx'"
        )
    import warp

    warp.config.log_level = warp.LOG_ERROR  # it would announce itself and each kernel
    return load_mjx()


def check_memory(each: int, num_instances: int) -> None:
    """Raises UsageError where buffers of `each` bytes per instance do not fit."""
    available = available_bytes()
    if each * num_instances > available:
        raise UsageError(
            f"{num_instances:_} instances on warp need at least "
            f"{each * num_instances / 2**30:.1f} GiB and {available / 2**30:.1f} GiB are free; "
            f"{int(0.9 * available / each):_} would fit"
        )


def unsupported(model: mujoco.MjModel) -> list[str]:
    """What MuJoCo Warp lacks to simulate `model`, in words that name it; [] if nothing.

    Raises:
      UsageError: warp-lang is not installed.
    """
    mjx, model = load_warp(), adapted(model)
    try:
        mjx.put_model(model, impl="warp")
        mjx.make_data(model, impl="warp", naconmax=CONTACTS, njmax=ROWS)
    except (NotImplementedError, ValueError) as reason:
        return [str(reason).rstrip(".")]
    return []


class Warp:
    """Steps one instance of a model; batch it with `jax.vmap`.

    Args:
      model: the model.
      substeps: physics steps per control step, n.
      solver: (iterations, line search iterations); the model's own by default.
      num_instances: instances that will step together, over all seeds; sizes the buffers.

    Raises:
      UsageError: warp-lang is not installed, or the buffers do not fit in memory.
    """

    name = "warp"

    def __init__(
        self,
        model: mujoco.MjModel,
        substeps: int,
        solver: tuple[int, int] | None = None,
        num_instances: int = 1,
    ):
        self.substeps = substeps
        self._mjx = load_warp()
        from mujoco.mjx.third_party.mujoco_warp._src.types import OverflowType

        self._lost = int(OverflowType.ALL) & ~sum(int(OverflowType[name]) for name in SLOW)
        model = adapted(model, solver)
        put = self._mjx.put_model(model, impl="warp")
        self._model = put.tree_replace({"opt._impl.warn_overflow": 0})
        self.num_instances = num_instances
        one = self._mjx.make_data(model, impl="warp", naconmax=CONTACTS, njmax=ROWS)
        check_memory(sum(x.nbytes for x in jax.tree.leaves(one)), num_instances)
        self._template = self._mjx.make_data(
            model, impl="warp", naconmax=num_instances * CONTACTS, njmax=ROWS
        )
        self._late = acceleration_columns(model)
        runge_kutta = model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
        self._sense_before = bool(self._late.any()) and runge_kutta
        self._step = jax.jit(self._advance)
        self._counted = custom_vmap(lambda x: x)
        self._counted.def_vmap(self._count)

    def step(self, physics: Physics, ctrl: Array) -> Physics:
        """Physics after one control step under `ctrl` [nu]; unbatched."""
        return self.advance(physics, ctrl)[0]

    def advance(self, physics: Physics, ctrl: Array) -> tuple[Physics, Array]:
        """`step`, and whether contacts or constraints were left out for want of room, [] bool."""
        return self._step(physics, ctrl)

    def _count(self, size: int, batched: list[bool], qpos: Array) -> tuple[Array, bool]:
        """The rule of `vmap`, innermost first: the batch must not be larger than the buffers."""
        batch = math.prod(qpos.shape[:-1])
        if batch > self.num_instances:
            raise UsageError(
                f"warp's buffers are for {self.num_instances} instances, and {batch} step at once; "
                f"give make(..., num_instances={batch})"
            )
        return self._counted(qpos), batched[0]

    def _advance(self, physics: Physics, ctrl: Array) -> tuple[Physics, Array]:
        mjx, model = self._mjx, self._model
        data = self._template.replace(
            time=physics.time,
            qpos=self._counted(physics.qpos),
            qvel=physics.qvel,
            act=physics.act,
            qacc_warmstart=jnp.zeros_like(physics.qvel),
            ctrl=ctrl,
            mocap_pos=physics.mocap_pos,
            mocap_quat=physics.mocap_quat,
        )
        late = np.flatnonzero(self._late)

        def substep(carry, _):
            data, sensed = carry
            if self._sense_before:
                sensed = mjx.forward(model, data).sensordata[late]
            data = mjx.step(model, data)
            if not self._sense_before:
                sensed = data.sensordata[late]
            return (data, sensed), None

        start = (data, jnp.zeros(len(late), jnp.float32))
        (data, sensed), _ = jax.lax.scan(substep, start, None, length=self.substeps)
        sensordata = physics.sensordata
        if not self._late.all():
            sensordata = mjx.forward(model, data).sensordata
        stepped = physics.replace(
            time=data.time,
            qpos=data.qpos,
            qvel=data.qvel,
            act=data.act,
            ctrl=ctrl,
            sensordata=sensordata.at[late].set(sensed),
        )
        return stepped, (data._impl.overflow & self._lost) != 0
