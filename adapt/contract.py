"""The contract of a learner's bundle: its kind, its robot, what it chooses, and how long it has to learn a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic

from ..errors import BundleError, SpecError
from ..robots.spec import ArraySpec, ImageSpec, RobotSpec
from .eye import EyeSettings
from .networks import Shapes, Weights
from .policy_settings import PolicySettings
from .runtime_agent import Noise, RuntimeAgent
from .settings import Settings, read_settings, refuse
from .spaces import SpaceSettings

VERSIONS = (1, 2, 3)
"""Of `bundle.json` that are read; 3 is written where there is an eye, else 2. Bundles of SiMPL of version 1 are others,
see `version_1.py`."""
_EYE_VERSION = VERSIONS[-1]
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
    """What is particular to the kind, see `Kind.settings`."""
    budget: Budget
    """How long it has to learn a task."""
    simulator: Mapping[str, Any] | None = None
    """The simulator that stands in for the robot, see `pipeline/robots.py`; None for hardware alone."""
    provenance: Mapping[str, Any]
    """Where the weights come from; informative."""
    eye: EyeSettings | None = None
    """How it sees the pictures of the robot, whose observation then ends with features of them; None where it needs
    none."""

    def shortened(self, kind: Kind[Any]) -> BundleContract:
        """With the settings of the golden trial."""
        return replace(self, learner=kind.shorten(self.learner))

    @property
    def observation_dim(self) -> int:
        """O."""
        return len(self.robot.observation.axes)

    @property
    def state_dim(self) -> int:
        """Axes of the robot's own observation, without features of pictures."""
        return self.observation_dim - (0 if self.eye is None else self.eye.features)

    @property
    def own_robot(self) -> RobotSpec:
        """The robot as it is, without features of its pictures."""
        observation = self.robot.observation
        return replace(self.robot, observation=replace(observation, axes=observation.axes[: self.state_dim]))

    @property
    def measured(self) -> ArraySpec:
        """The robot's own observation, without features of pictures."""
        return self.own_robot.observation

    @property
    def image(self) -> ImageSpec | None:
        """The picture that has to come with each observation; None where the policy needs none."""
        return None if self.eye is None else self.robot.image

    @property
    def action_dim(self) -> int:
        """A."""
        return len(self.robot.action.axes)

    @property
    def choice_width(self) -> int:
        """Numbers by which a network reads a choice: one per choice, or Z."""
        return len(self.robot.choices) if self.space.name == "choice" else self.space.latent_dim

    @property
    def policy_width(self) -> int:
        """Numbers by which a network tells a whole distribution of choices: logits, or mean and log scale."""
        return self.choice_width * (1 if self.space.name == "choice" else 2)

    def to_json(self) -> dict[str, Any]:
        """The content of `bundle.json`."""
        return {
            "schema_version": VERSIONS[1] if self.eye is None else _EYE_VERSION,
            "kind": self.kind,
            "robot": self.robot.to_json(),
            "space": {**asdict(self.space), "prior": list(self.space.prior), "decoder": list(self.space.decoder)},
            "learner": dict(self.learner),
            "budget": asdict(self.budget),
            "simulator": None if self.simulator is None else dict(self.simulator),
            "provenance": dict(self.provenance),
            **({} if self.eye is None else {"eye": {**asdict(self.eye), "channels": list(self.eye.channels)}}),
        }

    @staticmethod
    def from_json(data: object) -> BundleContract:
        """The contract that `to_json` wrote; the kind's own settings are not looked into.

        Raises:
            BundleError: The schema version is another, a field is missing, unknown or wrong, or the space does not fit
                the robot.
        """
        if not isinstance(data, Mapping):
            raise refuse("bundle.json content", "an object", type(data).__name__)
        if type(data.get("schema_version")) is not int or data["schema_version"] not in VERSIONS:
            raise refuse("bundle.json schema_version", " or ".join(map(str, VERSIONS)), data.get("schema_version"))
        known = {*_FIELDS, *(["eye"] if data["schema_version"] == _EYE_VERSION else [])}
        if wrong := sorted(set(data) ^ known):
            raise refuse("bundle.json keys", f"exactly {sorted(known)}", f"a difference in {wrong}")
        for name in ("robot", "learner", "provenance"):
            if not isinstance(data[name], Mapping):
                raise refuse(f"bundle.json {name}", "an object", data[name])
        if not isinstance(data["simulator"], Mapping | None):
            raise refuse("bundle.json simulator", "an object or null", data["simulator"])
        contract = BundleContract(
            kind=data["kind"],
            robot=_robot_from(data["robot"]),
            space=read_settings(SpaceSettings, data["space"], "bundle.json space"),
            learner=data["learner"],
            budget=read_settings(Budget, data["budget"], "bundle.json budget"),
            simulator=data["simulator"],
            provenance=data["provenance"],
            eye=read_settings(EyeSettings, data["eye"], "bundle.json eye") if "eye" in data else None,
        )
        contract.space.require_robot(contract.robot)
        if contract.eye is not None:
            contract.eye.require_robot(contract.robot)
        return contract


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[Settings]):
    """How a bundle of one kind is checked and run; one small file for each."""

    summary: str
    """For the bundle's card: how it adapts."""
    settings: type[Settings]
    """What is particular to the kind in `bundle.json`."""
    shapes: Callable[[BundleContract, Settings], Shapes]
    """Shape of every weight of the learner by name, without those of the space."""
    agent: Callable[[BundleContract, Settings, Weights, Noise], RuntimeAgent]
    """Makes an agent that acts."""
    hosted: bool = False
    """It learns with torch, on a host; the agent alone does what it can without."""
    off_policy: bool = False
    """It learns from steps that anybody commanded, such as a person, once their latents are told."""
    policy: Callable[[Settings], PolicySettings] | None = None
    """The plain policy that the agent has for each task (`params`); None for agents that know a task otherwise."""
    shorten: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    """Of the kind's settings: those with which its golden trial was played, where the others take longer than that."""
    alone: Callable[[Settings], int] | None = None
    """Episodes of a golden trial that the agent of a hosted kind plays without its host; None: up to the first step."""
    older: Mapping[str, Any] = field(default_factory=dict)
    """Settings of bundles that do not name them."""

    def read(self, contract: BundleContract) -> Settings:
        """The kind's settings.

        Raises:
            BundleError: The contract has those of another kind, or of none.
        """
        return read_settings(self.settings, {**self.older, **contract.learner}, "bundle.json learner")

    def weight_shapes(self, contract: BundleContract) -> Shapes:
        """Shape of every weight of the learner by name; see `read` for errors."""
        return self.shapes(contract, self.read(contract))

    def make_agent(self, contract: BundleContract, weights: Weights, noise: Noise) -> RuntimeAgent:
        """An agent before its first task; see `read` for errors."""
        return self.agent(contract, self.read(contract), weights, noise)

    def read_policy(self, contract: BundleContract) -> PolicySettings | None:
        """The plain policy of the agent, see `policy`; see `read` for errors."""
        return None if self.policy is None else self.policy(self.read(contract))


def _robot_from(data: Mapping[str, Any]) -> RobotSpec:
    try:
        robot = RobotSpec.from_json(dict(data))
    except SpecError as error:
        raise BundleError(f"bundle.json robot: {error}") from error
    if robot.to_json() != data:
        expected = f"the fields {sorted(robot.to_json())} as RobotSpec writes them"
        raise refuse("bundle.json robot", expected, sorted(data))
    return robot
