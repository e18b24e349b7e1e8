"""Config files: find them, and read them without executing anything."""

import io
import re
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import yaml
from fvcore.common.config import CfgNode

from densedist.common.config.former_keys import current_text
from densedist.common.config.paths import is_of_run, resolve
from densedist.common.config.repeated_keys import refuse_repeated_keys
from densedist.common.errors import UserError
from densedist.common.nearest import did_you_mean, did_you_mean_path

CONFIGS = Path(__file__).parents[2] / "configs"  # the packaged ones
# Found without an import of Detectron2, which imports PyTorch.
MODEL_ZOO = Path(getattr(find_spec("detectron2"), "origin", "")).parent / "model_zoo" / "configs"
BASE = re.compile(r"""^_BASE_: *["']?([^\s"'\[\]]+)["']? *(?: #.*)?$""", re.MULTILINE)


class _Reader(CfgNode):
    """Reads a file and its _BASE_ chain without executing code from it.

    The one exception is the model zoo inside the installed Detectron2 package: its RetinaNet base computes its
    anchor sizes with a YAML tag.
    """

    looks_up = False  # whether relative paths are looked up from the file's folder

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[str]:
        """Read the text; a _BASE_ that names a config (see find_config), and no file here, becomes its path."""

        def resolve(line: re.Match) -> str:
            name = line[1]
            if (Path(filename).parent / Path(name).expanduser()).is_file() or not (path := _find(name)):
                return line[0]
            return f"_BASE_: {path.absolute()}"

        text = Path(filename).read_text(encoding="utf-8")
        refuse_repeated_keys(text, f"config file {filename}")
        return io.StringIO(BASE.sub(resolve, text))

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict:
        path = Path(filename)
        if not path.is_file():
            raise UserError(f"config file {filename} does not exist")
        in_zoo = MODEL_ZOO.resolve() in path.resolve().parents
        try:
            loaded = super().load_yaml_with_base(filename, allow_unsafe=in_zoo)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"config file {filename} is not plain YAML data: {reason}") from error
        except RecursionError as error:
            raise UserError(f"config file {filename}: its _BASE_ chain leads back to itself") from error
        except (TypeError, AttributeError) as error:
            raise UserError(
                f"config file {filename} is not a mapping of keys to values, or its _BASE_ is not a file name"
            ) from error
        if not isinstance(loaded, dict):
            raise UserError(f"config file {filename} is not a mapping of keys to values")
        # Of this file: what its base names has been looked up by now.
        if cls.looks_up and not is_of_run(path):
            resolve(loaded, path.parent)
        if isinstance(names := loaded.get("IMPORTS"), list):
            loaded["IMPORTS"] = absolute(names, path.parent)
        return loaded


def absolute(names: list, folder: Path) -> list:
    """Return IMPORTS with relative paths of .py files made absolute, from a folder or else from the current one.

    Names of modules stay.
    """

    def place(name: str) -> str:
        there = (folder / name).exists() or not Path(name).exists()
        return str((folder / name if there else Path(name)).absolute())

    return [place(name) if str(name).endswith(".py") else name for name in names]


class _CurrentKeys(_Reader):
    """Gives former keys their present names, in each file of the _BASE_ chain: a file's key wins over its base's."""

    looks_up = True

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[str]:
        with super()._open_cfg(filename) as file:
            return io.StringIO(current_text(file.read(), filename))


def read_file(config_file: str, as_written: bool = False) -> dict:
    """Read a file and its _BASE_ chain, checked no further; paths in IMPORTS are made absolute.

    Args:
        as_written: keep former names of keys (common/config/former_keys.py) and, but for IMPORTS, relative paths.

    Raises:
        UserError: no such file, one that is no plain YAML, or one with a key's former and present name.
    """
    return (_Reader if as_written else _CurrentKeys).load_yaml_with_base(config_file)


def read_alone(config_file: str) -> dict:
    """Read what a file says itself, without its _BASE_; nothing of one that is not plain YAML, as some zoo files."""
    try:
        content = yaml.safe_load(Path(config_file).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return {}
    return content if isinstance(content, dict) else {}


def find_config(name: str, key: str) -> str:
    """Find a config by a path, a name among the packaged ones, or a name in Detectron2's model zoo.

    Packaged ones are named from their folder on, as in det/digits/faster_rcnn_r10_quarter.yaml.

    Raises:
        UserError: naming the key, where there is none, and the names that are most like it.
    """
    if path := _find(name):
        return str(path)
    known = _names(Path(name).expanduser().parent)
    hint = did_you_mean(name, known, most=2, cutoff=0.8) or did_you_mean_path(name)
    raise UserError(f"{key}: {name} is neither a file, nor a packaged config, nor one of Detectron2's model zoo{hint}")


def _find(name: str) -> Path | None:
    """Find a file, a packaged config, or one of the model zoo."""
    paths = (Path(name).expanduser(), CONFIGS / name.removeprefix("configs/"), MODEL_ZOO / name)
    return next((path for path in paths if path.is_file()), None)


def _names(folder: Path) -> list[str]:
    """Return the names by which configs are found: of files in a folder, packaged ones, and those of the model zoo."""
    packaged = [str(file.relative_to(root)) for root in (CONFIGS, MODEL_ZOO) for file in root.rglob("*.yaml")]
    return [*map(str, folder.glob("*.yaml")), *packaged]
