"""Action spaces by name: what a policy chooses in, made for a robot and, where it needs one, a skill model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ..errors import RunError
from ..robots.spec import RobotSpec

if TYPE_CHECKING:
    from ..meta.space import ActionSpace
    from ..skills.model import SkillModel

Space = Literal["choice", "raw", "skill", "unit"]
"""`choice` for robots with named actions; `unit` puts the limits of the others at -1 and 1; `skill` are trained skills,
and `raw` actions in the robot's units, with observations on the scale of the data of the skills."""
SPACES: tuple[Space, ...] = get_args(Space)
LEARNED: tuple[Space, ...] = ("raw", "skill")
"""Spaces that need a skill model."""


def make_space(name: Space, spec: RobotSpec, skills: Path | None = None, device: str = "cpu") -> ActionSpace:
    """What the policy chooses in.

    Args:
        name: See `Space`.
        spec: Of the robot.
        skills: Folder of a skill model; `skill` and `raw` need one.
        device: Where the skill model and the scale of observations live.

    Raises:
        SpecError: The robot has no such actions, or the skills are for another robot.
        RunError: There is no whole skill model at `skills`, or none is given.
    """
    from ..meta.space import ChoiceSpace, UnitSpace

    if name == "choice":
        return ChoiceSpace(spec)
    if name == "unit":
        return UnitSpace(spec)
    if skills is None:
        raise RunError(f"{name} actions: expected the folder of a skill model, got none; pass what extract wrote")
    return make_learned_space(name, spec, load_skills(skills, spec).to(device))


def make_learned_space(name: Space, spec: RobotSpec, model: SkillModel) -> ActionSpace:
    """Skills of this model, or raw actions with observations on the scale of its data."""
    from ..meta.space import RawSpace, SkillSpace

    return SkillSpace(model) if name == "skill" else RawSpace(spec, model.normaliser.mean, model.normaliser.std)


def load_skills(folder: Path, spec: RobotSpec) -> SkillModel:
    """The skill model in a folder.

    Raises:
        RunError: There is no whole one.
        SpecError: It is for another robot.
    """
    from ..skills.checkpoint import load_skill_model

    model = load_skill_model(folder)
    spec.require_source(model.robot, str(folder))
    return model
