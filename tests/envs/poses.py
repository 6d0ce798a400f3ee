"""Poses of high reward, one entry per domain, so that tests meet both halves of every reward.

Each entry takes a state that the task's own start has drawn (its target included), and rewrites
the pose and the velocity so that the reward is near its top, or one step away from it.
"""

import numpy as np


def cartpole(model, data, random):
    """Upright and centred."""
    data.qpos[:] = 0.1 * random.randn(), 0.05 * random.randn()
    data.qvel[:] = 0.1 * random.randn(2)


def cheetah(model, data, random):
    """On its feet, around the rewarded speed."""
    data.qvel[0] = random.uniform(5, 15)


def finger(model, data, random):
    """Tip around the target; without a target, around the rewarded speed of spinning."""
    if not model.nmocap:
        data.qvel[2] = random.uniform(-25, -10)
        return
    x, _, z = data.mocap_pos[0] - model.body("spinner").pos
    data.qpos[2] = -np.arctan2(x, z) + 0.2 * random.randn()


def reacher(model, data, random):
    """Finger around the target, by inverse kinematics of two equal links."""
    x, y, _ = data.mocap_pos[0]
    link = model.body("hand").pos[0]
    wrist = random.choice([-1, 1]) * 2 * np.arccos(np.hypot(x, y) / (2 * link))
    data.qpos[:] = np.arctan2(y, x) - wrist / 2, wrist
    data.qpos += 0.05 * random.randn(2)


def walker(model, data, random):
    """Standing, with forward speed."""
    data.qpos[:] = 0.02 * random.randn(model.nq)
    data.qvel[1] = random.uniform(0, 10)


POSES = {
    "cartpole": cartpole,
    "cheetah": cheetah,
    "finger": finger,
    "reacher": reacher,
    "walker": walker,
}
"""By domain: (model, data, random) -> None."""


def thresholds(name: str, physics) -> list[tuple[float, float]]:
    """(quantity, threshold) for each threshold of a sparse reward, in dm_control's physics. Where
    they are within rounding of each other, the reward may fall on either side."""
    domain, task = name.split("-", 1)
    if domain == "cartpole" and task.endswith("sparse"):
        cart, cosine = physics.cart_position(), physics.pole_angle_cosine()[0]
        return [(abs(cart), 0.25), (cosine, 0.995)]
    if domain == "finger" and task.startswith("turn"):
        size = physics.named.model.site_size["target", 0]
        return [(physics.dist_to_target() + size, size)]
    if name == "finger-spin":
        return [(physics.hinge_velocity(), -15.0)]
    if domain == "reacher":
        radii = physics.named.model.geom_size[["target", "finger"], 0].sum()
        return [(physics.finger_to_target_dist(), radii)]
    return []
