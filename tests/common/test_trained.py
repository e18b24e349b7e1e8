"""Which side of the suite a config belongs to."""

from pathlib import Path

import pytest

from common.errors import UserError
from common.trained import task

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("side", ["det", "seg"])
def test_every_shipped_config_is_known(side):
    files = [file for file in (CONFIGS / side).rglob("*.yaml") if file.parent.name != "data" and file.stem != "base"]
    assert files
    assert {task(str(file)) for file in files} == {side}


def test_missing_config():
    with pytest.raises(UserError, match="config file nowhere does not exist"):
        task("nowhere")
