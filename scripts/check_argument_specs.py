"""Refuse roles whose defaults are not those that their argument specs describe.

The README's table of settings is made of the argument specs: what is described there has to be what holds. What no user
sets is described as required; a default of it, made of the group's facts, is in a file of its own, cluster.yml.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parent.parent / "ansible/roles"


def differences(role: Path) -> list[str]:
    """Name what differs between a role's defaults and the defaults in its argument specs."""
    described: dict[str, Any] = {}
    parameters: set[str] = set()
    problems = []
    for entry, spec in _load(role / "meta/argument_specs.yml").get("argument_specs", {}).items():
        for name, option in spec.get("options", {}).items():
            if not option.get("description"):
                problems.append(f"{role.name}: {name} has no description in {entry}")
            if option.get("required"):
                parameters.add(name)
                continue
            if described.setdefault(name, option.get("default")) != option.get("default"):
                problems.append(f"{role.name}: {name} is described with several defaults")
    held = _load(role / "defaults/main.yml") | _load(role / "defaults/main/settings.yml")
    derived = _load(role / "defaults/main/cluster.yml")
    problems += [f"{role.name}: {name} is not described as required" for name in sorted(derived.keys() - parameters)]
    problems += [f"{role.name}: {name} has no description" for name in sorted(held.keys() - described.keys())]
    problems += [f"{role.name}: {name} has no default" for name in sorted(described.keys() - held.keys())]
    return problems + [
        f"{role.name}: {name} is {held[name]!r}, but described as {described[name]!r}"
        for name in sorted(held.keys() & described.keys())
        if held[name] != described[name]
    ]


def _load(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


def main(roles: Path) -> int:
    """Print what differs, one a line."""
    problems = [problem for role in sorted(roles.iterdir()) if role.is_dir() for problem in differences(role)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROLES))
