"""variBAD networks and agent: one stream of transitions, a belief of the whole trial, no gradient of the policy."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supple.errors import ConfigError
from supple.meta.collect import Episodes
from supple.meta.config import Trial
from supple.meta.inference.config import VaeConfig
from supple.meta.inference.varibad_agent import VaribadAgent
from supple.meta.inference.varibad_decoder import CellTable, PairDecoder, TrialDecoder
from supple.meta.inference.varibad_networks import (
    Belief,
    BeliefActorCritic,
    RunningScale,
    TaskEncoder,
    Transitions,
    transitions_of,
)
from supple.meta.space import ActionSpace, ChoiceSpace, SkillSpace, UnitSpace
from supple.meta.testing import PointBatch
from supple.meta.trial import join, run_trial
from supple.robots.gridnavi import GridNaviBatch
from supple.robots.robot import RobotBatch
from supple.robots.spec import ArraySpec, Axis
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel

CPU = torch.device("cpu")
CONFIG = VaeConfig(latent=3, hidden=8, embedding=4, decoder_hidden=(6,))
POINT_GOALS = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0]], np.float32)
GRID_GOALS = np.array([[0.0, 2.0], [4.0, 4.0], [2.0, 1.0]], np.float32)


def make_generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_skills() -> SkillSpace:
    width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
    return SkillSpace(SkillModel(2, 2, SkillConfig(skill_horizon=5, skill_dim=3, **width)))


def make_setting(name: str) -> tuple[RobotBatch, ActionSpace, Any]:
    """Points end their episodes early where they meet their goal, so that trials differ in length."""
    if name == "choice":
        grid = GridNaviBatch(12, episode_steps=4)
        return grid, ChoiceSpace(grid.spec), GRID_GOALS
    points = PointBatch(12, episode_steps=12 if name == "skill" else 6)
    return points, make_skills() if name == "skill" else UnitSpace(points.spec), POINT_GOALS


class Recorder(VaribadAgent):
    """Notes the belief of every row that acts, and of all rows after each episode."""

    def __init__(self, space: ActionSpace, observation_dim: int) -> None:
        encoder = TaskEncoder(space, observation_dim, CONFIG, generator=make_generator())
        network = BeliefActorCritic(
            space, observation_dim, CONFIG.latent, (8,), boundaries=True, generator=make_generator(1)
        )
        self.acted: list[tuple[Any, Belief]] = []
        self.finished: list[Belief] = []
        super().__init__(encoder, network, space, make_generator(2))

    def act(self, seen: Any) -> Tensor:
        latent = super().act(seen)
        self.acted.append((seen.rows, Belief(*(part[seen.rows].clone() for part in self.belief))))
        return latent

    def observe(self, episodes: Episodes) -> None:
        super().observe(episodes)
        self.finished.append(Belief(*(part.clone() for part in self.belief)))


@pytest.mark.parametrize("name", ["choice", "unit", "skill"])
def test_the_belief_of_acting_is_that_of_the_whole_trial(name: str) -> None:
    robot, space, goals = make_setting(name)
    agent = Recorder(space, 2)
    rows = np.tile(goals, (4, 1))
    rounds = run_trial(robot, space, agent, rows, Trial(episodes=3), np.random.default_rng(0), device=CPU)
    batch = join(rounds)
    belief = agent._encoder(transitions_of(batch, space))
    place = torch.zeros(12, dtype=torch.int64)
    calls = iter(agent.acted)
    for index, episodes in enumerate(rounds):
        for decision in range(int(episodes.length.max())):
            rows_now, seen = next(calls)
            expected = np.flatnonzero((episodes.length > decision).numpy())
            assert rows_now.tolist() == expected.tolist()
            for found, whole in zip(seen, belief, strict=True):
                torch.testing.assert_close(found, whole[rows_now, place[rows_now]], atol=1e-5, rtol=1e-4)
            place[rows_now] += 1
        # the last transition of the episode is in the belief before the next one begins
        for found, whole in zip(agent.finished[index], belief, strict=True):
            torch.testing.assert_close(found, whole[torch.arange(12), place], atol=1e-5, rtol=1e-4)
    assert next(calls, None) is None
    assert place.tolist() == batch.valid.sum(1).tolist()
    if name == "unit":
        assert len(set(place.tolist())) > 1  # trials of different lengths, or the test says nothing of them


def test_the_last_transition_of_an_episode_has_the_state_in_which_it_ended() -> None:
    robot, space, _ = make_setting("choice")
    agent = Recorder(space, 2)
    consumed: list[tuple[Tensor, ...]] = []
    step = agent._encoder.step

    def spy(*inputs: Tensor) -> Tensor:
        consumed.append(tuple(value.clone() for value in inputs[:3]))
        return step(*inputs)

    agent._encoder.step = spy  # type: ignore[method-assign]
    rows = np.tile(GRID_GOALS, (4, 1))
    rounds = run_trial(robot, space, agent, rows, Trial(episodes=2), np.random.default_rng(0), device=CPU)
    assert len(consumed) == 8  # each of 2 x 4 transitions once, none of a reset
    for index, (choice, reward, following) in enumerate(consumed):
        episodes, decision = rounds[index // 4], index % 4
        assert torch.equal(choice, episodes.latent[:, decision])
        assert torch.equal(reward, episodes.reward[:, decision])
        assert torch.equal(following, episodes.observation[:, decision + 1])
    assert bool(consumed[3][2].any())  # the end is not the start (0, 0), to which the reset leads


def test_nothing_of_the_policy_or_the_value_function_moves_the_encoder() -> None:
    robot, space, _ = make_setting("choice")
    agent = Recorder(space, 2)
    rows = np.tile(GRID_GOALS, (4, 1))
    rounds = run_trial(robot, space, agent, rows, Trial(episodes=2), np.random.default_rng(0), device=CPU)
    batch = join(rounds)
    belief = agent._encoder(transitions_of(batch, space))
    assert belief.mean.requires_grad
    before = Belief(*(part[:, :-1] for part in belief))
    value = agent._network.inputs(agent._network.compose(batch.observation, before), batch.first)
    distribution, critic = agent._network(value)
    (distribution.logits.square().sum() + critic.sum()).backward()
    assert all(parameter.grad is None for parameter in agent._encoder.parameters())
    assert all(parameter.grad is not None for parameter in agent._network.parameters())


def test_the_policy_reads_state_belief_and_where_an_episode_begins() -> None:
    _, space, _ = make_setting("choice")
    for boundaries, expected in ((True, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 1.0]), (False, list(range(1, 9)))):
        network = BeliefActorCritic(space, 2, 3, (8,), boundaries=boundaries, generator=make_generator())
        belief = Belief(torch.tensor([3.0, 4.0, 5.0]), torch.tensor([6.0, 7.0, 8.0]))
        composed = network.compose(torch.tensor([1.0, 2.0]), belief)
        assert network.inputs(composed, torch.tensor(True)).tolist() == expected
        flag = network.inputs(composed, torch.tensor(False))[8:].tolist()
        assert flag == [0.0] * boundaries


def test_the_belief_before_anything_is_the_same_in_all_rows_and_tasks() -> None:
    _, space, _ = make_setting("choice")
    agent = Recorder(space, 2)
    agent.begin_task(5)
    expected = agent._encoder.head.bias[:3].expand(5, 3)
    torch.testing.assert_close(agent.belief.mean, expected)


def test_a_variance_is_read_from_its_logarithm() -> None:
    gaussian = Belief(torch.tensor([1.0]), torch.tensor([4.0]).log()).gaussian()
    assert gaussian.loc.item() == 1.0
    assert gaussian.scale.item() == pytest.approx(2.0)


# Scales


def test_the_scale_is_of_all_batches_at_first() -> None:
    generator = make_generator()
    scale, value = RunningScale(3, rate=0.01), 5.0 * torch.randn(40, 3, generator=generator) + 2.0
    for part in value.split(10):
        scale.update(part)
    torch.testing.assert_close(scale.mean, value.mean(0))
    torch.testing.assert_close(scale.variance, value.var(0, correction=0))
    scaled = scale(value)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(3), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(scaled.var(0, correction=0), torch.ones(3))


def test_later_batches_have_a_weight_that_does_not_vanish() -> None:
    scale = RunningScale(1, rate=0.5)
    for value in (0.0, 0.0, 8.0):
        scale.update(torch.full((4, 1), value))
    # half of (mean 0, variance 0) and half of (mean 8, variance 0): mean 4, variance 1/4 8^2
    assert (scale.mean.item(), scale.variance.item()) == (4.0, 16.0)


def test_an_input_that_never_moves_is_nought_and_none_is_huge() -> None:
    scale = RunningScale(1, rate=0.01)
    scale.update(torch.full((4, 1), 3.0))
    assert scale(torch.tensor([3.0])).item() == 0.0
    assert scale(torch.tensor([1e9])).item() == 10.0


# Decoders


def make_transitions(space: ActionSpace, trials: int = 2, decisions: int = 4) -> Transitions:
    generator = make_generator(3)
    shape = (trials, decisions)
    whole = torch.randint(5, (2, *shape, 2), generator=generator).float()
    choice = torch.randint(2, (*shape, space.latent_dim), generator=generator).float()
    reward = torch.randint(2, shape, generator=generator).float()
    return Transitions(whole[0], choice, reward, whole[1], torch.ones(shape, dtype=torch.bool))


def test_cells_are_numbered_along_the_axes_the_last_one_fastest() -> None:
    table = CellTable(GridNaviBatch(1).spec.observation, CONFIG, generator=make_generator())
    assert table.count == 25
    assert table.cell_of(torch.tensor([[0.0, 0.0], [0.0, 4.0], [3.0, 1.0], [4.0, 4.0]])).tolist() == [0, 4, 16, 24]


def test_axes_that_begin_elsewhere_have_cells_as_well() -> None:
    spec = ArraySpec("observation", (Axis("x", "cell", -1.0, 1.0), Axis("y", "cell", 2.0, 3.0)))
    table = CellTable(spec, CONFIG, generator=make_generator())
    assert table.cell_of(torch.tensor([[-1.0, 2.0], [-1.0, 3.0], [1.0, 3.0]])).tolist() == [0, 1, 5]


@pytest.mark.parametrize(
    ("axes", "match"),
    [
        ((Axis("x", "m", -np.inf, 1.0),), "whole limits of observation axis 'x', got -inf .. 1"),
        ((Axis("x", "m", 0.0, 1.5),), "whole limits of observation axis 'x', got 0 .. 1.5"),
        (tuple(Axis(f"x{index}", "1", 0.0, 9.0) for index in range(4)), "at most 4096 cells, got 10000"),
    ],
)
def test_observations_without_cells_are_refused(axes: tuple[Axis, ...], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        CellTable(ArraySpec("observation", axes), CONFIG, generator=make_generator())


def test_each_decision_is_predicted_in_its_own_cell_under_each_belief() -> None:
    robot, space, _ = make_setting("choice")
    config = VaeConfig(latent=3, decoder="cells", reward_model="bernoulli", decoder_hidden=(6,))
    decoder = TrialDecoder(space, robot.spec.observation, config, generator=make_generator())
    transitions = make_transitions(space)
    latent = torch.randn(2, 3, 3, generator=make_generator(4))
    found, nothing = decoder(latent, transitions)
    assert not nothing.any()
    assert decoder.cells is not None
    for trial in range(2):
        for belief in range(3):
            for decision in range(4):
                x, y = transitions.next_observation[trial, decision].int().tolist()
                logit = decoder.cells.net(latent[trial, belief])[5 * x + y]
                event = transitions.reward[trial, decision] > 0
                expected = logit.sigmoid() if event else 1.0 - logit.sigmoid()
                torch.testing.assert_close(found[trial, belief, decision], expected.log(), atol=1e-5, rtol=1e-4)


def test_pairs_are_predicted_as_one_network_on_both_would() -> None:
    decoder = PairDecoder(4, 2, CONFIG, generator=make_generator())
    latent = torch.randn(2, 3, 3, generator=make_generator(1))
    value = torch.randn(2, 5, 4, generator=make_generator(2))
    found = decoder(latent, value)
    assert found.shape == (2, 3, 5, 2)
    weight = torch.cat((decoder.from_latent.weight, decoder.from_transition.weight), dim=1)
    bias = decoder.from_latent.bias + decoder.from_transition.bias
    both = torch.cat((latent[1, 2], decoder.embed(value[1, 4]).relu()))
    torch.testing.assert_close(found[1, 2, 4], decoder.rest((weight @ both + bias).relu()))


@pytest.mark.parametrize(("reward_of", "moved"), [("next", False), ("transition", True)])
def test_rewards_depend_on_the_action_only_where_they_are_of_a_transition(reward_of: Any, moved: bool) -> None:
    robot, space, _ = make_setting("unit")
    config = VaeConfig(latent=3, reward_of=reward_of, decoder_hidden=(6,))
    decoder = TrialDecoder(space, robot.spec.observation, config, generator=make_generator())
    transitions = make_transitions(space)
    latent = torch.randn(2, 3, 3, generator=make_generator(4))
    before = decoder.predict_reward(latent, transitions)
    for changed, matters in (
        (transitions._replace(choice=transitions.choice + 1.0), moved),
        (transitions._replace(observation=transitions.observation + 1.0), moved),
        (transitions._replace(next_observation=transitions.next_observation + 1.0), True),
    ):
        assert torch.equal(decoder.predict_reward(latent, changed), before) is not matters


def test_the_next_observation_is_predicted_as_a_change() -> None:
    robot, space, _ = make_setting("unit")
    config = VaeConfig(latent=3, transition_weight=1.0, decoder_hidden=(6,))
    decoder = TrialDecoder(space, robot.spec.observation, config, generator=make_generator())
    transitions = make_transitions(space)
    latent = torch.randn(2, 3, 3, generator=make_generator(4))
    found = decoder(latent, transitions)[1]
    assert decoder.state is not None
    read = torch.cat((transitions.observation, transitions.choice), dim=-1)
    change = decoder.state(latent, read)[1, 2, 3]
    distance = transitions.next_observation[1, 3] - transitions.observation[1, 3] - change
    torch.testing.assert_close(found[1, 2, 3], -0.5 * distance.square().sum())


def test_an_agents_copy_has_its_own_networks() -> None:
    _, space, _ = make_setting("choice")
    agent = Recorder(space, 2)
    other = copy.deepcopy(agent)
    with torch.no_grad():
        agent._encoder.head.bias.add_(1.0)
    agent.begin_task(2)
    other.begin_task(2)
    assert not torch.equal(agent.belief.mean, other.belief.mean)
