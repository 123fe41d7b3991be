"""Export to a collector of OpenTelemetry. What needs its SDK is imported only where something is
sent: a daemon that sends nothing pays for none of it."""
