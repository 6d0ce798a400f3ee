"""Recorded rollouts against MuJoCo's own kinematics and scene."""

from __future__ import annotations

import base64
import json
import types

import jax
import mujoco
import numpy as np
import pytest

import jaxrl
from jaxrl import agents
from jaxrl.report import page
from jaxrl.train import playback, results
from jaxrl.train.evaluate import Evaluator
from jaxrl.train.runlog import RunFolder

XML = """
<mujoco>
  <asset>
    <material name="red" rgba="1 0 0 1"/>
    <hfield name="hill" nrow="3" ncol="4" size="2 1 .5 .1"/>
    <mesh name="tetra" vertex="0 0 0  1 0 0  0 1 0  0 0 1"/>
  </asset>
  <worldbody>
    <geom name="floor" type="plane" size="0 0 1"/>
    <geom name="hill" type="hfield" hfield="hill"/>
    <body name="still" pos="1 2 3"><geom type="box" size=".1 .2 .3" material="red"/></body>
    <body name="ball" pos="0 0 1">
      <freejoint/>
      <camera name="side" mode="trackcom" pos="0 -90 0" xyaxes="1 0 0 0 0 1"/>
      <geom name="seen" size=".1" rgba="0 1 0 .5" material="red"/>
      <geom name="hidden" size=".2" group="3"/>
      <geom name="clear" size=".2" rgba="1 1 1 0"/>
      <site name="tip" pos="0 0 .1" size=".02"/>
      <body name="arm" pos=".5 0 0">
        <joint axis="0 1 0"/>
        <geom type="mesh" mesh="tetra" pos=".3 0 0" euler="10 20 30"/>
      </body>
    </body>
    <body name="target" mocap="true" pos="3 0 0"><geom type="cylinder" size=".1 .2"/></body>
    <site name="hook" pos="0 0 2" size=".01" rgba="0 0 0 0"/>
  </worldbody>
  <tendon><spatial width=".01"><site site="hook"/><site site="tip"/></spatial></tendon>
</mujoco>
"""


def restored(field):
    """Numbers [n, 3] of a quantised field."""
    integers = np.frombuffer(base64.b64decode(field["data"]), "<i2").reshape(-1, 3)
    return np.asarray(field["offset"]) + np.asarray(field["step"]) * integers


@pytest.fixture(scope="module")
def model():
    return mujoco.MjModel.from_xml_string(XML)


@pytest.fixture(scope="module")
def states(model):
    rng = np.random.default_rng(0)
    found = []
    for i in range(5):
        qpos = np.concatenate([rng.uniform(-20, 20, 3), rng.normal(size=4), rng.normal(size=1)])
        qpos[3:7] /= np.linalg.norm(qpos[3:7])
        target = np.array([[3.0, i, 0.0]])
        found.append(
            types.SimpleNamespace(
                qpos=qpos, mocap_pos=target, mocap_quat=np.array([[1.0, 0, 0, 0]])
            )
        )
    return found


def body(model, name):
    return mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)


def test_poses_are_mujocos_within_the_quantisation(model, states):
    scene = playback.scene(model, states)
    assert scene["moving"] == [body(model, name) for name in ("ball", "arm", "target")]
    positions = restored(scene["positions"]).reshape(5, 3, 3)
    raw = np.frombuffer(base64.b64decode(scene["rotations"]), "<i2").reshape(5, 3, 4)
    data = mujoco.MjData(model)
    for i, state in enumerate(states):
        data.qpos[:], data.mocap_pos[:] = state.qpos, state.mocap_pos
        mujoco.mj_forward(model, data)
        np.testing.assert_allclose(positions[i], data.xpos[scene["moving"]], atol=4e-4)  # 40 m
        np.testing.assert_allclose(raw[i] / 32767, data.xquat[scene["moving"]], atol=2e-5)
    np.testing.assert_allclose(scene["still"][str(body(model, "still"))][:3], [1, 2, 3])


def test_what_is_seen_is_what_mujoco_draws(model, states):
    """Kinds, places and colours against MuJoCo's abstract scene, which needs no OpenGL."""
    scene = playback.scene(model, states)
    data = mujoco.MjData(model)
    data.qpos[:], data.mocap_pos[:] = states[0].qpos, states[0].mocap_pos
    mujoco.mj_forward(model, data)
    drawn = mujoco.MjvScene(model, 100)
    everything = mujoco.mjtCatBit.mjCAT_STATIC | mujoco.mjtCatBit.mjCAT_DYNAMIC
    arguments = (mujoco.MjvOption(), None, mujoco.MjvCamera(), everything, drawn)
    mujoco.mjv_updateScene(model, data, *arguments)
    wanted = {}
    for geom in drawn.geoms[: drawn.ngeom]:
        if geom.objtype in (mujoco.mjtObj.mjOBJ_GEOM, mujoco.mjtObj.mjOBJ_SITE) and geom.rgba[3]:
            wanted[tuple(np.round(geom.pos, 3))] = np.asarray(geom.rgba)
    # mjv moves an infinite plane with the camera; it stays at the origin here.
    found = {}
    for shape in scene["geoms"]:
        at = data.xpos[shape["body"]] + data.xmat[shape["body"]].reshape(3, 3) @ shape["pos"]
        found[tuple(np.round(at, 3))] = shape["rgba"]
    kinds = [shape["kind"] for shape in scene["geoms"]]
    assert kinds == ["plane", "mesh", "box", "sphere", "mesh", "cylinder", "sphere"]
    same = [key for key in found if any(np.allclose(key, k, atol=2e-3) for k in wanted)]
    assert len(same) >= len(found) - 1
    for key in same:
        colour = next(c for k, c in wanted.items() if np.allclose(key, k, atol=2e-3))
        np.testing.assert_allclose(found[key], colour, atol=1e-5)


def test_meshes_and_height_fields_keep_their_shape(model, states):
    scene = playback.scene(model, states)
    hill, tetra = (restored(mesh["vertices"]) for mesh in scene["meshes"])
    np.testing.assert_allclose(hill[:, :2].min(0), [-2, -1], atol=1e-4)
    np.testing.assert_allclose(hill[:, :2].max(0), [2, 1], atol=1e-4)
    np.testing.assert_allclose(tetra, model.mesh_vert, atol=1e-4)
    faces = np.frombuffer(base64.b64decode(scene["meshes"][0]["faces"]), "<u4").reshape(-1, 3)
    assert len(faces) == 2 * 2 * 3 and faces.max() == 11
    a, b, c = (hill[faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    assert (normals[:, 2] > 0).all()  # all look up
    assert normals[:, 2].sum() / 2 == pytest.approx(4 * 2, rel=1e-3)  # and cover it once


def test_a_tendon_hangs_between_its_sites(model, states):
    (line,) = playback.scene(model, states)["tendons"]
    (hook, at), (ball, tip) = line["ends"]
    assert hook == 0 and at == [0, 0, 2] and ball == body(model, "ball")
    np.testing.assert_allclose(tip, [0, 0, 0.1])


def test_the_camera_follows_what_the_models_camera_tracks_from_nearer(model, states):
    camera = playback.scene(model, states)["camera"]
    assert camera["follow"] == body(model, "ball")
    away = np.subtract(camera["position"], camera["target"])
    assert 4 < np.linalg.norm(away) < 15 and away[1] < 0  # not from 90 m


def test_a_task_without_a_model_is_refused():
    env = jaxrl.make("probe-both")
    evaluator = types.SimpleNamespace(env=env)
    with pytest.raises(ValueError, match="has no MuJoCo model"):
        playback.record(evaluator, None, None, {})


def test_one_episode_of_a_task_in_time():
    """Frames, clock and returns of a whole episode of a task whose reward is 1 per step."""
    env = jaxrl.make("cartpole-balance")
    rows = [
        types.SimpleNamespace(
            physics=types.SimpleNamespace(
                qpos=np.array([0.001 * i, 0.0]),
                mocap_pos=np.zeros((0, 3)),
                mocap_quat=np.zeros((0, 4)),
            ),
            metrics={"episode_return": np.float32(i)},
        )
        for i in range(1001)
    ]
    evaluator = types.SimpleNamespace(env=env, record=lambda *_: rows)
    found = playback.record(evaluator, None, None, {"env_id": "cartpole-balance"})
    assert found["seconds"] == pytest.approx(10.0) and found["fps"] <= 30
    assert found["frames"] == len(found["returns"])
    assert (found["frames"] - 1) / found["fps"] == pytest.approx(10.0, abs=1 / found["fps"])
    assert found["returns"][0] == 0 and found["returns"][-1] == 1000
    cart = restored(found["positions"]).reshape(found["frames"], -1, 3)[:, 0, 0]
    assert cart[-1] - cart[0] == pytest.approx(1.0, abs=1e-3)


def test_a_policy_is_recorded_as_it_is_evaluated(tmp_path):
    """From an agent and an environment to a file that the report reads."""
    agent = agents.default("decqn").replace(width=16)
    env = jaxrl.make("cartpole-swingup")
    agent = agents.bound(agent, env.spec)
    state = agent.init(jax.random.key(0), env.spec)
    evaluator = Evaluator(env, 1)
    config = {"env_id": env.spec.name, "exp_name": "decqn", "seed": 3}
    (tmp_path / "config.json").write_text(json.dumps(config))
    trained = results.Trained(RunFolder(tmp_path), 70, agent, state, evaluator)
    path = tmp_path / page.PLAYBACK
    assert results.write_playback(trained, path) == str(path)
    found = page.read_recording(path)
    assert (found["env_id"], found["seed"], found["global_step"]) == ("cartpole-swingup", 3, 70)
    wanted = evaluator.returns(agent, state, jax.random.key(0))["episode_return"]
    assert found["returns"][-1] == pytest.approx(float(wanted[0]), rel=1e-5)
    rows = evaluator.record(agent, state, jax.random.key(0))
    cart = restored(found["positions"]).reshape(found["frames"], -1, 3)[:, 0, 0]
    assert cart[0] == pytest.approx(rows[0].physics.qpos[0], abs=1e-4)
    assert cart[-1] == pytest.approx(rows[-1].physics.qpos[0], abs=1e-4)
