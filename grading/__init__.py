"""Grades submissions: `grade.py` is its command line.

The parts, each importing only from those before it:

    worker/      runs inside the workers, with the submission's code; knows nothing of the right answers
    confinement  starts a worker inside bubblewrap, and proves that it is confined
    sandbox      gives workers inputs, takes back their arrays
    inputs       what the modules are tried on
    oracle       what is right: formulas in NumPy float64, and central differences of them
    expected_*   the numbers these give for the inputs, by name
    checks_*     one file a question: which probes to run, what their answers are worth; no formulas
    submission   one submission: scan, workers, checks, record;  classroom: all of them, in parallel, resumable
    gradescope, feedback, tables, summary    what is written
    starter      the handout, from the reference
"""
