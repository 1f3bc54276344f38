"""The tables of the pages about learners: one overview, and the returns of each family of learners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from supple.errors import SourceError

from .records import Place, Record

Records = Mapping[str, Sequence[Record]]
"""The records of each file in docs/results/, by its name without `.json`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The one number that the overview shows of a learner."""

    file: str = "meta"
    """Name of the file of records, without `.json`."""
    benchmark: str
    """Of the record."""
    method: str
    """Of the record."""
    metric: str = "return"
    """Of the record."""
    tasks: str | None = None
    """Of the record; None where they are the same for all."""
    at: Place
    """Of the record."""
    text: str
    """Markdown with `{mean}`, and perhaps `{random}` for the mean of random choices at the same place."""

    def render(self, records: Records) -> str:
        """The text with its numbers.

        Raises:
            SourceError: There is no such record.
        """
        numbers = {"mean": self._find(records, self.method)}
        if "{random}" in self.text:
            numbers["random"] = self._find(records, "random")
        return self.text.format(**numbers)

    def _find(self, records: Records, method: str) -> str:
        for record in records[self.file]:
            found = (record.benchmark, record.method, record.metric, record.place)
            if found == (self.benchmark, method, self.metric, self.at) and self.tasks in (None, record.tasks):
                return f"{record.mean:.3g}"
        raise SourceError(
            f"docs/results/{self.file}.json: expected the {self.metric} of {method} in {self.benchmark} at {self.at}, "
            "got no such record; correct learner_tables.py"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One learner in the overview."""

    learner: str
    """Its name in texts."""
    page: str
    """Page of its family, docs/learners/<page>.md."""
    use: str
    """What it is for."""
    adapts: str
    """How it learns a new task."""
    headline: Headline
    """What it reached."""


ROWS = (
    Row(
        learner="SiMPL",
        page="simpl",
        use="long tasks, few episodes in the new task, and data of the robot in motion",
        adapts="infers the task from a few episodes, then fine-tunes by SAC over skills",
        headline=Headline(
            file="maze",
            benchmark="maze-20-seed0",
            method="simpl",
            metric="success_stochastic",
            tasks="flat-40",
            at=40,
            text="maze: success {mean} after 40 episodes",
        ),
    ),
    Row(
        learner="RL2",
        page="memory",
        use="tasks that are learned within one episode or a few, and no gradients on the robot",
        adapts="memory of a recurrent policy, while it acts",
        headline=Headline(
            benchmark="meta-bandit-100-5",
            method="rl2",
            at=1,
            text="bandit of 5 arms, 100 pulls: return {mean} (random {random})",
        ),
    ),
    Row(
        learner="E-RL2",
        page="memory",
        use="as RL2, where exploring costs reward",
        adapts="as RL2",
        headline=Headline(
            benchmark="meta-maze-7",
            method="e-rl2",
            at=5,
            text="random mazes: return {mean} in the fifth episode (random {random})",
        ),
    ),
    Row(
        learner="variBAD",
        page="inference",
        use="as RL2, where you want to see what the agent believes",
        adapts="a belief about the task, while it acts",
        headline=Headline(
            benchmark="meta-gridnavi",
            method="varibad",
            at=2,
            text="GridNavi: return {mean} in the second episode (random {random})",
        ),
    ),
    Row(
        learner="PEARL",
        page="inference",
        use="tasks that a few transitions tell apart, and few steps to train in",
        adapts="a belief about the task, after each episode",
        headline=Headline(
            benchmark="meta-point-robot",
            method="pearl",
            at=20,
            text="point robot: return {mean} in episode 20 (random {random})",
        ),
    ),
    Row(
        learner="PEARL with fine-tuning",
        page="inference",
        use="as PEARL, with enough episodes in the new task to learn more",
        adapts="as PEARL, then SAC on the episodes of the task",
        headline=Headline(
            benchmark="meta-point-robot",
            method="pearl-ft",
            at=19,
            text="point robot: return {mean} after 19 episodes (random {random})",
        ),
    ),
    Row(
        learner="MAESN",
        page="inference",
        use="a dense reward in meta-training, a sparse one in the new task",
        adapts="steps on the distribution of a latent, without autograd",
        headline=Headline(
            benchmark="meta-sparse-semicircle",
            method="maesn",
            at=10,
            text="sparse semicircle: return {mean} after 10 steps (random {random})",
        ),
    ),
    Row(
        learner="MAML",
        page="gradient",
        use="dense rewards, and one or two gradient steps from a good start",
        adapts="policy gradient on all parameters",
        headline=Headline(
            benchmark="meta-navigation-2d",
            method="maml",
            at=1,
            text="2D navigation: return {mean} after one step (random {random})",
        ),
    ),
    Row(
        learner="E-MAML",
        page="gradient",
        use="as MAML, where the samples before the step decide",
        adapts="as MAML",
        headline=Headline(
            benchmark="meta-navigation-2d",
            method="e-maml",
            at=1,
            text="2D navigation: return {mean} after one step (random {random})",
        ),
    ),
    Row(
        learner="Meta-SGD",
        page="gradient",
        use="as MAML, where you do not know a good step size",
        adapts="as MAML, with a learned step size for each parameter",
        headline=Headline(
            benchmark="meta-navigation-2d",
            method="meta-sgd",
            at=1,
            text="2D navigation: return {mean} after one step (random {random})",
        ),
    ),
    Row(
        learner="learned update",
        page="gradient",
        use="as Meta-SGD",
        adapts="a small network turns gradients into steps",
        headline=Headline(
            benchmark="meta-navigation-2d",
            method="learned-update",
            at=1,
            text="2D navigation: return {mean} after one step (random {random})",
        ),
    ),
    Row(
        learner="recurrent updater",
        page="memory",
        use="a plain policy on the robot in the end, from a few episodes of a broad one",
        adapts="a forward pass emits the parameters of the policy",
        headline=Headline(
            benchmark="meta-navigation-2d",
            method="recurrent-updater",
            at=1,
            text="2D navigation: return {mean} after one step (random {random})",
        ),
    ),
    Row(
        learner="MLSH",
        page="hierarchy",
        use="tasks made of the same few parts, and a few hundred episodes in the new task",
        adapts="PPO on a small master policy; the sub-policies stay",
        headline=Headline(
            benchmark="meta-movement-bandits",
            method="mlsh",
            at=10,
            text="MovementBandits: return {mean} after 10 steps (random {random})",
        ),
    ),
    Row(
        learner="Distral",
        page="baselines",
        use="several tasks to learn well now, and a good start for more of their kind",
        adapts="PPO on all parameters, from what the tasks have in common",
        headline=Headline(
            benchmark="meta-navigation-2d",
            method="distral",
            at=10,
            text="2D navigation: return {mean} after 10 steps (random {random})",
        ),
    ),
    Row(
        learner="PPO",
        page="baselines",
        use="the baseline: one policy for all train tasks, or none",
        adapts="PPO on all parameters",
        headline=Headline(
            benchmark="meta-navigation-2d",
            method="ppo",
            at=10,
            text="2D navigation: return {mean} after 10 steps (random {random})",
        ),
    ),
    Row(
        learner="SAC",
        page="baselines",
        use="the baseline of PEARL: it learns each task from scratch",
        adapts="SAC on the episodes of the task",
        headline=Headline(
            benchmark="meta-point-robot",
            method="sac",
            at=19,
            text="point robot: return {mean} after 19 episodes (random {random})",
        ),
    ),
)
"""The learners, those that you would try first at the top."""

FAMILIES: dict[str, tuple[str, ...]] = {
    "simpl": (),
    "memory": ("rl2", "e-rl2", "recurrent-updater"),
    "inference": ("varibad", "pearl", "pearl-ft", "pearl-skill", "maesn", "latent-space"),
    "gradient": (
        "maml",
        "maml-first-order",
        "maml-reinforce",
        "maml-lvc",
        "maml-skill",
        "meta-sgd",
        "learned-update",
        "e-maml",
    ),
    "hierarchy": ("mlsh",),
    "baselines": ("ppo", "ppo-scratch", "distral", "sac"),
}
"""Methods of the records of `meta.json`, by the page of their family."""


def render_overview(records: Records) -> str:
    """The table of all learners in Markdown.

    Raises:
        SourceError: A headline's record is not there.
    """
    lines = ["| learner | use it for | how it adapts | what it reached |", "|---|---|---|---|"]
    for row in ROWS:
        reached = row.headline.render(records)
        lines.append(f"| [{row.learner}](learners/{row.page}.md) | {row.use} | {row.adapts} | {reached} |")
    return "\n".join(lines)


def select_family(records: Sequence[Record], family: str) -> list[Record]:
    """The returns of a family's methods, and what they are compared with at the same places of the same benchmarks."""
    methods = FAMILIES[family]
    returns = [record for record in records if record.metric == "return" and record.axis]
    places = {(record.benchmark, record.axis, record.place) for record in returns if record.method in methods}
    other = {method for names in FAMILIES.values() for method in names} - set(methods)
    return [
        record
        for record in returns
        if (record.benchmark, record.axis, record.place) in places and record.method not in other
    ]
