"""What is measured, by target (`docs/performance.md`)."""
