"""One batch of pairs, from their URIs to published pictures; and one pair in memory, without any storage."""
