"""Acting with a bundle, without torch: one observation in, one action out, within microseconds.

Networks write into buffers of their own. What does not change from call to call is folded into a
first-layer bias: the task embedding into the policy's, the skill into the decoder's.

Axes: O observation, A action, Z latent, E task embedding, C transitions of a context.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import BundleError, RobotFault, SpecError
from .agents.simpl import SIMPL, SimplRowAgent
from .bundle import Bundle
from .golden_trial import GOLDEN_TOLERANCE
from .networks import Array, Gaussian, Weights, residual_scale, scale_from_log
from .policies import LOG_SCALE_LOW, MIN_SCALE
from .runtime_agent import RandomNoise, SeenRows
from .spaces import RowSpace
from .task_encoder import Context, compute_embedding

PAIRS = 16
"""Observations on which a new policy is compared with the bundle's agent."""
_ZERO = np.float32(0.0)


class RowNetwork:
    """An MLP on one row with preallocated buffers; its last inputs may be held fixed and folded into a bias."""

    def __init__(self, weights: Weights, name: str, held: int = 0, activation: str = "relu") -> None:
        """Copies the network's weights.

        Args:
            weights: Weights by name.
            name: Which network; its layers are `name.layers.{i}`.
            held: How many of the last inputs are set by `hold` instead of `forward`.
            activation: Between layers, "relu" or "tanh".
        """
        self._tanh = activation == "tanh"
        matrices: list[Array] = []
        biases: list[Array] = []
        while (layer := f"{name}.layers.{len(matrices)}") + ".weight" in weights:
            matrices.append(weights[layer + ".weight"])
            biases.append(weights[layer + ".bias"].copy())
        free = matrices[0].shape[1] - held
        self._held = np.ascontiguousarray(matrices[0][:, free:])
        self._bias = biases[0].copy()
        matrices[0] = matrices[0][:, :free]
        buffers = [np.empty_like(bias) for bias in biases]
        self._first = biases[0]
        layers = [(np.ascontiguousarray(m), b, out) for m, b, out in zip(matrices, biases, buffers, strict=True)]
        self._hidden, self._last = layers[:-1], layers[-1]

    def hold(self, inputs: Array) -> None:
        """Fixes the held inputs, shape (held,), until the next call."""
        np.dot(self._held, inputs, out=self._first)
        np.add(self._first, self._bias, out=self._first)

    def forward(self, inputs: Array) -> Array:
        """The output for the free inputs, shape (in - held,): a buffer that the next call overwrites."""
        for matrix, bias, out in self._hidden:
            matrix.dot(inputs, out)
            np.add(out, bias, out=out)
            if self._tanh:
                np.tanh(out, out=out)
            else:
                np.maximum(out, _ZERO, out=out)
            inputs = out
        matrix, bias, out = self._last
        matrix.dot(inputs, out)
        np.add(out, bias, out=out)
        return out


class NumpyPolicy:
    """A policy that acts on one robot: a new latent every H calls, the low level on each call.

    Takes a bundle of kind `policy`, or one of SiMPL at a task embedding. Making one compares it with the agent of the
    bundle, whose golden trial was played when it was loaded; that warms it up, too.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Prepares the bundle's networks.

        Args:
            bundle: A loaded bundle.

        Raises:
            BundleError: It is of another kind or chooses an index, or this runtime does not act as the bundle's agent.
        """
        contract, weights = bundle.contract, bundle.weights
        settings = bundle.kind.read_policy(contract)
        if contract.kind not in ("policy", "simpl") or settings is None or contract.space.name == "choice":
            raise BundleError(
                f"one-row policy: expected a bundle of kind policy or simpl over skills, unit or raw actions, got "
                f"{contract.kind} over {contract.space.name}; run its agent instead, see Bundle.make_agent"
            )
        self.contract = contract
        """What the bundle promises."""
        self._weights, self._settings = weights, settings
        self._embedding_dim = SIMPL.read(contract).embedding_dim if contract.kind == "simpl" else 0
        dim, latent = contract.observation_dim, contract.space.latent_dim
        self._space = RowSpace(contract.space, contract.robot, weights)
        self._mean = weights.get("space.mean", np.zeros(dim, np.float32)).copy()
        self._std = weights.get("space.std", np.ones(dim, np.float32)).copy()
        limits = contract.robot.action
        self._low, self._high = limits.inner_low.copy(), limits.inner_high.copy()
        self._horizon, self._latent_dim = contract.space.horizon, latent
        self._policy = RowNetwork(weights, "policy", held=self._embedding_dim, activation=self._settings.activation)
        self._prior: RowNetwork | None = None
        self._decoder: RowNetwork | None = None
        if contract.space.name == "skill":
            self._prior = RowNetwork(weights, "space.prior")
            self._decoder = RowNetwork(weights, "space.decoder", held=latent)
        self._zero_loc: Array = np.zeros(latent, np.float32)
        self._unit_scale: Array = np.ones(latent, np.float32)
        unit = contract.space.name == "unit"
        self._middle = (limits.low + limits.high) / 2.0 if unit else np.zeros_like(self._low)
        self._half = (limits.high - limits.low) / 2.0 if unit else np.ones_like(self._low)
        if self._settings.scale == "parameter":
            self._fixed_scale = np.exp(np.maximum(weights["policy.log_scale"], LOG_SCALE_LOW))
        self._raw_observation = np.zeros(dim, np.float32)
        self._observation = np.zeros(dim, np.float32)
        self._action = np.zeros(contract.action_dim, np.float32)
        self._latent = np.zeros(latent, np.float32)
        self._finite_observation = np.zeros(dim, np.bool_)
        self._finite_action = np.zeros(contract.action_dim, np.bool_)
        self._rng: np.random.Generator | None = None
        self._greedy = False
        self._countdown = 0
        self._require_agreement(bundle)
        self._embedded = self._embedding_dim == 0

    def set_embedding(self, embedding: ArrayLike) -> None:
        """Sets the task embedding e of SiMPL; it holds from the next latent on.

        Args:
            embedding: Shape (E,).

        Raises:
            SpecError: The shape differs or a component is not finite.
        """
        array = np.asarray(embedding, np.float32)
        if array.shape != (self._embedding_dim,) or not np.isfinite(array).all():
            raise SpecError(
                f"set_embedding: expected {self._embedding_dim} finite numbers, got "
                f"{np.array2string(array, threshold=8)}; pass one embedding of the bundle's task encoder"
            )
        self._policy.hold(array)
        self._embedded = True

    def infer(self, context: Context) -> Gaussian:
        """q(e | c), each (E,): the task embedding of one task from what was seen of it; between two episodes.

        Args:
            context: One transition for each latent that was chosen, shapes (C, O), (C, Z), (C,), (C,), (C, O). While
                training, the last transition of each episode was always among them.

        Raises:
            SpecError: The context is empty, its shapes do not fit the bundle, or a number is not finite.
            BundleError: The bundle is not one of SiMPL.
        """
        if not self._embedding_dim:
            raise BundleError("infer: expected a bundle of SiMPL, got a plain policy, which has no task embedding")
        arrays = [np.asarray(value, np.float32) for value in context]
        count = len(arrays[0]) if arrays[0].ndim else 0
        observation, latent = (count, self.contract.observation_dim), (count, self._latent_dim)
        shapes = (observation, latent, (count,), (count,), observation)
        for name, array, shape in zip(Context._fields, arrays, shapes, strict=True):
            if count == 0 or array.shape != shape or not np.isfinite(array).all():
                raise SpecError(
                    f"infer: expected a context of at least one transition, '{name}' finite and of shape {shape}, got "
                    f"{array.shape}; pass one row for each latent that was chosen"
                )
        tokens = Context(*arrays).tokens(self._space)
        found = compute_embedding(SIMPL.read(self.contract).encoder, self._weights, tokens[None])
        return Gaussian(found.loc[0], found.scale[0])

    def begin_episode(self, rng: np.random.Generator, greedy: bool = False) -> None:
        """Starts an episode: the next `act` picks a new latent.

        Args:
            rng: Source of the noise.
            greedy: Whether to take the mean of the policy instead of a sample.
        """
        self._rng = rng
        self._greedy = greedy
        self._countdown = 0

    def act(self, observation: NDArray[np.floating]) -> Array:
        """The action for one control step, shape (A,), within the robot's limits; a fresh array.

        Args:
            observation: Shape (O,).

        Raises:
            RobotFault: The observation has another shape or is not finite, the action is not finite, or there is no
                episode or embedding.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below, and is a fault
            self._observe(observation)
            if self._countdown == 0:
                self._pick_latent()
                self._countdown = self._horizon
            self._countdown -= 1
            return self._decode()

    @property
    def skill(self) -> Array:
        """The latent in force, shape (Z,); a copy."""
        return self._latent.copy()

    def _observe(self, observation: NDArray[np.floating]) -> None:
        """Normalises an observation into its buffer."""
        raw, normalised = self._raw_observation, self._observation
        if observation.shape != raw.shape:
            raise RobotFault(
                f"act: expected an observation of shape {raw.shape}, got {observation.shape}; "
                "stop, and check the wiring of the robot's axes"
            )
        np.copyto(raw, observation, casting="same_kind")
        if not np.isfinite(raw, out=self._finite_observation).all():
            axis = int(np.argmin(self._finite_observation))
            raise RobotFault(
                f"act: expected a finite observation, got {raw[axis]} "
                f"{self.contract.robot.observation.axes[axis].unit} in axis "
                f"'{self.contract.robot.observation.names[axis]}'; stop, and check the sensor"
            )
        np.subtract(raw, self._mean, out=normalised)
        np.divide(normalised, self._std, out=normalised)

    def _pick_latent(self) -> None:
        """Samples a latent, or takes the mean, and folds it into the decoder."""
        if self._rng is None or not self._embedded:
            missing = "begin_episode" if self._rng is None else "set_embedding"
            raise RobotFault(f"act: expected a call of {missing} before, got none; call {missing} first")
        loc, scale = self._gaussian()
        if self._greedy:
            np.copyto(self._latent, loc)
        else:
            self._rng.standard_normal(dtype=np.float32, out=self._latent)
            np.multiply(self._latent, scale, out=self._latent)
            np.add(self._latent, loc, out=self._latent)
        if self._decoder is not None:
            self._decoder.hold(self._latent)

    def _gaussian(self) -> tuple[Array, Array]:
        """The policy for the current observation: loc and scale over latents, each of shape (Z,)."""
        output, size = self._policy.forward(self._observation), self._latent_dim
        prior_loc, prior_scale = self._zero_loc, self._unit_scale
        if self._prior is not None:
            prior = self._prior.forward(self._observation)
            prior_loc, prior_scale = prior[:size], scale_from_log(prior[size:])
        if self._settings.scale == "residual":
            return prior_loc + output[:size], residual_scale(prior_scale, output[size:], MIN_SCALE)
        scale = self._fixed_scale if self._settings.scale == "parameter" else scale_from_log(output[size:])
        return prior_loc + prior_scale * output[:size], prior_scale * scale

    def _decode(self) -> Array:
        """The action for the current observation and latent."""
        if self._decoder is None:
            action: Array = np.add(self._middle, self._half * self._latent)
        else:
            action = self._decoder.forward(self._observation)
        if not np.isfinite(action, out=self._finite_action).all():
            raise RobotFault(
                f"act: expected a finite action, got {np.array2string(action, threshold=8)}; stop: the observation is "
                "far outside of the training data"
            )
        np.maximum(action, self._low, out=self._action)
        return np.minimum(self._action, self._high)

    def _require_agreement(self, bundle: Bundle) -> None:
        """Compares what `act` uses with the bundle's agent, on observations spread as in training."""
        rng = np.random.default_rng(0)
        observation = self._mean + self._std * rng.standard_normal((PAIRS, len(self._mean)), np.float32)
        embedding = rng.standard_normal((PAIRS, self._embedding_dim), np.float32)
        noise = np.random.default_rng(1).standard_normal((PAIRS, self._latent_dim), np.float32)
        agent = bundle.with_settings({"greedy": False}).make_agent(RandomNoise(np.random.default_rng(1)))
        agent.begin_task(PAIRS)
        if isinstance(agent, SimplRowAgent):
            agent.embedding = embedding
        latent = agent.act(SeenRows(observation, np.arange(PAIRS), np.zeros(PAIRS, np.float32)))
        action = agent.space.hold(latent)(observation)
        for row in range(PAIRS):
            self._policy.hold(embedding[row])
            self._observe(observation[row])
            loc, scale = self._gaussian()
            np.copyto(self._latent, loc + scale * noise[row])
            if self._decoder is not None:
                self._decoder.hold(self._latent)
            for name, found, wanted in (("latent", self._latent, latent), ("action", self._decode(), action)):
                difference = float(np.abs(found.astype(np.float64) - wanted[row]).max())
                if not difference <= GOLDEN_TOLERANCE * max(1.0, float(np.abs(wanted).max())):
                    raise BundleError(
                        f"numpy runtime: expected the {name} of the bundle's agent, got a difference of "
                        f"{difference:.3g}; this machine's numpy computes wrongly: reinstall numpy"
                    )
