"""The command list of a trial as a new user: bad inputs of every class, and what should work.

`python -m tests.trial` runs all of it as a user does, each command in a process of its own, and counts what is clean;
tests/test_trial.py runs it within one process.

pool.py makes the files, bad.py and good.py list the commands, outcome.py says what clean means.
"""
