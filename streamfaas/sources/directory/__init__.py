"""A local directory as a bucket of objects, whose changes are S3 notifications."""

from streamfaas.sources.directory.source import Directory, DirectoryOptions

__all__ = ["Directory", "DirectoryOptions"]
