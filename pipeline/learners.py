"""Meta-learners by name: settings, how each is made, how it becomes a bundle, and which files are its code.

A learner is one row of `LEARNERS`. A learner of your own needs the same: settings, which are a frozen dataclass and a
`LearnerSettings`, and a row of them.

    ROW = LearnerRow(MySettings(), ())  # in my_learner.py; --learner my_learner.py:ROW

Learners and exporters are imported when they are made: settings alone are read without torch.

Axes: N train tasks, G goal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ..errors import BundleError, ConfigError
from ..meta.baselines.config import DistralConfig, PpoConfig, TaskSacConfig
from ..meta.config import CloneConfig, EvaluationConfig, Trial
from ..meta.gradient.config import LearnedRuleConfig, MaesnConfig, MamlConfig
from ..meta.hierarchy.config import MlshConfig
from ..meta.inference.config import PearlConfig, VaribadConfig
from ..meta.memory.config import RecurrentUpdaterConfig, Rl2Config
from ..meta.simpl.config import SimplConfig, SpirlConfig
from ..meta.simpl.deployment import DeploymentConfig
from ..plain_config import read_config
from ..robots.navigation import Navigation, NavigationBatch
from .keys import compute_plain
from .robots import load_user_module

if TYPE_CHECKING:
    from pathlib import Path

    from ..adapt.host.exported import Exported
    from ..meta.adaptive import AdaptiveAgent, MetaLearner
    from ..meta.baselines.distral_learner import DistralLearner
    from ..meta.baselines.ppo_learner import PpoLearner
    from ..meta.baselines.sac_learner import SacLearner
    from ..meta.gradient.maesn_learner import MaesnLearner
    from ..meta.gradient.maml_learner import MamlLearner
    from ..meta.hierarchy.mlsh_learner import MlshLearner
    from ..meta.inference.pearl_learner import PearlLearner, ShapedReward
    from ..meta.inference.varibad_learner import VaribadLearner
    from ..meta.memory.recurrent_updater_learner import RecurrentUpdaterLearner
    from ..meta.memory.rl2_learner import Rl2Learner
    from ..meta.simpl.learner import SimplLearner
    from ..meta.simpl.spirl import SpirlLearner
    from ..meta.space import ActionSpace
    from ..robots.robot import Float, RobotBatch
    from ..robots.spec import RobotSpec

EPISODES = EvaluationConfig(trial=Trial(episodes=20))
STEPS = EvaluationConfig(adapt_steps=19)


class LearnerSettings(ABC):
    """A learner with its settings; its subclasses are frozen dataclasses, which are part of the key.

    Methods that make something take `learner` as `make_learner` made it. A field may take the place of a property.
    """

    __slots__ = ()

    method: str
    """What records call it."""
    config: Any
    """What the learner is trained with."""
    test_time: ClassVar[tuple[str, ...]] = ()
    """Fields that do not change the training: a learner is exported again, not trained again, when they change."""

    @abstractmethod
    def rows(self, tasks: int) -> int:
        """Robots that the training steps side by side, with so many train tasks."""

    @property
    def iterations(self) -> int:
        """Length of the training."""
        return int(self.config.iterations)

    @property
    def rollouts(self) -> int:
        """Episodes side by side from which the agent learns one test task; 1: each row learns for itself."""
        return 1

    @property
    def takes_logs(self) -> bool:
        """Whether its agents can learn from episodes that logs led (`Kind.off_policy`), where that is known beforehand.

        `export` looks at the kind of the bundle; of a learner of a user's own nobody knows it before.
        """
        return True

    @property
    @abstractmethod
    def evaluation(self) -> EvaluationConfig:
        """Default budget of the agent in a test task."""

    @abstractmethod
    def load_class(self) -> Callable[..., MetaLearner]:
        """Imports the learner's class; settings beside `config` that it takes are bound."""

    def make_learner(
        self, space: ActionSpace, robot: RobotBatch, goals: Float, *, seed: int, device: str
    ) -> MetaLearner:
        """The learner before its first iteration; `robot` is kept and `goals` are the train goals, shape (N, G)."""
        return self.load_class()(space, robot, goals, self.config, seed=seed, device=device)

    @abstractmethod
    def make_agent(self, learner: Any, seed: int) -> AdaptiveAgent:
        """An agent that adapts; `seed` is that of its exploration."""

    @abstractmethod
    def export(self, learner: Any) -> Exported:
        """What a bundle of the trained learner, on the CPU, holds."""


class FromPlay(ABC):
    """Settings, see `LearnerSettings`, of a learner that starts from play data."""

    __slots__ = ()

    cloning: CloneConfig
    """How the first policy is cloned."""

    def require_play(self, play: Path, spec: RobotSpec) -> None:
        """Checks that the data are of such a robot, before anything is run.

        Raises:
            StoreError: There is no whole store at `play`.
            SpecError: The data are of another robot.
        """
        from .cloning import open_play

        open_play(play, spec)

    @abstractmethod
    def start(self, learner: Any, play: Path) -> str:
        """Changes the first parameters of a learner that `make_learner` made; returns a line about the result.

        Raises:
            StoreError: There is no whole store at `play`.
            SpecError: The data are of another robot.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class SimplSettings(LearnerSettings):
    """SiMPL's settings in meta-training and in a new task."""

    test_time = ("deployment",)

    method: str = "simpl"
    """What records call it."""
    config: SimplConfig = field(default_factory=SimplConfig)
    deployment: DeploymentConfig = field(default_factory=DeploymentConfig)
    """How it explores, infers and fine-tunes."""

    def __post_init__(self) -> None:
        """Refuses a search that asks what is not trained; now, and not after hours of meta-training.

        Raises:
            ConfigError: The search is directed, and the reward head is not trained.
        """
        self.deployment.require_reward_head(self.config)

    def rows(self, tasks: int) -> int:
        """See `LearnerSettings.rows`."""
        return max(self.config.episodes_per_task) * tasks

    @property
    def evaluation(self) -> EvaluationConfig:
        """See `LearnerSettings.evaluation`: a hundred episodes, of which the first explore."""
        explored = self.deployment.exploration_episodes
        return EvaluationConfig(trial=Trial(episodes=max(100, explored + 1), exploration_episodes=explored))

    def load_class(self) -> Callable[..., MetaLearner]:
        """See `LearnerSettings.load_class`."""
        from ..meta.simpl.learner import SimplLearner

        return SimplLearner

    def make_agent(self, learner: SimplLearner, seed: int) -> AdaptiveAgent:
        """See `LearnerSettings.make_agent`."""
        return learner.agent(self.deployment, seed=seed)

    def export(self, learner: SimplLearner) -> Exported:
        """See `LearnerSettings.export`."""
        from ..adapt.host.simpl import export_simpl

        return export_simpl(learner, self.deployment)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpirlSettings(LearnerSettings):
    """SPiRL's settings: each task is learned from scratch, over skills or raw actions."""

    method: str = "spirl"
    """What records call it."""
    config: SpirlConfig = field(default_factory=SpirlConfig)

    def rows(self, tasks: int) -> int:
        """See `LearnerSettings.rows`."""
        return self.config.tasks

    @property
    def evaluation(self) -> EvaluationConfig:
        """See `LearnerSettings.evaluation`: a hundred episodes."""
        return EvaluationConfig(trial=Trial(episodes=100))

    def load_class(self) -> Callable[..., MetaLearner]:
        """See `LearnerSettings.load_class`."""
        from ..meta.simpl.spirl import SpirlLearner

        return SpirlLearner

    def make_agent(self, learner: SpirlLearner, seed: int) -> AdaptiveAgent:
        """See `LearnerSettings.make_agent`."""
        return learner.agent(seed=seed)

    def export(self, learner: SpirlLearner) -> Exported:
        """See `LearnerSettings.export`."""
        from ..adapt.host.simpl import export_spirl

        return export_spirl(learner)


@dataclass(frozen=True, slots=True, kw_only=True)
class MamlSettings(LearnerSettings):
    """MAML's settings in training and at test time."""

    test_time = ("rollouts", "later_scale")

    method: str = "maml"
    """What records call it; its variants have names of their own."""
    config: MamlConfig = field(default_factory=MamlConfig)
    rule: LearnedRuleConfig | None = None
    """The inner update where it is learned as a network; None descends the gradient as `config` says."""
    rollouts: int = 40
    """Episodes of a test task before each gradient step (Finn et al.: 4000 decisions, 40 episodes)."""
    later_scale: float = 1.0
    """Length of a test-time step over that of the step before it."""

    def rows(self, tasks: int) -> int:
        """See `LearnerSettings.rows`."""
        return self.config.tasks * self.config.episodes

    @property
    def takes_logs(self) -> bool:
        """See `LearnerSettings.takes_logs`."""
        return False

    @property
    def evaluation(self) -> EvaluationConfig:
        """See `LearnerSettings.evaluation`: three steps (Finn et al.)."""
        return EvaluationConfig(adapt_steps=3)

    def load_class(self) -> Callable[..., MetaLearner]:
        """See `LearnerSettings.load_class`."""
        from ..meta.gradient.learned_rule import LearnedRule
        from ..meta.gradient.maml_learner import MamlLearner

        return partial(MamlLearner, update=None if self.rule is None else LearnedRule(**asdict(self.rule)))

    def make_agent(self, learner: MamlLearner, seed: int) -> AdaptiveAgent:
        """See `LearnerSettings.make_agent`."""
        return learner.agent(rollouts=self.rollouts, later_scale=self.later_scale, seed=seed)

    def export(self, learner: MamlLearner) -> Exported:
        """See `LearnerSettings.export`."""
        from ..adapt.host.maml import export_maml

        return export_maml(learner, later_scale=self.later_scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaesnSettings(LearnerSettings):
    """MAESN's settings in training and at test time."""

    test_time = ("rollouts", "later_scale")

    method: str = "maesn"
    """What records call it; the baseline without fast adaptation has a name of its own."""
    config: MaesnConfig = field(default_factory=MaesnConfig)
    rollouts: int = 20
    """Episodes of a test task before each step of adaptation."""
    later_scale: float = 0.5
    """Factor on the step sizes at test time, after every step but the first (released: 0.5)."""

    def rows(self, tasks: int) -> int:
        """See `LearnerSettings.rows`."""
        return self.config.tasks * self.config.episodes

    @property
    def takes_logs(self) -> bool:
        """See `LearnerSettings.takes_logs`."""
        return False

    @property
    def evaluation(self) -> EvaluationConfig:
        """See `LearnerSettings.evaluation`: three steps."""
        return EvaluationConfig(adapt_steps=3)

    def load_class(self) -> Callable[..., MetaLearner]:
        """See `LearnerSettings.load_class`."""
        from ..meta.gradient.maesn_learner import MaesnLearner

        return MaesnLearner

    def make_agent(self, learner: MaesnLearner, seed: int) -> AdaptiveAgent:
        """See `LearnerSettings.make_agent`."""
        return learner.agent(rollouts=self.rollouts, later_scale=self.later_scale, seed=seed)

    def export(self, learner: MaesnLearner) -> Exported:
        """See `LearnerSettings.export`."""
        from ..adapt.host.maesn import export_maesn

        return export_maesn(learner, later_scale=self.later_scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class PearlSettings(LearnerSettings):
    """PEARL's settings in training and at test time."""

    test_time = ("prior_episodes", "greedy", "fine_tuning", "inference_episodes")

    method: str = "pearl"
    """What records call it; fine-tuning has a name of its own."""
    config: PearlConfig = field(default_factory=PearlConfig)
    shaped: Navigation | None = None
    """In training SAC learns from the reward of this variant; the encoder, and the agent at test time, see the robot's
    own. None takes the robot's own throughout."""
    prior_episodes: int = 2
    """First test episodes with z from the prior."""
    greedy: bool = True
    """Act by the mode of the policy at test time (published)."""
    fine_tuning: TaskSacConfig | None = None
    """SAC after the episodes of inference; None infers to the end (published)."""
    inference_episodes: int = 10
    """With fine-tuning: the last episode after which the belief is frozen."""

    def rows(self, tasks: int) -> int:
        """See `LearnerSettings.rows`."""
        return self.config.tasks * self.config.rollouts

    @property
    def takes_logs(self) -> bool:
        """See `LearnerSettings.takes_logs`: with fine-tuning."""
        return self.fine_tuning is not None

    @property
    def evaluation(self) -> EvaluationConfig:
        """See `LearnerSettings.evaluation`: twenty episodes; with fine-tuning a step of adaptation after each."""
        return EPISODES if self.fine_tuning is None else STEPS

    def load_class(self) -> Callable[..., MetaLearner]:
        """See `LearnerSettings.load_class`."""
        from ..meta.inference.pearl_learner import PearlLearner

        return partial(PearlLearner, shaped_reward=self._shaped_reward())

    def make_agent(self, learner: PearlLearner, seed: int) -> AdaptiveAgent:
        """See `LearnerSettings.make_agent`; inference acts by the mode, fine-tuning wants samples."""
        if self.fine_tuning is None:
            return learner.agent(prior_episodes=self.prior_episodes, greedy=self.greedy, seed=seed)
        return learner.fine_tuned_agent(
            self.fine_tuning,
            inference_episodes=self.inference_episodes,
            prior_episodes=self.prior_episodes,
            greedy=self.greedy,
            seed=seed,
        )

    def export(self, learner: PearlLearner) -> Exported:
        """See `LearnerSettings.export`."""
        from ..adapt.host.pearl import export_pearl
        from ..adapt.host.sac import export_pearl_ft

        if self.fine_tuning is None:
            return export_pearl(learner, prior_episodes=self.prior_episodes, greedy=self.greedy)
        return export_pearl_ft(
            learner,
            self.fine_tuning,
            inference_episodes=self.inference_episodes,
            prior_episodes=self.prior_episodes,
            greedy=self.greedy,
        )

    def _shaped_reward(self) -> ShapedReward | None:
        if self.shaped is None:
            return None
        shaped = NavigationBatch(self.shaped, 1)

        def reward_of(observation: Float, goals: Float) -> Float:
            return shaped.compute_reward(observation, goals)[0]

        return reward_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SacSettings(LearnerSettings):
    """SAC from scratch in each test task; training is a rehearsal on train tasks that nothing is taken from."""

    method: str = "sac"
    """What records call it."""
    config: TaskSacConfig = field(default_factory=TaskSacConfig)
    tasks: int = 8
    """Train tasks of the rehearsal."""
    iterations: int = 20
    """Episodes of the rehearsal, with a step of adaptation after each."""

    def rows(self, tasks: int) -> int:
        """See `LearnerSettings.rows`."""
        return self.tasks * self.config.rollouts

    @property
    def rollouts(self) -> int:
        """See `LearnerSettings.rollouts`."""
        return self.config.rollouts

    @property
    def evaluation(self) -> EvaluationConfig:
        """See `LearnerSettings.evaluation`: twenty episodes, with a step of adaptation after each."""
        return STEPS

    def load_class(self) -> Callable[..., MetaLearner]:
        """See `LearnerSettings.load_class`."""
        from ..meta.baselines.sac_learner import SacLearner

        return partial(SacLearner, tasks=self.tasks, iterations=self.iterations)

    def make_agent(self, learner: SacLearner, seed: int) -> AdaptiveAgent:
        """See `LearnerSettings.make_agent`.

        Its weights are drawn in each task: with the evaluation's seed alone every seed would be the same run.
        """
        return learner.agent(seed=seed + learner.seed)

    def export(self, learner: SacLearner) -> Exported:
        """See `LearnerSettings.export`."""
        from ..adapt.host.sac import export_sac

        return export_sac(learner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rl2Settings(LearnerSettings):
    """RL2's settings in training and at test time."""

    test_time = ("greedy",)

    method: str = "rl2"
    """What records call it; E-RL2 has a name of its own."""
    config: Rl2Config = field(default_factory=Rl2Config)
    greedy: bool = False
    """Act by the mode at test time (published: sample)."""

    def rows(self, tasks: int) -> int:
        """See `LearnerSettings.rows`."""
        return self.config.trials

    @property
    def takes_logs(self) -> bool:
        """See `LearnerSettings.takes_logs`."""
        return False

    @property
    def evaluation(self) -> EvaluationConfig:
        """See `LearnerSettings.evaluation`: one trial as in training."""
        return EvaluationConfig(trial=self.config.trial)

    def load_class(self) -> Callable[..., MetaLearner]:
        """See `LearnerSettings.load_class`."""
        from ..meta.memory.rl2_learner import Rl2Learner

        return Rl2Learner

    def make_agent(self, learner: Rl2Learner, seed: int) -> AdaptiveAgent:
        """See `LearnerSettings.make_agent`."""
        return learner.agent(greedy=self.greedy, seed=seed)

    def export(self, learner: Rl2Learner) -> Exported:
        """See `LearnerSettings.export`."""
        from ..adapt.host.rl2 import export_rl2

        return export_rl2(learner, greedy=self.greedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentUpdaterSettings(LearnerSettings):
    """The recurrent updater's settings in training and at test time."""

    test_time = ("rollouts",)

    method: str = "recurrent-updater"
    """What records call it."""
    config: RecurrentUpdaterConfig = field(default_factory=RecurrentUpdaterConfig)
    rollouts: int = 20
    """Episodes of a test task that are read; what it was trained to read is `config.support`."""

    def rows(self, tasks: int) -> int:
        """See `LearnerSettings.rows`."""
        return self.config.tasks * max(self.config.support, self.config.query)

    @property
    def takes_logs(self) -> bool:
        """See `LearnerSettings.takes_logs`."""
        return False

    @property
    def evaluation(self) -> EvaluationConfig:
        """See `LearnerSettings.evaluation`: as many updates as in training."""
        return EvaluationConfig(adapt_steps=self.config.rounds)

    def load_class(self) -> Callable[..., MetaLearner]:
        """See `LearnerSettings.load_class`."""
        from ..meta.memory.recurrent_updater_learner import RecurrentUpdaterLearner

        return RecurrentUpdaterLearner

    def make_agent(self, learner: RecurrentUpdaterLearner, seed: int) -> AdaptiveAgent:
        """See `LearnerSettings.make_agent`."""
        return learner.agent(rollouts=self.rollouts, seed=seed)

    def export(self, learner: RecurrentUpdaterLearner) -> Exported:
        """See `LearnerSettings.export`."""
        from ..adapt.host.recurrent_updater import export_recurrent_updater

        return export_recurrent_updater(learner)


@dataclass(frozen=True, slots=True, kw_only=True)
class VaribadSettings(LearnerSettings):
    """variBAD's settings in training and at test time."""

    test_time = ("greedy",)

    method: str = "varibad"
    """What records call it."""
    config: VaribadConfig = field(default_factory=VaribadConfig)
    greedy: bool = True
    """Act by the mode at test time, as published."""

    def rows(self, tasks: int) -> int:
        """See `LearnerSettings.rows`."""
        return self.config.trials

    @property
    def takes_logs(self) -> bool:
        """See `LearnerSettings.takes_logs`."""
        return False

    @property
    def evaluation(self) -> EvaluationConfig:
        """See `LearnerSettings.evaluation`: one trial as in training."""
        return EvaluationConfig(trial=self.config.trial)

    def load_class(self) -> Callable[..., MetaLearner]:
        """See `LearnerSettings.load_class`."""
        from ..meta.inference.varibad_learner import VaribadLearner

        return VaribadLearner

    def make_agent(self, learner: VaribadLearner, seed: int) -> AdaptiveAgent:
        """See `LearnerSettings.make_agent`."""
        return learner.agent(greedy=self.greedy, seed=seed)

    def export(self, learner: VaribadLearner) -> Exported:
        """See `LearnerSettings.export`."""
        from ..adapt.host.varibad import export_varibad

        return export_varibad(learner, greedy=self.greedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class MlshSettings(LearnerSettings):
    """MLSH's settings in training and at test time."""

    test_time = ("rollouts", "random_choice")

    method: str = "mlsh"
    """What records call it; with one sub-policy, which is PPO on all tasks, it has a name of its own."""
    config: MlshConfig = field(default_factory=MlshConfig)
    rollouts: int = 40
    """Episodes of a test task before each update of its master (published: 2000 decisions)."""
    random_choice: float = 0.0
    """Share of uniform choices of the master at test time; in training it is the config's."""

    def rows(self, tasks: int) -> int:
        """See `LearnerSettings.rows`."""
        return self.config.groups * self.config.rollouts

    @property
    def takes_logs(self) -> bool:
        """See `LearnerSettings.takes_logs`."""
        return False

    @property
    def evaluation(self) -> EvaluationConfig:
        """See `LearnerSettings.evaluation`: ten steps."""
        return EvaluationConfig(adapt_steps=10)

    def load_class(self) -> Callable[..., MetaLearner]:
        """See `LearnerSettings.load_class`."""
        from ..meta.hierarchy.mlsh_learner import MlshLearner

        return MlshLearner

    def make_agent(self, learner: MlshLearner, seed: int) -> AdaptiveAgent:
        """See `LearnerSettings.make_agent`."""
        return learner.agent(rollouts=self.rollouts, random_choice=self.random_choice, seed=seed)

    def export(self, learner: MlshLearner) -> Exported:
        """See `LearnerSettings.export`."""
        from ..adapt.host.mlsh import export_mlsh

        return export_mlsh(learner, random_choice=self.random_choice)


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoSettings(LearnerSettings):
    """PPO's settings in training and at test time."""

    test_time = ("rollouts",)

    method: str = "ppo"
    """What records call it."""
    config: PpoConfig = field(default_factory=PpoConfig)
    rollouts: int = 40
    """Episodes of a test task before each step of adaptation, as for MAML."""

    def rows(self, tasks: int) -> int:
        """See `LearnerSettings.rows`."""
        return int(self.config.tasks * self.config.episodes)

    @property
    def takes_logs(self) -> bool:
        """See `LearnerSettings.takes_logs`."""
        return False

    @property
    def evaluation(self) -> EvaluationConfig:
        """See `LearnerSettings.evaluation`: ten steps."""
        return EvaluationConfig(adapt_steps=10)

    def load_class(self) -> Callable[..., MetaLearner]:
        """See `LearnerSettings.load_class`."""
        from ..meta.baselines.ppo_learner import PpoLearner

        return PpoLearner

    def make_agent(self, learner: PpoLearner | DistralLearner, seed: int) -> AdaptiveAgent:
        """See `LearnerSettings.make_agent`."""
        return learner.agent(rollouts=self.rollouts, seed=seed)

    def export(self, learner: PpoLearner | DistralLearner) -> Exported:
        """See `LearnerSettings.export`."""
        from ..adapt.host.ppo import export_ppo

        return export_ppo(learner)


@dataclass(frozen=True, slots=True, kw_only=True)
class DistralSettings(PpoSettings):
    """Distral's settings in training and at test time, where it fine-tunes as PPO does."""

    method: str = "distral"
    """What records call it."""
    config: DistralConfig = field(default_factory=DistralConfig)  # type: ignore[assignment]  # both have rows

    def load_class(self) -> Callable[..., MetaLearner]:
        """See `LearnerSettings.load_class`."""
        from ..meta.baselines.distral_learner import DistralLearner

        return DistralLearner


@dataclass(frozen=True, slots=True, kw_only=True)
class BcPearlSettings(PearlSettings, FromPlay):
    """PEARL whose policy begins as what the data do, whatever its z is, and stays close to that in meta-training."""

    method: str = "bc-pearl"
    """See `PearlSettings.method`."""
    config: PearlConfig = field(default_factory=lambda: PearlConfig(anchored=True))
    """See `PearlSettings.config`."""
    cloning: CloneConfig = field(default_factory=lambda: CloneConfig(noise_dim=5))
    """How the first policy is cloned; `noise_dim` is PEARL's `embedding_dim`."""

    def __post_init__(self) -> None:
        """Refuses a clone that reads another z.

        Raises:
            ConfigError: `noise_dim` is not PEARL's `embedding_dim`.
        """
        require_noise(self.cloning, self.config.embedding_dim, "BcPearlSettings")

    def start(self, learner: PearlLearner, play: Path) -> str:
        """See `FromPlay.start`."""
        from .cloning import clone_pearl, describe

        return describe(clone_pearl(learner, play, self.cloning))


@dataclass(frozen=True, slots=True, kw_only=True)
class BcMamlSettings(MamlSettings, FromPlay):
    """MAML whose first policy does what the data do."""

    method: str = "bc-maml"
    """See `MamlSettings.method`."""
    cloning: CloneConfig = field(default_factory=CloneConfig)
    """How the first policy is cloned."""

    def __post_init__(self) -> None:
        """Refuses a clone that reads a z.

        Raises:
            ConfigError: `noise_dim` is not 0.
        """
        require_noise(self.cloning, 0, "BcMamlSettings")

    def start(self, learner: MamlLearner, play: Path) -> str:
        """See `FromPlay.start`."""
        from .cloning import clone_maml, describe

        return describe(clone_maml(learner, play, self.cloning))


def require_noise(cloning: CloneConfig, expected: int, where: str) -> None:
    """Checks that the cloned policy reads as many axes of z as the learner's does.

    Raises:
        ConfigError: it reads more or fewer.
    """
    if cloning.noise_dim != expected:
        raise ConfigError(
            f"{where}.cloning: expected noise_dim = {expected}, got {cloning.noise_dim}; the cloned policy reads what "
            "the learner's reads"
        )


class LearnerRow(NamedTuple):
    """All that the pipeline has to know of a learner."""

    settings: LearnerSettings
    """Those that it has unless the command line says otherwise."""
    modules: tuple[str, ...]
    """Files below the package root, or a user's own: with what they import, the code version of a training."""
    keep: tuple[str, ...] = ()
    """Beginnings of the names of the tensors that the learner needs to be exported (`load_kept`), where its whole state
    is much larger; none keeps the state."""


def _maml(settings: MamlSettings, *modules: str) -> LearnerRow:
    code = ("meta/gradient/maml_learner.py", "meta/gradient/learned_rule.py", *modules)
    return LearnerRow(settings, code)


def _pearl(settings: PearlSettings, *modules: str) -> LearnerRow:
    code = ("meta/inference/pearl_learner.py", *modules)
    return LearnerRow(settings, code)


def _rl2(settings: Rl2Settings) -> LearnerRow:
    return LearnerRow(settings, ("meta/memory/rl2_learner.py",))


LEARNERS: dict[str, LearnerRow] = {
    "simpl": LearnerRow(
        SimplSettings(),
        ("meta/simpl/learner.py", "meta/simpl/adaptive_agent.py"),
        ("agent.", "multiplier."),
    ),
    "spirl": LearnerRow(SpirlSettings(), ("meta/simpl/spirl.py",)),
    "rl2": _rl2(Rl2Settings()),
    "e-rl2": _rl2(Rl2Settings(method="e-rl2", config=Rl2Config(trial=Trial(episodes=5, exploration_episodes=3)))),
    "varibad": LearnerRow(VaribadSettings(), ("meta/inference/varibad_learner.py",)),
    "pearl": _pearl(PearlSettings()),
    "pearl-ft": _pearl(PearlSettings(method="pearl-ft", fine_tuning=TaskSacConfig())),
    "bc-pearl": _pearl(BcPearlSettings(), "pipeline/cloning.py"),
    "maml": _maml(MamlSettings()),
    "fomaml": _maml(MamlSettings(method="fomaml", config=MamlConfig(first_order=True))),
    "e-maml": _maml(MamlSettings(method="e-maml", config=MamlConfig(exploration=1e-3))),
    "meta-sgd": _maml(MamlSettings(method="meta-sgd", config=MamlConfig(step_sizes="parameter"))),
    "learned-update": _maml(MamlSettings(method="learned-update", rule=LearnedRuleConfig())),
    "bc-maml": _maml(BcMamlSettings(), "pipeline/cloning.py"),
    "maesn": LearnerRow(MaesnSettings(), ("meta/gradient/maesn_learner.py",)),
    "recurrent-updater": LearnerRow(
        RecurrentUpdaterSettings(),
        ("meta/memory/recurrent_updater_learner.py",),
    ),
    "mlsh": LearnerRow(MlshSettings(), ("meta/hierarchy/mlsh_learner.py",)),
    "ppo": LearnerRow(PpoSettings(), ("meta/baselines/ppo_learner.py",)),
    "distral": LearnerRow(DistralSettings(), ("meta/baselines/distral_learner.py",)),
    "sac": LearnerRow(SacSettings(), ("meta/baselines/sac_learner.py",)),
}
"""By the name that `--learner` takes. Rows with settings of one class differ in these alone."""


@dataclass(frozen=True, slots=True)
class LearnerChoice:
    """A learner and how it was named."""

    reference: str
    """As in a record: a name of `LEARNERS`, `file.py:ROW` without a folder, or `package.module:ROW`."""
    row: LearnerRow
    settings: LearnerSettings
    """Of the command line; of the same class as those of the row."""

    @property
    def record(self) -> dict[str, Any]:
        """What a key says of the learner; its code counts by `Stage.module`."""
        return {"name": self.reference, "settings": compute_plain(self.settings, "learner")}

    @property
    def training_record(self) -> dict[str, Any]:
        """The same for its training, without the settings that do not change it."""
        settings = {name: v for name, v in self.record["settings"].items() if name not in self.settings.test_time}
        return {"name": self.reference, "settings": settings}


def find_learner(reference: str) -> LearnerChoice:
    """The learner of that name; a user's module is run for it.

    Raises:
        ConfigError: There is no such learner, file, module or name; or the module fails.
    """
    if reference in LEARNERS:
        return LearnerChoice(reference, LEARNERS[reference], LEARNERS[reference].settings)
    where, _, name = reference.rpartition(":")
    if not where or not name:
        raise ConfigError(
            f"--learner: expected one of {', '.join(LEARNERS)}, FILE.py:ROW or PACKAGE.MODULE:ROW, got {reference!r}; "
            "choose one"
        )
    module, file, label = load_user_module(where)
    row = vars(module).get(name)
    if not isinstance(row, LearnerRow):
        raise ConfigError(
            f"--learner {reference}: expected a LearnerRow in {where}, got {type(row).__name__}; make one"
        )
    return LearnerChoice(f"{label}:{name}", row._replace(modules=(*row.modules, str(file))), row.settings)


def choose_learner(settings: LearnerSettings) -> LearnerChoice:
    """The learner with these settings, whose class is that of a row; rows of one class export alike.

    Raises:
        ConfigError: There is none.
    """
    for name, row in LEARNERS.items():
        if type(row.settings) is type(settings):
            return LearnerChoice(name, row, settings)
    known = ", ".join(LEARNERS)
    raise ConfigError(f"learner: expected one of {known}, got '{settings.method}'; give it a row in LEARNERS")


def read_learner(record: object, given: LearnerChoice | None, where: str) -> LearnerChoice:
    """The learner of a record, with the settings that it has there.

    Args:
        record: See `LearnerChoice.record`.
        given: What the user named, for a learner that is none of ours.
        where: What the record was read from, for the message.

    Raises:
        BundleError: There is no such learner, it has no such settings, or it is a user's and nobody named it.
    """
    if not isinstance(record, Mapping) or not isinstance(record.get("name"), str):
        raise BundleError(f"{where}: expected a learner with its settings, got {record!r:.80}; train it again")
    name = record["name"]
    row = given.row if given is not None and given.reference == name else LEARNERS.get(name)
    if row is None:
        raise BundleError(
            f"{where}: expected a learner of {', '.join(LEARNERS)}, got {name!r}; name your own with --learner"
        )
    return LearnerChoice(name, row, read_config(type(row.settings), record.get("settings"), f"{where}.{name}"))
