"""Publishes changes of kcp objects to NATS JetStream."""
