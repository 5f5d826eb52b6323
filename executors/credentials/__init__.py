"""Named secrets of playbooks: encrypted at rest, clear only in a worker's memory."""
