"""A package, so that every folder can have its own test_contract.py."""
