"""What every API view shares: how bodies are read, lists are paged, and the OpenAPI document is made."""
