"""Stage `export`: the policy bundle of a meta-trained agent, `bundle/`; a bundle of version 1 is written anew."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ...adapt.bundle import load_bundle
from ...adapt.contract import Budget
from ...adapt.host.export import write_exported
from ...adapt.host.simpl import export_again, export_simpl_networks
from ...bounds import Bounded, Count, Seed
from ...meta.simpl.config import SimplConfig
from ...meta.simpl.deployment import DeploymentConfig
from ...robots.spec import RobotSpec
from ..folder import compute_path_digest
from ..stage import Stage, Work
from .meta_train import load_agent, read_simpl_config

NAME = "bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig(Bounded):
    """What the bundle says beside the weights: how its agent adapts to a task."""

    golden_seed: Seed = 0
    """Seed of the inputs of the recorded trial."""
    episodes: Count = 100
    """Episodes per task that the agent is given, exploration included, where nothing else is asked for."""
    deployment: DeploymentConfig = field(default_factory=DeploymentConfig)
    """How SiMPL explores a task, infers it and learns it."""

    @property
    def budget(self) -> Budget:
        """Of a task.

        Raises:
            BundleError: There are not more episodes than those of exploration.
        """
        return Budget(episodes=self.episodes, exploration_episodes=self.deployment.exploration_episodes)

    def require_reward_head(self, simpl: SimplConfig) -> None:
        """Checks the settings before anything is trained; see `DeploymentConfig.require_reward_head` for errors."""
        self.deployment.require_reward_head(simpl)


def make_export(meta: Path, config: ExportConfig) -> Stage:
    """The stage; it draws nothing at random but the golden inputs.

    Args:
        meta: A folder of `meta-train`.
        config: See `ExportConfig`.

    Raises:
        RunError: There is no meta-trained agent at `meta`.
        ConfigError: The search is directed, and the reward head was not trained.
    """
    _, _, facts = load_agent(meta)
    config.require_reward_head(read_simpl_config(facts["simpl"]))
    return Stage(
        name="export",
        config={"export": config},
        inputs={"meta": meta},
        seed=config.golden_seed,
        module="pipeline/stages/export.py",
        libraries=("numpy", "torch", "safetensors"),
        body=partial(export, config),
    )


def export(config: ExportConfig, work: Work) -> None:
    """Writes the bundle with a golden trial of the trained agent; numpy, and the host, must play it alike."""
    work.start_afresh()
    folder = work.inputs["meta"]
    networks, _, facts = load_agent(folder)
    simpl = read_simpl_config(facts["simpl"])
    write_exported(
        work.folder / NAME,
        export_simpl_networks(networks, simpl, facts["alpha"], config.deployment),
        RobotSpec.from_json(facts["robot"]),
        config.budget,
        simulator=facts["family"],
        provenance={"meta": compute_path_digest(folder), "tasks": facts["tasks"]},
        seed=config.golden_seed,
    )


def make_conversion(bundle: Path, config: ExportConfig) -> Stage:
    """The stage for a bundle of version 1, which is written as it would be today.

    Raises:
        BundleError: There is no whole bundle of version 1.
    """
    load_bundle(bundle).require_version_1(str(bundle))
    return Stage(
        name="export",
        config={"export": config},
        inputs={"bundle": bundle},
        seed=config.golden_seed,
        module="pipeline/stages/export.py",
        libraries=("numpy", "torch", "safetensors"),
        body=partial(convert, config),
    )


def convert(config: ExportConfig, work: Work) -> None:
    """Writes the bundle anew."""
    work.start_afresh()
    bundle = load_bundle(work.inputs["bundle"])
    write_exported(
        work.folder / NAME,
        export_again(bundle),
        bundle.contract.robot,
        bundle.contract.budget,
        simulator=bundle.contract.simulator,
        provenance={**bundle.contract.provenance, "converted_from": bundle.digest},
        seed=config.golden_seed,
    )
