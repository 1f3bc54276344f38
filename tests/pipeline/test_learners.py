"""The table of learners: rows come back from records, and each has the code version of its own learner alone."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest

from supple.adapt.agents.kinds import KINDS
from supple.errors import BundleError, ConfigError
from supple.meta.memory.config import Rl2Config
from supple.pipeline import keys
from supple.pipeline.keys import PACKAGE_ROOT, compute_code_digest
from supple.pipeline.learners import LEARNERS, Rl2Settings, choose_learner, find_learner, read_learner
from supple.pipeline.stages.export import MODULES

OWN = {
    "meta/simpl/learner.py": {"simpl"},
    "meta/simpl/spirl.py": {"spirl"},
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


@pytest.mark.parametrize("changed", sorted((PACKAGE_ROOT / "adapt" / "host").glob("*.py")), ids=lambda path: path.name)
def test_a_change_of_an_exporter_is_one_of_every_export(changed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute_code_digest.cache_clear()
    before, load = compute_code_digest(MODULES), keys._load_tree

    def load_changed(file: Path, root: Path) -> tuple[str, tuple[Path, ...]]:
        tree, imports = load(file, root)
        return tree + " and more" * (file == changed), imports

    monkeypatch.setattr(keys, "_load_tree", load_changed)
    compute_code_digest.cache_clear()
    assert compute_code_digest(MODULES) != before
    compute_code_digest.cache_clear()


def test_every_learner_has_a_file_of_its_own_that_is_tested_here() -> None:
    assert {row.modules[0] for row in LEARNERS.values()} <= OWN.keys()
    for row in LEARNERS.values():
        for module in row.modules:
            ast.parse((PACKAGE_ROOT / module).read_bytes())


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_comes_back_from_its_record(name: str) -> None:
    choice = find_learner(name)
    record = json.loads(json.dumps(choice.record))
    assert read_learner(record, None, "stage.json") == choice
    settings = choice.settings
    assert choose_learner(settings).row.modules == choice.row.modules
    assert min(settings.rows(3), settings.rollouts) > 0
    assert (settings.iterations > 0) == (name != "spirl")
    assert settings.evaluation.trials == 1


def test_names_of_rows_are_what_records_call_them() -> None:
    assert {name: row.settings.method for name, row in LEARNERS.items()} == {name: name for name in LEARNERS}


def test_a_record_of_no_learner_is_refused() -> None:
    record = find_learner("rl2").record
    with pytest.raises(BundleError, match=r"stage\.json: expected a learner of simpl, .*, got 'dreamer'; name"):
        read_learner({**record, "name": "dreamer"}, None, "stage.json")
    with pytest.raises(BundleError, match=r"stage\.json\.rl2\.greedy: expected bool, got 'often'"):
        read_learner({**record, "settings": {**record["settings"], "greedy": "often"}}, None, "stage.json")
    for damage in (None, "rl2", {"settings": record["settings"]}):
        with pytest.raises(BundleError, match=r"stage\.json: expected a learner with its settings, got"):
            read_learner(damage, None, "stage.json")


def test_settings_of_no_row_are_no_learner() -> None:
    class Other(Rl2Settings):
        pass

    with pytest.raises(ConfigError, match=r"learner: expected one of simpl, .*, got 'mine'; give it a row in LEARNERS"):
        choose_learner(Other(method="mine"))


def test_other_settings_of_a_class_have_its_first_row() -> None:
    changed = replace(Rl2Settings(), config=Rl2Config(hidden=3), method="rl2-mine")
    choice = choose_learner(changed)
    assert (choice.reference, choice.settings) == ("rl2", changed)
    assert read_learner(json.loads(json.dumps(choice.record)), None, "stage.json").settings == changed


def test_a_users_own_row_is_found_by_its_file_and_counts_its_code(tmp_path: Path) -> None:
    path = tmp_path / "my_learner.py"
    text = "from supple.pipeline.learners import LEARNERS\n\nROW = LEARNERS['rl2']._replace(modules=())\n"
    path.write_text(text)
    choice = find_learner(f"{path}:ROW")
    assert choice.reference == "my_learner.py:ROW"
    assert choice.row.modules == (str(path),)
    assert read_learner(choice.record, choice, "stage.json") == choice
    with pytest.raises(BundleError, match=r"got 'my_learner\.py:ROW'; name your own with --learner"):
        read_learner(choice.record, None, "stage.json")
    with pytest.raises(ConfigError, match=r"my_learner\.py:LEARNERS: expected a LearnerRow in .*, got dict; make one"):
        find_learner(f"{path}:LEARNERS")
    with pytest.raises(ConfigError, match=r"--learner: expected one of simpl, .*, FILE\.py:ROW .*, got 'dreamer'"):
        find_learner("dreamer")


def test_learners_take_logs_whose_kinds_learn_from_episodes_that_another_led() -> None:
    """The names of these kinds are names of learners."""
    leading = {name for name, row in LEARNERS.items() if row.settings.takes_logs}
    assert leading == {name for name in KINDS if KINDS[name].off_policy}
