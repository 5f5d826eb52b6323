"""The worker protocol over HTTP: queue, rendering, posted events, who is running."""
