"""Print what `import kopt` costs over `import keras`, in ms of processor time.

A figure to look at, not a test: it depends on the machine. The aim is at most 50 ms.
Keras loads TensorFlow, which is not counted.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

RUNS = 3
CODE = """
import time
import keras, tensorflow
start = time.process_time()
import kopt
print(1000 * (time.process_time() - start))
"""


def main() -> None:
    costs = [
        float(subprocess.check_output([sys.executable, "-c", CODE], text=True))
        for _ in range(RUNS)
    ]
    print(
        f"import kopt costs {statistics.median(costs):.0f} ms over import keras "
        f"(median of {RUNS}: {', '.join(f'{cost:.0f}' for cost in sorted(costs))})"
    )


if __name__ == "__main__":
    main()
