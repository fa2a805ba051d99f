"""Grades submissions: `grade.py` is its command line.

The parts, each importing only from those before it:

    worker/      runs inside the workers, with the submission's code; knows nothing of the right answers
    confinement  starts a worker inside bubblewrap, and proves that it is confined
    sandbox      gives workers inputs, takes back their arrays
    oracle, ...  what is right: formulas in NumPy float64, and central differences of them
    checks_*     one file a question: which probes to run, what their answers are worth
    submission   one submission: scan, workers, checks, record;  classroom: all of them, in parallel, resumable
    gradescope, feedback, tables, summary    what is written
    starter      the handout, from the reference
"""
