"""The contract of a learner's bundle: its kind, its robot, what it chooses, and how long it has to learn a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, Protocol

from ..errors import BundleError, SpecError
from ..robots.spec import RobotSpec
from .networks import Weights
from .policy_settings import PolicySettings
from .runtime_agent import Noise, RuntimeAgent
from .settings import read_settings
from .spaces import SpaceSettings

VERSIONS = (1, 2)
"""Of `bundle.json` that are read; the last is written. Bundles of SiMPL of version 1 are others, see `version_1.py`."""
_FIELDS = ("schema_version", "kind", "robot", "space", "learner", "budget", "simulator", "provenance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How the learner was evaluated in a new task, and so how it is deployed.

    Raises:
        BundleError: A number is out of range.
    """

    episodes: int
    """Episodes of a round: of a trial, or before each step of adaptation."""
    exploration_episodes: int = 0
    """The first so many episodes of a round only serve to find out."""
    adapt_steps: int = 0
    """Steps of adaptation, each after a round; 0 for an agent that adapts while it acts."""

    def __post_init__(self) -> None:
        if not (0 <= self.exploration_episodes < self.episodes and self.adapt_steps >= 0):
            raise BundleError(
                f"bundle.json budget: expected 0 <= exploration_episodes < episodes and adapt_steps >= 0, got "
                f"{asdict(self)}; export the bundle again"
            )

    @property
    def total(self) -> int:
        """Episodes of all rounds: one before each step of adaptation, one after the last."""
        return self.episodes * (self.adapt_steps + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleContract:
    """Everything that `bundle.json` says of a learner. Immutable; `from_json` checks it whole."""

    kind: str
    """A name in `kinds.KINDS`."""
    robot: RobotSpec
    """The robot that it was meta-trained for."""
    space: SpaceSettings
    """What it chooses."""
    learner: Mapping[str, Any]
    """What is particular to the kind, see `adapt/learners/kind_<kind>.py`."""
    budget: Budget
    """How long it has to learn a task."""
    simulator: Mapping[str, Any] | None = None
    """The simulator that stands in for the robot, see `pipeline/robots.py`; None for hardware alone."""
    provenance: Mapping[str, Any]
    """Where the weights come from; informative."""

    def shortened(self, kind: Kind) -> BundleContract:
        """With the settings of the golden trial."""
        return replace(self, learner=kind.shorten(self.learner))

    @property
    def observation_dim(self) -> int:
        """O."""
        return len(self.robot.observation.axes)

    @property
    def action_dim(self) -> int:
        """A."""
        return len(self.robot.action.axes)

    def to_json(self) -> dict[str, Any]:
        """The content of `bundle.json`."""
        return {
            "schema_version": VERSIONS[-1],
            "kind": self.kind,
            "robot": self.robot.to_json(),
            "space": self.space.to_json(),
            "learner": dict(self.learner),
            "budget": asdict(self.budget),
            "simulator": None if self.simulator is None else dict(self.simulator),
            "provenance": dict(self.provenance),
        }

    @staticmethod
    def from_json(data: object) -> BundleContract:
        """The contract that `to_json` wrote; the kind's own facts are not looked into.

        Raises:
            BundleError: The schema version is another, a field is missing, unknown or wrong, or the space does not fit
                the robot.
        """
        if not isinstance(data, Mapping):
            raise _refusal("content", "an object", type(data).__name__)
        if type(data.get("schema_version")) is not int or data["schema_version"] not in VERSIONS:
            raise _refusal("schema_version", " or ".join(map(str, VERSIONS)), data.get("schema_version"))
        if wrong := sorted(set(data) ^ set(_FIELDS)):
            raise _refusal("keys", f"exactly {sorted(_FIELDS)}", f"a difference in {wrong}")
        for name in ("robot", "learner", "provenance"):
            if not isinstance(data[name], Mapping):
                raise _refusal(name, "an object", data[name])
        if not isinstance(data["simulator"], Mapping | None):
            raise _refusal("simulator", "an object or null", data["simulator"])
        contract = BundleContract(
            kind=data["kind"],
            robot=_robot_from(data["robot"]),
            space=SpaceSettings.from_json(data["space"]),
            learner=data["learner"],
            budget=read_settings(Budget, data["budget"], "bundle.json budget"),
            simulator=data["simulator"],
            provenance=data["provenance"],
        )
        contract.space.require_robot(contract.robot)
        return contract


class Kind(NamedTuple):
    """How a bundle of one kind is checked and run; one small file for each."""

    summary: str
    """For the bundle's card: how it adapts."""
    weight_shapes: WeightShapes
    """Of the contract: shape of every weight of the learner by name, without those of the space."""
    make_agent: MakeAgent
    """An agent that acts."""
    hosted: bool = False
    """It learns with torch, on a host; the agent alone does what it can without."""
    read_policy: Callable[[BundleContract], PolicySettings] | None = None
    """The plain policy that the agent has for each task (`params`); None for agents that know a task otherwise."""
    shorten: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    """Of the kind's settings: those with which its golden trial was played, where the others take longer than that."""
    alone: Callable[[BundleContract], int] | None = None
    """Episodes of a golden trial that the agent of a hosted kind plays without its host; None: up to the first step."""


class WeightShapes(Protocol):
    """See `Kind.weight_shapes`."""

    def __call__(self, contract: BundleContract) -> dict[str, tuple[int, ...]]:
        """Raises BundleError where the kind's facts are wrong."""
        ...


class MakeAgent(Protocol):
    """See `Kind.make_agent`."""

    def __call__(self, contract: BundleContract, weights: Weights, noise: Noise) -> RuntimeAgent:
        """The agent before its first task."""
        ...


def _robot_from(data: Mapping[str, Any]) -> RobotSpec:
    try:
        robot = RobotSpec.from_json(dict(data))
    except SpecError as error:
        raise BundleError(f"bundle.json robot: {error}") from error
    if robot.to_json() != data:
        raise _refusal("robot", f"the fields {sorted(robot.to_json())} as RobotSpec writes them", sorted(data))
    return robot


def _refusal(name: str, expected: str, got: object) -> BundleError:
    return BundleError(f"bundle.json {name}: expected {expected}, got {got!r}; export the bundle again")
