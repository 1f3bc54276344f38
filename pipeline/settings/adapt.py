"""Settings of the stage `adapt`."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from ...adapt.config import AdaptConfig
from ...bounds import Bounded, CountFromZero


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptStageConfig(Bounded):
    """The adaptation loop, and how its policies are evaluated on the way."""

    loop: Annotated[AdaptConfig, tyro.conf.arg(name="")] = field(default_factory=AdaptConfig)
    evaluations: CountFromZero = 20
    """Extra episodes per task for each evaluation (simulators only); 0 evaluates nothing."""
    evaluate_at: tuple[CountFromZero, ...] = (40, 60, 100, 300)
    """Episodes after which policies are evaluated, beside 0, the end of exploration and the last."""

    def is_due(self, episode: int) -> bool:
        """Whether the policies are evaluated after this episode."""
        always = (0, self.loop.episodes, *((self.loop.exploration_episodes,) if self.loop.method == "simpl" else ()))
        return self.evaluations > 0 and (episode in always or episode in self.evaluate_at)
