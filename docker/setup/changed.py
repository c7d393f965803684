"""Says that the project's code is not what its image was built of: no command but a build takes it along."""

import filecmp
import importlib.metadata
import importlib.util
import tomllib
from collections.abc import Iterator
from pathlib import Path

#: Where the clone is mounted, and where the image has the programs of docker/.
CLONE, PROGRAMS = Path("/clone"), Path("/usr/local/lib/tritoncluster")


def changed(clone: Path = CLONE, programs: Path = PROGRAMS) -> bool:
    """Tell whether the image's own code, programs or locked packages are others than the clone's."""
    spec = importlib.util.find_spec("tritoncluster")
    if spec is None or spec.origin is None or not clone.is_dir():
        return False
    package, here = Path(spec.origin).parent, clone / "docker"
    pairs = [(path, package / path.relative_to(clone / "package")) for path in (clone / "package").rglob("*.py")]
    pairs += [(here / path.relative_to(programs), path) for path in programs.rglob("*") if path.suffix in {".py", ""}]
    return any(map(_differ, pairs)) or any(_other_versions(clone / "uv.lock"))


def _differ(pair: tuple[Path, Path]) -> bool:
    source, built = pair
    if source.is_dir() or built.is_dir():
        return False
    return not (source.exists() and built.exists() and filecmp.cmp(source, built, shallow=False))


def _other_versions(lock: Path) -> Iterator[str]:
    locked = {package["name"]: package.get("version") for package in tomllib.loads(lock.read_text())["package"]}
    for distribution in importlib.metadata.distributions():
        name = distribution.name.lower().replace("_", "-").replace(".", "-")
        if locked.get(name, distribution.version) != distribution.version:
            yield name
