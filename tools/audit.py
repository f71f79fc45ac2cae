"""Audits the pinned packages for known vulnerabilities: `python tools/audit.py FILE …`.

Where the data cannot be reached, it says so, and that nothing was audited: no network is no
failure. The exit code is 1 only if a package is known to be vulnerable.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

TIMEOUT_S = 15
"""For each answer of the service."""
IN_ALL_S = 120


def main() -> int:
    return max([audited(Path(name)) for name in sys.argv[1:]], default=0)


def audited(requirements: Path) -> int:
    """Print what is known against the packages of a file. Returns: 1 if there is anything."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements)]
    # Versions and hashes are in the file: nothing is resolved, and nothing installed.
    options = ["--require-hashes", "--disable-pip", "--format=json", "--progress-spinner=off"]
    try:
        done = subprocess.run(
            [*command, *options, f"--timeout={TIMEOUT_S}"],
            capture_output=True,
            text=True,
            timeout=IN_ALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _unaudited(requirements, f"no answer within {IN_ALL_S} s")
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return _unaudited(requirements, (done.stderr.strip() or "no output").splitlines()[-1])
    said = told(found)
    skipped = [package["skip_reason"] for package in found if "skip_reason" in package]
    if len(skipped) == len(found):  # as behind a mirror that has packages, but no advisories
        return _unaudited(requirements, skipped[0] if skipped else "no packages")
    for line in said:
        print(f"{requirements}: {line}")
    if said:
        print(
            f"{requirements}: raise these pins (`make lock`), run `make test`, and release; where "
            "there is no fix yet, see whether Parley uses what is affected"
        )
    print(
        f"{requirements}: {len(found) - len(skipped)} packages audited, {len(said)} known "
        f"vulnerabilities{f', {len(skipped)} packages not audited' if skipped else ''}"
    )
    return 1 if said else 0


def told(packages: list[dict[str, Any]]) -> list[str]:
    """Return a line for each known vulnerability of a report of pip-audit's."""
    return [
        f"{package['name']} {package['version']}: {one['id']}, "
        + (f"fixed in {', '.join(one['fix_versions'])}" if one["fix_versions"] else "no fix yet")
        for package in packages
        for one in package.get("vulns", ())
    ]


def _unaudited(requirements: Path, why: str) -> int:
    print(
        f"{requirements}: NOT AUDITED, because the data cannot be reached: {why}. Run `make audit` "
        "where PyPI itself can be reached, not a mirror, or scan build/sbom.json (`make sbom`) "
        "before a release"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
