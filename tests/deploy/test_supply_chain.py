"""What the image has is listed, and looked up; and the Dockerfile is as docs/security.md says."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

AUDIT = str(REPOSITORY / "tools" / "audit.py")
SERVER = REPOSITORY / "requirements" / "server.txt"
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
PIN = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)


def test_sbom_has_every_pinned_package_with_its_hashes(tmp_path: Path) -> None:
    path = tmp_path / "sbom.json"

    subprocess.run(
        # `.ci/run` makes it with the check against CycloneDX' schema, which takes 5 s.
        ["make", "--no-print-directory", "sbom", f"SBOM={path}", "SBOM_OPTIONS=--no-validate"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )

    made = json.loads(path.read_text())
    assert "CycloneDX" == made["bomFormat"]
    listed = {(one["name"], one["version"]) for one in made["components"]}
    assert set(PIN.findall(SERVER.read_text())) == listed
    assert all(one["externalReferences"][0]["hashes"] for one in made["components"])


def test_audit_that_cannot_be_made_says_so_and_fails_nothing() -> None:
    """Port 1 of this machine answers nothing. Without the case the audit would look passed."""
    done = subprocess.run(
        [sys.executable, AUDIT, "requirements/uv.txt"],
        cwd=REPOSITORY,
        env={"HTTPS_PROXY": "http://127.0.0.1:1", "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert "requirements/uv.txt: NOT AUDITED, because the data cannot be reached" in done.stdout
    assert "Run `make audit` where PyPI itself can be reached" in done.stdout


def test_audit_tells_each_vulnerability_and_what_fixes_it() -> None:
    report = [
        {"name": "safe", "version": "1", "vulns": []},
        {
            "name": "jinja2",
            "version": "2.4.1",
            "vulns": [
                {"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"], "aliases": []},
                {"id": "PYSEC-2021-66", "fix_versions": [], "aliases": []},
            ],
        },
        {"name": "ours", "skip_reason": "not on PyPI"},
    ]

    assert [
        "jinja2 2.4.1: PYSEC-2019-217, fixed in 2.10.1",
        "jinja2 2.4.1: PYSEC-2021-66, no fix yet",
    ] == runpy.run_path(AUDIT)["told"](report)


def test_image_installs_only_what_is_pinned_with_hashes() -> None:
    installs = re.findall(r"pip install(?:\\\n|[^&\n])*", DOCKERFILE)

    assert installs
    assert all("--require-hashes" in one or "--no-deps dist/*.whl" in one for one in installs)


def test_image_runs_as_a_number_and_has_nothing_of_the_build() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]

    assert "\nUSER 10001:10001\n" in final
    assert ["COPY --from=build /opt/parley /opt/parley"] == re.findall(r"^COPY.*", final, re.M)
    assert "chown" not in final  # root's, so that the process cannot change its own code
