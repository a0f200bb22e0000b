"""What is in deploy/docker and deploy/helm, as far as it can be checked without a container or a cluster."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml  # type: ignore[import-untyped]

from lambent.cli import lambent
from lambent_chassis.settings import PREFIX, Settings, variable
from lambent_frontend.settings import FrontendSettings
from lambent_placement.settings import PlacementSettings
from lambent_worker.settings import WorkerSettings

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE: Final = DEPLOY / "docker" / "compose.yml"
CHART: Final = DEPLOY / "helm" / "lambent"
MODELS: Final[dict[str, type[Settings]]] = {
    "frontend": FrontendSettings,
    "placement": PlacementSettings,
    "worker": WorkerSettings,
}
TEMPLATES: Final = sorted((CHART / "templates").glob("*.yaml"))
KUBERNETES: Final = ("1.30", kubernetes_validate.latest_version())
"""An old one that has all that the chart uses, and the newest whose schema is known."""


def test_the_dockerfile() -> None:
    """hadolint finds nothing, and its shellcheck neither."""
    told = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), DEPLOY / "docker" / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stdout) == (0, "")


def test_what_the_image_is_built_of_is_sent() -> None:
    """Whatever the wheel needs, and nothing of a developer's folder."""
    kept = (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text().split()
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())
    rooms = {it.split("/")[0] for it in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    assert kept[0] == "*"
    assert {f"!{it}" for it in (*rooms, "pyproject.toml", "README.md", "LICENSE")} <= set(kept)


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="there is no docker-compose on the PATH")
def test_compose_takes_the_file() -> None:
    command = ["docker-compose", "-f", str(COMPOSE), "config", "-q"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")


@pytest.mark.parametrize("part", MODELS)
def test_a_service_of_compose(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs a part that there is, with settings that the part takes."""
    service = yaml.safe_load(COMPOSE.read_text())["services"][part]
    assert service["command"] == [part]
    assert part in lambent.commands
    for name, value in {"LAMBENT_HOST": "172.18.0.2", **service["environment"]}.items():
        monkeypatch.setenv(name, str(value))
    MODELS[part].load()


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda it: it.stem)
def test_kubernetes_takes_it(template: Path, version: str) -> None:
    """Each document is of its kind's schema, and has no field that is not in it."""
    for document in documents(template):
        kubernetes_validate.validate(document, version, strict=True)


def test_the_settings_in_the_chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part takes its file together with the variables of its container."""
    (texts,) = (it["data"] for it in documents(CHART / "templates" / "settings.yaml"))
    for part, model in MODELS.items():
        (tmp_path / f"{part}.toml").write_text(texts[f"{part}.toml"])
        workload = next(it for it in documents(CHART / "templates" / f"{part}.yaml") if container(it))
        own = container(workload)
        assert own["args"] == [part, "--config", f"/etc/lambent/{part}.toml"]
        with monkeypatch.context() as patch:
            for it in own["env"]:
                assert it["name"] in {variable(key) for key in model.model_fields}
                patch.setenv(it["name"], it.get("value", "10.0.0.9"))
            model.load(tmp_path / f"{part}.toml")
        assert PREFIX in own["env"][0]["name"]


def container(document: dict[str, Any]) -> dict[str, Any]:
    """Of a workload; empty for anything else."""
    pod = document.get("spec", {}).get("template", {}).get("spec", {})
    found: dict[str, Any] = pod.get("containers", [{}])[0]
    return found


def documents(template: Path) -> list[dict[str, Any]]:
    """As Helm renders them: templates hold nothing but values, quoted or indented, and the release's name."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def value(found: re.Match[str]) -> str:
        path, function, number = found["path"], found["function"], found["number"]
        here: Any = {"Values": values, "Release": {"Name": "fleet"}}
        for key in path.split(".")[1:]:
            here = here[key]
        if function == "quote":
            return '"' + str(here).replace("\\", "\\\\").replace('"', '\\"') + '"'
        if function == "indent":
            return "\n".join(" " * int(number) + line for line in str(here).split("\n"))
        return str(here)

    known = (
        r"\{\{ (?P<path>\.(?:Values|Release)[.\w]+)"
        r"(?: \| (?P<function>quote|indent)(?: (?P<number>\d+))?)? \}\}"
    )
    text = re.sub(known, value, template.read_text())
    assert "{{" not in text, "something that this test does not render as Helm would"
    return list(yaml.safe_load_all(text))
