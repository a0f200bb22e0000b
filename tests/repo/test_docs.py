"""The documents say what is so: trees, links, commands, settings."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from lambent.cli import lambent
from lambent_chassis.settings import Settings
from lambent_frontend.settings import FrontendSettings
from lambent_placement.settings import PlacementSettings
from lambent_worker.settings import WorkerSettings
from loadtest import page
from tests.repo.tree import ROOT, files

DOCUMENTS = [path for path in files() if path.suffix == ".md"]


def commands(group: click.Group, above: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{above} {name}")
        else:
            yield f"{above} {name}"


def test_the_tree_in_the_readme() -> None:
    """It names the folders that are there, each once."""
    tree = (ROOT / "README.md").read_text().split("## The tree")[1].split("##")[0]
    named = re.findall(r"^    (\w+)/ ", tree, re.MULTILINE)
    there = {path.parts[0] for path in files() if len(path.parts) > 1 and not path.parts[0].startswith(".")}
    assert sorted(named) == sorted(there)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link is to a file or folder of the repository."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / document).read_text())
    dead = [link for link in links if "://" not in link and not (ROOT / document.parent / link).exists()]
    assert dead == []


@pytest.mark.parametrize("command", list(commands(lambent, "lambent")))
def test_every_command_is_documented(command: str) -> None:
    """A heading of docs/cli.md names it; the sub-commands of one group share a heading."""
    headings = re.findall(r"^### (.*)$", (ROOT / "docs" / "cli.md").read_text(), re.MULTILINE)
    *group, name = command.split()
    shared = [heading for heading in headings if heading.startswith(f"`{' '.join(group)} ")]
    assert any(re.search(rf"`(?:{' '.join(group)} )?{name}\b", heading) for heading in shared)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_make_targets_exist(document: Path) -> None:
    """Whatever a document tells people to make, the Makefile has."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = (ROOT / document).read_text()
    named = set(re.findall(r"`make ([a-z-]+)", text))
    for fence in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        named |= set(re.findall(r"^make ([a-z-]+)", fence, re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_commands_are_in_fences(document: Path) -> None:
    """In those of the languages that tests/pages runs, so that no command is overlooked."""
    text = re.sub(r"^```.*?^```", "", (ROOT / document).read_text(), flags=re.MULTILINE | re.DOTALL)
    words = r"lambent|make|aws|curl|pip|python3?|systemctl|etcdctl|export|docker|helm|kubectl|git|sudo"
    assert re.findall(rf"^ {{4}}(?:\$ )?(?:\w+=\S+ )*(?:{words}) .*$", text, re.MULTILINE) == []


def test_the_benchmarks_are_of_their_results() -> None:
    """What is committed is what `python -m loadtest.page` would write."""
    wanted = page.files(page.published())
    assert {path: path.read_text() for path in wanted} == wanted
    assert set((ROOT / "docs" / "plots").glob("*.svg")) == {path for path in wanted if path.suffix == ".svg"}


@pytest.mark.parametrize(
    ("part", "model"),
    [("frontend", FrontendSettings), ("placement", PlacementSettings), ("worker", WorkerSettings)],
)
def test_settings_files(part: str, model: type[Settings], tmp_path: Path) -> None:
    """Each part's file is sound as it is and with all comments lifted, and it has every key."""
    text = (ROOT / "deploy" / f"{part}.toml").read_text()
    model.load(ROOT / "deploy" / f"{part}.toml")
    keys = re.findall(r"^(?:# )?(\w+) = ", text, re.MULTILINE)
    assert sorted(keys) == sorted(model.model_fields)
    lifted = tmp_path / "lifted.toml"
    lifted.write_text(
        re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE).replace("the host's name", "host")
    )
    shown, default = model.load(lifted), model.load(ROOT / "deploy" / f"{part}.toml")
    examples = {"name", "etcd_ca", "etcd_cert", "etcd_key", "memory_mb", "record", "data", "destinations"} | {
        "nats",
        "nats_credentials",
        "nats_ca",
        "nats_cert",
        "nats_key",
        "fleet_ca",
        "fleet_cert",
        "fleet_key",
        "tls_cert",
        "tls_key",
        "tls_client_ca",
        "environment_key",
        "environment_public_key",
    }
    assert shown.model_dump(exclude=examples) == default.model_dump(exclude=examples)


FORBIDDEN = [
    *(
        ".".join(host)
        for host in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("crates", "io"))
    ),
    "/work" + "/main",
    "/work" + "/shared",
]


def test_the_repository_speaks_of_the_product_alone() -> None:
    """No package registry is named, as everybody has their own; nor any path of one machine."""
    found = []
    for path in files():
        try:
            text = (ROOT / path).read_text()
        except UnicodeDecodeError:
            continue
        found += [(str(path), word) for word in FORBIDDEN if word in text]
    assert found == []
