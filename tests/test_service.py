"""What containers are made from: service.py among the filters. What there is to do for them, test_order.py knows."""

import pytest
from service import definitions

FILES = {".env": "NODE_IMAGE=registry/node@sha256:1\n", "worker.compose.yaml": "services: {}\n"}
WORKERS = {
    "worker": {"environment": {"WORKER_NAME": "pi-1", "WHO": "Zoë", "THREADS": 2}},
    "worker-2": {"environment": {"WORKER_NAME": "pi-2"}, "volumes": ["/srv:/work"]},
}


def test_a_definition_stays_what_it_is():
    """Another value for the same would have an upgrade replace every container for nothing."""
    assert definitions(WORKERS, FILES, "998:998", "") == {
        "worker": "4c7afbf5f3aa413291f4c7a8e2ab627ff32295e3",
        "worker-2": "0fc9e67374b19710e5cb201464a0f78283eca5bf",
    }


@pytest.mark.parametrize(
    ("files", "user", "certificate"),
    [({**FILES, ".env": "NODE_IMAGE=registry/node@sha256:2\n"}, "1:1", ""), (FILES, "2:2", ""), (FILES, "1:1", "new")],
)
def test_whatever_changes_for_all_changes_each(files, user, certificate):
    before, after = definitions(WORKERS, FILES, "1:1", ""), definitions(WORKERS, files, user, certificate)
    assert [name for name in before if before[name] == after[name]] == []


def test_what_changes_for_one_changes_that_one():
    changed = WORKERS | {"worker-2": {"environment": {"WORKER_NAME": "other"}}}
    before, after = definitions(WORKERS, FILES, "1:1", ""), definitions(changed, FILES, "1:1", "")
    assert [name for name in before if before[name] != after[name]] == ["worker-2"]
