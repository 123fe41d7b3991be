"""Object stores: what they tell of their objects, however it comes, as S3 notifications."""

from streamfaas.sources.objects.feed import Feed, MakeFeed, Means
from streamfaas.sources.objects.inbox import Inbox
from streamfaas.sources.objects.source import Objects, ObjectsOptions

__all__ = ["Feed", "Inbox", "MakeFeed", "Means", "Objects", "ObjectsOptions"]
