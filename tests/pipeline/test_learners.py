"""The table of learners: rows come back from records, and each has the code version of its own learner alone."""

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from supple.errors import BundleError, ConfigError
from supple.meta.memory.rl2 import Rl2Config
from supple.pipeline import keys
from supple.pipeline.keys import PACKAGE_ROOT, compute_code_digest, compute_plain
from supple.pipeline.learners import LEARNERS, Rl2Settings, name_learner, read_learner

OWN = {
    "meta/memory/rl2_learner.py": {"rl2", "e-rl2"},
    "meta/memory/recurrent_updater_learner.py": {"recurrent-updater"},
    "meta/inference/pearl_learner.py": {"pearl", "pearl-ft", "bc-pearl"},
    "meta/inference/varibad_learner.py": {"varibad"},
    "meta/gradient/maml_learner.py": {"maml", "fomaml", "e-maml", "meta-sgd", "learned-update", "bc-maml"},
    "meta/gradient/maesn_learner.py": {"maesn"},
    "meta/hierarchy/mlsh_learner.py": {"mlsh"},
    "meta/baselines/ppo_learner.py": {"ppo"},
    "meta/baselines/distral_learner.py": {"distral"},
    "meta/baselines/sac_learner.py": {"sac"},
    "pipeline/cloning.py": {"bc-pearl", "bc-maml"},
    "meta/space.py": set(LEARNERS),
    "pipeline/learners.py": set(),
}
"""Which rows a change of a file is a change of."""


def digests() -> dict[str, str]:
    compute_code_digest.cache_clear()
    return {name: compute_code_digest(row.modules) for name, row in LEARNERS.items()}


@pytest.mark.parametrize("changed", OWN)
def test_a_change_of_one_learner_leaves_the_others_valid(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, load = digests(), keys._load_tree

    def load_changed(file: Path, root: Path) -> tuple[str, tuple[Path, ...]]:
        tree, imports = load(file, root)
        return tree + " and more" * (file == root / changed), imports

    monkeypatch.setattr(keys, "_load_tree", load_changed)
    after = digests()
    compute_code_digest.cache_clear()
    assert {name for name in LEARNERS if before[name] != after[name]} == OWN[changed]


def test_every_learner_has_a_file_of_its_own_that_is_tested_here() -> None:
    assert {row.modules[0] for row in LEARNERS.values()} <= OWN.keys()
    for row in LEARNERS.values():
        for module in row.modules:
            ast.parse((PACKAGE_ROOT / module).read_bytes())


@pytest.mark.parametrize("name", LEARNERS)
def test_settings_come_back_from_their_record(name: str) -> None:
    settings: Any = LEARNERS[name].settings
    plain = json.loads(json.dumps(compute_plain(settings, name)))
    assert read_learner(name, plain, "stage.json") == settings
    assert type(LEARNERS[name_learner(settings)].settings) is type(settings)
    assert LEARNERS[name_learner(settings)].modules == LEARNERS[name].modules
    assert (settings.rows > 0, settings.iterations > 0, settings.rollouts > 0) == (True, True, True)
    evaluation = settings.evaluation
    assert evaluation.adapt_steps > 0 or evaluation.trial.episodes > 1 or name in ("rl2", "varibad")


def test_names_of_rows_are_what_records_call_them() -> None:
    assert {name: row.settings.method for name, row in LEARNERS.items()} == {name: name for name in LEARNERS}


def test_a_record_of_no_learner_is_refused() -> None:
    plain = compute_plain(Rl2Settings(), "rl2")
    with pytest.raises(BundleError, match=r"stage\.json: expected a learner of rl2, .*, got 'dreamer'; train it again"):
        read_learner("dreamer", plain, "stage.json")
    with pytest.raises(BundleError, match=r"stage\.json\.rl2\.greedy: expected bool, got 'often'"):
        read_learner("rl2", {**plain, "greedy": "often"}, "stage.json")


def test_settings_of_no_row_have_no_name() -> None:
    class Other(Rl2Settings):
        pass

    with pytest.raises(ConfigError, match=r"learner: expected one of rl2, .*, got 'mine'; give it a row in LEARNERS"):
        name_learner(Other(method="mine"))


def test_other_settings_of_a_class_have_its_first_row() -> None:
    changed = replace(Rl2Settings(), config=Rl2Config(hidden=3), method="rl2-mine")
    assert name_learner(changed) == "rl2"
