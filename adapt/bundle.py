"""A bundle of any learner on disk, and the agent that it becomes; numpy alone loads and runs it.

The files are those of `bundle_folder.py`. What a bundle holds is said by its kind (`adapt/agents/kinds.py`); what all
have in common is the contract (`contract.py`) and the golden trial (`golden_trial.py`), which is played at every
loading.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError, RunError, SpecError
from ..robots.spec import RobotSpec
from .agents.kinds import KINDS
from .bundle_folder import (
    CARD,
    CONTRACT,
    GOLDEN,
    LOGS,
    NOVELTY,
    WEIGHTS,
    check_tensors,
    digest_of,
    json_bytes,
    parse_contract,
    parse_tensors,
    read_files,
    tensor_bytes,
    write_files,
)
from .contract import BundleContract, Kind
from .eye import BundledEye, see_spec
from .golden_trial import (
    EPISODES,
    GOLDEN_TOLERANCE,
    ROUND,
    check_trial,
    look_again,
    play_trial,
    recorded_noise,
    require_close,
    require_trial,
)
from .led_agent import STATE as BELIEF
from .log_agent import AnyGuide, make_guide, require_guide
from .log_skills import read_skills
from .networks import Weights
from .novelty import NoveltyModel
from .runtime_agent import HOST, KEPT, Arrays, Noise, RandomNoise, RuntimeAgent, WrappedAgent
from .spaces import split_prefix
from .version_1 import convert_version_1, is_version_1

TASK = "task."
"""What begins so among the weights is the state of a task, see `Bundle.task`."""


FIXED = frozenset({"activation", "critic_norm", "scale"})
"""Settings that say how weights are used, where no shape would tell; see `Bundle.with_settings`."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle. Its arrays are read-only."""

    contract: BundleContract
    """What the bundle promises."""
    weights: Weights
    """Every weight by name."""
    golden: Weights
    """The golden trial."""
    digest: str
    """sha256 of the manifest, hexadecimal: equal digests, equal bundles."""
    task: Arrays = field(default_factory=dict)
    """What an agent knows of the task that it was adapted to, without an axis of rows; empty for one that starts."""
    recorded: BundleContract | None = None
    """As exported, where settings were changed since."""
    logs: Arrays = field(default_factory=dict)
    """Logs of the robot, see `make_guide`; empty where none came along."""
    novelty: NoveltyModel | None = None
    """Of the robot's nominal motion, calibrated when the bundle was exported."""

    @property
    def eye(self) -> BundledEye | None:
        """How it sees pictures; None where it needs none."""
        if self.contract.eye is None:
            return None
        weights, golden = (
            {name: value for name, value in arrays.items() if name.startswith("eye.")}
            for arrays in (self.weights, self.golden)
        )
        return BundledEye(self.contract.eye, weights, golden)

    @property
    def kind(self) -> Kind[Any]:
        """How it is run."""
        return KINDS[self.contract.kind]

    def require_version_1(self, where: str) -> None:
        """Checks that the bundle is one to convert.

        Raises:
            BundleError: It is of today.
        """
        if self.golden:
            raise BundleError(f"{where}: expected a bundle of version 1, got one of today; use it as it is")

    @property
    def trial(self) -> BundleContract:
        """The contract with which the golden trial was played."""
        return (self.recorded or self.contract).shortened(self.kind)

    def with_settings(self, settings: Mapping[str, Any]) -> Bundle:
        """The same learner with other settings, those under `learner` in `bundle.json`, than it was exported with.

        Raises:
            BundleError: One is none of the kind's, has another type, or says what the weights are.
        """
        learner = self.contract.learner
        if unknown := sorted(set(settings) - set(learner)):
            raise BundleError(
                f"settings: expected some of {', '.join(sorted(learner))}, got '{unknown[0]}'; correct the name"
            )
        changed = replace(self.contract, learner={**learner, **settings})
        self.kind.read(changed)
        others = sorted(name for name, value in settings.items() if value != learner[name])
        if FIXED & {*others} or self.kind.weight_shapes(changed) != self.kind.weight_shapes(self.contract):
            raise BundleError(
                f"settings: expected the networks that the weights belong to, got others by {', '.join(others)}; "
                "train a learner with these settings"
            )
        return replace(self, contract=changed, recorded=self.recorded or self.contract)

    def make_agent(self, noise: Noise) -> RuntimeAgent:
        """An agent before its first task; a hosted one acts and does not adapt, see `host.make_hosted`.

        In a bundle of one task every task begins with what is known of it.
        """
        agent = self.kind.make_agent(self.contract, self.weights, noise)
        return AdaptedAgent(agent, self.task) if self.task else agent

    def make_guide(self, *, searches: bool = True) -> AnyGuide | None:
        """What guides agents of this bundle by its logs; None without logs, and in a bundle of one task.

        Args:
            searches: False leaves the search for a reward to the agents, and only drives to one that they found.
        """
        if not self.logs or self.task:
            return None
        over_skills = self.contract.space.name == "skill"
        skills = None if over_skills else read_skills(self.logs, self.contract.robot, LOGS)
        return make_guide(self.logs, skills, searches=searches)


class AdaptedAgent(WrappedAgent):
    """An agent to which every task is the one that it was adapted to."""

    def __init__(self, agent: RuntimeAgent, task: Arrays) -> None:
        """Wraps the agent.

        Args:
            agent: Of the learner.
            task: Its state in one row, without the axis of rows.
        """
        super().__init__(agent)
        self._task = task

    def begin_task(self, rows: int) -> None:
        """R rows that know the task."""
        super().begin_task(rows)
        self.load_state({name: np.repeat(value[None], rows, axis=0) for name, value in self._task.items()})


def write_adapted(
    path: str | os.PathLike[str], bundle: Bundle, state: Arrays, row: int, provenance: Mapping[str, Any]
) -> Bundle:
    """What an agent knows of one task as a bundle of its own: the learner's, in which every task begins with it.

    A hosted agent acts by it and learns no further.

    Args:
        path: The directory to make.
        bundle: Of the learner that adapted.
        state: Of its agent.
        row: Which of its rows has the task.
        provenance: Where it comes from.

    Raises:
        BundleError: See `write_bundle`.
    """
    task = {name: value[row] for name, value in state.items() if not name.startswith((HOST, KEPT, BELIEF))}
    contract = replace(bundle.contract, provenance={**bundle.contract.provenance, **provenance})
    weights = {**bundle.weights, **{f"{TASK}{name}": value for name, value in task.items()}}
    return write_bundle(path, contract=contract, weights=weights, golden=bundle.golden, novelty=bundle.novelty)


def write_bundle(
    path: str | os.PathLike[str],
    *,
    contract: BundleContract,
    weights: Mapping[str, NDArray[Any]],
    golden: Mapping[str, NDArray[Any]],
    logs: Mapping[str, NDArray[Any]] | None = None,
    novelty: NoveltyModel | None = None,
) -> Bundle:
    """Writes a bundle, verifies what was written, and publishes it by rename; a kill at any time leaves no bundle.

    Args:
        path: The directory to make; it must not exist.
        contract: See `BundleContract`.
        weights: Every weight by name, float32.
        golden: A trial that the trainer's agent played, see `host.export.record_trial`.
        logs: That come along, see `log_agent.Guide`.
        novelty: Of nominal motion, see `novelty.learn_nominal`.

    Raises:
        BundleError: The path exists, another process writes it, something does not fit, the numpy runtime does not play
            the trial as recorded, or the disk refused.
    """
    contents = _make_contents(contract, weights, golden, logs, novelty)
    _verify(contents, digest_of(contents), Path(path))
    return write_files(Path(path), contents, load_bundle)


def make_bundle(
    contract: BundleContract,
    weights: Mapping[str, NDArray[Any]],
    golden: Mapping[str, NDArray[Any]],
    where: Path,
    *,
    tolerance: float = GOLDEN_TOLERANCE,
) -> Bundle:
    """The bundle without logs that `write_bundle` would write to `where`, verified; nothing is written."""
    contents = _make_contents(contract, weights, golden)
    return _verify(contents, digest_of(contents), where, tolerance)


def _make_contents(
    contract: BundleContract,
    weights: Mapping[str, NDArray[Any]],
    golden: Mapping[str, NDArray[Any]],
    logs: Mapping[str, NDArray[Any]] | None = None,
    novelty: NoveltyModel | None = None,
) -> dict[str, bytes]:
    """The files of a bundle."""
    contents = {
        CONTRACT: json_bytes(contract.to_json()),
        GOLDEN: tensor_bytes(golden),
        WEIGHTS: tensor_bytes(weights),
        **({LOGS: tensor_bytes(logs)} if logs else {}),
        **({} if novelty is None else {NOVELTY: tensor_bytes(novelty.to_arrays())}),
    }
    contents[CARD] = make_card(contract, logs_size=len(contents.get(LOGS, b"")), novelty=novelty is not None).encode()
    return contents


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Reads a bundle and verifies it: files, digests, schema, kind, shapes, finiteness, golden trial.

    Args:
        path: The bundle's directory.

    Raises:
        BundleError: Names what is wrong and what to do.
    """
    contents, digest = read_files(path)
    return _verify(contents, digest, Path(path))


def require_robot(contract: BundleContract, spec: RobotSpec) -> None:
    """Checks that a robot is the one that the bundle was made for (its name may differ).

    Raises:
        BundleError: Names the first field in which they differ.
    """
    try:
        if contract.eye is not None and spec.observation.names != contract.robot.observation.names:
            spec = see_spec(spec, contract.eye.features)  # the bundle's own has the features, a robot's has not
        contract.robot.require_match(spec, f"bundle for robot '{contract.robot.name}'")
    except SpecError as error:
        raise BundleError(str(error)) from error


def _verify(contents: Mapping[str, bytes], digest: str, where: Path, tolerance: float = GOLDEN_TOLERANCE) -> Bundle:
    """The bundle of these file contents, with everything but the manifest checked."""
    data = parse_contract(contents[CONTRACT], where / CONTRACT)
    if is_version_1(data):
        tensors, golden = (parse_tensors(contents[name], where / name) for name in (WEIGHTS, GOLDEN))
        contract, weights = convert_version_1(data, tensors, golden, str(where))
        return Bundle(contract, weights, {}, digest)
    found = data.get("kind")
    kind = KINDS.get(found) if isinstance(found, str) else None
    if kind is None:
        raise BundleError(
            f"{where / CONTRACT} kind: expected one of {', '.join(sorted(KINDS))}, got {found!r}; load it with the "
            "version of supple that wrote it"
        )
    contract = BundleContract.from_json(data)
    tensors = parse_tensors(contents[WEIGHTS], where / WEIGHTS)
    task = split_prefix(tensors, TASK)
    weights = {name: value for name, value in tensors.items() if not name.startswith(TASK)}
    shapes = {**kind.weight_shapes(contract), **contract.space.weight_shapes(contract.observation_dim)}
    if contract.eye is not None and contract.robot.image is not None:
        shapes |= contract.eye.weight_shapes(contract.robot.image)
    check_tensors(weights, shapes, str(where / WEIGHTS), "export the bundle again")
    if "space.std" in weights and not (weights["space.std"] > 0).all():
        raise BundleError(f"{where / WEIGHTS}: expected space.std > 0, got {weights['space.std'].min()}; export again")
    golden = parse_tensors(contents[GOLDEN], where / GOLDEN)
    check_trial(contract, golden, str(where / GOLDEN))
    if contract.eye is not None:
        require_close("eye.feature", look_again(weights, golden), golden["eye.feature"], str(where / WEIGHTS))
    _replay(contract, weights, golden, kind, str(where / WEIGHTS), tolerance)
    logs = parse_tensors(contents[LOGS], where / LOGS) if LOGS in contents else {}
    if logs:
        require_guide(logs, contract, str(where / LOGS))
    novelty = None
    if NOVELTY in contents:
        try:
            novelty = NoveltyModel.of_arrays(parse_tensors(contents[NOVELTY], where / NOVELTY), str(where / NOVELTY))
            novelty.require_robot(contract.robot)
        except SpecError as error:
            raise BundleError(f"{where / NOVELTY}: {error}") from error
    bundle = Bundle(contract, weights, golden, digest, task=task, logs=logs, novelty=novelty)
    if task:
        try:
            bundle.make_agent(RandomNoise(np.random.default_rng(0))).begin_task(1)
        except RunError as error:
            raise BundleError(f"{where / WEIGHTS}: {error}") from error
    return bundle


def _replay(
    contract: BundleContract, weights: Weights, golden: Weights, kind: Kind[Any], where: str, tolerance: float
) -> None:
    """Plays the golden trial; see `require_trial` for errors."""
    noise, contract = recorded_noise(golden, where), contract.shortened(kind)
    episodes = EPISODES
    if kind.hosted:
        episodes = ROUND if kind.alone is None else kind.alone(kind.read(contract))
    with np.errstate(all="ignore"):
        outputs = play_trial(kind.make_agent(contract, weights, noise), golden, episodes)
    require_trial(golden, outputs, where, episodes=episodes, tolerance=tolerance)
    if not kind.hosted and (left := noise.left()):
        raise BundleError(f"{where}: expected all recorded noise to be drawn, got {left} draws left; export again")


def make_card(contract: BundleContract, *, logs_size: int = 0, novelty: bool = False) -> str:
    """A card for people: what the bundle is, for which robot, and how to use it; `logs_size` in bytes."""
    robot, kind = contract.robot, KINDS[contract.kind]
    lines = [f"# {contract.kind} for {robot.name}", "", kind.summary, ""]
    lines += ["| | axis | unit | low | high | largest change per second |", "|---|---|---|---|---|---|"]
    for spec in (robot.observation, robot.action, robot.goal):
        for axis in spec.axes:
            rate = "" if axis.rate_limit is None else f"{axis.rate_limit:g}"
            lines.append(f"| {spec.name} | {axis.name} | {axis.unit} | {axis.low:g} | {axis.high:g} | {rate} |")
    if robot.image is not None:
        height, width, channels = robot.image.shape
        lines += [
            "",
            f"It needs a camera: pictures of {height} x {width} pixels x {channels} channels at every step. The axes "
            "image_* are computed from them.",
        ]
    if robot.choices:
        lines += ["", f"Choices: {', '.join(robot.choices)}."]
    budget = contract.budget
    steps = f"{budget.adapt_steps} steps of adaptation" if budget.adapt_steps else "no steps of adaptation"
    explored = f", the first {budget.exploration_episodes} to explore" if budget.exploration_episodes else ""
    if logs_size:
        lines += ["", f"Logs of the robot came along, {logs_size / 1e6:.1f} MB: it searches and drives by them."]
    if novelty:
        lines += ["", "A model of the robot's nominal motion came along: unknown motion gives an alarm."]
    lines += [
        "",
        f"One action every {robot.control_period:g} s. It was judged by rounds of {budget.episodes} episodes"
        f"{explored}, with {steps} between them.",
        "",
        "Load it with `supple.adapt.bundle.load_bundle`, run it with `supple adapt`. "
        "`sha256sum -c MANIFEST.sha256` checks the files.",
        "",
        "Where it comes from:",
        "",
    ]
    lines += [f"- {key}: {json.dumps(value, sort_keys=True)}" for key, value in sorted(contract.provenance.items())]
    return "\n".join(lines) + "\n"
