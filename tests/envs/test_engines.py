"""Every engine reads a task like the native one: the same step, the same moments of its sensors.

mjx compiles for minutes on a CPU, so these tests take small models of their own, which have every
kind of sensor that any task uses, and a few cheap tasks; `benchmarks/engines.py` compares all tasks
(results beside it). Tests of warp need warp-lang.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxrl.envs import registry
from jaxrl.envs.mujoco_env import MujocoEnv
from jaxrl.envs.overflow import CountOverflow
from jaxrl.envs.physics import engines, mjx
from jaxrl.envs.physics.mjx import Mjx
from jaxrl.envs.physics.native import Native
from jaxrl.envs.task import Physics, Task, sensor_slices
from jaxrl.errors import UsageError
from tests import test_your_own_task
from tests.envs.episodes import assert_equal, keys, random_actions, rows

ROOT = Path(__file__).parents[2]
WARP = importlib.util.find_spec("warp") is not None
needs_warp = pytest.mark.skipif(not WARP, reason="warp-lang is not installed (extra cuda)")
ENGINES = ["mjx", pytest.param("warp", marks=needs_warp)]

TOLERANCE = 1e-4
"""Of one control step, relative to max(1, |native's|); float32's rounding."""
ACCELERATION_TOLERANCE = 1e-3
"""Of touch, force and acceleration, which a contact multiplies."""
COUNT, STEPS = 16, 20

CONTACTS = """
<mujoco>
  <option timestep="0.005"/>
  <default><geom contype="0" conaffinity="0" density="1000"/></default>
  <asset><material name="grey"/></asset>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 1" contype="1" conaffinity="1" material="grey"/>
    <camera name="eye" pos="0 -2 1"/>
    <body name="root" pos="0 0 0.3">
      <joint name="x" type="slide" axis="1 0 0" damping="0.1"/>
      <joint name="z" type="slide" axis="0 0 1"/>
      <joint name="tilt" type="hinge" axis="0.2 1 0.1" damping="0.1"/>
      <geom name="trunk" type="capsule" size="0.05 0.1"/>
      <site name="imu" pos="0.03 0 0.05" euler="10 20 30"/>
      <site name="down" pos="0.1 0.1 0" euler="170 0 0"/>
      <body name="foot" pos="0.05 0 -0.2">
        <joint name="knee" type="hinge" axis="0 1 0" damping="0.05" range="-60 60"/>
        <geom name="toe" type="sphere" size="0.06" contype="1" conaffinity="1"/>
        <site name="sole" size="0.08"/>
      </body>
    </body>
    <body name="goal" mocap="true" pos="1 0 1"><geom name="mark" type="sphere" size="0.02"/></body>
  </worldbody>
  <tendon><fixed name="both"><joint joint="tilt" coef="1"/><joint joint="knee" coef="-2"/></fixed>
  </tendon>
  <actuator>
    <general name="lag" joint="knee" dyntype="filter" dynprm="0.05" gainprm="2" ctrlrange="-1 1"/>
    <motor name="pull" tendon="both" gear="0.5" ctrlrange="-1 1"/>
  </actuator>
  <sensor>
    <framepos name="still mark" objtype="geom" objname="mark"/>
    <framepos name="still eye" objtype="camera" objname="eye"/>
    <jointpos joint="tilt"/> <jointvel joint="knee"/>
    <tendonpos tendon="both"/> <tendonvel tendon="both"/>
    <actuatorpos actuator="pull"/> <actuatorvel actuator="pull"/>
    <framepos objtype="xbody" objname="foot"/>
    <framepos objtype="site" objname="sole" reftype="xbody" refname="root"/>
    <framequat objtype="body" objname="root"/>
    <framexaxis objtype="xbody" objname="root"/> <frameyaxis objtype="xbody" objname="root"/>
    <framezaxis objtype="xbody" objname="foot"/>
    <framelinvel objtype="xbody" objname="foot"/> <frameangvel objtype="body" objname="foot"/>
    <subtreecom body="root"/> <subtreelinvel body="root"/> <subtreeangmom body="root"/>
    <velocimeter site="imu"/> <gyro site="imu"/> <rangefinder site="down"/>
    <touch name="touch" site="sole"/> <accelerometer site="imu"/>
    <force site="sole"/> <torque site="sole"/>
    <actuatorfrc actuator="lag"/> <framelinacc objtype="xbody" objname="foot"/>
  </sensor>
</mujoco>
"""

SWING = """
<mujoco>
  <option timestep="0.005" {option}/>
  <worldbody>
    <body name="pole">
      <joint name="hinge" type="hinge" axis="0 1 0" damping="0.01" {limits}/>
      <geom type="capsule" fromto="0 0 0 0 0 0.5" size="0.03" contype="0" conaffinity="0"/>
      <site name="tip" pos="0 0 0.5"/>
    </body>
    <body name="goal" mocap="true"/>
  </worldbody>
  <actuator><motor joint="hinge" ctrlrange="-1 1"/></actuator>
  <sensor>
    <accelerometer site="tip"/> <framepos objtype="site" objname="tip"/>
    <framelinvel objtype="site" objname="tip"/>
  </sensor>
</mujoco>
"""

MODELS = {
    "contacts": CONTACTS,
    # There `mjx.step` leaves other values in acceleration sensors than MuJoCo does.
    "runge-kutta": SWING.format(option='integrator="RK4"', limits='range="-90 90"'),
    "unconstrained": SWING.format(option="", limits=""),
}
SUBSTEPS = 3


def engine(kind: str, model: mujoco.MjModel, substeps: int, count: int = COUNT):
    """An engine with the model's own solver iterations, and room for `count` instances."""
    if kind == "mjx":
        return Mjx(model, substeps)
    from jaxrl.envs.physics.warp import Warp

    return Warp(model, substeps, num_instances=count)


def started(model: mujoco.MjModel, seed: int = 0) -> tuple[Physics, np.ndarray]:
    """COUNT random states, half of them low enough to touch the floor, and an action for each."""
    random = np.random.RandomState(seed)
    wide = functools.partial(random.uniform, -1, 1)
    qpos = 0.3 * wide((COUNT, model.nq))
    if model.nq > 1:
        qpos[::2, 1] -= 0.15
    zeros = functools.partial(np.zeros, dtype=np.float32)
    physics = Physics(
        time=np.float32(random.uniform(0, 1, COUNT)),
        qpos=np.float32(qpos),
        qvel=np.float32(wide((COUNT, model.nv))),
        act=np.float32(wide((COUNT, model.na))),
        ctrl=zeros((COUNT, model.nu)),
        mocap_pos=np.float32(wide((COUNT, 1, 3))),
        mocap_quat=np.tile(np.float32([1, 0, 0, 0]), (COUNT, 1, 1)),
        sensordata=zeros((COUNT, model.nsensordata)),
    )
    return physics, np.float32(wide((COUNT, model.nu)))


def apart(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """|a - b| / max(1, |b|)."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return np.abs(a - b) / np.maximum(1, np.abs(b))


def assert_same(model: mujoco.MjModel, ours: Physics, theirs: Physics) -> None:
    late = mjx.acceleration_columns(model)
    for field in dataclasses.fields(Physics):
        error = apart(getattr(ours, field.name), getattr(theirs, field.name))
        tolerance = np.full(error.shape[1:], TOLERANCE)
        if field.name == "sensordata":
            tolerance[late] = ACCELERATION_TOLERANCE
        assert (error <= tolerance).all(), f"{field.name} is off by {error.max():.1e}"


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("name", MODELS)
def test_every_sensor_at_its_moment(kind, name):
    model = mujoco.MjModel.from_xml_string(MODELS[name])
    physics, actions = started(model)
    theirs = jax.jit(jax.vmap(Native(model, SUBSTEPS).step))(physics, actions)
    ours = jax.jit(jax.vmap(engine(kind, model, SUBSTEPS).step))(physics, actions)
    assert_same(model, ours, theirs)
    late = mjx.acceleration_columns(model)
    # The other moments would show: with a substep less or more, every sensor reads something else.
    for substeps, stage_late in ((SUBSTEPS - 1, True), (SUBSTEPS + 1, False)):
        other = jax.jit(jax.vmap(Native(model, substeps).step))(physics, actions).sensordata
        moved = apart(ours.sensordata, other).max(axis=0)
        for sensor, columns in sensor_slices(model).items():
            if late[columns].all() == stage_late and not sensor.startswith("still"):
                assert moved[columns].max() > 10 * ACCELERATION_TOLERANCE, sensor
    if name == "contacts":
        touch = np.asarray(theirs.sensordata)[:, sensor_slices(model)["touch"]]
        assert (touch > 0).any() and not (touch > 0).all()


def test_the_models_have_every_sensor_of_every_task():
    ours = set(mujoco.MjModel.from_xml_string(MODELS["contacts"]).sensor_type)
    for name, task in {**registry.tasks(), **registry.goal_tasks()}.items():
        kinds = {mujoco.mjtSensor(k).name for k in set(engines.compiled(task).sensor_type) - ours}
        assert not kinds, f"{name} reads {kinds}: give them to MODEL"


@functools.cache
def both(name: str, kind: str):
    """The task on native and on `kind`, with the iterations of the table."""
    task = registry.tasks()[name]
    other = MujocoEnv(task, engine=engines.maker(task, kind, COUNT))
    return registry.make(name, "native"), other


TASKS = ("cartpole-swingup", "reacher-easy")


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("name", TASKS)
def test_a_step_of_a_task_is_natives(name, kind):
    native, other = both(name, kind)
    actions = random_actions(native, STEPS, COUNT)
    played = rows(native, actions)
    before = jax.tree.map(lambda x: x[STEPS - 1], played)
    before = before.replace(key=keys(COUNT))
    theirs = jax.jit(jax.vmap(native.step))(before, actions[-1])
    ours = jax.jit(jax.vmap(other.step))(before, actions[-1])
    assert_same(native.model, ours.physics, theirs.physics)
    for field in ("obs", "reward"):
        assert apart(getattr(ours, field), getattr(theirs, field)).max() <= TOLERANCE
    free = rows(other, actions)
    error = apart(free.obs, played.obs)
    print(
        f"\n{name} on {kind}: {error[1].max():.1e} after one step, {error[-1].max():.1e} after 20"
    )
    assert error.max() < 0.01


def test_a_step_is_a_function_of_state_and_action():
    """So that a resumed run goes on bit for bit: nothing is kept between steps."""
    _, env = both("reacher-easy", "mjx")
    actions = random_actions(env, 6, COUNT)
    step = jax.jit(jax.vmap(env.step))
    state = jax.jit(jax.vmap(env.reset))(keys(COUNT))
    for action in actions[:3]:
        state = step(state, action)
    stored = jax.device_get(jax.tree.map(np.asarray, state.replace(key=())))
    for action in actions[3:]:
        state = step(state, action)
    again = jax.tree.map(jnp.asarray, stored).replace(key=keys(COUNT))
    for action in actions[3:]:
        again = step(again, action)
    assert_equal(again, state)


def test_a_batch_is_its_instances():
    model = mujoco.MjModel.from_xml_string(MODELS["unconstrained"])
    physics, actions = started(model)
    step = Mjx(model, SUBSTEPS).step
    batch = jax.jit(jax.vmap(step))(physics, actions)
    single = jax.jit(step)
    for i in range(COUNT):
        one = single(*jax.tree.map(lambda x, i=i: x[i], (physics, actions)))
        for ours, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(batch), strict=True):
            assert np.all(apart(ours, theirs[i]) < 1e-5)
    two = jax.tree.map(lambda x: x.reshape(2, COUNT // 2, *x.shape[1:]), (physics, actions))
    nested = jax.jit(jax.vmap(jax.vmap(step)))(*two)
    for ours, theirs in zip(jax.tree.leaves(nested), jax.tree.leaves(batch), strict=True):
        assert np.all(apart(ours.reshape(theirs.shape), theirs) < 1e-5)


def test_unstable_physics_costs_its_own_row():
    _, env = both("reacher-easy", "mjx")
    state = jax.jit(jax.vmap(env.reset))(keys(COUNT))
    hurt = state.physics.qvel.at[2, 0].set(np.nan)
    actions = random_actions(env, COUNT)
    step = jax.jit(jax.vmap(env.step))
    fine = step(state, actions)
    bad = step(state.replace(physics=state.physics.replace(qvel=hurt)), actions)
    np.testing.assert_array_equal(bad.unstable, np.arange(COUNT) == 2)
    np.testing.assert_array_equal(np.delete(bad.obs, 2, 0), np.delete(fine.obs, 2, 0))


# What an engine cannot do.

HARD = """
<mujoco>
  <option {option}/>
  <worldbody>
    <body><freejoint/><geom name="can" type="cylinder" size=".1 .1"/><site name="here"/></body>
    <body name="crate" pos="1 0 0"><freejoint/><geom type="box" size=".1 .1 .1"/></body>
  </worldbody>
  <sensor>{sensor}</sensor>
</mujoco>
"""
ONLY_BOX = 'type="box" size=".1 .1 .1"'


@pytest.mark.parametrize(
    "xml, words",
    [
        (HARD.format(option="", sensor=""), ["cylinder with box", "'can' and of 'crate'"]),
        (HARD.format(option='noslip_iterations="3"', sensor=""), ["noslip", "3 iterations"]),
        (
            HARD.format(option="", sensor='<distance name="gap" geom1="can" body2="crate"/>'),
            ["sensor 'gap' (geomdist)"],
        ),
        (HARD.format(option='solver="PGS"', sensor="").replace("cylinder", "sphere"), ["PGS"]),
    ],
)
def test_what_mjx_lacks_is_named(xml, words):
    missing = "; ".join(mjx.unsupported(mujoco.MjModel.from_xml_string(xml)))
    assert all(word in missing for word in words), missing


@pytest.mark.parametrize("kind", ENGINES)
def test_the_table_tells_what_an_engine_lacks(kind):
    """Every task has a row; the tasks of a domain share it, and one of each is looked at."""
    domains: dict[str, list[Task]] = {}
    for name, task in {**registry.tasks(), **registry.goal_tasks()}.items():
        assert kind in engines.table()[name], f"no row of {name}: benchmarks/solver_iterations.py"
        domains.setdefault(name.split("-")[0], []).append(task)
    for domain, tasks in domains.items():
        truth = engines.live_unsupported(engines.compiled(tasks[0]), kind)
        assert all(engines.unsupported(task, kind) == truth for task in tasks), domain


def test_a_task_that_an_engine_cannot_simulate_is_refused(monkeypatch):
    task = dataclasses.replace(
        registry.tasks()["reacher-easy"],
        name="box-in-can",
        model=lambda: mujoco.MjSpec.from_string(HARD.format(option="", sensor="")),
    )
    with pytest.raises(UsageError) as caught:
        engines.choose(task, "mjx")
    assert str(caught.value) == (
        "box-in-can cannot run on mjx, which lacks: collision of cylinder with box (geoms 'can' "
        "and of 'crate'; 1 in all); use physics 'native'"
    )


@dataclasses.dataclass
class Device:
    """Of a machine with an accelerator."""

    platform_version: str

    @property
    def client(self):
        return self


@pytest.mark.parametrize(
    "platform, version, warp, lacks, chosen",
    [
        ("cpu", "", True, (), "native"),
        ("tpu", "TPU v5", True, (), "mjx"),
        ("gpu", "CUDA 12", True, (), "warp"),
        ("gpu", "CUDA 12", False, (), "mjx"),
        ("gpu", "CUDA 12", True, ("warp",), "mjx"),
        ("gpu", "rocm 6", True, (), "mjx"),
        ("gpu", "CUDA 12", True, ("mjx", "warp"), "native"),
    ],
)
def test_auto_picks_by_device(monkeypatch, platform, version, warp, lacks, chosen):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    monkeypatch.setattr(jax, "devices", lambda: [Device(version)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if warp else None)
    monkeypatch.setattr(engines, "unsupported", lambda task, kind: ["x"] if kind in lacks else [])
    assert engines.choose(registry.tasks()["walker-walk"], "auto") == chosen


MAKE = 'import jaxrl; jaxrl.make("cartpole-swingup", physics="mjx")'
TRAIN = """
from jaxrl.cli.commands import parse_train
from jax._src import xla_bridge
parse_train(["gqn", "cartpole-swingup", "--physics", "mjx"])
assert not xla_bridge._backends  # importing agents starts no backend
"""
OWN = 'import jaxrl; jaxrl.make("{folder}/balancer.py:balance", physics="mjx")'
POOL = """
import jax, pathlib
jax.devices()
threads = [(t / "comm").read_text().strip() for t in pathlib.Path("/proc/self/task").iterdir()]
print(threads.count("tf_XLAEigen"))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    ("before", "given"), [(MAKE, None), (MAKE, "3"), (TRAIN + MAKE, None), (OWN, None)]
)
def test_mjx_asks_for_threads_unless_told_otherwise(before, given, tmp_path):
    test_your_own_task.write_files(tmp_path)
    before = before.replace("{folder}", str(tmp_path))
    env = {k: v for k, v in os.environ.items() if k != "NPROC"} | {"JAX_PLATFORMS": "cpu"}
    env |= {"NPROC": given} if given else {}
    program = [sys.executable, "-c", f"{before}\n{POOL}"]
    ended = subprocess.run(program, env=env, cwd=ROOT, capture_output=True)
    expected = int(given) if given else max(engines.THREADS, os.cpu_count() or 1)
    assert int(ended.stdout) == expected, ended.stderr


@pytest.mark.skipif(WARP, reason="warp-lang is installed")
def test_warp_without_warp_lang_is_refused():
    with pytest.raises(UsageError, match=r"warp-lang: pip install 'jaxrl\[cuda\]'"):
        registry.make("walker-walk", "warp")


# Room for contacts.


class Lossy(Native):
    """Says that it left out contacts where the first joint is right of the origin."""

    def advance(self, physics: Physics, ctrl: jax.Array):
        return self.step(physics, ctrl), physics.qpos[0] > 0


def test_steps_without_room_for_contacts_are_counted():
    task: Task = registry.tasks()["cartpole-balance"]
    task = dataclasses.replace(task, time_limit=6 * task.control_dt)
    plain = MujocoEnv(task, engine=Native)
    env = CountOverflow(MujocoEnv(task, engine=Lossy))
    actions = random_actions(plain, STEPS, COUNT)
    theirs, ours = rows(plain, actions), rows(env, actions)
    counts = ours.metrics.pop("overflow")
    assert_equal(ours.replace(key=keys(1)), theirs.replace(key=keys(1)))
    lost = (theirs.physics.qpos[:-1, :, 0] > 0) & ~theirs.last[:-1]
    assert lost.any() and not lost.all()
    np.testing.assert_array_equal(counts[1:], np.cumsum(lost, axis=0))


@needs_warp
def test_warp_tells_when_contacts_did_not_fit(monkeypatch):
    from jaxrl.envs.physics import warp

    model = mujoco.MjModel.from_xml_string(MODELS["contacts"])
    physics, actions = started(model)
    roomy = jax.jit(jax.vmap(engine("warp", model, SUBSTEPS).advance))(physics, actions)[1]
    assert not roomy.any()
    monkeypatch.setattr(warp, "ROWS", 2)  # a contact takes four
    tight = jax.jit(jax.vmap(engine("warp", model, SUBSTEPS).advance))(physics, actions)[1]
    assert tight.any()


@needs_warp
def test_warp_refuses_a_batch_larger_than_its_buffers():
    model = mujoco.MjModel.from_xml_string(MODELS["contacts"])
    physics, actions = started(model)
    step = engine("warp", model, SUBSTEPS, count=4).step
    two = jax.tree.map(lambda x: x[:8].reshape(2, 4, *x.shape[1:]), (physics, actions))
    with pytest.raises(UsageError, match="for 4 instances, and 8 step at once"):
        jax.vmap(jax.vmap(step))(*two)


@needs_warp
def test_warp_refuses_buffers_larger_than_memory(monkeypatch):
    from jaxrl.envs.physics import warp

    monkeypatch.setattr(warp, "available_bytes", lambda: 2**28)
    with pytest.raises(UsageError, match=r"1_000_000 instances on warp need at least .* would fit"):
        registry.make("cheetah-run", "warp", num_instances=1_000_000)
