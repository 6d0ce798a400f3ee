"""Recorded rollouts: one greedy episode as the poses of the model's bodies, to be drawn in a page.

Poses come from MuJoCo's kinematics of the recorded positions, on the host, so no graphics library
is needed. Arrays are quantised to 16 bits and written as base64: about 0.1 MB per 25 s.
assets/rollout.js of the report draws them. Shapes: F frames, B moving bodies.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import mujoco
import numpy as np

from jaxrl.errors import UsageError
from jaxrl.report.page import FORMAT

FRAMES_PER_SECOND = 30
"""At most; the page draws the moments between by interpolation."""
VISIBLE_GROUPS = 3
"""MuJoCo's own viewer hides geoms and sites of this group and above. A skin is not drawn here;
the collision shapes in this group stand in for it."""
CLOSE = 2.5
"""A camera that follows a body comes nearer than this many radii of it over tan(fovy / 2)."""
DEFAULT_COLOUR = (0.5, 0.5, 0.5, 1.0)
"""A geom of this colour shows its material's, as in MuJoCo."""


def record(
    evaluator: Any, agent: Any, state: Any, about: dict[str, Any], seed: int = 0
) -> dict[str, Any]:
    """One greedy episode, as `jaxrl.report.page` embeds and stores it.

    Args:
      about: what the recording says of itself, such as env_id and global_step.
      seed: of the episode's start.

    Raises:
      UsageError: the task has no MuJoCo model, or its rows no positions of it.
    """
    env = evaluator.env
    model = getattr(env, "model", None)
    if not isinstance(model, mujoco.MjModel):
        raise UsageError(f"{env.spec.name} has no MuJoCo model, so there is nothing to play back")
    rows = evaluator.record(agent, state, jax.random.key(seed))
    if not hasattr(rows[0].physics, "qpos"):
        raise UsageError(
            f"{env.spec.name} keeps no MuJoCo positions, so they cannot be played back"
        )
    skip = max(1, int(np.ceil(1 / (FRAMES_PER_SECOND * env.spec.control_dt) - 1e-9)))
    kept = rows[::skip] if (len(rows) - 1) % skip == 0 else [*rows[::skip], rows[-1]]
    return {
        "format": FORMAT,
        **about,
        "fps": 1 / (skip * env.spec.control_dt),
        "seconds": (len(rows) - 1) * env.spec.control_dt,
        "returns": [_short(row.metrics["episode_return"]) for row in kept],
        **scene(model, [row.physics for row in kept]),
    }


def scene(model: mujoco.MjModel, states: Sequence[Any]) -> dict[str, Any]:
    """What is drawn of a model in F states with qpos, mocap_pos and mocap_quat."""
    poses = _poses(model, states)  # [F, nbody, 7]
    moving = np.flatnonzero((np.abs(poses - poses[:1]) > 1e-6).any(axis=(0, 2)))
    geoms, meshes = _shapes(model)
    shown = {g["body"] for g in geoms} | {b for line in _tendons(model) for b, _ in line["ends"]}
    moving = np.array([b for b in moving if b in shown], dtype=int)
    positions = poses[:, moving, :3]
    return {
        "frames": len(states),
        "moving": moving.tolist(),
        "positions": _quantised(positions),
        "rotations": _bytes(np.round(poses[:, moving, 3:] * 32767).astype("<i2")),
        "still": {str(b): _list(poses[0, b]) for b in sorted(shown - set(moving.tolist()))},
        "geoms": geoms,
        "meshes": meshes,
        "tendons": _tendons(model),
        "camera": _camera(model, states[0], moving.tolist()),
        "extent": _short(model.stat.extent),
    }


def _poses(model: mujoco.MjModel, states: Sequence[Any]) -> np.ndarray:
    """Position and rotation (w, x, y, z) of each body in the world, [F, nbody, 7]."""
    data = mujoco.MjData(model)
    poses = np.empty((len(states), model.nbody, 7))
    for i, state in enumerate(states):
        _place(model, data, state)
        poses[i, :, :3], poses[i, :, 3:] = data.xpos, data.xquat
    return poses


def _place(model: mujoco.MjModel, data: mujoco.MjData, state: Any) -> None:
    data.qpos[:] = np.asarray(state.qpos)
    data.mocap_pos[:] = np.asarray(state.mocap_pos)
    data.mocap_quat[:] = np.asarray(state.mocap_quat)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)


def _shapes(model: mujoco.MjModel) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Visible geoms and sites, and the meshes that they use."""
    kinds = {int(getattr(mujoco.mjtGeom, f"mjGEOM_{k.upper()}")): k for k in KINDS}
    geoms: list[dict[str, Any]] = []
    numbers: dict[tuple[str, int], int] = {}
    meshes: list[dict[str, Any]] = []
    groups = VISIBLE_GROUPS + (1 if model.nskin else 0)
    for name, count in (("geom", model.ngeom), ("site", model.nsite)):
        field = {k: getattr(model, f"{name}_{k}") for k in FIELDS}
        for i in range(count):
            kind = kinds.get(int(field["type"][i]))
            colour = _colour(model, field["rgba"][i], int(field["matid"][i]))
            if kind is None or field["group"][i] >= groups or colour[3] == 0:
                continue
            shape = {"kind": kind, "body": int(field["bodyid"][i]), "rgba": _list(colour)}
            shape |= {k: _list(field[k][i]) for k in ("size", "pos", "quat")}
            if kind in ("mesh", "hfield"):
                key = kind, int(model.geom_dataid[i])
                if key not in numbers:
                    numbers[key] = len(meshes)
                    meshes.append(_mesh(model, key[1]) if kind == "mesh" else _field(model, key[1]))
                shape |= {"kind": "mesh", "mesh": numbers[key]}
            geoms.append(shape)
    return geoms, meshes


KINDS = ("plane", "sphere", "capsule", "ellipsoid", "cylinder", "box", "mesh", "hfield")
FIELDS = ("type", "group", "rgba", "matid", "bodyid", "size", "pos", "quat")


def _colour(model: mujoco.MjModel, rgba: np.ndarray, material: int) -> np.ndarray:
    """Colour that MuJoCo shows: the material's, unless the geom has one of its own."""
    if material >= 0 and np.allclose(rgba, DEFAULT_COLOUR):
        return model.mat_rgba[material]
    return rgba


def _mesh(model: mujoco.MjModel, i: int) -> dict[str, Any]:
    start, count = model.mesh_vertadr[i], model.mesh_vertnum[i]
    first, faces = model.mesh_faceadr[i], model.mesh_facenum[i]
    return _triangles(
        model.mesh_vert[start : start + count], model.mesh_face[first : first + faces]
    )


def _field(model: mujoco.MjModel, i: int) -> dict[str, Any]:
    """A height field as triangles."""
    rows, columns = int(model.hfield_nrow[i]), int(model.hfield_ncol[i])
    x_half, y_half, top, _ = model.hfield_size[i]
    start = model.hfield_adr[i]
    heights = model.hfield_data[start : start + rows * columns].reshape(rows, columns) * top
    y, x = np.meshgrid(
        np.linspace(-y_half, y_half, rows), np.linspace(-x_half, x_half, columns), indexing="ij"
    )
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    lower = np.stack([corner, corner + 1, corner + columns + 1], axis=1)
    upper = np.stack([corner, corner + columns + 1, corner + columns], axis=1)
    vertices = np.stack([x, y, heights], axis=-1).reshape(-1, 3)
    return _triangles(vertices, np.concatenate([lower, upper]))


def _triangles(vertices: np.ndarray, faces: np.ndarray) -> dict[str, Any]:
    return {"vertices": _quantised(vertices), "faces": _bytes(np.asarray(faces).astype("<u4"))}


def _tendons(model: mujoco.MjModel) -> list[dict[str, Any]]:
    """Straight parts of spatial tendons, each between two points fixed to bodies.

    A tendon that wraps around a geom is left out: its path is no function of its ends alone.
    """
    lines = []
    for t in range(model.ntendon):
        start, count = model.tendon_adr[t], model.tendon_num[t]
        kinds = model.wrap_type[start : start + count]
        if (kinds != mujoco.mjtWrap.mjWRAP_SITE).any() or model.tendon_rgba[t, 3] == 0:
            continue
        sites = model.wrap_objid[start : start + count]
        ends = [(int(model.site_bodyid[s]), _list(model.site_pos[s])) for s in sites]
        look = {"width": _short(model.tendon_width[t]), "rgba": _list(model.tendon_rgba[t])}
        lines += [{"ends": [a, b], **look} for a, b in itertools.pairwise(ends)]
    return lines


def _camera(model: mujoco.MjModel, first: Any, moving: Sequence[int]) -> dict[str, Any]:
    """Where to look from at the start, and the body to follow (-1 for none).

    The model's first camera, as in a run's video; without one MuJoCo's free camera.
    """
    data = mujoco.MjData(model)
    _place(model, data, first)
    if not model.ncam:
        azimuth, elevation = np.radians((90.0, -45.0))
        target = np.asarray(model.stat.center)
        forward = np.array(
            [
                np.cos(elevation) * np.cos(azimuth),
                np.cos(elevation) * np.sin(azimuth),
                np.sin(elevation),
            ]
        )
        position = target - 1.5 * model.stat.extent * forward
        return {"position": _list(position), "target": _list(target), "fovy": 45.0, "follow": -1}
    position, rotation = data.cam_xpos[0], data.cam_xmat[0].reshape(3, 3)
    tracking = (
        int(mujoco.mjtCamLight.mjCAMLIGHT_TRACK),
        int(mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM),
    )
    body, fovy = int(model.cam_bodyid[0]), float(model.cam_fovy[0])
    if body == 0 and len(moving):  # tracks the centre of everything: of what is heaviest
        body = max(moving, key=lambda b: model.body_subtreemass[b])
    follow = body if int(model.cam_mode[0]) in tracking and body in moving else -1
    centre = data.xpos[follow] if follow >= 0 else np.asarray(model.stat.center)
    forward = -rotation[:, 2]
    ahead = float((centre - position) @ forward)
    target = position + forward * (ahead if ahead > 0 else model.stat.extent)
    if follow >= 0:
        farthest = CLOSE * _radius(model, data, follow) / np.tan(np.radians(fovy) / 2)
        distance = min(float(np.linalg.norm(target - position)), farthest)
        position = target - distance * forward
    return {
        "position": _list(position),
        "target": _list(target),
        "fovy": _short(fovy),
        "follow": follow,
    }


def _radius(model: mujoco.MjModel, data: mujoco.MjData, root: int) -> float:
    """Distance from a body to the farthest point of what hangs on it, m."""
    geoms = np.flatnonzero(model.body_rootid[model.geom_bodyid] == model.body_rootid[root])
    mujoco.mj_kinematics(model, data)
    away = np.linalg.norm(data.geom_xpos[geoms] - data.xpos[root], axis=1)
    return float((away + model.geom_rbound[geoms]).max())


def _quantised(values: np.ndarray) -> dict[str, Any]:
    """Numbers [..., 3] as 16-bit integers: value = offset + step * integer."""
    flat = np.asarray(values, dtype=np.float64).reshape(-1, 3)
    if not len(flat):
        return {"data": "", "offset": [0.0] * 3, "step": [1.0] * 3}
    low, high = flat.min(axis=0), flat.max(axis=0)
    step = np.maximum((high - low) / 65535, 1e-9)
    integers = np.round((flat - low) / step) - 32768
    offset = low + 32768 * step
    return {
        "data": _bytes(integers.astype("<i2")),
        "offset": [float(x) for x in offset],
        "step": [float(x) for x in step],
    }


def _bytes(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _list(values: Any) -> list[float]:
    return [_short(x) for x in np.asarray(values).ravel()]


def _short(value: Any) -> float:
    return float(f"{float(value):.6g}")
