"""Contrastive goal-conditioned RL: how soon is a goal reached, learned by telling futures apart.

Eysenbach et al., "Contrastive Learning as Goal-Conditioned Reinforcement Learning", NeurIPS 2022
(arXiv 2206.07568), in the form of JaxGCRL: Bortkiewicz et al., ICLR 2025 (arXiv 2408.11052).
`sgcrl` is the same agent with the settings of "A Single Goal is All You Need": Liu et al., ICLR
2025 (arXiv 2408.05804).

A critic is two encoders: phi of state and action, psi of a goal. Their energy f(phi, psi) is high
where the goal is a state that follows soon (a hindsight goal: gamma's geometric law, no reward).
The policy maximises it for the same goals. Actions live in (-1, 1)^A, as replay stores them.

Shapes: B batch, O observation size, S state size, A action dimensions, G goal size, R
representation size, C critics.
"""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.typing import Initializer

from jaxrl.agents import _common, _goals
from jaxrl.agents._common import static
from jaxrl.envs.core import EnvSpec
from jaxrl.errors import UsageError
from jaxrl.nets.contrast import LOSSES, energy, pairwise
from jaxrl.nets.encoder import Encoder, check_depth, fan_in_uniform
from jaxrl.nets.policy import PolicyHead, SoftplusHead, TanhGaussian, lecun_uniform
from jaxrl.nets.precision import dense
from jaxrl.replay.hindsight import Hindsight
from jaxrl.replay.ring import Batch

Array = jax.Array

glorot_uniform = nn.initializers.glorot_uniform()


@struct.dataclass
class CRL:
    """Hyperparameters. Floats are pytree leaves: vmap sweeps them without recompiling."""

    actor_learning_rate: float = 3e-4
    """Adam step size of the policy (JaxGCRL's code)."""
    critic_learning_rate: float = 3e-4
    """Adam step size of the encoders (JaxGCRL's code)."""
    temperature_learning_rate: float = 3e-4
    """Adam step size of log alpha (JaxGCRL's code)."""
    discount: float = 0.99
    """gamma of the law of future goals (JaxGCRL's code)."""
    logsumexp_penalty: float = 0.1
    """Weight of the squared logsumexp, on the loss's own axis (JaxGCRL's code)."""
    entropy_per_action: float = -0.5
    """Target entropy in nats per action dimension (JaxGCRL's code)."""
    mortal: bool = static(True)
    """After a termination no goal is achieved any more, so that ending early makes goals unlikely;
    JaxGCRL's law of future goals stops at the end and does not tell. Without effect with the
    `forward` loss, which compares goals and not states."""
    random_goals: float = 0.0
    """Share of the policy's batch whose goals are those of other rows (SGCRL: half)."""
    commanded_goals: float = static(0.0)
    """Share of the policy's batch, its last rows, whose goals are those that were commanded when
    the rows were collected: so the policy learns what to do where it has failed, with the goal that
    it failed to reach, while of hindsight goals none is ever beyond where it got to."""
    energy: Literal["l2", "squared_l2", "dot", "cosine"] = static("l2")
    """f(phi, psi). `l2` has the root, as the paper's; JaxGCRL's code calls it `norm`, and means
    `squared_l2` by `l2`."""
    loss: Literal["forward", "backward", "symmetric", "binary"] = static("symmetric")
    """InfoNCE among goals, among states, or the sum of both; or binary NCE."""
    critics: int = static(2)
    """Critics, C, each with encoders of its own."""
    pessimism: Literal["min", "mean"] = static("min")
    """What the policy takes of the critics' energies."""
    width: int = static(256)
    """Units per hidden layer, of policy and encoders (JaxGCRL's code)."""
    depth: int = static(2)
    """Hidden layers of policy and encoders: 1 to 3, or residual blocks of 4 each: 4, 8, ..."""
    representation: int = static(64)
    """R: size of phi and psi (JaxGCRL's code)."""
    layer_norm: bool = static(False)
    """LayerNorm before each activation, of policy and encoders; needed where depth is 4 or more."""
    activation: Literal["swish", "relu"] = static("swish")
    """Of policy and encoders."""
    networks: Literal["jaxgcrl", "sgcrl"] = static("jaxgcrl")
    """Initial weights, and the policy's head. `jaxgcrl`: weights within 1 / sqrt(inputs), a policy
    that starts in the middle with a deviation of 0.22. `sgcrl`, whose weights are larger: encoders
    by Glorot's law, a policy by LeCun's that starts anywhere with deviations about 0.7."""
    entropy: bool = static(True)
    """Reward the policy's entropy, with an automatic temperature."""
    initial_random: bool = static(True)
    """Act uniformly at random until the first update; else by the initial policy, as JaxGCRL."""
    single_goal: bool = static(False)
    """Refuse a task whose episodes command different goals: give one by --goal."""
    batch_size: int = static(256)
    """Transitions per update, B (JaxGCRL's code)."""
    precision: Literal["float32", "bfloat16"] = static("float32")
    """What networks compute in; parameters, energies and losses stay float32."""
    achieved: _goals.Slice = static(_goals.UNBOUND)
    """Of the observation; see `bind`."""
    commanded: _goals.Slice = static(_goals.UNBOUND)
    """Of the observation; see `bind`."""

    def __post_init__(self) -> None:
        for name in ("critics", "width", "representation"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size < 2:
            raise UsageError(
                f"batch_size must be at least 2, to contrast one with another, got "
                f"{self.batch_size}"
            )
        check_depth(self.depth)
        _common.check_within(self, 0.0, 1.0, "discount", "random_goals", "commanded_goals")

    @property
    def n_step(self) -> int:
        """A transition is one step."""
        return 1

    def canonical(self) -> CRL:
        """The same agent with strongly typed float32 leaves."""
        return _common.canonical(self)

    def bind(self, spec: EnvSpec) -> CRL:
        """The same agent, knowing where the task keeps its goals.

        Raises:
          UsageError: the task has no goal.
        """
        return _goals.bind(self, spec, "sgcrl" if self.single_goal else "crl")

    def replay(self, time_slots: int, num_envs: int) -> Hindsight:
        """The replay that this agent learns from."""
        return Hindsight(
            discount=self.discount,
            time_slots=time_slots,
            num_envs=num_envs,
            achieved=self.achieved,
            commanded=self.commanded,
            batch_size=self.batch_size,
            mortal=self.mortal,
            tell=self.commanded_goals > 0,
        )

    def init(self, key: Array, spec: EnvSpec) -> State:
        """Fresh parameters."""
        assert self.commanded != _goals.UNBOUND, "agent.bind(env.spec) comes first"
        actor_key, critic_key = jax.random.split(key)
        obs = jnp.zeros((1, spec.observation_size))
        action = jnp.zeros((1, spec.action_size))
        state, goal = _goals.split(obs, self.commanded)
        pair = jnp.concatenate([state, action], axis=-1)

        def encoders(key: Array) -> dict[str, Any]:
            phi_key, psi_key = jax.random.split(key)
            network = self._encoder()
            return {"phi": network.init(phi_key, pair), "psi": network.init(psi_key, goal)}

        actor = self._actor(spec.action_size).init(actor_key, obs)
        critic = jax.vmap(encoders)(jax.random.split(critic_key, self.critics))
        log_alpha = jnp.zeros((), jnp.float32)
        return State(
            actor=actor,
            critic=critic,
            log_alpha=log_alpha,
            actor_opt=optax.adam(self.actor_learning_rate).init(actor),
            critic_opt=optax.adam(self.critic_learning_rate).init(critic),
            alpha_opt=optax.adam(self.temperature_learning_rate).init(log_alpha),
            updates=jnp.zeros((), jnp.int32),
            action_size=spec.action_size,
        )

    def act(self, state: State, obs: Array, key: Array, explore: bool) -> Array:
        """Actions in [-1, 1], [B, A], for obs [B, O]: a sample if exploring, else tanh(mean)."""
        policy = self._policy(state.actor, state, obs)
        if not explore:
            return policy.mode()
        uniform_key, sample_key = jax.random.split(key)
        action = policy.sample(sample_key)[0]
        if not self.initial_random:
            return action
        uniform = jax.random.uniform(uniform_key, action.shape, minval=-1.0)
        return jnp.where(state.updates == 0, uniform, action)

    def energies(self, state: State, obs: Array, action: Array) -> Array:
        """f(phi(s, a), psi(g)) of each critic, [C, B], for obs [B, O] and actions [B, A] in
        (-1, 1): with `l2`, minus a learned distance to the commanded goal."""
        observed, goal = _goals.split(obs, self.commanded)
        phi = self._encode(state.critic, "phi", jnp.concatenate([observed, action], axis=-1))
        return energy(self.energy, phi, self._encode(state.critic, "psi", goal))

    def decode(self, action: Array, spec: EnvSpec) -> Array:
        """Actions [..., A] in [-1, 1] to the environment's units."""
        return _common.to_units(action, spec)

    def update(self, state: State, batch: Batch, key: Array) -> tuple[State, dict[str, Array]]:
        """One step of critics, policy and temperature, all from the parameters before it, so that
        the policy's loss takes the goals' representations from the critics'."""
        critic_grad, (psi, metrics) = jax.grad(self.critic_loss, has_aux=True)(state.critic, batch)
        actor_grad, actor_metrics = jax.grad(self.actor_loss, has_aux=True)(
            state.actor, state, batch, psi, key
        )
        # d/d(log alpha) of alpha (entropy - target), the temperature's loss.
        target = self.entropy_per_action * state.action_size
        alpha_grad = jnp.exp(state.log_alpha) * (actor_metrics["entropy"] - target)
        critic, critic_opt = _common.descend(
            self.critic_learning_rate, critic_grad, state.critic_opt, state.critic
        )
        actor, actor_opt = _common.descend(
            self.actor_learning_rate, actor_grad, state.actor_opt, state.actor
        )
        log_alpha, alpha_opt = _common.descend(
            self.temperature_learning_rate, alpha_grad, state.alpha_opt, state.log_alpha
        )
        new = state.replace(
            actor=actor,
            critic=critic,
            log_alpha=log_alpha,
            actor_opt=actor_opt,
            critic_opt=critic_opt,
            alpha_opt=alpha_opt,
            updates=state.updates + 1,
        )
        return new, {**metrics, **actor_metrics}

    def critic_loss(self, params: Any, batch: Batch) -> tuple[Array, Any]:
        """Sum over critics of the contrastive loss (`jaxrl.nets.contrast`) of the logits
        L_ij = f(phi(s_i, a_i), psi(g_j)), whose positive pairs are on the diagonal.

        Returns:
          the loss, and (psi of the batch's goals [C, B, R], metrics).
        """
        state, goal = _goals.split(batch.obs_tm1, self.commanded)
        phi = self._encode(params, "phi", jnp.concatenate([state, batch.action_tm1], axis=-1))
        psi = self._encode(params, "psi", goal)
        logits = jax.vmap(lambda x, y: pairwise(self.energy, x, y))(phi, psi)  # [C, B, B]
        valid = batch.weight > 0
        contrast, penalty = LOSSES[self.loss], self.logsumexp_penalty
        loss = jax.vmap(lambda x: contrast(x, valid, penalty, batch.alive))(logits)
        positive = jnp.diagonal(logits, axis1=1, axis2=2)  # [C, B]
        missed = jax.nn.logsumexp(logits, axis=2) - positive
        hits = jnp.argmax(logits, axis=2) == jnp.arange(valid.size)
        metrics = {
            "critic_loss": loss.sum(),
            "accuracy": jnp.mean(batch.weight * hits),
            "energy": jnp.mean(batch.weight * positive),
            "td_error": missed.mean(axis=0),
        }
        return loss.sum(), (jax.lax.stop_gradient(psi), metrics)

    def actor_loss(
        self, params: Any, state: State, batch: Batch, psi: Array, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """The policy's energy, negated, with its entropy.

        loss = mean_B w (alpha log pi(a|s,g) - min_c f(phi_c(s, a), psi_c(g))),  a ~ pi(.|s,g)

        Args:
          psi: representations of the batch's goals, [C, B, R].
        """
        observed, goal = _goals.split(batch.obs_tm1, self.commanded)
        goal, psi = self._policy_goals(state, batch, goal, psi)
        obs = batch.obs_tm1.at[:, slice(*self.commanded)].set(goal)
        action, log_prob = self._policy(params, state, obs).sample(key)
        phi = self._encode(state.critic, "phi", jnp.concatenate([observed, action], axis=-1))
        energies = energy(self.energy, phi, psi)  # [C, B]
        value = energies.min(axis=0) if self.pessimism == "min" else energies.mean(axis=0)
        alpha = jnp.exp(state.log_alpha) if self.entropy else 0.0
        loss = jnp.mean(batch.weight * (alpha * log_prob - value))
        return loss, {"actor_loss": loss, "entropy": -jnp.mean(batch.weight * log_prob)}

    def _policy_goals(
        self, state: State, batch: Batch, goal: Array, psi: Array
    ) -> tuple[Array, Array]:
        """Goals of the policy's batch [B, G], and their representations [C, B, R]: hindsight's, for
        the first rows those of other rows, for the last rows the commanded ones."""
        rolls = jnp.arange(len(goal)) < self.random_goals * len(goal)
        rolls &= jnp.roll(batch.weight > 0, 1)  # the goal of a row that is no transition is none
        goal = jnp.where(rolls[:, None], jnp.roll(goal, 1, axis=0), goal)
        psi = jnp.where(rolls[:, None], jnp.roll(psi, 1, axis=1), psi)
        count = round(self.commanded_goals * len(goal))
        if count == 0:
            return goal, psi
        assert batch.commanded is not None, "the agent's own replay tells"
        told = batch.commanded[-count:]
        told_psi = self._encode(state.critic, "psi", told)
        return goal.at[-count:].set(told), psi.at[:, -count:].set(told_psi)

    def milestones(self) -> tuple[float, ...]:
        """Nothing depends on the share of training done."""
        return ()

    def on_progress(self, state: State, progress: Array) -> State:
        """Nothing depends on the share of training done."""
        return state

    def on_evaluation(self, state: State, returns: Array, progress: Array) -> State:
        """Nothing depends on evaluations."""
        return state

    def scalars(self, state: State) -> dict[str, Array]:
        """What a run logs of the state, beside the losses."""
        return {"alpha": jnp.exp(state.log_alpha)} if self.entropy else {}

    def _policy(self, params: Any, state: State, obs: Array) -> TanhGaussian:
        policy: TanhGaussian = self._actor(state.action_size).apply(params, obs)  # type: ignore[assignment]
        return policy

    def _encode(self, params: Any, which: Literal["phi", "psi"], x: Array) -> Array:
        """[C, B, R] for inputs [B, I]."""
        encoded: Array = jax.vmap(self._encoder().apply, in_axes=(0, None))(params[which], x)  # type: ignore[assignment]
        return encoded

    def _actor(self, action_size: int) -> Actor:
        jaxgcrl = self.networks == "jaxgcrl"
        trunk = self._trunk(fan_in_uniform if jaxgcrl else lecun_uniform)
        return Actor(action_size, trunk, PolicyHead if jaxgcrl else SoftplusHead)

    def _encoder(self) -> Representation:
        init = fan_in_uniform if self.networks == "jaxgcrl" else glorot_uniform
        return Representation(self.representation, self._trunk(init))

    def _trunk(self, init: Initializer) -> Encoder:
        dtype = _common.DTYPES[self.precision]
        options = (self.width, self.depth, self.layer_norm, self.activation, dtype, init)
        return Encoder(*options, parent=None)


SGCRL = CRL(
    mortal=False,
    logsumexp_penalty=0.01,
    random_goals=0.5,
    energy="dot",
    loss="forward",
    critics=1,
    activation="relu",
    networks="sgcrl",
    entropy=False,
    single_goal=True,
)
"""The released code's settings (github graliuce/sgcrl@2d1b59d): one goal, commanded always."""


@struct.dataclass
class State:
    """Everything that learning changes."""

    actor: Any
    critic: Any  # leading axis C
    log_alpha: Array  # []
    actor_opt: Any
    critic_opt: Any
    alpha_opt: Any
    updates: Array  # [] int32
    action_size: int = struct.field(pytree_node=False)


class Actor(nn.Module):
    """[B, O] to a `TanhGaussian` over A dimensions."""

    action_size: int
    trunk: Encoder
    head: type[PolicyHead] | type[SoftplusHead]

    @nn.compact
    def __call__(self, obs: Array) -> TanhGaussian:
        return self.head(self.action_size, self.trunk.dtype)(self.trunk(obs))


class Representation(nn.Module):
    """[B, I] to [B, R] float32."""

    size: int
    trunk: Encoder

    @nn.compact
    def __call__(self, x: Array) -> Array:
        layer = dense(self.size, self.trunk.dtype, kernel_init=self.trunk.kernel_init)
        return layer(self.trunk(x)).astype(jnp.float32)
