"""What the platform is compared with, on the same servers and the same number of processes."""
