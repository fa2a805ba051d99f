"""Grade submissions of the assignment: `lastname_assignment1.zip` files, or folders.

    python grade.py submissions/*.zip --data_dir cifar10/cifar-10-batches-py --out grades/
    python grade.py --merge --out grades/        # after the written questions' points are in grades/written.csv
    python grade.py submissions/*.zip --out grades/ --only 3.2b,4a     # these again, the others stay as they are
    python grade.py submissions/*.zip --out blind/ --roster roster.csv --anonymous
    python grade.py --merge --out grades/ --assignment "Practical 1 (12345)"     # and the gradebooks
    python grade.py --starter handout/           # the handout for students, from the reference beside this file
    python grade.py --check                      # your own code in this folder, as the grader would; --check 1.2
    python grade.py --autograder autograder.zip  # for upload to Gradescope

Per student a results file for Gradescope and a feedback page; for the class grades.csv, summary.html and written.csv.
Interrupt it and run it again: finished submissions are not graded twice.

written.csv is a form. Fill in points of the written questions, points of a code question where they override the
checks, late_days, and comments, on the whole or on a question; --merge makes final.csv of it, the pages again, and
canvas.csv and brightspace.csv where the students' ids are known from the file names or the roster.

Exit status: 0 done; 1 done, but a submission could not be read, or questions are without points in a merge; 2 nothing
done, because of wrong input; 130 interrupted.
"""

import os
import sys

from grading.cli import main
from imagefiles.output import ended_as_by_ctrl_c, lossy_output, with_values_joined

if __name__ == "__main__":
    if sys.getfilesystemencoding() != "utf-8":  # LANG=C: names such as é.zip could be neither written nor shown
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    with lossy_output(), ended_as_by_ctrl_c():
        sys.exit(main(__doc__, with_values_joined(sys.argv[1:])))
