"""Corpora on the way to manifests: prepared, cut, checked, and what can be wrong with them."""
