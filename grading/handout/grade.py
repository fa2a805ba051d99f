"""Check your own code in this folder, as it will be graded.

    python grade.py --check                      # everything, the training scripts included: some minutes
    python grade.py --check 1.2                  # one question, in seconds
    python grade.py --check 3.1 3.2b             # or several; 3 stands for all of question 3
    python grade.py --check train_mlp_numpy.py   # a training script, which is run a few times on small images

Exit status: 0 all right; 1 something fails; 2 no such question, or no code here; 130 interrupted.
"""

import argparse
import os
import sys
from pathlib import Path

from grading.home import HomeError, check
from imagefiles.output import lossy_output


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=os.path.expanduser, default=".",
                        help="your code (default: this folder)")
    parser.add_argument("--check", nargs="*", default=[], metavar="QUESTION",
                        help="questions or training scripts (default: all)")
    options = parser.parse_args()
    try:
        return check(Path(options.folder), options.check)
    except HomeError as error:
        print(f"grade.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    with lossy_output():
        sys.exit(main())
