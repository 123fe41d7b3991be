"""The path of a record, as pure decisions: no clock, no task, no file, no third party."""
