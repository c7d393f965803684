"""What must hold for the built images, on both platforms."""

import json
import pathlib
import re
import shutil
import subprocess
import time
import tomllib
import uuid

import pytest
from containers import ARCHITECTURES, PROJECT, Layout, export, run
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

# The first test waits for the engine, the base image and the images.
pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]

NODE = "tritoncluster/node:local"
HARDENED = [
    "--rm",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--network=none",
    "--tmpfs=/tmp",
]
MEGABYTE = 1_000_000
PLATFORMS = pytest.mark.parametrize("architecture", ARCHITECTURES)
IMAGES = pytest.mark.parametrize("image", ["node", "notebook", "gateway"])


def start(architecture: str, *command: object, image: str = NODE, check: bool = True) -> subprocess.CompletedProcess:
    """Run a command in a container as locked up as the services are."""
    platform = f"--platform=linux/{architecture}"
    return run("docker", "run", *HARDENED, platform, "--env=QEMU_CPU=cortex-a72", image, *command, check=check)


@PLATFORMS
def test_the_node_image_is_small(layouts: dict[str, Layout], architecture: str) -> None:
    layers = layouts["node"].layers(architecture)
    assert sum(layer["size"] for layer in layers) < 220 * MEGABYTE
    # What a file takes on disk: whole blocks.
    unpacked = sum(-(-m.size // 4096) * 4096 for layer in layers for m in layouts["node"].members(layer))
    assert unpacked < 650 * MEGABYTE


@PLATFORMS
def test_the_notebook_image_is_the_node_image_and_little_more(layouts: dict[str, Layout], architecture: str) -> None:
    node, notebook = ([*layouts[image].layers(architecture)] for image in ("node", "notebook"))
    # So that versions can't differ.
    assert notebook[: len(node)] == node
    more = notebook[len(node) :]
    assert sum(layer["size"] for layer in more) < 120 * MEGABYTE
    names = [member.name for layer in more for member in layouts["notebook"].members(layer)]
    packages = {name.partition("dist-packages/")[2].partition("/")[0] for name in names}
    assert {"jupyterlab", "dask_labextension", "ipykernel", "matplotlib", "nbclient"} <= packages
    assert not {"dask", "distributed", "numpy", "sklearn", "tritoncluster"} & packages
    assert not any(name.endswith("/node") for name in names)


def test_a_notebooks_kernel_that_does_nothing_ends(images: dict[str, str]) -> None:
    socket = "/run/notebooks/client/socket"
    settings = {
        "NOTEBOOK_SOCKET": socket,
        "HEALTH_SOCKET": socket,
        "HEALTH_PATH": "/lab/api",
        "NOTEBOOK_IDLE_MINUTES": "0.02",
    }
    options = [f"--env={name}={value}" for name, value in settings.items()]
    folders = [f"--tmpfs={folder}:uid=1000,gid=1000" for folder in ("/work", "/run/notebooks")]
    name = run("docker", "run", "--detach", *HARDENED, *folders, *options, images["notebook"]).stdout.strip()
    ask = """
import http.client, json, socket, sys
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect("/run/notebooks/client/socket")
token = {"Cookie": "_xsrf=abcd", "X-XSRFToken": "abcd"} if sys.argv[1] == "POST" else {}
connection.request(sys.argv[1], "/lab/api/kernels", headers=token)
print(connection.getresponse().read().decode())
"""

    def kernels(method: str = "GET") -> str:
        return run("docker", "exec", name, "python3", "-c", ask, method, check=False).stdout

    try:
        deadline = time.monotonic() + 120
        while "id" not in kernels("POST"):
            assert time.monotonic() < deadline, run("docker", "logs", name).stderr
            time.sleep(0.5)
        while kernels().strip() != "[]":
            assert time.monotonic() < deadline, run("docker", "logs", name).stderr
            time.sleep(0.5)
    finally:
        run("docker", "rm", "--force", name)


@IMAGES
@PLATFORMS
def test_user_labels_and_health_check(layouts: dict[str, Layout], image: str, architecture: str) -> None:
    config = layouts[image].config(architecture)["config"]
    assert config["User"] == "1000:1000"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert labels["title"] == f"tritoncluster {image}"
    assert labels["licenses"] == "BSD-3-Clause"
    assert {"description", "version", "vendor"} <= labels.keys()


@IMAGES
@PLATFORMS
def test_nothing_of_the_build_machine_is_baked_in(layouts: dict[str, Layout], image: str, architecture: str) -> None:
    layout = layouts[image]
    config = layout.config(architecture)
    settings = json.dumps(config["config"])
    assert not [word for word in ("SSL_CERT", "PIP_", "PROXY", "proxy", "QEMU") if word in settings]
    for layer in layout.layers(architecture)[1:]:
        names = [member.name for member in layout.members(layer) if "/.wh." not in member.name]
        assert not [n for n in names if n.startswith(("run/secrets", "tmp/", "root/", "var/lib/apt/lists/"))]
        assert not [n for n in names if n.endswith(("uv_cache.json", "direct_url.json", ".log"))]


def test_each_image_begins_with_the_one_that_is_named(engine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = "debian@sha256:" + "0" * 64
    monkeypatch.setenv("BASE_IMAGE", pinned)
    baked = json.loads(run("docker/bake", "cross", "--print").stdout)["target"]
    assert {target["args"]["BASE"] for target in baked.values()} == {pinned}
    services = json.loads(run("docker", "compose", "--profile=notebook", "config", "--format=json").stdout)["services"]
    built = [service["build"] for service in services.values() if "build" in service]
    assert {build["args"]["BASE"] for build in built} == {pinned}
    assert len(baked) == len(built) == 3


def test_the_extra_ca_bundle_is_not_in_the_image(images: dict[str, str]) -> None:
    count = "ls /usr/share/ca-certificates/mozilla | wc -l; grep -c BEGIN /etc/ssl/certs/ca-certificates.crt"
    packaged, trusted = start("amd64", "sh", "-c", count).stdout.split()
    assert packaged == trusted


@PLATFORMS
def test_our_code_is_a_small_layer_of_its_own(layouts: dict[str, Layout], architecture: str) -> None:
    *others, own = layouts["node"].layers(architecture)
    assert own["size"] < MEGABYTE
    ours = {m.name for m in layouts["node"].members(own) if m.isfile()}
    assert any(name.endswith("tritoncluster/__init__.py") for name in ours)
    assert all("tritoncluster" in name for name in ours)
    assert not any("dist-packages/tritoncluster" in m.name for layer in others for m in layouts["node"].members(layer))


def test_our_code_is_the_same_for_both_platforms(layouts: dict[str, Layout]) -> None:
    assert len({layouts["node"].layers(architecture)[-1]["digest"] for architecture in ARCHITECTURES}) == 1


@pytest.fixture
def project_copy(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a copy of what the node image is made of, to change."""
    copy = tmp_path / "project"
    ignore = shutil.ignore_patterns("__pycache__", "extra-*.txt")
    for folder in ("docker", "examples", "workloads"):
        shutil.copytree(PROJECT / folder, copy / folder, ignore=ignore)
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(PROJECT / name, copy)
    return copy


def test_a_change_of_our_code_changes_one_layer(
    layouts: dict[str, Layout], project_copy: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with (project_copy / "workloads/src/tritoncluster/__init__.py").open("a") as module:
        module.write("\nCHANGED = True\n")
    changed = export("node", tmp_path / "changed", project=project_copy)
    for architecture in ARCHITECTURES:
        old, new = ([layer["digest"] for layer in x.layers(architecture)] for x in (layouts["node"], changed))
        assert old[:-1] == new[:-1]
        assert old[-1] != new[-1]
        assert changed.layers(architecture)[-1]["size"] < 10**6


@pytest.mark.slow
def test_own_packages_go_into_both_platforms(project_copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    # Pure, compiled, with a library of the system's, and one of the lock's: each is imported there.
    (project_copy / "docker/extra-requirements.txt").write_text("humanize\nmsgspec\nlightgbm\nnumpy\n")
    layout = export("node", tmp_path / "extra", project=project_copy)
    for architecture in ARCHITECTURES:
        names = [m.name for m in layout.members(layout.layers(architecture)[-2])]
        cpu = {"amd64": "x86_64", "arm64": "aarch64"}[architecture]
        assert any(name.endswith("humanize/__init__.py") for name in names)
        assert any("msgspec/_core" in name and cpu in name for name in names)
        assert not any("/numpy/" in name for name in names)


@pytest.mark.parametrize(
    ("file", "name", "message"),
    [
        ("requirements", "numpy<2", r"own packages: .*numpy<2.*; ask for another version in docker/extra-requirements"),
        ("requirements", "no-such-package-of-anyone", r"own packages: .*no-such-package-of-anyone .*; check the name"),
        ("requirements", "intel-openmp", r"own packages: .*intel-openmp.*nothing to install on linux/arm64"),
        ("requirements", "humanize 4", r"own packages: .*humanize 4.*; see docker/extra-requirements"),
        ("debian", "libgomp_1", r"own packages: libgomp_1 is no name of a Debian package"),
    ],
)
def test_own_packages_that_can_not_be_had_are_refused_in_one_line(
    images: dict[str, str], project_copy: pathlib.Path, file: str, name: str, message: str
) -> None:
    (project_copy / f"docker/extra-{file}.txt").write_text(f"{name}\n")
    refused = run(project_copy / "docker/bake", "cross", check=False)
    assert refused.returncode == 1
    *before, line = refused.stderr.splitlines()
    assert before == ["docker/bake: trying your own packages"]
    assert re.search(message, line), line


def test_what_else_is_wrong_is_told_by_the_build(project_copy: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project_copy / "docker/extra-requirements.txt").write_text("humanize\n")
    monkeypatch.setenv("BASE_IMAGE", "registry.invalid/none")
    failed = run(project_copy / "docker/bake", "node", check=False)
    assert failed.returncode != 0
    assert "registry.invalid/none" in failed.stderr


@pytest.mark.slow
def test_own_packages_find_the_debian_packages_that_they_want(
    project_copy: pathlib.Path, images: dict[str, str]
) -> None:
    # It looks for a library of the system's when it is imported.
    (project_copy / "docker/extra-requirements.txt").write_text("xgboost-cpu\npython-magic\n")
    refused = run(project_copy / "docker/bake", "node", check=False)
    assert refused.returncode == 1
    line = refused.stderr.splitlines()[-1]
    assert re.search(r"own packages: python-magic .*`import magic` fails: .*libmagic.*docker/extra-debian\.txt", line)
    (project_copy / "docker/extra-debian.txt").write_text("# What python-magic wants.\nlibmagic1\n")
    image = "tritoncluster/node:own-debian"
    run(project_copy / "docker/bake", "node", "--set", f"*.tags={image}")
    try:
        code = "import magic, xgboost; print(magic.from_buffer('#!/bin/sh'))"
        assert "/bin/sh script" in start("amd64", "python3", "-c", code, image=image).stdout
    finally:
        run("docker", "rmi", image)


@PLATFORMS
def test_the_node_image_computes(images: dict[str, str], architecture: str) -> None:
    code = """
import importlib.metadata, json, platform
import dask, distributed, numpy, pandas, pandas.testing, numpy.testing, scipy.stats, tritoncluster
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
matrix = numpy.random.default_rng(0).standard_normal((300, 300))
X, y = load_digits(return_X_y=True)
score = RandomForestClassifier(5, random_state=0).fit(X, y).score(X, y)
# Data frames, with all of Arrow that Dask or pandas may ask for.
import warnings
warnings.simplefilter("ignore")
import dask.dataframe as dd
import pyarrow.compute, pyarrow.csv, pyarrow.dataset, pyarrow.feather, pyarrow.fs, pyarrow.json, pyarrow.parquet
frame = pandas.DataFrame({"key": numpy.arange(60) % 3, "number": numpy.arange(60.0), "word": ["pi", "käse", None] * 20})
dask.config.set(scheduler="threads")
dd.from_pandas(frame, npartitions=3).to_parquet("/tmp/frame")
back = dd.read_parquet("/tmp/frame")
rows = back.compute().sort_values("number")
sums = back.groupby("key").number.sum().compute().sort_index().tolist()
shuffled = [sorted(set(part.key)) for part in dask.compute(*back.shuffle("key", npartitions=3).to_delayed())]
filtered = len(dd.read_parquet("/tmp/frame", filters=[("key", "==", 1)]).compute())
words = rows.word.fillna("none").tolist()
versions = {d.name.lower().replace("_", "-"): d.version for d in importlib.metadata.distributions()}
print(json.dumps({
    "machine": platform.machine(),
    "error": float(abs(matrix @ numpy.linalg.inv(matrix) - numpy.eye(300)).max()),
    "score": score,
    "versions": versions,
    "frames": [sums, sorted(sum(shuffled, [])), filtered, words == ["pi", "käse", "none"] * 20],
}))
"""
    seen = json.loads(start(architecture, "python3", "-c", code).stdout)
    assert seen["machine"] == {"amd64": "x86_64", "arm64": "aarch64"}[architecture]
    assert seen["error"] < 1e-9
    assert seen["score"] == pytest.approx(0.9955481357818586, abs=0.01)
    assert seen["frames"] == [[570.0, 590.0, 610.0], [0, 1, 2], 20, True]
    locked = {p["name"]: p["version"] for p in tomllib.loads((PROJECT / "uv.lock").read_text())["package"]}
    assert {"dask", "numpy", "pandas", "scikit-learn", "tritoncluster"} <= seen["versions"].keys()
    assert {name: locked[name] for name in seen["versions"]} == seen["versions"]


@PLATFORMS
def test_byte_code_is_there_and_is_not_checked(layouts: dict[str, Layout], architecture: str) -> None:
    names = [m.name for layer in layouts["node"].layers(architecture) for m in layouts["node"].members(layer)]
    compiled = {name for name in names if name.endswith(".pyc")}
    for module in ("usr/lib/python3.13/{}ast", "usr/local/lib/python3.13/dist-packages/sklearn/{}base"):
        assert module.format("__pycache__/") + ".cpython-313.pyc" in compiled
    unchecked = "import sklearn; print(open(sklearn.__cached__, 'rb').read(8)[4])"
    assert start("amd64", "python3", "-c", unchecked).stdout.strip() == "1"


def test_any_user_may_run_it(images: dict[str, str]) -> None:
    done = run(
        "docker",
        "run",
        *HARDENED,
        "--user=4321:4321",
        NODE,
        "python3",
        "-c",
        "import distributed, tritoncluster",
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_health_check_sees_a_scheduler(images: dict[str, str]) -> None:
    scheduler = ["dask", "scheduler", "--dashboard-address", ":8788", "--no-show"]
    name = run("docker", "run", "--detach", "--tmpfs=/tmp", NODE, *scheduler).stdout.strip()
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            state = run("docker", "inspect", "--format={{.State.Health.Status}}", name).stdout.strip()
            if state == "healthy":
                break
            time.sleep(0.5)
        assert state == "healthy", run("docker", "logs", name).stderr
        check = ["python3", "-I", "-S", "/usr/local/lib/tritoncluster/healthcheck.py"]
        other_port = run("docker", "exec", "--env=HEALTH_PORT=8799", name, *check, check=False)
        assert other_port.returncode == 1
        assert other_port.stderr.startswith("port 8799: ")
    finally:
        run("docker", "rm", "--force", name)


@pytest.mark.parametrize("image", ["node", "gateway"])
@PLATFORMS
def test_the_bill_of_materials_lists_what_is_inside(
    images: dict[str, str], image: str, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1735689600")
    text = run("docker/sbom.py", images[image], f"linux/{architecture}").stdout
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = json.loads(text)["components"]
    debian = {c["name"]: c["version"] for c in components if c["purl"].startswith("pkg:deb/")}
    listed = start(architecture, "dpkg-query", "--show", image=images[image]).stdout.split()
    assert debian == dict(zip((n.partition(":")[0] for n in listed[::2]), listed[1::2], strict=True))
    python = [c for c in components if c["purl"].startswith("pkg:pypi/")]
    if image == "node":
        # Ours is made here; every other wheel is one of the lock's.
        assert [c["name"] for c in python if "hashes" not in c] == ["tritoncluster"]
        assert len(python) > 30
    assert text == run("docker/sbom.py", images[image], f"linux/{architecture}").stdout


@pytest.mark.slow
@pytest.mark.usefixtures("images")
def test_an_image_runs_here_that_was_packed_for_hosts_before(
    project_copy: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    # Layers for hosts are compressed in a way of their own, which the engine does not run, and the builder keeps them.
    with (project_copy / "workloads/src/tritoncluster/__init__.py").open("a") as module:
        module.write(f"\nCHANGED = {uuid.uuid4().hex!r}\n")
    run(project_copy / "docker/layouts", tmp_path)
    image = "tritoncluster/node:packed-before"
    run(project_copy / "docker/bake", "node-cross", "--set", f"*.tags={image}")
    try:
        for architecture in ARCHITECTURES:
            start(architecture, "true", image=image)
    finally:
        run("docker", "rmi", image)
