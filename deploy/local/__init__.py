"""The local services: a real Kafka broker and an MLflow server on loopback, and the product's own processes."""
