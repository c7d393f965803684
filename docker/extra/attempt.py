"""Import each of the user's own packages once, in the image that they go into; say on one line what can't be imported.

    attempt.py REQUIREMENTS

Another process imports: a package may end its interpreter.
"""

import importlib
import importlib.metadata
import pathlib
import re
import subprocess
import sys

#: As in install.py.
SAID = "own packages: "
#: Top-level folders that some distributions bring, which are no part of them.
NOT_MODULES = re.compile(r"_.*|tests?|testing|docs?|examples?|benchmarks?|scripts?|tools")


def requested(requirements: str) -> list[str]:
    r"""Give the names in a requirements file; what it says in options or addresses is not among them.

    >>> requested("lightgbm\nsqlalchemy[asyncio]>=2 # x\n\n--pre\n# no\n")
    ['lightgbm', 'sqlalchemy']
    """
    name = r"^\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?=\s*(?:$|[\[<>=!~;#@]))"
    return re.findall(name, requirements, re.MULTILINE)


def modules(name: str) -> list[str]:
    """Give the modules to import of a distribution: the topmost that are no namespaces."""
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:  # for another platform, or of the lock under another name
        return []
    found: set[tuple[str, ...]] = set()
    for file in files:
        folder, module = file.parts[:-1], file.name.partition(".")[0]
        if file.suffix not in {".py", ".so"} or any(part.startswith("..") or "." in part for part in folder):
            continue
        found.add(folder if module == "__init__" else (*folder, module))
    tops = {path for path in found if path and not any(path[:depth] in found for depth in range(1, len(path)))}
    least = min(map(len, tops), default=0)
    return sorted(".".join(path) for path in tops if len(path) == least and not NOT_MODULES.fullmatch(path[0]))


def attempt(names: list[str]) -> None:
    """Import them all; print the name of each before, and again with the error of the first that fails."""
    for name in names:
        for module in modules(name):
            print(name, module, "", sep="\t", flush=True)
            try:
                importlib.import_module(module)
            except BaseException as error:  # noqa: BLE001 - SystemExit too is no import
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                print(name, module, reason, sep="\t", flush=True)
                sys.exit(1)


def main(requirements: str) -> None:
    """Let another process import, and say what it says."""
    names = requested(pathlib.Path(requirements).read_text())
    done = subprocess.run(
        [sys.executable, "-P", __file__, "--", *names], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.count("\t") >= 2]
        name, module, reason = lines[-1].split("\t", 2)
        reason = reason or f"Python ends with status {done.returncode}"
        advice = "leave it out of docker/extra-requirements.txt"
        if re.search(r"\.so\b|\blib[a-z]|library", reason):
            advice = "name the Debian package that has this library in docker/extra-debian.txt"
        sys.exit(f"{SAID}{name} is installed, but `import {module}` fails: {reason}; {advice}")


if __name__ == "__main__":
    if sys.argv[1] == "--":
        attempt(sys.argv[2:])
    else:
        main(sys.argv[1])
