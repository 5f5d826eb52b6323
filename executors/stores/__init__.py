"""What rows are read from and written to, whoever does it: databases, files, buckets, addresses.

A `Source` gives rows in batches and a `Sink` takes them (`rows`); one module for each store. Knows no action kind.
"""
