"""One module or package per kind of action. No kind imports another."""
