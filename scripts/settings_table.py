"""Print the table of a deployment's settings, made of the roles' argument specs; --write puts it into README.md."""

import re
import sys
from pathlib import Path

import yaml

ROLES = Path(__file__).resolve().parent.parent / "ansible/roles"


def rows(roles: Path = ROLES) -> list[str]:
    """Give a row for each setting that has a default."""
    found: dict[str, str] = {}
    for path in sorted(roles.glob("*/meta/argument_specs.yml")):
        for spec in yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values():
            for name, option in spec["options"].items():
                if not option.get("required"):
                    found.setdefault(name, f"| `{name}` | `{_written(option['default'])}` | {option['description']} |")
    return [found[name] for name in sorted(found)]


def _written(default: object) -> str:
    written = str(default).lower() if isinstance(default, bool) else str(default)
    return written.replace("|", "\\|") or '""'


def table() -> str:
    """Give the whole table."""
    return "\n".join(["| setting | default | what it is |", "|---|---|---|", *rows()])


def write(readme: Path) -> None:
    """Replace the table between its two marks."""
    marked = re.compile(r"(<!-- settings: .*?-->\n).*?(\n<!-- end of settings -->)", re.DOTALL)
    readme.write_text(marked.sub(lambda found: found[1] + table() + found[2], readme.read_text(encoding="utf-8")))


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write(ROLES.parents[1] / "README.md")
    else:
        print(table())
