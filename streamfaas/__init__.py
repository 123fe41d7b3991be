"""AWS Lambda's event-source contract on your own machines."""

__version__ = "0.1.0"
