"""Tests of the corpora; every test_<name>.py has build(root) and EXPECTED for the contract."""
