"""A fuzzer of every file that the commands read: damaged and strange inputs go through the commands' own code.

`python -m tests.fuzz --count 100000` is the long run; tests/test_fuzz.py is a short one with fixed seeds.

corpus.py makes whole files, mutations.py says how they are damaged, kinds.py makes cases (files and the commands that
read them), oracle.py runs a case and says what must not happen.
"""
