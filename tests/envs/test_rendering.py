"""Pictures: they show the state, they need no display, and their absence is one line."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxrl.envs.rendering as rendering
from jaxrl.envs.registry import make

SIZE = (120, 90)  # width, height


def picture(env, state):
    try:
        return env.render(state, *SIZE)
    except rendering.RenderingUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def walker():
    env = make("walker-walk")
    return env, env.reset(jax.random.key(0))


@pytest.fixture(scope="module")
def reacher():
    env = make("reacher-easy")
    return env, env.reset(jax.random.key(0))


@pytest.fixture
def fresh(monkeypatch):
    """No renderer made before, and none of these kept afterwards."""
    monkeypatch.setattr(rendering, "_cache", rendering._Cache())
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    return monkeypatch


def with_target(state, x, y):
    """The state with reacher's target at (x, y) metres."""
    physics = state.physics
    return state.replace(physics=physics.replace(mocap_pos=physics.mocap_pos.at[0, :2].set([x, y])))


def test_a_picture_shows_something(walker):
    pixels = picture(*walker)
    assert pixels.shape == (SIZE[1], SIZE[0], 3)
    assert pixels.dtype == np.uint8
    assert pixels.std() > 10


def test_same_state_same_picture_other_state_other_picture(walker):
    env, state = walker
    first = picture(env, state)
    bent = state.replace(physics=state.physics.replace(qpos=state.physics.qpos.at[3].add(0.5)))
    assert np.abs(picture(env, bent).astype(int) - first).max() > 50
    np.testing.assert_array_equal(picture(env, state), first)


@pytest.mark.parametrize("x", [-0.15, 0.15])
@pytest.mark.parametrize("y", [-0.1, 0.1])
def test_reacher_shows_the_target_where_the_state_has_it(reacher, x, y):
    """The camera looks straight down at the arena's middle, +x to the right and +y up."""
    env, state = reacher
    without = picture(env, with_target(state, 10.0, 10.0)).astype(int)
    changed = np.abs(picture(env, with_target(state, x, y)) - without).max(-1) > 40
    rows, columns = np.nonzero(changed)
    assert len(rows) > 20
    assert np.sign(columns.mean() - SIZE[0] / 2) == np.sign(x)
    assert np.sign(SIZE[1] / 2 - rows.mean()) == np.sign(y)


def test_each_model_has_its_own_renderer_made_once(walker, reacher, fresh):
    first = [picture(*walker), picture(*reacher)]
    opened = []
    open_context = rendering._open
    fresh.setattr(rendering, "_open", lambda model: opened.append(model) or open_context(model))
    again = [picture(*walker), picture(*reacher)]
    np.testing.assert_array_equal(first, again)
    assert opened == []
    for width in range(100, 100 + 2 * rendering.CACHED):
        walker[0].render(walker[1], width, 80)
    assert len(opened) == 2 * rendering.CACHED
    assert len(rendering._cache.renderers) == rendering.CACHED
    np.testing.assert_array_equal(picture(*walker), first[0])


def test_a_picture_is_larger_than_the_models_own_framebuffer(walker):
    env, state = walker
    picture(env, state)
    assert env.render(state, 1000, 700).shape == (700, 1000, 3)


def test_drawing_leaves_the_environment_alone(walker):
    env, state = walker
    before = env.model.vis.global_.offwidth, env.model.vis.global_.offheight
    after_step = jax.jit(env.step)(state, np.zeros(env.spec.action_size)).obs
    picture(env, state)
    assert (env.model.vis.global_.offwidth, env.model.vis.global_.offheight) == before
    np.testing.assert_array_equal(
        jax.jit(env.step)(state, np.zeros(env.spec.action_size)).obs, after_step
    )


def test_a_batch_is_refused(walker):
    env, state = walker
    picture(env, state)
    batch = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 3))
    with pytest.raises(ValueError, match=r"qpos has shape \(3, 9\).*one instance"):
        env.render(batch, *SIZE)


def missing(names):
    raise OSError(f"{names[0]} cannot be loaded")


def test_without_a_library_the_error_is_one_line_with_the_package(walker, fresh):
    fresh.setattr(rendering, "_load", missing)
    with pytest.raises(rendering.RenderingUnavailable) as caught:
        walker[0].render(walker[1])
    message = str(caught.value)
    assert "\n" not in message
    assert "apt-get install libosmesa6" in message


@pytest.mark.parametrize("chosen", ["egl", "osmesa", "off"])
def test_the_users_backend_is_the_only_one_tried(walker, fresh, chosen):
    asked = []
    fresh.setenv("MUJOCO_GL", chosen)
    fresh.setattr(rendering, "_context", lambda name, model: asked.append(name) or missing("x"))
    with pytest.raises(rendering.RenderingUnavailable, match=f"MUJOCO_GL={chosen} .*libosmesa6"):
        walker[0].render(walker[1])
    assert asked == ([] if chosen == "off" else [chosen])


def test_osmesa_serves_a_process_whose_pyopengl_chose_egl(walker, fresh):
    """As after `import dm_control` on a machine with EGL libraries but no device for them."""
    fresh.setenv("PYOPENGL_PLATFORM", "egl")
    load = rendering._load
    fresh.setattr(
        rendering, "_load", lambda names: missing(names) if "EGL" in names[0] else load(names)
    )
    assert picture(*walker).std() > 10


def test_importing_the_package_does_not_import_opengl():
    code = (
        "import sys, jaxrl.envs.registry as r; r.make('walker-walk'); "
        "sys.exit('OpenGL' in sys.modules)"
    )
    environment = {"MUJOCO_GL": "", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], env=os.environ | environment, check=True)
