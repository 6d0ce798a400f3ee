"""Growing Q-networks: decoupled Q-learning whose action resolution grows during training.

Seyde et al., "Growing Q-Networks", L4DC 2024 (arXiv 2404.04253), on top of decoupled Q-networks:
Seyde et al., "Solving Continuous Control via Q-learning", ICLR 2023 (arXiv 2210.12566). Defaults
follow the released code, github tseyde/decqn@2309e0b.

One Q-head per action dimension, Q(s, a) = mean_j Q_j(s, a_j), over K bins per dimension. The
network has all K bins from the start; a mask keeps a nested subset active, and that subset grows.
The mask holds in exploration, in the online argmax and hence in the target. Actions are stored as
indices of the full grid, so replay stays valid after a growth.

Returns may be learned as histograms over Z atoms. The histogram of a joint action is then the mean
over dimensions of theirs, so that its mean is again the mean of the dimensions' values.

Shapes: B batch, O observation size, A action dimensions, K bins, C critics, L levels of the ladder,
Z atoms.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from jaxrl.agents import _common
from jaxrl.agents._decoupled import levels, td_target
from jaxrl.envs.core import EnvSpec
from jaxrl.errors import UsageError
from jaxrl.nets import returns
from jaxrl.nets.q_network import QNetwork
from jaxrl.replay.prioritized import Prioritized
from jaxrl.replay.ring import Batch

Array = jax.Array


def static(default: Any) -> Any:
    """A field that fixes the compiled program; the others are leaves that vmap can sweep."""
    return struct.field(pytree_node=False, default=default)


@struct.dataclass
class GQN:
    """Hyperparameters. Floats are pytree leaves: vmap sweeps them without recompiling."""

    learning_rate: float = 1e-4
    """Adam step size (GQN Table 1)."""
    discount: float = 0.99
    """gamma per environment step (GQN Table 1)."""
    epsilon: float = 0.1
    """Share of random actions (GQN Table 1), spread as `epsilon_mode` says."""
    max_grad_norm: float = 40.0
    """Clip of the gradient's global norm (GQN Table 1)."""
    huber_delta: float = 1.0
    """Where the Huber loss turns linear (released code)."""
    priority_exponent: float = 0.6
    """Of the priority, in the sampling probability (GQN Table 1)."""
    value_low: float = -50.0
    """Lowest atom: of returns with rewards down to -0.5 and a discount of 0.99."""
    value_high: float = 100.0
    """Highest atom: of returns with rewards up to 1 and a discount of 0.99."""
    importance_exponent: float = 0.2
    """Of 1 / probability, in the loss weight (GQN Table 1)."""
    growth_margin: float = 0.05
    """Adaptive growth: tolerated relative drop of the return (GQN eq. 4)."""
    growth_deviations: float = 0.90
    """Adaptive growth: demanded rise in standard deviations (GQN eq. 4)."""
    bins: tuple[int, ...] = static((2, 3, 5, 9))
    """Ladder of bins per action dimension; each level's grid must contain the one before."""
    growth: Literal["linear", "adaptive"] = static("linear")
    """When to climb the ladder: at equal shares of the run, or on a plateau of the evaluations."""
    growth_window: int = static(5)
    """Adaptive growth: evaluations in the moving average (unpublished)."""
    growth_gap: int = static(5)
    """Adaptive growth: evaluations between two growths, and before the first (unpublished)."""
    head: Literal["scalar", "c51", "hl_gauss"] = static("scalar")
    """A bin's value; or a histogram of returns, trained on the projected histogram of the target
    (C51: Bellemare et al. 2017) or on a normal one around its value (Farebrother et al. 2024)."""
    atoms: int = static(51)
    """Z, of a histogram of returns (C51)."""
    critics: int = static(2)
    """Critics, C; 2 is double Q-learning with the mean of both targets (released code)."""
    torso: Literal["residual", "plain"] = static("residual")
    """Linear, LN(x + MLP(x)), ELU as released; or Linear, LN, tanh, Linear, ELU."""
    width: int = static(512)
    """Units per hidden layer (GQN section 5)."""
    epsilon_mode: Literal["diluted", "plain"] = static("diluted")
    """A dimension is random at rate (e/A) / (1 - e + e/A), as released; or at rate e."""
    target_period: int = static(100)
    """Updates between hard copies to the target network (GQN Table 1)."""
    batch_size: int = static(256)
    """Transitions per update, B (GQN Table 1)."""
    n_step: int = static(3)
    """Steps before the bootstrap (GQN Table 1)."""
    precision: Literal["float32", "bfloat16"] = static("float32")
    """What networks compute in; parameters, losses and targets stay float32."""

    def __post_init__(self) -> None:
        levels(self.bins)
        for name in ("critics", "width", "target_period", "batch_size", "n_step"):
            value = getattr(self, name)
            if value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        if self.head != "scalar" and self.atoms < 2:
            raise UsageError(f"atoms must be at least 2 with head {self.head}, got {self.atoms}")
        _common.check_within(self, 0.0, 1.0, "discount", "epsilon")
        low, high = self.value_low, self.value_high
        numbers = isinstance(low, float | int) and isinstance(high, float | int)
        if self.head != "scalar" and numbers and not low < high:
            raise UsageError(f"value_low must be below value_high, got {low} and {high}")
        if self.growth_window < 2 or self.growth_gap < 1:
            raise UsageError(
                f"growth_window must be at least 2 and growth_gap at least 1, "
                f"got {self.growth_window} and {self.growth_gap}"
            )

    def canonical(self) -> GQN:
        """The same agent with strongly typed float32 leaves."""
        return _common.canonical(self)

    def replay(self, time_slots: int, num_envs: int) -> Prioritized:
        """The replay that this agent learns from."""
        return Prioritized(
            discount=self.discount,
            time_slots=time_slots,
            num_envs=num_envs,
            batch_size=self.batch_size,
            n_step=self.n_step,
            exponent=self.priority_exponent,
            importance_exponent=self.importance_exponent,
        )

    def init(self, key: Array, spec: EnvSpec) -> State:
        """Fresh parameters; the target starts as a copy."""
        network = self._network(spec.action_size)
        obs = jnp.zeros((1, spec.observation_size))
        params = jax.vmap(lambda k: network.init(k, obs))(jax.random.split(key, self.critics))
        return State(
            params=params,
            target_params=jax.tree.map(jnp.copy, params),
            opt_state=self._optimiser().init(params),
            updates=jnp.zeros((), jnp.int32),
            level=jnp.zeros((), jnp.int32),
            returns=jnp.zeros((self.growth_window,), jnp.float32),
            evaluations=jnp.zeros((), jnp.int32),
            grown_at=jnp.zeros((), jnp.int32),
            action_size=spec.action_size,
        )

    def act(self, state: State, obs: Array, key: Array, explore: bool) -> Array:
        """Indices of the full grid, [B, A] uint8 (or uint16), for obs [B, O].

        Greedy on the larger of the critics' values, bin by bin; ties broken at random when
        exploring.
        """
        q = self._q(state.params, state, obs).max(axis=0)
        q = jnp.where(self.mask(state.level), q, -jnp.inf)
        if not explore:
            return self._store(jnp.argmax(q, axis=-1))
        tie_key, random_key, choice_key = jax.random.split(key, 3)
        ties = q == q.max(axis=-1, keepdims=True)
        greedy = jnp.argmax(ties * jax.random.uniform(tie_key, q.shape, minval=0.5), axis=-1)
        active = self._active(state.level)  # bins in level order: the first `count` are active
        count = jnp.asarray(self.bins)[state.level]
        uniform = active[jax.random.randint(choice_key, greedy.shape, 0, count)]
        rate = self.random_rate(state.action_size)
        random = jax.random.bernoulli(random_key, rate, greedy.shape)
        return self._store(jnp.where(random, uniform, greedy))

    def decode(self, action: Array, spec: EnvSpec) -> Array:
        """Indices [..., A] to actions in the environment's units, [..., A] float32."""
        grid = np.linspace(spec.action_low, spec.action_high, self.bins[-1], dtype=np.float32)
        return jnp.asarray(grid)[action, jnp.arange(spec.action_size)]

    def update(self, state: State, batch: Batch, key: Array) -> tuple[State, dict[str, Array]]:
        """One gradient step. The metrics' "td_error" [B] is for the replay's priorities."""
        grads, metrics = jax.grad(self.loss, has_aux=True)(state.params, state, batch)
        updates, opt_state = self._optimiser().update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        target = optax.periodic_update(
            params, state.target_params, state.updates, self.target_period
        )
        metrics["grad_norm"] = optax.tree.norm(grads)
        new = state.replace(
            params=params, target_params=target, opt_state=opt_state, updates=state.updates + 1
        )
        return new, metrics

    def loss(self, params: Any, state: State, batch: Batch) -> tuple[Array, dict[str, Array]]:
        """Weighted Huber loss of both critics on the decoupled double-Q target.

            delta_c = mean_j ( y_cj - Q_cj(s, a_j) ),   loss = mean_B w sum_c Huber(delta_c)

        The mean over dimensions is inside the Huber loss (released code, misc/utils.py). With C51
        heads it is the cross-entropy of `projected_target` and the mean of the chosen bins'
        histograms; with HL-Gauss heads the mean over dimensions of that of `gaussian_target` and
        each, since a mean of different histograms is no normal one.
        """
        online = self._outputs(params, state, batch.obs_tm1)  # [C, B, A, K] or [C, B, A, K, Z]
        q_select = self._q(jax.lax.stop_gradient(params), state, batch.obs_t)
        final = self._outputs(state.target_params, state, batch.obs_t)
        q_tm1, q_t = self._values(online), self._values(final)
        target = td_target(q_t, q_select, self.mask(state.level), batch.reward_t, batch.discount_t)
        index = batch.action_tm1.astype(jnp.int32)[None, ..., None]
        own = jnp.take_along_axis(q_tm1, index, axis=-1)[..., 0]  # [C, B, A]
        chosen = own.mean(axis=-1)
        td_error = jax.lax.stop_gradient(target) - chosen
        if self.head == "scalar":
            losses = optax.losses.huber_loss(td_error, delta=self.huber_delta).sum(axis=0)
        else:
            logits = jnp.take_along_axis(online, index[..., None], axis=-2)[..., 0, :]
            log_p = jax.nn.log_softmax(logits)  # [C, B, A, Z]
            if self.head == "hl_gauss":
                histogram = self.gaussian_target(own, td_error)
                losses = returns.cross_entropy(histogram, log_p).mean(axis=-1).sum(axis=0)
            else:
                log_mean = jax.nn.logsumexp(log_p, axis=-2) - np.log(state.action_size)
                histogram = self.projected_target(final, q_select, state, batch)
                losses = returns.cross_entropy(histogram, log_mean).sum(axis=0)
        loss = jnp.mean(batch.weight * losses)
        priority = jnp.abs(td_error).mean(axis=0)
        metrics = {"loss": loss, "q_mean": chosen.mean(), "td_error": priority}
        return loss, metrics

    def gaussian_target(self, own: Array, td_error: Array) -> Array:
        """HL-Gauss: normal histograms that the chosen bins learn, [C, B, A, Z].

        Each is around the bin's own value moved by the error delta_c of the mean, so that every
        dimension is pushed the same way, as by the Huber loss, and keeps what it is worth.

        Args:
          own: values of the chosen bins, [C, B, A].
          td_error: delta_c, [C, B].
        """
        moved = jax.lax.stop_gradient(own + td_error[..., None])
        return returns.gaussian(moved, self._atoms())

    def projected_target(self, final: Array, q_select: Array, state: State, batch: Batch) -> Array:
        """C51: histograms that the critics learn, [C, B, Z].

        The mean over target critics and dimensions of the chosen bins' histograms, moved by the
        reward and the discount and projected.

        Args:
          final: logits of the target networks, [C, B, A, K, Z].
          q_select: online values that choose the bins, [C, B, A, K].
        """
        values = self._atoms()
        masked = jnp.where(self.mask(state.level), q_select, -jnp.inf)
        chosen = jnp.argmax(masked, axis=-1)[..., None, None]
        both = jax.nn.softmax(final).mean(axis=0)[None]
        mean = jnp.take_along_axis(both, chosen, axis=-2)[..., 0, :].mean(axis=-2)
        shifted = batch.reward_t[:, None] + batch.discount_t[:, None] * values
        return jax.lax.stop_gradient(returns.project(mean, shifted, values))

    def milestones(self) -> tuple[float, ...]:
        """Shares of training at which the run must stop to call `on_progress`."""
        if self.growth != "linear":
            return ()
        return tuple(i / (len(self.bins) + 1) for i in range(1, len(self.bins)))

    def on_progress(self, state: State, progress: Array) -> State:
        """Linear growth: one level after each 1/(L+1) of training (GQN section 4)."""
        if self.growth != "linear":
            return state
        reached = progress >= jnp.asarray(self.milestones(), jnp.float32)
        return state.replace(level=reached.sum(dtype=jnp.int32))

    def on_evaluation(self, state: State, returns: Array, progress: Array) -> State:
        """Adaptive growth on a plateau of the evaluation return `returns` [] (GQN eq. 4).

        Grow when the newest return is under (1 - margin sgn(m)) m + deviations * s, where m and s
        are mean and standard deviation of the `growth_window` returns before it.
        """
        mean, deviation = state.returns.mean(), state.returns.std()
        margin = 1.0 - self.growth_margin * jnp.sign(mean)
        threshold = margin * mean + self.growth_deviations * deviation
        seen = state.evaluations >= max(self.growth_window, self.growth_gap)
        rested = state.evaluations - state.grown_at >= self.growth_gap
        grows = (returns < threshold) & seen & rested & (state.level < len(self.bins) - 1)
        grows = grows & (self.growth == "adaptive")
        return state.replace(
            level=state.level + grows,
            returns=jnp.roll(state.returns, -1).at[-1].set(returns),
            evaluations=state.evaluations + 1,
            grown_at=jnp.where(grows, state.evaluations, state.grown_at),
        )

    def scalars(self, state: State) -> dict[str, Array]:
        """What a run logs of the state, beside the losses."""
        return {"active_bins": jnp.asarray(self.bins)[state.level]}

    def mask(self, level: Array) -> Array:
        """Active bins of the full grid, [K] bool."""
        return jnp.asarray(levels(self.bins))[level]

    def random_rate(self, action_size: int) -> Array:
        """Probability that a dimension's bin is drawn uniformly."""
        if self.epsilon_mode == "plain":
            return jnp.asarray(self.epsilon)
        diluted = self.epsilon / action_size
        return jnp.asarray(diluted / (1.0 - self.epsilon + diluted))

    def _active(self, level: Array) -> Array:
        """All bins with the active ones first, in order, [K] int32."""
        return jnp.asarray(np.argsort(~levels(self.bins), axis=1, kind="stable"))[level]

    def _store(self, index: Array) -> Array:
        return index.astype(jnp.uint8 if self.bins[-1] <= 256 else jnp.uint16)

    def _q(self, params: Any, state: State, obs: Array) -> Array:
        """[C, B, A, K] float32 for obs [B, O]."""
        return self._values(self._outputs(params, state, obs))

    def _outputs(self, params: Any, state: State, obs: Array) -> Array:
        """Values [C, B, A, K], or logits of returns [C, B, A, K, Z], for obs [B, O]."""
        network = self._network(state.action_size)
        outputs: Array = jax.vmap(network.apply, in_axes=(0, None))(params, obs)  # type: ignore[assignment]
        return outputs

    def _values(self, outputs: Array) -> Array:
        """Values of the network's outputs, [C, B, A, K]."""
        if self.head == "scalar":
            return outputs
        return returns.expectation(jax.nn.softmax(outputs), self._atoms())

    def _atoms(self) -> Array:
        return returns.atoms(self.value_low, self.value_high, self.atoms)

    def _network(self, action_size: int) -> QNetwork:
        dtype = _common.DTYPES[self.precision]
        atoms = 1 if self.head == "scalar" else self.atoms
        return QNetwork(action_size, self.bins[-1], self.torso, self.width, dtype, atoms)

    def _optimiser(self) -> optax.GradientTransformation:
        clip = optax.clip_by_global_norm(self.max_grad_norm)
        return optax.chain(clip, optax.adam(self.learning_rate))


@struct.dataclass
class State:
    """Everything that learning changes."""

    params: Any  # leading axis C
    target_params: Any  # leading axis C
    opt_state: Any
    updates: Array  # [] int32
    level: Array  # [] int32: rung of the ladder
    returns: Array  # [growth_window] float32: newest evaluation returns, oldest first
    evaluations: Array  # [] int32
    grown_at: Array  # [] int32: evaluations seen at the last growth
    action_size: int = struct.field(pytree_node=False)
