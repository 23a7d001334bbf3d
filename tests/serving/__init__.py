"""Tests of bundles and of what answers with them."""
