"""The admin console: theme and pages."""
