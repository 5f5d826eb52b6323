"""Measures a platform from outside, beside what it is made of: `make bench`, docs/performance.md."""
