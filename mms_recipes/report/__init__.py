"""What evaluations found, as files, tables and pages."""
