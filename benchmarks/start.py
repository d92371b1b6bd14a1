"""Time of `trimbre --help`, which is that of starting the command line.

python benchmarks/start.py
"""

import argparse
import statistics
import subprocess
import sys
import time


def main() -> None:
    """Print the median time, after one start that fills the disk's cache."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "trimbre", "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    print(f"trimbre --help: median {statistics.median(times[1:]):.3f} s, slowest {max(times[1:]):.3f} s of {repeats}")


if __name__ == "__main__":
    main()
