"""Bodies against brax's own: the ant's model, the humanoid's observation. Nothing is compiled here;
`benchmarks/ant_parity.py` compares trajectories."""

import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxrl.envs.goal import ant, humanoid
from jaxrl.envs.goal.options import goal_tasks
from jaxrl.envs.mujoco_env import MujocoEnv
from jaxrl.envs.task import Sim

brax_ant = pytest.importorskip("brax.envs.ant")
brax_humanoid = pytest.importorskip("brax.envs.humanoid")

pytestmark = pytest.mark.filterwarnings("ignore:Brax System")


@pytest.fixture(scope="module")
def theirs():
    return brax_ant.Ant(backend="mjx")


def test_the_ants_model_is_braxs(theirs):
    ours, model = ant.body().compile(), theirs.sys.mj_model
    assert theirs.dt == pytest.approx(ant.CONTROL_DT)
    np.testing.assert_allclose(theirs.sys.init_q, ant.STANDING)
    assert ours.opt.disableflags == theirs.sys.opt.disableflags
    assert ours.opt.solver == theirs.sys.opt.solver
    assert ours.opt.timestep == pytest.approx(float(theirs.sys.opt.timestep))
    for name in ("integrator", "cone", "impratio"):
        assert getattr(ours.opt, name) == getattr(model.opt, name)
    for name in ("dof_armature", "dof_damping", "jnt_range", "jnt_solref", "jnt_solimp"):
        if name == "jnt_range":  # brax writes infinity where a joint has no limit
            limited = ours.jnt_limited == 1
            np.testing.assert_allclose(ours.jnt_range[limited], model.jnt_range[limited])
        else:
            np.testing.assert_allclose(getattr(ours, name), getattr(model, name))
    for name in ("gear", "ctrlrange", "trnid"):
        left, right = (getattr(m, f"actuator_{name}") for m in (ours, model))
        np.testing.assert_allclose(left, right)
    for name in ("contype", "conaffinity", "size", "friction", "solref", "solimp", "condim"):
        left, right = (getattr(m, f"geom_{name}") for m in (ours, model))
        floor = name == "size"  # which is drawn larger, and a plane has no end
        order = [model.geom(ours.geom(i).name).id for i in range(ours.ngeom)]
        np.testing.assert_allclose(left[floor:], right[order][floor:])


def test_the_ants_dynamics_are_braxs(theirs):
    """Same mass matrix and bias forces, though brax fuses bodies that no joint moves."""
    models = ant.body().compile(), theirs.sys.mj_model
    random = np.random.RandomState(0)
    for _ in range(5):
        qpos, qvel = random.randn(15), random.randn(14)
        inertia, bias = [], []
        for model in models:
            data = mujoco.MjData(model)
            data.qpos[:], data.qvel[:] = qpos, qvel
            mujoco.mj_forward(model, data)
            full = np.zeros((14, 14))
            mujoco.mj_fullM(model, data, full)
            inertia.append(full)
            bias.append(data.qfrc_bias - data.qfrc_passive)
        np.testing.assert_allclose(*inertia, atol=1e-10)
        np.testing.assert_allclose(*bias, atol=1e-8)


def test_the_humanoid_observes_what_braxs_does():
    """Brax's own `_get_obs` on a state of ours, moved into its terms by MuJoCo's C engine."""
    from brax.base import Motion, Transform

    reference = brax_humanoid.Humanoid(
        backend="mjx", exclude_current_positions_from_observation=False
    )
    env = MujocoEnv(goal_tasks()["humanoid-goal"])
    random = np.random.RandomState(0)
    state = env.reset(jax.random.key(0))
    qpos = np.asarray(state.physics.qpos) + 0.2 * random.randn(24)
    qpos[3:7] /= np.linalg.norm(qpos[3:7])
    qvel, ctrl = random.randn(23), random.uniform(-0.5, 0.5, 17)
    model = reference.sys.mj_model
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    mujoco.mj_forward(model, data)
    velocity = [_velocity(model, data, body) for body in range(1, model.nbody)]
    pipeline_state = types.SimpleNamespace(
        q=jnp.array(qpos),
        qd=jnp.array(qvel),
        x=Transform(pos=jnp.array(data.xpos[1:]), rot=jnp.array(data.xquat[1:])),
        xd=Motion(
            ang=jnp.array([v[:3] for v in velocity]), vel=jnp.array([v[3:] for v in velocity])
        ),
    )
    expected = np.asarray(reference._get_obs(pipeline_state, jnp.array(ctrl)))
    ours = mujoco.MjData(env.model)
    ours.qpos[:], ours.qvel[:] = qpos, qvel
    mujoco.mj_forward(env.model, ours)
    physics = state.physics.replace(
        qpos=jnp.array(qpos),
        qvel=jnp.array(qvel),
        ctrl=jnp.array(ctrl),
        sensordata=jnp.array(ours.sensordata),
    )
    obs = humanoid.state(Sim(physics, {}, env._sensors))
    without_root = np.delete(expected, np.arange(24 + 23 + 16 * 11, 24 + 23 + 16 * 11 + 6))
    np.testing.assert_allclose(obs, without_root, rtol=1e-4, atol=1e-4)


def _velocity(model, data, body):
    """Angular and linear velocity of a body's frame in the world, [6]."""
    out = np.zeros(6)
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, body, out, 0)
    return out


def test_making_an_environment_does_not_import_brax():
    code = (
        "import sys, jaxrl.envs.registry as r; r.names(); r.make('ant-goal', 'native'); "
        "sys.exit('brax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
