"""Events about recordings and sources: an outbox in the store, signed webhooks, and digests for channels."""
