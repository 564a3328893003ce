"""What both profilers share: events, tables, trace files."""
