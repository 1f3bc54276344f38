"""Which tests a fault of a module is shown to."""

from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray", reason="make mutants installs it")

from benchmarks.mutants import find_tests

FILES = {
    "meta/simpl/agent.py": "from ..space import ActionSpace\nfrom . import networks\n",
    "meta/simpl/networks.py": "import torch\n",
    "meta/space.py": "import torch\n",
    "skills/eye.py": "import torch\n",
    "tests/meta/simpl/test_agent.py": "from supple.meta.simpl.agent import Agent\n",
    "tests/meta/test_space.py": "from supple.meta import space\n",
    "tests/adapt/test_loop.py": "import supple.skills.eye\n",
}


@pytest.mark.parametrize(
    ("module", "near", "far"),
    [
        ("meta/simpl/agent.py", ["tests/meta/simpl/test_agent.py"], []),
        ("meta/space.py", ["tests/meta/test_space.py"], ["tests/meta/simpl/test_agent.py"]),
        # of agent.py, which imports it
        ("meta/simpl/networks.py", ["tests/meta/simpl/test_agent.py"], ["tests/meta/simpl/test_agent.py"]),
        ("skills/eye.py", [], []),  # tests of other packages are not run
    ],
)
def test_tests_import_the_module_or_one_that_imports_it(
    module: str, near: list[str], far: list[str], tmp_path: Path
) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert find_tests(tmp_path, module) == (near, far)
