"""``cluster.yaml``: what Ray's launcher makes of it, without a cloud."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "cluster.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """The file, merged with Ray's defaults and checked against Ray's schema."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: dict[str, Any] = prepare_config(yaml.safe_load(TEXT))
    validate_config(prepared)
    return prepared


@pytest.fixture
def head(config: dict[str, Any]) -> dict[str, Any]:
    kind: dict[str, Any] = config["available_node_types"][config["head_node_type"]]
    return kind


@pytest.fixture
def workers(config: dict[str, Any]) -> list[dict[str, Any]]:
    types = config["available_node_types"]
    return [kind for name, kind in types.items() if name != config["head_node_type"]]


def commands(config: dict[str, Any]) -> list[str]:
    lists = [value for name, value in config.items() if name.endswith("_commands")]
    return [command for each in lists for command in each]


def test_ray_refuses_a_slip() -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(ValidationError, match="idle_timeout_minuets"):
        validate_config(prepare_config(yaml.safe_load(TEXT) | {"idle_timeout_minuets": 5}))


def test_head_is_on_demand_and_runs_no_work(head: dict[str, Any]) -> None:
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert head["max_workers"] == 0
    assert "InstanceMarketOptions" not in head["node_config"]
    assert not re.match(r"[gp]\d", head["node_config"]["InstanceType"])


def test_workers_are_gpu_spot_machines_from_none_to_some(
    config: dict[str, Any], workers: list[dict[str, Any]]
) -> None:
    assert workers
    for worker in workers:
        assert worker["resources"]["GPU"] >= 1
        assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
        assert worker["min_workers"] == 0
        assert 0 < worker["max_workers"] <= config["max_workers"]
    assert 0 < config["idle_timeout_minutes"] <= 30
    assert config["provider"]["cache_stopped_nodes"] is False


def test_storage_access_is_a_role_on_every_machine(
    head: dict[str, Any], workers: list[dict[str, Any]]
) -> None:
    for kind in (head, *workers):
        assert kind["node_config"]["IamInstanceProfile"]["Name"]


def test_no_keys_are_in_the_file() -> None:
    assert not re.search(r"A(KI|SI)A[A-Z0-9]{12}", TEXT)
    assert not re.search(r"(?i)aws_?(secret|access|session)|secret_?(access_?)?key|password|\.pem", TEXT)


def test_all_machines_have_the_same_image(head: dict[str, Any], workers: list[dict[str, Any]]) -> None:
    assert {kind["node_config"]["ImageId"] for kind in (head, *workers)} == {head["node_config"]["ImageId"]}


def test_ray_is_a_release_that_this_project_allows(config: dict[str, Any]) -> None:
    installs = [command for command in commands(config) if "pip install" in command]
    assert not any("nightly" in command or "ray-wheels" in command for command in commands(config))
    pinned = re.findall(r"ray\[default\]==([0-9.]+)", " ".join(installs))
    assert len(pinned) == 1
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ray = next(need for need in map(Requirement, needed) if need.name == "ray")
    assert ray.specifier.contains(Version(pinned[0]))


def test_workers_get_the_exact_versions_and_the_token_of_the_head(config: dict[str, Any]) -> None:
    frozen = next(command for command in config["head_setup_commands"] if "pip freeze" in command)
    requirements = frozen.rpartition("> ")[2]
    assert requirements in config["cluster_synced_files"]
    assert any(f"pip install --quiet -r {requirements}" in c for c in config["worker_setup_commands"])
    assert not any("==" in command for command in config["worker_setup_commands"])
    assert "~/.ray/auth_token" in config["cluster_synced_files"]
    assert any("RAY_AUTH_MODE=token" in command for command in config["setup_commands"])


def test_this_project_is_installed_from_the_mounted_wheel(config: dict[str, Any]) -> None:
    assert config["file_mounts"] == {"~/stylebatch-wheel": "./dist"}
    for kind in ("head", "worker"):
        assert any("~/stylebatch-wheel/stylebatch-*.whl" in c for c in config[f"{kind}_setup_commands"])


def test_start_commands(config: dict[str, Any]) -> None:
    head = config["head_start_ray_commands"][-1]
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head
    assert "--dashboard-host=127.0.0.1" in head
    _, worker, watcher = config["worker_start_ray_commands"]
    assert "--address=$RAY_HEAD_IP:6379" in worker
    assert re.fullmatch(r"nohup .* stylebatch watch-spot .* &", watcher)
