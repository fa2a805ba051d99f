"""Grades submissions: `grade.py` is its command line. Where to look for what:

A question, each part importing only from those before it:

    worker/probes_*       run a submission's code and send back arrays; they know nothing of the right answers
    inputs, networks      what modules and networks are tried on
    oracle                formulas in NumPy float64, and central differences of them
    expected, expected_*  the numbers that these give for the inputs, by name; the handout holds them as arrays
    compare               an answer against such numbers: fraction, sentence, numbers
    checks                what a question is, and which failure follows from another
    checks_*              one file a question: which probes to run, what their answers are worth; no formulas
    checks_scripts        the checks of all three training scripts;  checks_images: what they show their networks
    convnet_rows          the table of question 4a
    questions             the list of questions;  rubric, rubric.toml: points and titles

A worker, and what keeps a submission inside it:

    sandbox               sends probes, reads replies;  replies: their form
    confinement           starts a worker in bubblewrap, and proves it confined;  container: where that cannot be had
    worker/serve          the worker's own loop;  worker/at_home: the same without confinement, for --check
    worker/student        a probe's task;  worker/packages: imports;  worker/stub: what lies over a framework
    worker/elsewhere      what a submission has of its own machine: a GPU, paths, breakpoints
    worker/marks          train or test image
    worker/images         which images a script shows its network, and what it reports of them
    worker/interface      the assignment's classes and names;  worker/construct: networks as the script makes them
    worker/graph          the operators of a network;  worker/weights: its parameters, made from a number
    worker/watch          what a submission does that no answer needs;  worker/operators: the operators that it runs
    worker/container      what a worker checks about its container
    syscalls              system calls that submissions are refused;  cgroups: control groups
    datasets              the data that scripts are run on

A class:

    unpack, archive       what lies in an archive, and what of it is kept;  scan: flags, without running anything
    submission            one submission: scan, workers, checks, record;  classroom: all of them, in parallel, resumable
    intake                takes one in under limits of its own;  locks: graders that share a class
    people                file names, roster, pseudonyms;  spreadsheets: CSV as Excel writes it;  files: safe writing
    marks                 points of a student, with what a TA gave;  changes: whose points changed since the last run
    similarity            submissions that share code

What is written:

    page, templates/      HTML;  feedback: a student's page;  summary: the class's page
    tables, gradebooks    CSV;  gradescope: results.json;  autograder: the ZIP for Gradescope
    cli                   the flags of grade.py, and what it prints

For students:

    home, ladder          `--check`;  starter, starter.toml, handout/: what a class receives
"""
