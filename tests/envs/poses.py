"""Poses of high reward, one entry per domain, so that tests meet both halves of every reward.

Each entry takes a state that the task's own start has drawn (its target included), and rewrites
the pose and the velocity so that the reward is near its top, or one step away from it.
"""

import numpy as np


def acrobot(model, data, random):
    """Both links nearly upright."""
    data.qpos[:] = 0.1 * random.randn(2)
    data.qvel[:] = 0.1 * random.randn(2)


def ball_in_cup(model, data, random):
    """Ball around the target in the cup."""
    data.qpos[:2] = 0.05 * random.randn(2)
    data.qpos[2:] = data.qpos[:2] + [0, 0.35] + random.uniform(-0.03, 0.03, 2)


def cartpole(model, data, random):
    """Upright and centred."""
    data.qpos[:] = 0.1 * random.randn(), 0.05 * random.randn()
    data.qvel[:] = 0.1 * random.randn(2)


def cheetah(model, data, random):
    """On its feet, around the rewarded speed."""
    data.qvel[0] = random.uniform(5, 15)


def dog(model, data, random):
    """On its paws, around one of the rewarded speeds; one in four lies on its side."""
    yaw = 2 * np.arctan2(data.qpos[6], data.qpos[3])
    speed = random.choice([1.5, 4, 12]) * random.uniform(0.7, 1.3)
    data.qvel[:6] = speed * np.cos(yaw), speed * np.sin(yaw), 0, 0, 0, 0
    data.act[:] = 0
    if random.rand() < 0.25:
        data.qpos[2:7] = 0.15, np.sqrt(0.5), np.sqrt(0.5), 0, 0


def finger(model, data, random):
    """Tip around the target; without a target, around the rewarded speed of spinning."""
    if not model.nmocap:
        data.qvel[2] = random.uniform(-25, -10)
        return
    x, _, z = data.mocap_pos[0] - model.body("spinner").pos
    data.qpos[2] = -np.arctan2(x, z) + 0.2 * random.randn()


def fish(model, data, random):
    """Upright; mouth (7.5 cm ahead of the root) around the target."""
    quat = [1, 0, 0, 0] + 0.05 * random.randn(4)
    data.qpos[3:7] = quat / np.linalg.norm(quat)
    if model.nmocap:
        data.qpos[:3] = data.mocap_pos[0] - [0, 0.075, 0] + 0.02 * random.randn(3)


def hopper(model, data, random):
    """Leg nearly straight, with forward speed."""
    data.qpos[:] = 0.05 * random.randn(model.nq)
    data.qvel[0] = random.uniform(0, 4)


def humanoid(model, data, random):
    """On its feet, at rest or running in any direction."""
    data.qpos[:] = model.qpos0
    data.qpos[7:] += 0.02 * random.randn(model.nq - 7)
    speed, heading = random.choice([0, random.uniform(8, 15)]), random.uniform(0, 2 * np.pi)
    data.qvel[:2] = speed * np.cos(heading), speed * np.sin(heading)


def pendulum(model, data, random):
    """Upright."""
    data.qpos[0] = 0.1 * random.randn()
    data.qvel[0] = 0.1 * random.randn()


def point_mass(model, data, random):
    """Around the target."""
    data.qpos[:] = 0.01 * random.randn(2)


def quadruped(model, data, random):
    """On its feet, with forward speed."""
    data.qpos[:] = model.qpos0
    data.qpos[7:] += 0.05 * random.randn(model.nq - 7)
    data.qvel[0] = random.uniform(0, 8)


def reacher(model, data, random):
    """Finger around the target, by inverse kinematics of two equal links."""
    x, y, _ = data.mocap_pos[0]
    link = model.body("hand").pos[0]
    wrist = random.choice([-1, 1]) * 2 * np.arccos(np.hypot(x, y) / (2 * link))
    data.qpos[:] = np.arctan2(y, x) - wrist / 2, wrist
    data.qpos += 0.05 * random.randn(2)


def swimmer(model, data, random):
    """Nose (1 cm ahead of the root) around the target."""
    turn, reach = data.qpos[2], random.uniform(0, 0.12)
    along = np.array([np.sin(turn), -np.cos(turn)])
    data.qpos[:2] = data.mocap_pos[0, :2] - reach * along


def walker(model, data, random):
    """Standing, with forward speed."""
    data.qpos[:] = 0.02 * random.randn(model.nq)
    data.qvel[1] = random.uniform(0, 10)


POSES = {
    "acrobot": acrobot,
    "ball_in_cup": ball_in_cup,
    "cartpole": cartpole,
    "cheetah": cheetah,
    "dog": dog,
    "finger": finger,
    "fish": fish,
    "hopper": hopper,
    "humanoid": humanoid,
    "pendulum": pendulum,
    "point_mass": point_mass,
    "quadruped": quadruped,
    "reacher": reacher,
    "swimmer": swimmer,
    "walker": walker,
}
"""By domain: (model, data, random) -> None."""


def thresholds(name: str, physics) -> list[tuple[float, float]]:
    """(quantity, threshold) for each threshold of a sparse reward, in dm_control's physics. Where
    they are within rounding of each other, the reward may fall on either side."""
    domain, task = name.split("-", 1)
    if name == "acrobot-swingup-sparse":
        return [(physics.to_target(), physics.named.model.site_size["target", 0])]
    if domain == "ball_in_cup":
        free = physics.named.model.site_size["target", 0] - physics.named.model.geom_size["ball", 0]
        return [(abs(x), free) for x in physics.ball_to_target()]
    if domain == "cartpole" and task.endswith("sparse"):
        cart, cosine = physics.cart_position(), physics.pole_angle_cosine()[0]
        return [(abs(cart), 0.25), (cosine, 0.995)]
    if domain == "finger" and task.startswith("turn"):
        size = physics.named.model.site_size["target", 0]
        return [(physics.dist_to_target() + size, size)]
    if name == "finger-spin":
        return [(physics.hinge_velocity(), -15.0)]
    if domain == "hopper":
        return [(physics.height(), 0.6)]
    if domain == "pendulum":
        return [(physics.pole_vertical(), np.cos(np.deg2rad(8)))]
    if domain == "reacher":
        radii = physics.named.model.geom_size[["target", "finger"], 0].sum()
        return [(physics.finger_to_target_dist(), radii)]
    return []
