"""Time to load the definitions: at most 1.5 s more than `import dagster`.

python -m benchmarks.load
"""

import statistics
import sys

from benchmarks.machine import describe, measured, quietest

ROUNDS = 11
BAR_S = 1.5


def main() -> int:
    print(describe())
    bare, ours = [], []
    for statement in ("import dagster", "import transcription_assets.definitions"):
        _seconds(statement)  # writes bytecode, warms the disk cache
    for _ in range(ROUNDS):
        bare.append(_seconds("import dagster"))
        ours.append(_seconds("import transcription_assets.definitions"))
    more = statistics.median(ours) - statistics.median(bare)
    print(f"import dagster: median {statistics.median(bare):.2f} s ({min(bare):.2f} to {max(bare):.2f})")
    print(
        f"import transcription_assets.definitions: {statistics.median(ours):.2f} s ({min(ours):.2f} to {max(ours):.2f})"
    )
    print(f"{more:.2f} s more, the bar is {BAR_S} s: {'held' if more <= BAR_S else 'MISSED'}")
    return int(more > BAR_S)


def _show(statement: str, times: list[float]) -> None:
    print(f"{statement}: median {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")


def _seconds(statement: str) -> float:
    return quietest(lambda: measured([sys.executable, "-W", "ignore", "-c", statement])).wall_s


if __name__ == "__main__":
    sys.exit(main())
