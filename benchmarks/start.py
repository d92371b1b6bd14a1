"""Start-up time of `trimbre --help`.

python benchmarks/start.py
"""

import statistics
import subprocess
import sys
import time


def main() -> None:
    """Print the median of ten starts, after one that warms the disk cache."""
    times = []
    for _ in range(11):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "trimbre", "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    print(f"trimbre --help: median {statistics.median(times[1:]):.3f} s, slowest {max(times[1:]):.3f} s of 10")


if __name__ == "__main__":
    main()
