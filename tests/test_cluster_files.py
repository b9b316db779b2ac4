"""``docs/clusters/``: the on-premises launcher file, the Kubernetes files, and AWS's policies."""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import stylebatch

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "clusters"
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in (*FOLDER.iterdir(), ROOT / "cluster.yaml")}

TEXT = {"type": "string", "minLength": 1}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}
QUANTITIES = {"type": "object", "minProperties": 1, "additionalProperties": QUANTITY}
RESOURCES = {
    "type": "object",
    "required": ["requests", "limits"],
    "properties": {"requests": QUANTITIES, "limits": QUANTITIES},
    "additionalProperties": False,
}
START_OPTIONS = {"type": "object", "additionalProperties": {"type": "string"}}
CONTAINER = {
    "type": "object",
    "required": ["name", "image", "resources"],
    "properties": {
        "name": TEXT,
        "image": TEXT,
        "resources": RESOURCES,
        "ports": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "containerPort"],
                "properties": {
                    "name": {"type": "string", "pattern": "^[a-z0-9-]{1,15}$"},
                    "containerPort": {"type": "integer", "minimum": 1, "maximum": 65535},
                },
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}
POD = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["serviceAccountName", "terminationGracePeriodSeconds", "containers"],
            "properties": {
                "serviceAccountName": TEXT,
                "terminationGracePeriodSeconds": {"type": "integer", "minimum": 0},
                "tolerations": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["key", "operator", "effect"],
                        "properties": {
                            "key": TEXT,
                            "operator": {"enum": ["Exists", "Equal"]},
                            "effect": {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
                        },
                        "additionalProperties": False,
                    },
                },
                "containers": {"type": "array", "minItems": 1, "items": CONTAINER},
            },
            "additionalProperties": False,
        }
    },
    "additionalProperties": False,
}
CLUSTER_SPEC = {
    "type": "object",
    "required": ["rayVersion", "headGroupSpec", "workerGroupSpecs"],
    "properties": {
        "rayVersion": {"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
        "authOptions": {
            "type": "object",
            "properties": {"mode": {"enum": ["token", "disabled"]}},
            "additionalProperties": False,
        },
        "enableInTreeAutoscaling": {"type": "boolean"},
        "autoscalerOptions": {
            "type": "object",
            "properties": {
                "idleTimeoutSeconds": {"type": "integer", "minimum": 0},
                "upscalingMode": {"enum": ["Default", "Aggressive", "Conservative"]},
                "resources": RESOURCES,
            },
            "additionalProperties": False,
        },
        "headGroupSpec": {
            "type": "object",
            "required": ["rayStartParams", "template"],
            "properties": {"rayStartParams": START_OPTIONS, "template": POD},
            "additionalProperties": False,
        },
        "workerGroupSpecs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
                "properties": {
                    "groupName": TEXT,
                    "replicas": {"type": "integer", "minimum": 0},
                    "minReplicas": {"type": "integer", "minimum": 0},
                    "maxReplicas": {"type": "integer", "minimum": 0},
                    "rayStartParams": START_OPTIONS,
                    "template": POD,
                },
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}
JOB_SPEC = {
    "type": "object",
    "required": ["entrypoint", "rayClusterSpec"],
    "properties": {
        "entrypoint": TEXT,
        "runtimeEnvYAML": TEXT,
        "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
        "backoffLimit": {"type": "integer", "minimum": 0},
        "shutdownAfterJobFinishes": {"type": "boolean"},
        "ttlSecondsAfterFinished": {"type": "integer", "minimum": 0},
        "rayClusterSpec": CLUSTER_SPEC,
    },
    "additionalProperties": False,
}


def resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The structure of one of KubeRay's resources; a field that is not here is a slip."""
    metadata = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string", "pattern": "^[a-z]([-a-z0-9]{0,45}[a-z0-9])?$"}},
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": "ray.io/v1"},
            "kind": {"const": kind},
            "metadata": metadata,
            "spec": spec,
        },
        "additionalProperties": False,
    }


def documents(name: str) -> list[dict[str, Any]]:
    return [*yaml.safe_load_all(TEXTS[name])]


@pytest.fixture
def account() -> dict[str, Any]:
    return documents("raycluster.yaml")[0]


@pytest.fixture
def cluster() -> dict[str, Any]:
    return documents("raycluster.yaml")[1]


@pytest.fixture
def job() -> dict[str, Any]:
    (only,) = documents("rayjob.yaml")
    return only


class TestKubernetes:
    def test_the_cluster_has_the_structure_of_its_resource(self, cluster: dict[str, Any]) -> None:
        jsonschema.validate(cluster, resource("RayCluster", CLUSTER_SPEC))

    def test_the_job_has_the_structure_of_its_resource(self, job: dict[str, Any]) -> None:
        jsonschema.validate(job, resource("RayJob", JOB_SPEC))

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("minReplicas: 0", "minReplica: 0"),
            ('num-cpus: "0"', "num-cpus: 0"),
            ("memory: 8Gi", "memory: 8GB"),
            ("kind: RayCluster", "kind: RayJob"),
            ("containerPort: 8265", "containerPort: dashboard"),
            ("            image: REGISTRY/stylebatch:0.1.0 # EDIT\n            ports", "            ports"),
        ],
    )
    def test_a_slip_is_noticed(self, before: str, after: str) -> None:
        text = TEXTS["raycluster.yaml"]
        assert before in text
        changed = [*yaml.safe_load_all(text.replace(before, after, 1))][1]
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(changed, resource("RayCluster", CLUSTER_SPEC))

    def test_the_job_has_the_cluster_that_stays(self, cluster: dict[str, Any], job: dict[str, Any]) -> None:
        assert job["spec"]["rayClusterSpec"] == cluster["spec"]

    def test_the_head_has_no_gpu_and_runs_no_work(self, cluster: dict[str, Any]) -> None:
        head = cluster["spec"]["headGroupSpec"]
        assert head["rayStartParams"]["num-cpus"] == "0"
        (container,) = head["template"]["spec"]["containers"]
        assert container["name"] == "ray-head"
        assert not any("gpu" in name for name in container["resources"]["limits"])
        assert {"name": "dashboard", "containerPort": 8265} in container["ports"]

    def test_workers_have_a_gpu_each_and_come_with_the_work(self, cluster: dict[str, Any]) -> None:
        spec = cluster["spec"]
        assert spec["enableInTreeAutoscaling"] is True
        assert 0 < spec["autoscalerOptions"]["idleTimeoutSeconds"] <= 1800
        for group in spec["workerGroupSpecs"]:
            assert (group["replicas"], group["minReplicas"]) == (0, 0)
            assert group["maxReplicas"] > 0
            (container,) = group["template"]["spec"]["containers"]
            assert container["name"] == "ray-worker"
            assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
            assert container["resources"]["requests"] == container["resources"]["limits"]

    def test_ends_leave_time_for_checkpoints(self, cluster: dict[str, Any], job: dict[str, Any]) -> None:
        from stylebatch.cluster.options import DEFAULT_GRACE
        from stylebatch.cluster.submission import STOP_MARGIN

        pods = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
        for pod in pods:
            assert pod["template"]["spec"]["terminationGracePeriodSeconds"] > DEFAULT_GRACE + STOP_MARGIN
        environment = yaml.safe_load(job["spec"]["runtimeEnvYAML"])
        assert int(environment["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]) >= DEFAULT_GRACE + STOP_MARGIN

    def test_storage_access_is_the_role_of_a_service_account(
        self, account: dict[str, Any], cluster: dict[str, Any]
    ) -> None:
        assert (account["apiVersion"], account["kind"]) == ("v1", "ServiceAccount")
        role = account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
        assert re.fullmatch(r"arn:aws:iam::\d{12}:role/stylebatch-worker", role)
        for pod in (cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]):
            assert pod["template"]["spec"]["serviceAccountName"] == account["metadata"]["name"]

    def test_the_cluster_asks_for_a_token(self, cluster: dict[str, Any]) -> None:
        assert cluster["spec"]["authOptions"] == {"mode": "token"}

    def test_the_job_is_a_command_of_this_program(self, job: dict[str, Any]) -> None:
        from stylebatch.cli.parser import make_parser

        words = shlex.split(job["spec"]["entrypoint"])
        assert words[:3] == ["python", "-m", "stylebatch"]
        options = make_parser().parse_args(words[3:])
        assert (options.address, options.device) == ("auto", "gpu")
        assert options.output.startswith("s3://")
        assert job["spec"]["shutdownAfterJobFinishes"] is True


class TestOnPremises:
    @pytest.fixture
    def config(self) -> dict[str, Any]:
        from ray.autoscaler._private.util import prepare_config, validate_config

        prepared: dict[str, Any] = prepare_config(yaml.safe_load(TEXTS["on-premises.yaml"]))
        validate_config(prepared)
        return prepared

    def test_every_machine_is_used(self, config: dict[str, Any]) -> None:
        assert config["provider"]["type"] == "local"
        (machines,) = config["available_node_types"].values()
        count = len(config["provider"]["worker_ips"])
        assert count >= 1
        assert (machines["min_workers"], machines["max_workers"], config["max_workers"]) == (count,) * 3

    def test_the_head_runs_no_work(self, config: dict[str, Any]) -> None:
        start = config["head_start_ray_commands"][-1]
        assert "--num-cpus=0 --num-gpus=0" in start
        assert "--dashboard-host=127.0.0.1" in start
        assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start

    def test_it_is_set_up_as_on_aws(self, config: dict[str, Any]) -> None:
        aws = yaml.safe_load(TEXTS["cluster.yaml"])
        same = ("file_mounts", "cluster_synced_files")
        assert {name: config[name] for name in same} == {name: aws[name] for name in same}
        assert (
            config["worker_start_ray_commands"] == aws["worker_start_ray_commands"][:-1]
        )  # nobody takes them away
        ours = yaml.safe_load(TEXTS["on-premises.yaml"])
        for name in ("head_setup_commands", "worker_setup_commands"):
            assert ours[name] == aws[name]
        assert ours["setup_commands"] == [line for line in aws["setup_commands"] if "apt-get" not in line]


def pinned_versions() -> Iterator[tuple[str, str]]:
    """Every version of Ray that a file names, with the file."""
    pattern = re.compile(r"ray\[default\]==([\d.]+)|rayVersion: \"([\d.]+)\"|rayproject/ray:([\d.]+)")
    for name, text in TEXTS.items():
        yield from ((name, next(filter(None, match.groups()))) for match in pattern.finditer(text))


def test_all_files_have_one_ray() -> None:
    found = [*pinned_versions()]
    assert {name for name, _ in found} == {
        *("cluster.yaml", "on-premises.yaml", "Dockerfile", "raycluster.yaml", "rayjob.yaml")
    }
    assert len({version for _, version in found}) == 1, found


def test_images_have_the_version_of_this_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version == stylebatch.__version__
    for name in ("raycluster.yaml", "rayjob.yaml", "Dockerfile"):
        assert set(re.findall(r"stylebatch[:-](\d+\.\d+\.\d+)", TEXTS[name])) == {version}, name


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_no_keys_and_no_development_builds(name: str) -> None:
    text = TEXTS[name]
    assert not re.search(r"A(KI|SI)A[A-Z0-9]{12}", text)
    assert not re.search(r"(?i)aws_?(secret|access|session)|secret_?(access_?)?key|password|\.pem", text)
    assert not re.search(r"nightly|ray-wheels|:latest\b", text)


class TestAws:
    def statements(self, name: str) -> list[dict[str, Any]]:
        policy = json.loads(TEXTS[name])
        assert policy["Version"] == "2012-10-17"
        found: list[dict[str, Any]] = policy["Statement"]
        assert all(statement["Effect"] == "Allow" for statement in found)
        return found

    def test_the_bucket_and_nothing_else(self) -> None:
        for statement in self.statements("aws-bucket.json"):
            assert all(action.startswith("s3:") and "*" not in action for action in statement["Action"])
            assert re.fullmatch(r"arn:aws:s3:::BUCKET(/\*)?", statement["Resource"])

    def test_the_rights_are_those_that_the_documents_name(self) -> None:
        rights = {action for each in self.statements("aws-bucket.json") for action in each["Action"]}
        operating = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
        assert set(re.findall(r"`(s3:\w+)`", operating)) == rights

    def test_the_head_passes_on_no_other_role_and_ends_no_other_machine(self) -> None:
        by_name = {statement["Sid"]: statement for statement in self.statements("aws-head.json")}
        aws = yaml.safe_load(TEXTS["cluster.yaml"])
        worker = aws["available_node_types"]["gpu-worker"]["node_config"]["IamInstanceProfile"]["Name"]
        passed = by_name["GiveWorkersTheirRole"]
        assert (passed["Action"], passed["Resource"]) == ("iam:PassRole", f"arn:aws:iam::*:role/{worker}")
        ended = by_name["TagAndEndMachinesOfThisCluster"]
        assert ended["Condition"] == {
            "StringEquals": {"ec2:ResourceTag/ray-cluster-name": aws["cluster_name"]}
        }
        others = [each for sid, each in by_name.items() if sid != "TagAndEndMachinesOfThisCluster"]
        assert not any("Terminate" in json.dumps(each["Action"]) for each in others)

    def test_machines_take_on_the_roles(self) -> None:
        (statement,) = self.statements("aws-trust.json")
        assert statement["Principal"] == {"Service": "ec2.amazonaws.com"}
        assert statement["Action"] == "sts:AssumeRole"

    def test_the_page_names_files_that_are_there(self) -> None:
        page = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
        for name in re.findall(r"docs/clusters/([\w.-]+)", page):
            assert name in TEXTS, name
        for link in re.findall(r"\]\((?!http)([^)#]+)", page):
            assert (ROOT / "docs" / link).exists(), link
