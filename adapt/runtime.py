"""Acting with a bundle, without torch: one observation in, one action out, within microseconds.

Nothing is allocated while acting except the returned action. What does not change from call to call is folded into a
first-layer bias: the task embedding into the policy's, the skill into the decoder's.

Axes: O observation, A action, Z skill, E task embedding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import BundleError, RobotFault, SpecError
from .bundle import Bundle
from .contract import Weights
from .encoder import Context, compute_embedding
from .golden import require_golden
from .networks import Array, Gaussian, residual_scale, scale_from_log

_ZERO = np.float32(0.0)


class RowNetwork:
    """An MLP on one row with preallocated buffers; its last inputs may be held fixed and folded into a bias."""

    def __init__(self, weights: Weights, name: str, held: int = 0) -> None:
        """Copies the network's weights.

        Args:
            weights: Weights by name.
            name: Which network; its layers are `name.layers.{i}`.
            held: How many of the last inputs are set by `hold` instead of `forward`.
        """
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
            np.maximum(out, _ZERO, out=out)
            inputs = out
        matrix, bias, out = self._last
        matrix.dot(inputs, out)
        np.add(out, bias, out=out)
        return out


class NumpyPolicy:
    """A policy that acts on one robot: a new skill every H calls, its decoder on each call.

    Making one recomputes the golden pairs through the very code that acts, which also warms it up.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Prepares the bundle's networks.

        Args:
            bundle: A loaded bundle.

        Raises:
            BundleError: This runtime does not reproduce the golden pairs on this machine.
        """
        contract, weights = bundle.contract, bundle.weights
        self.contract = contract
        """What the bundle promises."""
        self._weights = weights
        self._inferable = "out.embedding_loc" in bundle.golden
        self._mean, self._std = weights["normaliser.mean"].copy(), weights["normaliser.std"].copy()
        self._low, self._high = contract.robot.action.low.copy(), contract.robot.action.high.copy()
        self._horizon, self._skill_dim = contract.skill_horizon, contract.skill_dim
        self._policy = RowNetwork(weights, "policy", held=contract.embedding_dim)
        self._prior: RowNetwork | None = None
        self._decoder: RowNetwork | None = None
        if contract.prior_scale is None:
            self._prior = RowNetwork(weights, "prior")
            self._decoder = RowNetwork(weights, "decoder", held=contract.skill_dim)
        else:
            self._raw_scale = np.full(contract.skill_dim, contract.prior_scale, np.float32)
        self._observation_shape = (contract.observation_dim,)
        self._raw_observation = np.zeros(contract.observation_dim, np.float32)
        self._observation = np.zeros(contract.observation_dim, np.float32)
        self._action = np.zeros(contract.action_dim, np.float32)
        self._skill = np.zeros(contract.skill_dim, np.float32)
        self._finite_observation = np.zeros(contract.observation_dim, np.bool_)
        self._finite_action = np.zeros(contract.action_dim, np.bool_)
        self._embedded = False
        self._rng: np.random.Generator | None = None
        self._greedy = False
        self._countdown = 0
        self._check_golden(bundle.golden)

    def set_embedding(self, embedding: ArrayLike) -> None:
        """Sets the task embedding e; it holds from the next skill on.

        Args:
            embedding: Shape (E,).

        Raises:
            SpecError: The shape differs or a component is not finite.
        """
        array = np.asarray(embedding, np.float32)
        if array.shape != (self.contract.embedding_dim,) or not np.isfinite(array).all():
            raise SpecError(
                f"set_embedding: expected {self.contract.embedding_dim} finite numbers, "
                f"got {np.array2string(array, threshold=8)}; pass one embedding of the bundle's task encoder"
            )
        self._policy.hold(array)
        self._embedded = True

    def infer(self, context: Context) -> Gaussian:
        """q(e | c), each (E,): the task embedding of one task from what was seen of it; between two episodes.

        Args:
            context: One transition for each skill that was chosen, without the axis of tasks: shapes (C, O), (C, Z),
                (C,), (C,), (C, O). While training, the last transition of each episode was always among them.

        Raises:
            SpecError: The context is empty, its shapes do not fit the bundle, or a number is not finite.
            BundleError: The bundle has no golden pairs for its encoder: it was exported before there were any, or the
                encoder is none that this runtime computes.
        """
        if not self._inferable:
            raise BundleError(
                "infer: expected golden pairs of the bundle's task encoder, got none; export the bundle again, or "
                "infer with torch"
            )
        arrays = [np.asarray(value, np.float32) for value in context]
        count = len(arrays[0]) if arrays[0].ndim else 0
        observation, skill = (count, self.contract.observation_dim), (count, self.contract.skill_dim)
        shapes = (observation, skill, (count,), (count,), observation)
        for name, array, shape in zip(Context._fields, arrays, shapes, strict=True):
            if count == 0 or array.shape != shape or not np.isfinite(array).all():
                raise SpecError(
                    f"infer: expected a context of at least one transition, '{name}' finite and of shape {shape}, got "
                    f"{array.shape}; pass one row for each skill that was chosen"
                )
        loc, scale = compute_embedding(self.contract, self._weights, Context(*(array[None] for array in arrays)))
        return Gaussian(loc[0], scale[0])

    def begin_episode(self, rng: np.random.Generator, greedy: bool = False) -> None:
        """Starts an episode: the next `act` picks a new skill.

        Args:
            rng: Source of the skills' noise.
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
                self._pick_skill()
                self._countdown = self._horizon
            self._countdown -= 1
            return self._decode()

    @property
    def skill(self) -> Array:
        """The current skill z, shape (Z,); a copy."""
        return self._skill.copy()

    def _observe(self, observation: NDArray[np.floating]) -> None:
        """Normalises an observation into its buffer."""
        raw, normalised = self._raw_observation, self._observation
        if observation.shape != self._observation_shape:
            raise RobotFault(
                f"act: expected an observation of shape {self._observation_shape}, got {observation.shape}; "
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

    def _pick_skill(self) -> None:
        """Samples a skill, or takes the mean, and folds it into the decoder."""
        if self._rng is None or not self._embedded:
            missing = "begin_episode" if self._rng is None else "set_embedding"
            raise RobotFault(f"act: expected a call of {missing} before, got none; call {missing} first")
        loc, scale = self._gaussian()
        if self._greedy:
            np.copyto(self._skill, loc)
        else:
            self._rng.standard_normal(dtype=np.float32, out=self._skill)
            np.multiply(self._skill, scale, out=self._skill)
            np.add(self._skill, loc, out=self._skill)
        if self._decoder is not None:
            self._decoder.hold(self._skill)

    def _gaussian(self) -> tuple[Array, Array]:
        """The Gaussian pi(z | s, e): loc and scale for the current observation, each of shape (Z,)."""
        delta = self._policy.forward(self._observation)
        delta_loc, delta_scale = delta[: self._skill_dim], delta[self._skill_dim :]
        if self._prior is None:
            return delta_loc, residual_scale(self._raw_scale, delta_scale, self.contract.min_scale)
        prior = self._prior.forward(self._observation)
        prior_scale = scale_from_log(prior[self._skill_dim :])
        return prior[: self._skill_dim] + delta_loc, residual_scale(prior_scale, delta_scale, self.contract.min_scale)

    def _decode(self) -> Array:
        """The action for the current observation and skill."""
        action = self._skill if self._decoder is None else self._decoder.forward(self._observation)
        if not np.isfinite(action, out=self._finite_action).all():
            raise RobotFault(
                f"act: expected a finite action, got {np.array2string(action, threshold=8)}; stop: the observation is "
                "far outside of the training data"
            )
        np.maximum(action, self._low, out=self._action)
        return np.minimum(self._action, self._high)

    def _check_golden(self, golden: Weights) -> None:
        """Recomputes the golden pairs row by row through the buffers that `act` uses."""
        names = ("out.policy_loc", "out.policy_scale", "out.action")
        outputs = {name: np.empty_like(golden[name]) for name in names}
        for row, observation in enumerate(golden["in.observation"]):
            self._policy.hold(golden["in.embedding"][row])
            self._observe(observation)
            outputs["out.policy_loc"][row], outputs["out.policy_scale"][row] = self._gaussian()
            np.copyto(self._skill, golden["in.skill"][row])
            if self._decoder is not None:
                self._decoder.hold(self._skill)
            outputs["out.action"][row] = self._decode()
        require_golden(golden, outputs, "numpy runtime")
