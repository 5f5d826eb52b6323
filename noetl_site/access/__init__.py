"""Who may do what: roles, tokens, and the permission check of every API view."""
