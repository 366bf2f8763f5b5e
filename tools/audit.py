"""Look up every locked package in the database of known vulnerabilities: `python tools/audit.py`.

Exit status: 0 none are known, 1 vulnerabilities are known, 3 the database cannot be reached (nothing was audited). The
report is written to build/audit.json; `audited` is false in the last case.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
REPORT = ROOT / "build/audit.json"
NAMES = ("torch", "cuda", "build", "dev", "image-gpu", "tools")  # dev includes the layers below it
NOT_AUDITED = 3


def report() -> list[dict[str, Any]]:
    """Return the report of pip-audit for each package, empty if the database cannot be reached."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--format", "json"]
    command += ["--progress-spinner", "off"]
    for name in NAMES:
        command += ["--requirement", str(LOCKS / f"{name}.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        sys.stderr.write(done.stderr)
        return []
    packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    return packages


def main() -> int:
    """Print the known vulnerabilities and the packages that the database lacks, and return the exit status."""
    packages = report()
    REPORT.parent.mkdir(exist_ok=True)
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    audited = len(skipped) < len(packages)
    REPORT.write_text(json.dumps({"audited": audited, "packages": packages}, indent=1))
    if not audited:
        print("audit: NOT RUN, the database of vulnerabilities cannot be reached from here")
        return NOT_AUDITED
    if skipped:
        print(f"audit: {len(skipped)} packages are not in the database: {', '.join(sorted(skipped))}")
    known = [(package, found) for package in packages for found in package.get("vulns", ())]
    for package, found in known:
        fixed = ", ".join(found["fix_versions"]) or "no release"
        print(f"{package['name']} {package['version']}: {found['id']}, fixed in {fixed}")
    print(f"audit: {len(packages) - len(skipped)} packages, {len(known)} known vulnerabilities")
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(main())
