"""The catalog over HTTP: translate, call one function, translate back."""
