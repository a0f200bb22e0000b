"""Alert rules, dashboard and Prometheus' file: its own tool takes them, and they ask for what there is."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
SERIES = ("_bucket", "_count", "_sum")

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="there is no promtool, of Debian's prometheus, on the PATH"
)


def promtool(*arguments: str, folder: Path) -> None:
    told = subprocess.run(
        ["promtool", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return list(group["rules"])


def drawn() -> Iterator[str]:
    """The queries of the dashboard, as Grafana sends them."""
    for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "5m")


@pytest.mark.parametrize("query", [*drawn(), *(rule["expr"] for rule in rules())])
def test_it_asks_for_metrics_that_there_are(query: str) -> None:
    documented = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    known = {*documented, *(f"{name}{end}" for name in documented for end in SERIES), "up"}
    asked = set(re.findall(r"\b(?:lambent_\w+|up)\b", query))
    assert asked
    assert asked <= known


def test_each_alert_says_what_to_do() -> None:
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "do"}, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")


@needs_promtool
def test_alerts_are_heard_when_they_should_be_and_not_else(tmp_path: Path) -> None:
    """Situations and what is heard then are in alerts.yml, beside this."""
    shutil.copy(MONITORING / "alerts.yml", tmp_path / "rules.yml")
    shutil.copy(Path(__file__).with_name("alerts.yml"), tmp_path / "tests.yml")
    promtool("test", "rules", "tests.yml", folder=tmp_path)


@needs_promtool
def test_prometheus_takes_its_file(tmp_path: Path) -> None:
    """With files where it looks for certificates."""
    shutil.copy(MONITORING / "alerts.yml", tmp_path)
    text = (MONITORING / "prometheus.yml").read_text()
    for path in set(re.findall(r"/etc/lambent/\S+", text)):
        (tmp_path / Path(path).name).touch()
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/lambent", str(tmp_path)))
    promtool("check", "config", "--syntax-only", "prometheus.yml", folder=tmp_path)


@needs_promtool
def test_the_dashboards_queries_can_be_read(tmp_path: Path) -> None:
    recorded = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(drawn())]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "drawn", "rules": recorded}]}))
    promtool("check", "rules", "rules.yml", folder=tmp_path)
