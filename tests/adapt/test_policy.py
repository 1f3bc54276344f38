"""A bundle that was exported gives back the agent that it was exported from."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from supple.adapt.bundle import Bundle, load_bundle, write_bundle
from supple.adapt.config import AdaptConfig, require_reward_head
from supple.adapt.encoder import Context, compute_embedding, find_encoder
from supple.adapt.golden import GOLDEN_PAIRS, encoder_shapes, make_golden_inputs
from supple.adapt.policy import make_agent, simpl_config_of
from supple.adapt.runtime import NumpyPolicy
from supple.errors import BundleError, ConfigError, SpecError
from supple.meta.simpl.agent import SimplAgent
from supple.meta.simpl.config import SimplConfig
from supple.meta.simpl.pool import Transitions
from supple.meta.space import RawSpace, SkillSpace
from supple.meta.testing import PointBatch
from supple.pipeline.stages.export import compute_torch_outputs, compute_weights, make_contract
from supple.skills.config import SkillConfig
from supple.skills.gaussian import Gaussian
from supple.skills.model import SkillModel

CPU = torch.device("cpu")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def export(path: Path, action_space: str, encoder: str) -> tuple[SimplAgent, Bundle]:
    spec = PointBatch(1).spec
    width = {"encoder_hidden": (8,), "decoder_hidden": (8, 6), "open_decoder_hidden": (8,), "prior_hidden": (7,)}
    model = SkillModel(2, 2, SkillConfig(skill_horizon=4, skill_dim=3, seed=5, **width))
    model.normaliser.fit(3.0 * draw(50, 2) + 1.0)
    model.requires_grad_(False)
    config = SimplConfig(embedding_dim=2, hidden=(8, 6), encoder_hidden=8, encoder=encoder)
    mean, std = model.normaliser.mean, model.normaliser.std
    space = SkillSpace(model) if action_space == "skill" else RawSpace(spec, mean, std)
    agent = SimplAgent(space, 2, config, seed=9).requires_grad_(False)
    facts: dict[str, Any] = {
        "action_space": action_space,
        "simpl": asdict(config),
        "robot": spec.to_json(),
        "maze": {},
        "tasks": {},
        "alpha": 0.02,
    }
    contract = make_contract(agent, model, facts, {})
    weights = compute_weights(agent, model, action_space)
    inputs = make_golden_inputs(contract, weights, np.random.default_rng(0))
    golden = inputs | compute_torch_outputs(agent, model, contract, inputs)
    write_bundle(path, contract=contract.to_json(), weights=weights, golden=golden)
    return agent, load_bundle(path)


@pytest.mark.parametrize("encoder", ["mean-max", "set-transformer"])
@pytest.mark.parametrize("action_space", ["skill", "raw"])
def test_the_agent_of_a_bundle_is_the_exported_one(action_space: str, encoder: str, tmp_path: Path) -> None:
    exported, bundle = export(tmp_path / "bundle", action_space, encoder)
    agent = make_agent(bundle, CPU)
    observation, embedding = draw(1, 6, 2), draw(1, 6, 2, seed=1)
    latent = draw(1, 6, exported.space.latent_dim, seed=2)
    blank = latent.new_zeros(1, 6, 0)
    context = Transitions(
        observation, latent, draw(1, 6, seed=3), torch.zeros(1, 6), draw(1, 6, 2, seed=4), *[Gaussian(blank, blank)] * 2
    )
    outputs = []
    for one in (exported, agent):
        scaled, prior = one.space.normalise(observation), one.space.prior_of(observation)
        policy, posterior = one.policy_at(scaled, embedding, prior), one.encode(context)
        outputs.append(
            {
                "prior": torch.cat(prior),
                "policy": torch.cat(policy),
                "value": one.value(one.critic, scaled, latent, embedding),
                "target": one.value(one.target_critic, scaled, latent, embedding),
                "posterior": torch.cat(posterior),
                "reward": one.predict_reward(embedding, scaled),
                "action": one.space.hold(latent[0])(observation[0]),
            }
        )
    for name, value in outputs[0].items():
        torch.testing.assert_close(outputs[1][name], value, rtol=1e-6, atol=1e-6, msg=name)
    assert (agent.space.latent_dim, agent.space.horizon) == (exported.space.latent_dim, exported.space.horizon)
    assert not any(parameter.requires_grad for parameter in agent.parameters())
    config = simpl_config_of(bundle.contract)
    assert (config.encoder, config.hidden, config.embedding_dim) == (encoder, (8, 6), 2)


def changed(bundle: Bundle, **fields: Any) -> Bundle:
    record = bundle.contract.adaptation["simpl"] | fields
    adaptation = bundle.contract.adaptation | {"simpl": record}
    return replace(bundle, contract=replace(bundle.contract, adaptation=adaptation))


def test_a_bundle_of_another_configuration_is_refused(tmp_path: Path) -> None:
    _, bundle = export(tmp_path / "bundle", "skill", "mean-max")
    with pytest.raises(BundleError, match=r"adaptation\.simpl: expected the fields of SimplConfig, got .*'speed'"):
        make_agent(changed(bundle, speed=3), CPU)
    with pytest.raises(BundleError, match=r"expected those of adaptation\.simpl, got .* export again"):
        make_agent(changed(bundle, hidden=[8, 7]), CPU)
    with pytest.raises(BundleError, match=r"expected those of adaptation\.simpl, got .* export again"):
        make_agent(changed(bundle, encoder="set-transformer"), CPU)


def draw_context(bundle: Bundle, count: int) -> Context:
    """One task's context of `count` transitions."""
    contract, rng = bundle.contract, np.random.default_rng(count)
    observation, following = rng.standard_normal((2, count, contract.observation_dim), np.float32) * 3
    skill, reward = rng.standard_normal((count, contract.skill_dim), np.float32), rng.random(count, np.float32)
    return Context(observation, skill, reward, (rng.random(count) < 0.3).astype(np.float32), following)


@pytest.mark.parametrize("encoder", ["mean-max", "set-transformer"])
@pytest.mark.parametrize("action_space", ["skill", "raw"])
def test_numpy_infers_as_torch_does(action_space: str, encoder: str, tmp_path: Path) -> None:
    agent, bundle = export(tmp_path / "bundle", action_space, encoder)
    assert find_encoder(bundle.contract) == encoder
    assert bundle.golden["out.embedding_loc"].shape == (GOLDEN_PAIRS, 2)
    policy = NumpyPolicy(bundle)
    locs = []
    for count in (1, 2, 7, 300):
        context = draw_context(bundle, count)
        tensors = [torch.from_numpy(array)[None] for array in context]
        blank = torch.zeros(1, count, 0)
        theirs = agent.encode(Transitions(*tensors, *[Gaussian(blank, blank)] * 2))
        ours = policy.infer(context)
        for mine, other in zip(ours, theirs, strict=True):
            assert (mine.dtype, mine.shape) == (np.float32, (2,))
            np.testing.assert_allclose(mine, other[0].numpy(), rtol=5e-6, atol=5e-6)
        order = np.random.default_rng(0).permutation(count)  # a context is a set
        np.testing.assert_allclose(policy.infer(Context(*(a[order] for a in context))).loc, ours.loc, atol=5e-6)
        locs.append(ours.loc)
        policy.set_embedding(ours.loc)
    assert len(np.unique(np.round(locs, 4), axis=0)) == 4


def test_a_context_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    _, bundle = export(tmp_path / "bundle", "skill", "mean-max")
    policy, context = NumpyPolicy(bundle), draw_context(bundle, 5)
    with pytest.raises(SpecError, match=r"'skill' finite and of shape \(5, 3\), got \(4, 3\)"):
        policy.infer(context._replace(skill=context.skill[:4]))
    with pytest.raises(SpecError, match=r"'reward' finite"):
        policy.infer(context._replace(reward=np.full(5, np.nan, np.float32)))
    with pytest.raises(SpecError, match="at least one transition"):
        policy.infer(Context(*(array[:0] for array in context)))


def test_other_weights_of_the_encoder_are_found_by_its_golden_pairs(tmp_path: Path) -> None:
    _, bundle = export(tmp_path / "bundle", "skill", "mean-max")
    for name in ("encoder.context.token.layers.0.weight", "encoder.context.head.layers.1.bias"):
        weights = bundle.weights | {name: bundle.weights[name] + np.float32(0.01)}
        with pytest.raises(BundleError, match=r"expected golden 'out\.embedding_(loc|scale)'"):
            write_bundle(tmp_path / "other", contract=bundle.contract.to_json(), weights=weights, golden=bundle.golden)


def test_a_bundle_from_before_acts_but_does_not_infer(tmp_path: Path) -> None:
    _, bundle = export(tmp_path / "bundle", "skill", "mean-max")
    of_encoder = encoder_shapes(bundle.contract, GOLDEN_PAIRS)
    before = {name: value for name, value in bundle.golden.items() if name not in of_encoder}
    path = tmp_path / "before"
    write_bundle(path, contract=bundle.contract.to_json(), weights=bundle.weights, golden=before)
    policy = NumpyPolicy(load_bundle(path))
    with pytest.raises(BundleError, match="expected golden pairs of the bundle's task encoder, got none; export"):
        policy.infer(draw_context(bundle, 5))
    half = {name: value for name, value in bundle.golden.items() if name != "in.context_reward"}
    with pytest.raises(BundleError, match=r"expected tensor 'in\.context_reward'"):
        write_bundle(tmp_path / "half", contract=bundle.contract.to_json(), weights=bundle.weights, golden=half)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("encoder.context.token.layers.0.weight", "expected the tensors of mean-max, got"),
        ("encoder.context.head.layers.1.weight", "expected the tensors of mean-max, got"),
    ],
)
def test_an_encoder_whose_tensors_do_not_fit_is_refused(tmp_path: Path, name: str, message: str) -> None:
    _, bundle = export(tmp_path / "bundle", "skill", "mean-max")
    weights = bundle.weights | {name: np.ascontiguousarray(bundle.weights[name][:, 1:])}
    contract = bundle.contract.to_json()
    contract["encoder"][name] = list(weights[name].shape)
    with pytest.raises(BundleError, match=message):
        write_bundle(tmp_path / "other", contract=contract, weights=weights, golden=bundle.golden)


def test_an_unknown_encoder_is_refused(tmp_path: Path) -> None:
    _, bundle = export(tmp_path / "bundle", "skill", "mean-max")
    context = Context(*(array[None] for array in draw_context(bundle, 5)))
    with pytest.raises(BundleError, match=r"expected one of \['mean-max', 'set-transformer'\], got tensors of neither"):
        compute_embedding(replace(bundle.contract, encoder={}), bundle.weights, context)


def test_a_record_that_lacks_a_field_is_refused(tmp_path: Path) -> None:
    _, bundle = export(tmp_path / "bundle", "skill", "mean-max")
    for name in bundle.contract.adaptation["simpl"]:
        record = {key: value for key, value in bundle.contract.adaptation["simpl"].items() if key != name}
        contract = replace(bundle.contract, adaptation={"simpl": record})
        with pytest.raises(BundleError, match=f"expected the field '{name}', got none; export again"):
            simpl_config_of(contract)
    with pytest.raises(BundleError, match=r"adaptation\.simpl: expected the field 'embedding_dim'"):
        simpl_config_of(replace(bundle.contract, adaptation={}))


def test_a_directed_search_needs_a_reward_head() -> None:
    untrained, trained = SimplConfig(reward_prediction=0.0), SimplConfig(reward_prediction=1e-3)
    with pytest.raises(ConfigError, match=r"expected 'blind' .* reward_prediction = 0, got 'directed'.*--search blind"):
        require_reward_head(untrained, AdaptConfig(search="directed"))
    require_reward_head(untrained, AdaptConfig(search="blind"))
    require_reward_head(untrained, AdaptConfig(search="directed", method="spirl"))  # a baseline does not search
    require_reward_head(trained, AdaptConfig(search="directed"))
