"""What is shipped and is not ours: `sbom.json` (CycloneDX 1.6) and `THIRD_PARTY_NOTICES`.

`python -m supply.materials [--check]`, for development only. Python packages are those that the
service and its extra `otel` need on this machine, in the versions that are installed, which are
those of `requirements-runtime.lock`. JavaScript is that of `/docs` and GraphiQL. Nothing depends on
the time or the host.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[1]
EXTRAS: Final = ("", "otel")
GRAPHIQL_LICENCES: Final = "graphql_schema/graphiql/dist/LICENSES.txt"
SWAGGER_LICENCES: Final = (
    "rest/docs/LICENSE, rest/docs/NOTICE, rest/docs/swagger-ui-bundle.js.LICENSE.txt"
)


@dataclass(frozen=True, slots=True)
class Material:
    """A package that is shipped, or that a server installs.

    Attributes:
        purl: its name everywhere (package URL).
        licence: an SPDX expression, or what the package calls its licence.
        is_expression: whether it is the former.
        text: the licence's text, or the files that have it.
        needs: the purls of what it needs.
    """

    name: str
    version: str
    purl: str
    licence: str
    is_expression: bool
    text: str
    needs: tuple[str, ...] = ()


def materials() -> list[Material]:
    """Everything that is shipped, in order of the purls."""
    return sorted([*_python_packages(), *_javascript()], key=lambda material: material.purl)


def _python_packages() -> Iterator[Material]:
    packages: dict[str, tuple[Distribution, set[str]]] = {}
    waiting = [(requirement.name, requirement.extras) for requirement in _own_requirements()]
    while waiting:
        name, extras = waiting.pop()
        package = distribution(name)
        needs = list(_needs(package, extras))
        _, known = packages.setdefault(canonicalize_name(name), (package, set()))
        new = [each for each in needs if each.name not in known]
        known.update(each.name for each in new)
        waiting += [(each.name, each.extras) for each in new]
    for package, names in packages.values():
        yield _material(package, tuple(sorted(_purl(distribution(name)) for name in names)))


def _own_requirements() -> list[Requirement]:
    return [
        requirement
        for requirement in map(Requirement, distribution("twofold").requires or [])
        if _holds(requirement, EXTRAS)
    ]


def _needs(package: Distribution, extras: set[str]) -> Iterator[Requirement]:
    for requirement in map(Requirement, package.requires or []):
        if _holds(requirement, ("", *extras)):
            yield requirement


def _holds(requirement: Requirement, extras: Sequence[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras)


def _purl(package: Distribution) -> str:
    return f"pkg:pypi/{canonicalize_name(package.name)}@{package.version}"


def _material(package: Distribution, needs: tuple[str, ...]) -> Material:
    metadata = package.metadata
    expression = _first(package, "License-Expression")
    classifiers = [
        value.rpartition(" :: ")[2]
        for value in metadata.get_all("Classifier") or []
        if value.startswith("License ::")
    ]
    declared = _first(package, "License") or ""
    named = declared if 0 < len(declared) <= _LONGEST_NAME else ", ".join(classifiers)
    return Material(
        canonicalize_name(package.name),
        package.version,
        _purl(package),
        expression or named or "not declared",
        expression is not None,
        "\n\n".join(_texts(package)) or "The package has no text of its licence.",
        needs,
    )


def _first(package: Distribution, name: str) -> str | None:
    """A field of a package's metadata."""
    values: list[str] = package.metadata.get_all(name) or []
    return values[0] if values else None


_LONGEST_NAME: Final = 60
"""Characters of a licence's name; what is longer is its text."""

_LICENCE_FILE: Final = re.compile(r"(LICEN[CS]E|COPYING|NOTICE)[^/]*$", re.IGNORECASE)


def _texts(package: Distribution) -> Iterator[str]:
    for file in sorted(package.files or (), key=str):
        if _LICENCE_FILE.search(file.name) and ".dist-info" in str(file):
            text = Path(str(package.locate_file(file))).read_text(
                encoding="utf-8", errors="replace"
            )
            yield "\n".join(line.rstrip() for line in text.strip().splitlines())


def _javascript() -> Iterator[Material]:
    text = (ROOT / GRAPHIQL_LICENCES).read_text(encoding="utf-8")
    for name, version, licence in _HEADING.findall(text):
        yield _npm(name, version, licence, f"The text is in {GRAPHIQL_LICENCES}.")
    readme = (ROOT / "rest/docs/README.md").read_text(encoding="utf-8")
    [version] = re.findall(r"^version=(\S+)$", readme, re.MULTILINE)
    yield _npm("swagger-ui-dist", version, "Apache-2.0", f"The texts are in {SWAGGER_LICENCES}.")


_HEADING: Final = re.compile(
    r"(?:^|={80}\n\n)(\S+) (\S+) \(([^()\n]*(?:\([^()\n]*\)[^()\n]*)*)\)\n"
)


def _npm(name: str, version: str, licence: str, text: str) -> Material:
    purl = f"pkg:npm/{name.replace('@', '%40')}@{version}"
    return Material(name, version, purl, licence, True, text)


def generate_sbom(locked: Sequence[Material]) -> str:
    """CycloneDX 1.6 in JSON, with a line break at its end."""
    twofold = distribution("twofold")
    reference = f"pkg:generic/twofold@{twofold.version}"
    direct = {canonicalize_name(requirement.name) for requirement in _own_requirements()}
    roots = [
        each.purl for each in locked if each.name in direct or each.purl.startswith("pkg:npm/")
    ]
    bill: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": reference,
                "name": "twofold",
                "version": twofold.version,
                "licenses": [{"expression": "MIT"}],
            }
        },
        "components": [_component(each) for each in locked],
        "dependencies": [
            {"ref": reference, "dependsOn": roots},
            *({"ref": each.purl, "dependsOn": list(each.needs)} for each in locked),
        ],
    }
    return json.dumps(bill, indent=2, ensure_ascii=False) + "\n"


def _component(material: Material) -> dict[str, Any]:
    licence = (
        {"expression": material.licence}
        if material.is_expression
        else {"license": {"name": material.licence}}
    )
    return {
        "type": "library",
        "bom-ref": material.purl,
        "name": material.name,
        "version": material.version,
        "licenses": [licence],
        "purl": material.purl,
    }


def generate_notices(locked: Sequence[Material]) -> str:
    """Name, version, licence and its text of everything that is shipped."""
    line = "=" * 80
    parts = [f"{each.name} {each.version} ({each.licence})\n\n{each.text}\n" for each in locked]
    return f"Twofold is shipped with, or installs, the following.\n\n{line}\n\n" + (
        f"\n{line}\n\n".join(parts)
    )


FILES: Final = {"sbom.json": generate_sbom, "THIRD_PARTY_NOTICES": generate_notices}


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write both files, or with ``--check`` compare them. Returns the exit code."""
    is_check = list(sys.argv[1:] if arguments is None else arguments) == ["--check"]
    try:
        locked = materials()
    except PackageNotFoundError as error:
        print(f"{error} is not installed", file=sys.stderr)
        return 1
    for name, generate in FILES.items():
        text = generate(locked)
        if not is_check:
            (root / name).write_text(text, encoding="utf-8")
        elif (root / name).read_text(encoding="utf-8") != text:
            print(f"{name} differs from what is installed. Run: make sbom", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
