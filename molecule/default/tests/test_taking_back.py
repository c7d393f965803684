"""Who is taken out of the inventory, and who is new there: the last tests, as others count on who was there."""

import asyncio
import json

import pytest
from conftest import PKI, containers, on
from test_notebook import Server
from test_playbooks import play


@pytest.fixture(scope="module")
def passwords():
    return {name: (PKI / "clients" / name / "password").read_text().strip() for name in ("teacher", "guest")}


@pytest.mark.slow
def test_notebooks_come_and_go_with_their_people(passwords):
    before = containers(on("desktop"))
    on("desktop").check_output("echo kept >/var/lib/tritoncluster/notebooks/guest/notes")
    said = play("people", json.dumps({"cluster_people": ["teacher", "anna"]}))
    assert "guest: no longer in cluster_people, and refused from now on" in said
    after = containers(on("desktop"))
    assert before.keys() ^ after.keys() == {"notebook-guest", "notebook-anna"}
    # Nobody else's kernels end with it.
    for name in before.keys() & after.keys():
        assert after[name]["State"]["StartedAt"] == before[name]["State"]["StartedAt"], name
    passwords["anna"] = (PKI / "clients/anna/password").read_text().strip()
    answers = {name: Server(name, password).ask("/api")[0] for name, password in passwords.items()}
    assert answers == {"teacher": 200, "guest": 401, "anna": 200}
    assert asyncio.run(Server("anna", passwords["anna"]).printed("print(1 + 1)")) == "2\n"
    assert on("desktop").file("/var/lib/tritoncluster/notebooks/guest/notes").content_string == "kept\n"
    for folder in ("/etc/tritoncluster/people", "/var/lib/tritoncluster/notebook-sockets"):
        assert "guest" not in on("desktop").check_output(f"ls {folder}").split()
