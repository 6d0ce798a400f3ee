"""Names and options: what `make` accepts, and the one line it says otherwise."""

import re

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.envs import registry
from jaxrl.envs.suite.common import tolerance
from jaxrl.errors import UsageError
from tests.envs import dmc

TASKS = sorted(registry.tasks())


def test_names_are_the_tasks():
    required = {
        "acrobot-swingup",
        "acrobot-swingup-sparse",
        "ball_in_cup-catch",
        "cartpole-balance",
        "cartpole-balance-sparse",
        "cartpole-swingup",
        "cartpole-swingup-sparse",
        "cheetah-run",
        "dog-run",
        "dog-stand",
        "dog-trot",
        "dog-walk",
        "finger-spin",
        "finger-turn-easy",
        "finger-turn-hard",
        "fish-swim",
        "fish-upright",
        "hopper-hop",
        "hopper-stand",
        "humanoid-run",
        "humanoid-stand",
        "humanoid-walk",
        "pendulum-swingup",
        "point_mass-easy",
        "quadruped-run",
        "quadruped-walk",
        "reacher-easy",
        "reacher-hard",
        "swimmer-swimmer6",
        "swimmer-swimmer15",
        "walker-run",
        "walker-stand",
        "walker-walk",
    }
    assert required <= set(registry.names())
    assert all(task.name == name for name, task in registry.tasks().items())
    for name in registry.names():
        assert jaxrl.make(name).spec.name == name


@pytest.mark.parametrize(
    "wrong, meant",
    [("walker-wlak", "walker-walk"), ("fingerspin", "finger-spin"), ("cheetah", "cheetah-run")],
)
def test_a_misspelt_name_gets_the_three_nearest(wrong, meant):
    with pytest.raises(UsageError) as caught:
        jaxrl.make(wrong)
    message = str(caught.value)
    assert "\n" not in message
    name, *near = re.findall(r"'([^']*)'", message)
    assert name == wrong
    assert near[0] == meant
    assert len(set(near)) == 3 and set(near) <= set(registry.names())


@pytest.mark.parametrize("name", ["", "walker-walk ", "Walker-Walk", "playground/x", "😀"])
def test_strange_names_are_usage_errors(name):
    with pytest.raises(UsageError, match="unknown task"):
        jaxrl.make(name)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"physics": "bullet"}, ["'bullet'", "native"]),
        ({"action_cost": -0.1}, ["action cost", "-0.1"]),
        ({"action_cost": float("nan")}, ["action cost", "nan"]),
        ({"action_repeat": 0}, ["action repeat", "0"]),
        ({"action_repeat": -2}, ["action repeat", "-2"]),
        ({"start_slots": 0}, ["start slots", "0"]),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(UsageError) as caught:
        jaxrl.make("walker-walk", **options)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TASKS)
def test_sizes_are_dm_controls(name):
    env, reference = jaxrl.make(name), dmc.load(name)
    spec = env.spec
    size = sum(int(np.prod(entry.shape)) for entry in reference.observation_spec().values())
    assert spec.observation_size == size
    assert (spec.action_size,) == reference.action_spec().shape
    assert len(spec.action_low) == len(spec.action_high) == spec.action_size
    state = jax.eval_shape(env.reset, jax.random.key(0))
    assert state.obs.shape == (size,) and state.obs.dtype == np.float32
    stepped = jax.eval_shape(env.step, state, np.zeros(spec.action_size, np.float32))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), stepped) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert hash(spec) == hash(jaxrl.make(name).spec)  # so that it can be static in a jit


@pytest.mark.parametrize("action", [np.zeros(1), np.zeros((2, 2)), np.float32(0)])
def test_an_action_of_another_shape_is_refused(action):
    """One number would drive all actuators."""
    env = jaxrl.make("reacher-easy")
    state = jax.eval_shape(env.reset, jax.random.key(0))
    shape = re.escape(f"takes an action of shape (2,), got {np.shape(action)}; batches go through")
    with pytest.raises(UsageError, match=shape):
        jax.eval_shape(env.step, state, action)


@pytest.mark.parametrize(
    "arguments",
    [
        {"bounds": (1.0, 0.5)},
        {"margin": -1.0},
        {"margin": 1.0, "value_at_margin": 0.0},
        {"margin": 1.0, "value_at_margin": 1.0, "sigmoid": "linear"},
    ],
)
def test_tolerance_refuses_what_dm_controls_does(arguments):
    from dm_control.utils import rewards

    x = np.linspace(-2, 2, 9, dtype=np.float32)
    with pytest.raises(ValueError):
        rewards.tolerance(x, **arguments)
    with pytest.raises(UsageError, match="tolerance takes"):
        tolerance(x, **arguments)
    linear = {"margin": 1.0, "value_at_margin": 0.0, "sigmoid": "linear"}
    np.testing.assert_allclose(tolerance(x, **linear), rewards.tolerance(x, **linear), atol=1e-6)
