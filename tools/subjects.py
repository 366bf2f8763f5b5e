"""Check commit subjects: `python tools/subjects.py [MESSAGE_FILE]`.

With the file of a commit message, as git passes it to the hook commit-msg, that message is checked; without one, the
last 20 commits that are not merges. Exit status 1 if a subject breaks a rule of CONTRIBUTING.md.
"""

import subprocess
import sys
from pathlib import Path

LONGEST = 72
COMMITS = 20
GENERATED = ("Merge ", "fixup! ", "squash! ", "amend! ")


def problems(subject: str) -> list[str]:
    """Return the rules that a subject breaks."""
    if subject.startswith(GENERATED):
        return []
    rules = {
        f"is longer than {LONGEST} characters": len(subject) > LONGEST,
        "does not start with a capital letter": not subject[:1].isupper(),
        "ends with a full stop": subject.endswith("."),
    }
    return [rule for rule, broken in rules.items() if broken]


def subjects(message: Path | None) -> list[str]:
    """Return the subject of a message file, else those of the last commits; none outside a git repository."""
    if message:
        lines = message.read_text(encoding="utf-8").splitlines()
        return [next((line for line in lines if line.strip() and not line.startswith("#")), "")]
    command = ["git", "log", f"-{COMMITS}", "--no-merges", "--format=%s"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def main() -> int:
    """Print what is wrong; return the exit status."""
    found = subjects(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    wrong = [f"commit subject {rule}: {subject}" for subject in found for rule in problems(subject)]
    print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
