"""Slow, obvious oracles. Only tests import them."""
