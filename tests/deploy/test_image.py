"""The Dockerfile and compose.yaml: what linters and their formats say, and what the image does.

Docker runs nothing here. The steps of the Dockerfile run in folders of this machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from api.commands.serve import SLOW_CLIENT_SECONDS
from api.settings import Settings
from persistence.embedded.processes import free_port
from tests.conftest import HASH_SECRET, ROOT
from tests.deploy.dockerfiles import Image, Step, built, context, steps

pytestmark = pytest.mark.slow

UV = Path(sys.executable).with_name("uv")
DOCKERFILES = [ROOT / "Dockerfile", ROOT / "deploy/auth.Dockerfile"]
COMPOSE = ROOT / "compose.yaml"


@pytest.fixture(scope="module")
def linters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the linters' programs, with their own Python."""
    home = tmp_path_factory.mktemp("linters") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    lock = ROOT / "tests/deploy/linters.lock"
    install = (UV, "pip", "install", "--quiet", "--require-hashes", "--requirement", lock)
    subprocess.run(
        [*install, "--python", home / "bin/python"],
        check=True,
        env={"UV_SYSTEM_CERTS": "1"} | os.environ,
    )
    return home / "bin"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    home = tmp_path_factory.mktemp("image")
    image = built(ROOT / "Dockerfile", home, BUILD_COMMIT="0123abc")
    # As with a root file system that is read-only.
    subprocess.run(["chmod", "-R", "a-w", image.root], check=True)
    yield image
    subprocess.run(["chmod", "-R", "u+w", image.root], check=True)


def compose() -> Any:
    return yaml.safe_load(COMPOSE.read_text())


# --- What is written ------------------------------------------------------------------------


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(dockerfile: Path, linters: Path) -> None:
    done = subprocess.run([linters / "hadolint", dockerfile], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "")


def test_compose_yaml_follows_the_specification_of_compose(linters: Path) -> None:
    code = "import compose_spec, sys; compose_spec.PyCompose.from_json(sys.stdin.read())"
    read = [linters / "python", "-c", code]
    # With what YAML's `<<` merges merged.
    document = json.dumps({key: part for key, part in compose().items() if key[:2] != "x-"})

    right = subprocess.run(read, input=document, capture_output=True, text=True)
    wrong = document.replace('"read_only": true', '"read_only": "perhaps"')
    refused = subprocess.run(read, input=wrong, capture_output=True, text=True)

    assert (right.returncode, right.stderr) == (0, "")
    assert refused.returncode == 1


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_as_a_user_without_rights_and_without_a_shell(dockerfile: Path) -> None:
    image_steps = steps(dockerfile)
    last = max(number for number, step in enumerate(image_steps) if step.name == "FROM")
    final = {step.name: step.text for step in image_steps[last:]}

    assert re.fullmatch(r"[1-9]\d{4}:[1-9]\d{4}", final["USER"])
    assert final["CMD"].startswith("[")


def test_every_image_has_an_exact_version() -> None:
    tags = [step.text.partition("=")[2] for step in steps(ROOT / "Dockerfile")[:1]]
    tags += [step.text for step in steps(DOCKERFILES[1]) if step.name == "FROM"]
    tags += [
        service["image"]
        for service in compose()["services"].values()
        if "image" in service and "build" not in service
    ]

    assert [tag for tag in tags if not re.search(r":\d+\.\d+(\.\d+)?-", tag)] == []
    assert len(tags) == 5


def test_the_context_has_what_git_has_and_nothing_else() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    tracked = {Path(line) for line in listed.stdout.splitlines()}

    assert context(ROOT / ".dockerignore") - tracked == set()
    assert Path("alembic/env.py") in tracked


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_every_file_that_is_copied_is_in_the_context(dockerfile: Path) -> None:
    copied = [step.text.split()[:-1] for step in steps(dockerfile) if step.name == "COPY"]
    sources = [source for line in copied if line[0][:2] != "--" for source in line]
    files = context(ROOT / ".dockerignore")

    assert [s for s in sources if not any(f.match(s) or Path(s) in f.parents for f in files)] == []
    assert len(sources) >= 3


def test_an_instance_may_take_as_long_to_stop_as_it_needs() -> None:
    settings = Settings.model_fields
    longest = 5 + settings["request_deadline_seconds"].default + SLOW_CLIENT_SECONDS

    for name in ("twofold-1", "twofold-2"):
        assert int(compose()["services"][name]["stop_grace_period"].rstrip("s")) > longest


def test_the_services_of_compose_are_restricted() -> None:
    services = compose()["services"]
    ours = [services[name] for name in ("twofold-1", "twofold-2", "migrate", "auth")]

    assert all(service["read_only"] and service["cap_drop"] == ["ALL"] for service in ours)
    # From outside, nothing but nginx can be reached, and that from this machine only.
    assert [name for name, service in services.items() if "ports" in service] == ["nginx"]
    assert services["nginx"]["ports"] == ["127.0.0.1:8080:8080"]


def test_compose_migrates_before_an_instance_starts() -> None:
    services = compose()["services"]

    assert services["migrate"]["command"] == ["twofold", "migrate"]
    for name in ("twofold-1", "twofold-2"):
        assert services[name]["depends_on"]["migrate"] == {
            "condition": "service_completed_successfully"
        }


# --- What the image does ---------------------------------------------------------------------


def without_rights() -> list[str]:
    """What to put before a command: root may write to no file then that is not writable."""
    return ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []


def run(image: Image, command: list[str], variables: dict[str, str]) -> tuple[int, str]:
    """Run a program of the image. Returns its exit code and output."""
    program = image.root / "opt/twofold/bin" / command[0]
    done = subprocess.run(
        [*without_rights(), program, *command[1:]], cwd=image.folder, env=variables,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@asynccontextmanager
async def running(
    image: Image, home: Path, **settings: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The image's command, once the health check says that it runs."""
    variables = image.variables | settings | {"TMPDIR": str(home)}
    program = image.root / "opt/twofold/bin" / image.command[0]
    process = await asyncio.create_subprocess_exec(
        *without_rights(), program, *image.command[1:], cwd=image.folder, env=variables,
        stderr=asyncio.subprocess.PIPE, limit=2**20,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            while (await asyncio.to_thread(run, image, image.health, variables))[0]:
                assert process.returncode is None, (await process.communicate())[1].decode()
                await asyncio.sleep(0.1)
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def test_the_image_serves_without_writing_to_its_files_and_stops_at_its_signal(
    image: Image, database_url: str, tmp_path: Path
) -> None:
    port, metrics = free_port(), free_port()
    settings = {
        "DATABASE_URL": database_url,
        "SESSION_HASH_SECRET": HASH_SECRET,
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}",
        "CORS_ORIGINS": "https://app.example.com",
        "PORT": str(port),
        "METRICS_PORT": str(metrics),
        "DRAIN_SECONDS": "0",
    }
    stop = next(step.text for step in steps(ROOT / "Dockerfile") if step.name == "STOPSIGNAL")
    async with running(image, tmp_path, **settings) as process, httpx.AsyncClient() as client:
        ready = await client.get(f"http://127.0.0.1:{port}/health/ready")
        build = await client.get(f"http://127.0.0.1:{port}/health")
        counted = await client.get(f"http://127.0.0.1:{metrics}/metrics")
        process.send_signal(getattr(signal, stop))
        code = await asyncio.wait_for(process.wait(), 60)

    assert ready.status_code == counted.status_code == 200
    assert build.json()["commit"] == "0123abc"
    assert code == 0
    assert run(image, image.health, image.variables | settings)[0] != 0


async def test_the_image_migrates(image: Image, database_url: str) -> None:
    variables = image.variables | {"DATABASE_URL": database_url}
    done = await asyncio.to_thread(run, image, ["twofold", "migrate"], variables)

    assert done == (0, "The schema is up to date.\n")


def test_no_file_of_the_image_can_be_written(image: Image) -> None:
    code = f"open({str(image.folder / 'bin/twofold')!r}, 'a')"

    assert run(image, ["python", "-c", code], image.variables)[0] == 1


def test_the_image_is_without_the_tools_that_made_it(image: Image) -> None:
    programs = {path.name for path in (image.root / "opt/twofold/bin").iterdir()}

    assert {"uv", "pip", "pytest", "hatchling"} & programs == set()
    assert {"twofold", "python"} <= programs
    assert not (image.root / "build").exists()


def test_an_instruction_that_is_unknown_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\nONBUILD RUN true\n")

    with pytest.raises(ValueError, match="ONBUILD"):
        built(tmp_path / "Dockerfile", tmp_path)
    assert steps(tmp_path / "Dockerfile")[0] == Step("FROM", "x")
