"""Executions and their events over HTTP: translate, call one function, translate back."""
